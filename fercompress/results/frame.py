"""A run as tidy pandas frames: a folder that `fercompress run` wrote in, its tables out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fercompress.results import summary
from fercompress.results.store import FILE, Store
from fercompress.results.tables import read_tables


@dataclass(frozen=True)
class Run:
    """summary: one line per variant and target, columns as in summary.csv
    blocks, timings, predictions, epochs: as `fercompress.results.tables.Tables` describes them
    document: what summary.json holds, recomputed now from the journal
    """

    folder: Path
    summary: pd.DataFrame
    blocks: pd.DataFrame
    timings: pd.DataFrame
    predictions: pd.DataFrame
    epochs: pd.DataFrame
    document: Mapping[str, Any]

    @property
    def study(self) -> str:
        return str(self.document["study"])


def load(run_folder: str | Path) -> Run:
    """fercompress.load("reports/default").summary[["variant", "accuracy"]]

    raises: ResultsError where the folder holds no results, or results that cannot be read
    """
    folder = Path(run_folder)
    with Store.open(folder / FILE, writable=False) as store:
        found = read_tables(store)
    document = summary.document(found)
    lines = pd.DataFrame([summary.flat(row) for row in document["rows"]])
    return Run(folder, lines, found.blocks, found.timings, found.predictions, found.epochs, document)
