"""The paper's published figures beside a row of ours: constants with their source, and what of them can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fercompress.report.cells import Cell, Table
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import bytes_text, percent_text, ratio_text, seconds_text, watts_text

PAPER = "Zhen et al., ACM Transactions on Internet of Things 2(4), 2021, doi:10.1145/3464941"
POSTER = "Zhen et al., SEC 2019 poster, doi:10.1145/3318216.3363322"


@dataclass(frozen=True)
class Figure:
    """quantity: what; published: as in the source's abstract; ours: the same quantity of a row, given the baseline's row; comparable: "no", "in part" """

    quantity: str
    published: str
    source: str
    comparable: str
    why: str
    ours: Callable[[Row, Row], str | None]


def _accuracy(row: Row, _: Row) -> str | None:
    if row.get("accuracy") is None:
        return None
    return f"{percent_text(row['accuracy'])} (on this study's data)"


def _ratios(row: Row, _: Row) -> str | None:
    kinds = (("ratio_tt_params", "TT'd matrices"), ("ratio_lstm_params", "LSTM"), ("ratio_model_params", "model"), ("ratio_model_bytes", "bytes of the model"))
    known = [f"{ratio_text(row[key])} ({name})" for key, name in kinds if row.get(key) is not None]
    return ", ".join(known) or None


def _speedup(key: str) -> Callable[[Row, Row], str | None]:
    return lambda row, _: None if row.get(key) is None else ratio_text(row[key])


def _memory(row: Row, _: Row) -> str | None:
    peak, interpreter = row.get("memory_peak_bytes"), row.get("memory_interpreter_bytes")
    if peak is None:
        return None
    return f"{bytes_text(peak)} peak of the whole process" + ("" if interpreter is None else f", {bytes_text(interpreter)} of it the interpreter")


def _power(row: Row, _: Row) -> str | None:
    return None if row.get("power_w") is None else watts_text(row["power_w"])


def _epoch(row: Row, baseline: Row) -> str | None:
    ours, dense = row.get("train_epoch_s"), baseline.get("train_epoch_s")
    if ours is None or dense is None:
        return None
    change = 100 * (1 - ours / dense)
    return f"{abs(change):.0f} % {'less' if change >= 0 else 'more'} ({seconds_text(dense)} → {seconds_text(ours)}, predictor on cached features)"


_PROTOCOL = "other data, and the paper's folds are not public: "
FIGURES = (
    Figure("Accuracy, CK+", "97.96 %", PAPER, "no", _PROTOCOL + "97.96 % is no whole number of the 327 labelled clips, so images or a hold-out part may have been counted", _accuracy),
    Figure("Accuracy, MMI", "97.33 %", PAPER, "no", _PROTOCOL + "7.3 points above the best of a later survey's table, so the protocol probably differs", _accuracy),
    Figure("Accuracy, AFEW 7.0", "55.60 %", PAPER, "no", _PROTOCOL + "the test labels are not distributed; on 383 validation clips the 95 % interval is ± 5 points wide", _accuracy),
    Figure("Compression", "up to 221×", PAPER, "in part", "what was counted (TT'd matrix, LSTM, whole model, bytes) is not public, nor are ranks and shapes: all four ratios are given here", _ratios),
    Figure("Compression, without quantization named", "219×", POSTER, "in part", "as above; near 221×, which suggests that the published ratio is not a product with 8 bits", _ratios),
    Figure("Extractor speed-up", "30.20×", PAPER, "no", "RK3399Pro with its NPU, and the baseline (which processor, which precision) is not public", _speedup("speedup_extractor")),
    Figure("Predictor speed-up", "6.62×", PAPER, "in part", "RK3399Pro, baseline and layer sizes not public; the kind of gain (a TT LSTM against its dense twin, same machine) is the same", _speedup("speedup_predictor")),
    Figure("Memory", "57.19 MB of DRAM", PAPER, "no", "how it was read (process, model, NPU buffers) is not public; ours holds the interpreter and the runtime", _memory),
    Figure("Power", "5.67 W", PAPER, "no", "another machine; whether the board's idle power is in it is not public", _power),
    Figure("Training time per epoch", "60 % less", PAPER, "in part", "what an epoch holds (extractor included or not) and on what machine is not public; ours is the predictor's epoch on cached features", _epoch),
)  # fmt: skip


def beside_the_paper(given: ReportInput, row: Row) -> Table:
    """row: the variant of ours that stands beside the paper's figures."""
    baseline = given.baseline_row(row["target"]) or row
    rows = []
    for figure in FIGURES:
        ours = figure.ours(row, baseline)
        rows.append(
            (
                Cell(figure.quantity),
                Cell(figure.published, exact=figure.source, style="words"),
                Cell("n/a" if ours is None else ours, missing=ours is None, style="words"),
                Cell(figure.comparable, style=f"verdict {figure.comparable.replace(' ', '-')}"),
                Cell(figure.why, style="words"),
            )
        )
    caption = f"{row['variant']} beside the paper's figures"
    notes = (f"Published figures: abstract of {PAPER}; 219×: abstract of {POSTER}. Only the abstracts were read.",)
    return Table("paper", caption, ("Quantity", "Published", f"Here: {row['variant']} on {row['target']}", "Comparable?", "Why"), tuple(rows), notes, numeric=False)
