"""What a study may say of its clips: one frozen, checked section per data set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fercompress.section import Section

# `subjects-ascending`: the i-th fold tests every k-th subject in ascending order of ids, as published lists do; `subjects-shuffled`: dealt out at
# random; `subjects`: dealt out so that every class is about equally often in each; `leave-one-subject-out`; `leaky-image`: cut without regard to
# subjects, as part of the literature does: not a fair test, and marked so wherever its numbers appear.
SubjectProtocol = Literal["subjects", "subjects-ascending", "subjects-shuffled", "leave-one-subject-out", "leaky-image"]


class SyntheticData(Section):
    """Rendered faces; subjects of the three parts are disjoint.

    protocol: `parts` tests on the third part; any other cuts all clips, whichever part they were drawn for, into folds as of a camera's data set
    """

    name: Literal["synthetic"]
    preset: Literal["posed", "return", "wild"] = "posed"
    train_clips: Annotated[int, Field(ge=14)] = 1200
    validation_clips: Annotated[int, Field(ge=14)] = 300
    test_clips: Annotated[int, Field(ge=14)] = 1500
    protocol: Literal["parts", "subjects", "subjects-ascending", "subjects-shuffled", "leave-one-subject-out", "leaky-image"] = "parts"
    folds: Annotated[int, Field(ge=2, le=50)] = 10
    deal: Annotated[int, Field(ge=0)] = 0  # the seed of a protocol that shuffles subjects
    frames: Annotated[int, Field(ge=2, le=256)] = 16
    size: Annotated[int, Field(ge=32, le=256, multiple_of=16)] = 64
    seed: Annotated[int, Field(ge=0)] = 0
    difference: bool = False


class GfeData(Section):
    """Grammatical facial expressions (UCI): `<person>_<expression>_datapoints.txt` and `_targets.txt` under `--data-root`."""

    name: Literal["gfe"]
    protocol: Literal["contiguous", "modulo", "across-persons"] = "contiguous"
    folds: Annotated[int, Field(ge=2, le=50)] = 5
    persons: list[str] | None = None  # None: all that are there
    expressions: list[str] | None = None  # None: all that are there
    frames: Annotated[int, Field(ge=2, le=256)] = 16
    context: Annotated[int, Field(ge=0, le=16)] = 4  # frames taken along on each side of a performance
    size: Annotated[int, Field(ge=32, le=256, multiple_of=16)] = 64
    exaggerate: Annotated[float, Field(ge=1, le=8)] = 1.0  # the movement within the face, not the head's, is drawn so many times as large
    difference: bool = True


class Faces(Section):
    """How a face is found in a frame and cut out.

    by: None takes the first of these that the data set has: `aligned` (its own ready crops), `landmarks` (its own points), `detect`, in this order;
        `none` takes the whole picture
    detector: "cascade" (OpenCV's frontal face, comes along), or the path of an ONNX detector such as YuNet
    missing: what a frame without a face becomes; a clip with no face in any frame is always left out, with that reason
    """

    by: Literal["aligned", "landmarks", "detect", "none"] | None = None
    detector: str = "cascade"
    missing: Literal["skip-frame", "last-box", "centre", "fail"] = "last-box"
    margin: Annotated[float, Field(ge=0, le=1)] = 0.25  # of the box's side, added on every side


class Video(Section):
    """What all data sets of camera pictures share.

    take: which frames of a clip: `last` (its last ones: CK+ ends at the peak), `uniform` (spread over all of it), `apex` (spread over onset to apex
        where these are coded, else around the middle), `windows` (every stretch of so many frames, half overlapping; a clip's answer is their mean)
    """

    frames: Annotated[int, Field(ge=2, le=256)] = 16
    size: Annotated[int, Field(ge=32, le=256, multiple_of=16)] = 64
    take: Literal["last", "uniform", "apex", "windows"] = "uniform"
    faces: Faces = Faces()
    folds: Annotated[int, Field(ge=2, le=50)] = 10
    deal: Annotated[int, Field(ge=0)] = 0  # the seed of a protocol that shuffles subjects
    difference: bool = False


class CkPlusData(Video):
    """Extended Cohn-Kanade: `cohn-kanade-images/`, `Emotion/` and `Landmarks/` under `--data-root`, or the CK+48 folder form."""

    name: Literal["ckplus"]
    protocol: SubjectProtocol = "subjects-ascending"
    contempt: bool = True  # the seventh class
    take: Literal["last", "uniform", "apex", "windows"] = "last"


class MmiData(Video):
    """MMI: `Sessions/<number>/` with session.xml, <sid>.xml and a video or picture.

    subjects: a CSV file with the columns session,subject, relative to --data-root, in place of what the names of the videos say (S001-002)
    turn: which videos of the front view alone are turned by 90 degrees clockwise: `coding` (those without onset-apex-offset coding are stored on
        their side), `never`, `always`
    half: where a video shows front and profile beside each other, the half that shows the front; `seen`: where the detector of `faces` sees one in
        the first frame
    """

    name: Literal["mmi"]
    protocol: SubjectProtocol = "subjects-ascending"
    subjects: str | None = None
    turn: Literal["coding", "never", "always"] = "coding"
    half: Literal["seen", "left", "right"] = "seen"
    take: Literal["last", "uniform", "apex", "windows"] = "apex"


class AfewData(Video):
    """AFEW 7.0: `Train_AFEW/<Class>/<id>.avi` and `Val_AFEW/`; tested on the latter, as the literature does, since test labels are not public."""

    name: Literal["afew"]
    protocol: Literal["given"] = "given"  # train on the training part (validation cut out of it by actor or movie), test on the validation part


class FolderData(Video):
    """One's own clips: `<label>/<subject>/<clip>` (a video, or a folder of pictures), or a CSV manifest of clip,label,subject[,part]."""

    name: Literal["folder"]
    protocol: Literal["subjects", "subjects-ascending", "subjects-shuffled", "leave-one-subject-out", "leaky-image", "given"] = "subjects"
    manifest: str | None = None  # relative to --data-root; None: the tree itself


VideoData = CkPlusData | MmiData | AfewData | FolderData

Data = Annotated[SyntheticData | GfeData | VideoData, Field(discriminator="name")]
