"""The paper's published figures beside a row of ours: constants with their source, and what of them can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fercompress.records import Doubt
from fercompress.report.cells import Cell, Table
from fercompress.report.leak import accuracy_text
from fercompress.report.record import ReportInput, Row
from fercompress.report.units import bytes_text, ratio_text, seconds_text, watts_text

PAPER = "Zhen et al., ACM Transactions on Internet of Things 2(4), 2021, doi:10.1145/3464941"
POSTER = "Zhen et al., SEC 2019 poster, doi:10.1145/3318216.3363322"


@dataclass(frozen=True)
class Figure:
    """published: as the source's abstract says it; comparable: "no" or "in part"; ours: the same quantity of a row, beside the baseline's row"""

    quantity: str
    published: str
    source: str
    comparable: str
    ours: Callable[[Row, Row], str | None]
    why: str

    @property
    def timed(self) -> bool:
        """Whether the target decides it: a simulated one's figure is then simulated."""
        return self.quantity in ("Extractor speed-up", "Predictor speed-up", "Memory", "Power")


@dataclass(frozen=True)
class Benchmark:
    """A data set that the paper tests on. why: what the published accuracy leaves open, in one sentence without its point"""

    name: str
    title: str
    published: str
    why: str


_NOT_TOLD = "the paper's folds, and which epoch it reports, are not public"
# The arithmetic: 961/981 = 97.96 %, while no k/327 rounds to it; 73/75 = 97.33 %, while no k/205, k/208 or k/213 does; of 383 clips at 55.6 %, 1.96
# standard errors are 5.0 points.
BENCHMARKS = (
    Benchmark("ckplus", "CK+", "97.96 %",
        f"{_NOT_TOLD}; 97.96 % is no whole number of the 327 labelled clips but is 961 of 981 pictures (the last three of each clip), so pictures or "
        "a hold-out part may have been counted; the public code that the paper cites cuts CK+ without regard to people, and much published code "
        "keeps the epoch that is best on the test part"),
    Benchmark("mmi", "MMI", "97.33 %",
        f"{_NOT_TOLD}; it is 7.3 points above the best figure (89.99 %) in a survey of 2024, and no whole number of the 205, 208 or 213 clips that "
        "are usually taken, so the protocol probably differs"),
    Benchmark("afew", "AFEW 7.0", "55.60 %",
        f"{_NOT_TOLD}; test labels are not distributed, so the 383 validation clips are what papers test on: on so few, the 95 % interval of 55.60 % "
        "is 5.0 points wide on each side, and an epoch that is chosen on them flatters"),
)  # fmt: skip


def _accuracy(row: Row, _: Row) -> str | None:
    if row.get("accuracy") is None:
        return None
    clips = "simulated clips" if Doubt.SIMULATED in (row.get("doubts") or ()) else "this study's clips"
    return f"{accuracy_text(row)} ({clips})"


def benchmark_of(name: str) -> Benchmark | None:
    """name: of a data set"""
    return next((each for each in BENCHMARKS if each.name == name), None)


def sentence(name: str, protocol: str | None) -> str | None:
    """What the paper reports on the data set `name`, and why it is no yardstick; None for other data sets."""
    benchmark = benchmark_of(name)
    if benchmark is None:
        return None
    ours = {
        "leaky-image": "Ours is cut without regard to people too (leaky-image): for comparison with such figures alone",
        "given": "Ours tests on the given validation part, at an epoch that clips of the training part chose",
    }.get(protocol or "", "Ours counts whole clips of people that were not trained on, at an epoch that other people's clips chose")
    return f"The paper reports {benchmark.published} on {benchmark.title}, by a protocol that cannot be compared: {benchmark.why}. {ours}."


def _ratios(row: Row, _: Row) -> str | None:
    kinds = (
        ("ratio_tt_params", "TT'd matrices"),
        ("ratio_lstm_params", "LSTM"),
        ("ratio_model_params", "model"),
        ("ratio_model_bytes", "bytes of the model"),
    )
    known = [f"{ratio_text(row[key])} ({name})" for key, name in kinds if row.get(key) is not None]
    return ", ".join(known) or None


