"""The protocols that a study of whole people may name: its section and `Clips` in, folds out."""

from __future__ import annotations

from collections.abc import Callable

from fercompress.data.folds.across import across_subjects, subject_kfold, subjects_ascending, subjects_shuffled
from fercompress.data.folds.given import given
from fercompress.data.folds.within import leaky_image
from fercompress.dataconfig import FolderData, MmiData, SyntheticData, VideoData
from fercompress.errors import DataError
from fercompress.records import Clips, Fold

Cuttable = VideoData | SyntheticData

PROTOCOLS: dict[str, Callable[[Cuttable, Clips], list[Fold]]] = {
    "subjects": lambda config, clips: subject_kfold(clips, config.folds),
    "subjects-ascending": lambda config, clips: subjects_ascending(clips, config.folds),
    "subjects-shuffled": lambda config, clips: subjects_shuffled(clips, config.folds, config.deal),
    "leave-one-subject-out": lambda _, clips: across_subjects(clips),
    "leaky-image": lambda config, clips: leaky_image(clips, config.folds),
    "given": lambda _, clips: [given(clips)],
}
ACROSS = ("subjects", "subjects-ascending", "subjects-shuffled", "leave-one-subject-out")  # these need to know every clip's subject


def named(config: Cuttable, clips: Clips) -> list[Fold]:
    """raises: DataError; where subjects are not known it says how to give them"""
    if config.protocol in ACROSS and "" in clips.subjects:
        unknown = clips.subjects.count("")
        raise DataError(
            f"{clips.name}: the subject of {unknown} of {len(clips)} clips is not known, and protocol {config.protocol!r} keeps each subject on one "
            f"side of a test: {_how_to_tell(config)}; or leave these clips out"
        )
    return PROTOCOLS[config.protocol](config, clips)


def _how_to_tell(config: Cuttable) -> str:
    if isinstance(config, MmiData):
        return "name them in a CSV file with the columns session,subject and give it as data.subjects"
    if isinstance(config, FolderData):
        return "lay the clips out as <label>/<subject>/<clip>, or fill the manifest's column subject"
    return "their ids must begin with a subject, as in S005_001"
