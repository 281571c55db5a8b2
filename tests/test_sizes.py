"""Size told four ways: numbers, ratios, definitions, and whether the bytes are those of the files."""

from __future__ import annotations

from toy_report import report, train

from fercompress.report import sizes

TT = {
    "recipe": [train(4)], "stored_bytes": 1000, "params_tt": 100, "params_tt_dense": 1800, "params_lstm": 250, "params_lstm_dense": 2000,
    "params": 850, "params_dense": 2600,
    "ratio_tt_params": 18.0, "ratio_lstm_params": 8.0, "ratio_model_params": 2600 / 850, "ratio_model_bytes": 12.0,
}  # fmt: skip
DENSE = {
    "stored_bytes": 12000, "params_tt": 0, "params_lstm": 2000, "params_lstm_dense": 2000, "params": 2600, "params_dense": 2600,
    "ratio_lstm_params": 1.0, "ratio_model_params": 1.0, "ratio_model_bytes": 1.0, "reasons": {"ratio_tt_params": "nothing is in tensor-train form"},
}  # fmt: skip


def manifest(extractor: int, predictor: int) -> dict:
    return {"files": {"extractor.onnx": {"bytes": extractor}, "predictor.onnx": {"bytes": predictor}}}


def test_every_way_has_its_numbers_its_ratio_and_its_definition() -> None:
    table = sizes.four_ways(report({"dense": DENSE, "tt": TT}), "here")
    cells = table.rows[1][1:]
    assert [cell.text for cell in cells] == ["18.0×", "8.00×", "3.06×", "12.0×"]
    assert [cell.sub for cell in cells] == ["1,800 → 100", "2,000 → 250", "2,600 → 850", "12,000 → 1,000 B"]
    assert [head.marks for head in table.heads[1:]] == [(1,), (2,), (3,), (4,)]
    assert "tensor-train cores" in table.notes[0]
    assert "scales" in table.notes[1]


def test_the_baseline_shows_its_numbers_and_no_ratio_and_says_what_it_lacks() -> None:
    table = sizes.four_ways(report({"dense": DENSE, "tt": TT}), "here")
    assert [cell.text for cell in table.rows[0][1:]] == ["n/a", "—", "—", "—"]
    assert table.rows[0][4].sub == "12,000 B"
    assert "n/a: nothing is in tensor-train form" in table.notes


def test_bytes_are_said_to_be_the_files_only_where_the_manifests_files_add_up() -> None:
    variants = {"dense": DENSE, "tt": TT}
    true = sizes.four_ways(report(variants, manifests={"dense": manifest(4000, 8000), "tt": manifest(400, 600)}), "here")
    assert (
        "They equal, to the byte, the lengths of the files on disk, listed with their sha256 in the manifests of all 2 timed bundles."
        in true.notes[3]
    )
    false = sizes.four_ways(report(variants, manifests={"dense": manifest(4000, 8000), "tt": manifest(400, 601)}), "here")
    assert "They differ from the lengths of the files that the manifests list: tt 1.00 kB on disk, 1.00 kB counted" in false.notes[3]
    assert "files on disk" not in sizes.four_ways(report(variants), "here").notes[3]