def _speedup(key: str) -> Callable[[Row, Row], str | None]:
    return lambda row, _: None if row.get(key) is None else ratio_text(row[key])


def _memory(row: Row, _: Row) -> str | None:
    """The peak, and what each step added to it, as far as known."""
    peak = row.get("memory_peak_bytes")
    if peak is None:
        return None
    parts, before = [], 0
    for step, name in (("interpreter", "the interpreter"), ("runtime", "the runtime"), ("model", "the model loaded"), ("peak", "running it")):
        mark = row.get(f"memory_{step}_bytes")
        if mark is None:
            return f"{bytes_text(peak)} peak of the whole process"
        parts.append(f"{bytes_text(mark - before)} {name}")
        before = mark
    return f"{bytes_text(peak)} peak of the whole process: {', '.join(parts)}"


def _power(row: Row, _: Row) -> str | None:
    return None if row.get("power_w") is None else watts_text(row["power_w"])


def _epoch(row: Row, baseline: Row) -> str | None:
    ours, dense = row.get("train_epoch_s"), baseline.get("train_epoch_s")
    if ours is None or dense is None:
        return None
    change = 100 * (1 - ours / dense)
    return f"{abs(change):.0f} % {'less' if change >= 0 else 'more'} ({seconds_text(dense)} → {seconds_text(ours)}, predictor alone)"


FIGURES = (
    *(Figure(f"Accuracy, {each.title}", each.published, PAPER, "no", _accuracy, each.why) for each in BENCHMARKS),
    Figure("Compression", "up to 221×", PAPER, "in part", _ratios,
        "what was counted (TT'd matrices, LSTM, whole model, bytes) is not public, nor are ranks and shapes: all four ratios are given here"),
    Figure("Compression, quantization not named", "219×", POSTER, "in part", _ratios,
        "as above; so near to 221× that the published ratio is probably no product with the 4× of 8 bits"),
    Figure("Extractor speed-up", "30.20×", PAPER, "no", _speedup("speedup_extractor"),
        "RK3399Pro with a neural process engine; what it is against (which processor, which precision) is not public"),
    Figure("Predictor speed-up", "6.62×", PAPER, "in part", _speedup("speedup_predictor"),
        "the kind of gain is the same (a compressed LSTM against the plain one on one machine); board, layer sizes and baseline differ"),
    Figure("Memory", "57.19 MB of DRAM", PAPER, "no", _memory,
        "what was counted (process, model, accelerator's buffers) is not public; ours holds the interpreter and the runtime"),
    Figure("Power", "5.67 W", PAPER, "no", _power, "another machine, and whether the board's idle power is in it is not public"),
    Figure("Training time per epoch", "60 % less", PAPER, "in part", _epoch,
        "whether the extractor was trained along is not public; ours is an epoch of the predictor on cached features"),
)  # fmt: skip


def beside_the_paper(given: ReportInput, row: Row) -> Table:
    """row: the variant of ours that stands beside the paper's figures."""
    baseline = given.baseline_row(row["target"]) or row
    rows = []
    own = benchmark_of(str(given.data["name"]))
    for figure in FIGURES:
        ours, why = figure.ours(row, baseline), figure.why
        if figure.quantity.startswith("Accuracy") and (own is None or figure.quantity != f"Accuracy, {own.title}"):
            ours, why = (None if own is not None else ours), f"other data, and {why}"
        if ours is not None and figure.timed:
            ours = given.timing_word(row["target"]) + ours
        rows.append(
            (
                Cell(figure.quantity),
                Cell(figure.published, exact=figure.source, style="words"),
                Cell("n/a" if ours is None else ours, missing=ours is None, style="words"),
                Cell(figure.comparable, style=f"verdict {figure.comparable.replace(' ', '-')}"),
                Cell(why, style="words"),
            )
        )
    heads = ("Quantity", "Published", f"Here: {row['variant']} on {row['target']}", "Comparable?", "Why")
    caption = f"{row['variant']} beside the paper's figures"
    notes = (f"Published figures: abstract of {PAPER}; 219×: abstract of {POSTER}. Only the abstracts were read.",)
    return Table("paper", caption, tuple(map(Cell, heads)), tuple(rows), notes, numeric=False)
