"""The table beside the paper's figures: what is published, what is ours, what may be compared."""

from __future__ import annotations

from fercompress.records import Doubt
from fercompress.report.paper import FIGURES

ROW = {
    "accuracy": 0.957, "ratio_tt_params": 1234.5, "ratio_lstm_params": 207.0, "ratio_model_params": 48.4, "ratio_model_bytes": 137.0,
    "speedup_extractor": 1.75, "speedup_predictor": 6.02, "memory_peak_bytes": 92_200_000, "memory_interpreter_bytes": 11_200_000,
    "memory_runtime_bytes": 41_200_000, "memory_model_bytes": 61_200_000,
    "power_w": 3.1, "train_epoch_s": 1.2,
}  # fmt: skip


def test_the_published_figures_are_those_of_the_abstracts() -> None:
    assert [figure.published for figure in FIGURES] == [
        "97.96 %", "97.33 %", "55.60 %", "up to 221×", "219×", "30.20×", "6.62×", "57.19 MB of DRAM", "5.67 W", "60 % less",
    ]  # fmt: skip


def test_no_figure_is_called_comparable_without_a_reason() -> None:
    assert {figure.comparable for figure in FIGURES} == {"no", "in part"}
    assert all(len(figure.why) > 30 for figure in FIGURES)


def test_ours_stands_in_the_units_of_the_published_figure() -> None:
    ours = {figure.quantity: figure.ours(ROW, {"train_epoch_s": 3.0}) for figure in FIGURES}
    assert ours["Compression"] == "1,234× (TT'd matrices), 207× (LSTM), 48.4× (model), 137× (bytes of the model)"
    assert ours["Predictor speed-up"] == "6.02×"
    parts = "11.2 MB the interpreter, 30.0 MB the runtime, 20.0 MB the model loaded, 31.0 MB running it"
    assert ours["Memory"] == f"92.2 MB peak of the whole process: {parts}"
    assert ours["Power"] == "3.10 W"
    assert ours["Training time per epoch"] == "60 % less (3.00 s → 1.20 s, predictor alone)"


def test_accuracy_on_simulated_clips_says_so() -> None:
    assert FIGURES[0].ours(ROW, {}) == "95.7 % (this study's clips)"
    assert FIGURES[0].ours({**ROW, "doubts": [Doubt.SIMULATED.value]}, {}) == "95.7 % (simulated clips)"


def test_a_peak_whose_parts_are_not_all_known_stands_alone() -> None:
    memory = next(figure for figure in FIGURES if figure.quantity == "Memory")
    assert memory.ours({**ROW, "memory_model_bytes": None}, {}) == "92.2 MB peak of the whole process"


def test_what_was_not_measured_is_none() -> None:
    assert all(figure.ours({}, {}) is None for figure in FIGURES)
