"""The shipped studies of camera data sets, from files as these lie on disk to the report, on drawn people and tiny models."""

import json

import facetrees
import pytest
from rich.console import Console

from fercompress import study, studyfile
from fercompress.errors import DataError
from fercompress.progress import Reporter

TINY = (
    "data.frames=4", "data.size=32", "model.hidden=8", "train.epochs=1", "train.batch=8", "fine_tune.epochs=1", "fine_tune.copies=1",
    "fine_tune.extractor_epochs=1", 'measure.passes=["accuracy"]',
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(name, root, out, *wishes, only=("tt-r4",), seeds=None):
    wished = studyfile.restricted(studyfile.load_study(name, (*TINY, *wishes)), only, (), seeds)
    return study.run(study.Request(wished, out, root), Reporter(Console(quiet=True)))


def test_ckplus_runs_across_subjects_from_its_files_to_the_report(tmp_path):
    tree = facetrees.ckplus(tmp_path / "ckplus", subjects=6, sequences=7)
    summary = run("ckplus", tree.root, tmp_path / "run", "data.folds=2")
    data, row = summary["data"], summary["rows"][1]
    assert [fold["name"] for fold in data["folds"]] == ["subjects-0", "subjects-1"]
    assert sum(fold["test"] for fold in data["folds"]) == len(tree.clips) == row["n_clips"]
    assert [fold["shared"] for fold in data["folds"]] == [0, 0]
    assert len(row["accuracy_folds"]) == 2
    assert row["accuracy_last_epoch"] is not None
    page = (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
    assert "97.96 % on CK+" in page
    assert "leaky-image" not in page


def test_the_leaky_protocol_of_ckplus_is_marked_in_every_output(tmp_path):
    tree = facetrees.ckplus(tmp_path / "ckplus", subjects=8, sequences=5, traps=False)
    summary = run("ckplus", tree.root, tmp_path / "run", "data.folds=2", "data.protocol=leaky-image")
    assert summary["data"]["protocol"] == "leaky-image"
    assert all(fold["shared"] > 0 for fold in summary["data"]["folds"])
    written = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert all(any(doubt.startswith("leaky-image") for doubt in row["doubts"]) for row in written["rows"])
    for name in ("index.html", "report.md"):
        assert "(leaky-image)" in (tmp_path / "run" / name).read_text(encoding="utf-8")


def test_mmi_runs_across_subjects_that_its_files_name(tmp_path):
    tree = facetrees.mmi(tmp_path / "mmi", subjects=6, clips=6, frames=9, traps=False)
    summary = run("mmi", tree.root, tmp_path / "run", "data.folds=2", "data.faces.by=none")
    assert summary["rows"][1]["n_clips"] == len(tree.clips) == 36
    assert [fold["shared"] for fold in summary["data"]["folds"]] == [0, 0]
    assert "97.33 % on MMI" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")


def test_mmi_without_subjects_is_refused_with_the_way_to_give_them_and_then_runs(tmp_path):
    root = tmp_path / "mmi"
    for session in range(1, 25):
        code = (session - 1) % 6 + 1
        faces = facetrees.faces(session, session, 0, 9)
        facetrees.mmi_session(root / "Sessions" / str(session), f"clip{session:03d}", code, "coded", faces)
    with pytest.raises(DataError, match=r"subject of 24 of 24 clips is not known.*columns session,subject and give it as data\.subjects"):
        run("mmi", root, tmp_path / "run", "data.folds=4", "data.faces.by=none")
    (root / "who.csv").write_text("session,subject\n" + "".join(f"{session},p{(session - 1) // 6}\n" for session in range(1, 25)))
    summary = run("mmi", root, tmp_path / "run", "data.folds=4", "data.faces.by=none", "data.subjects=who.csv", only=("dense-int8",))
    assert [fold["test"] for fold in summary["data"]["folds"]] == [6, 6, 6, 6]


def test_afew_tests_on_its_validation_part_with_repeated_seeds(tmp_path):
    tree = facetrees.afew(tmp_path / "afew", train=3, val=2, traps=False)
    summary = run("afew", tree.root, tmp_path / "run", seeds=2)
    (fold,) = summary["data"]["folds"]
    assert (fold["name"], fold["test"], fold["train"] + fold["validation"], fold["shared"]) == ("given", 14, 21, 0)
    row = summary["rows"][1]
    assert (row["n_clips"], row["seeds"]) == (14, 2)
    assert row["reasons"]["accuracy_fold_sd"].startswith("one fold")
    assert "55.60 % on AFEW 7.0" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
