"""What a page says of protocols: leaky accuracies are marked at every place, folds stand by themselves, the paper's figure comes with its doubts."""

import re

import pytest
import toy_report as toy

from fercompress import overview, terminal
from fercompress.records import Doubt
from fercompress.report import cells, folds, paper, story
from fercompress.report.render import render, texts

FOLDS = [{"name": f"subjects-{at}", "train": 20, "validation": 10, "test": 10, "shared": 0} for at in range(4)]
RECIPES = {"dense": [], "tt": toy.train(4), "tt-int8": [toy.train(4), *toy.quantize()], "bottle": [{"step": "bottleneck", "rank": 4}]}


def page(*, name="ckplus", protocol="subjects-ascending", made_folds=FOLDS, leaky=False, variants=("dense", "tt", "tt-int8", "bottle")):
    doubts = [str(Doubt.ONE_SEED), *([str(Doubt.LEAKY_FOLDS)] if leaky else [])]
    # Wrong answers such that no two figures are alike and none is a share that stands elsewhere on the page.
    wrong = {"dense": range(1), "tt": range(2), "tt-int8": range(3), "bottle": range(7)}
    rows = {}
    for variant in variants:
        share = 1 - len(wrong[variant]) / toy.N
        rows[variant] = {
            "recipe": RECIPES[variant] if isinstance(RECIPES[variant], list) else [RECIPES[variant]], "wrong": wrong[variant],
            "stored_bytes": {"dense": 90_000, "tt": 9_100, "tt-int8": 4_100, "bottle": 9_200}[variant], "doubts": doubts,
            "validation_accuracy": share - 0.0123, "accuracy_best_epoch": share - 0.0034, "accuracy_last_epoch": share - 0.0457,
            "unweighted_recall": share - 0.0056, "accuracy_fold_mean": share - 0.0068, "accuracy_fold_sd": 0.031,
            "accuracy_folds": [share - 0.0211, share - 0.0322, None, share - 0.0433][: len(made_folds)],
            "train_epochs": 3.0, "train_total_s": 1.5, "train_epoch_s": 0.5,
        }  # fmt: skip
    data = {"name": name, "simulated": False, "fingerprint": "0", "classes": ("calm", "glad"), "left_out": 0}
    return toy.report(rows, data={**data, "protocol": protocol, "folds": made_folds})


def marked_figures(given):
    """Every accuracy of every row, as text."""
    keys = ("accuracy", "validation_accuracy", "accuracy_best_epoch", "accuracy_last_epoch", "unweighted_recall", "accuracy_fold_mean")
    shares = [row[key] for row in given.rows for key in keys] + [share for row in given.rows for share in row["accuracy_folds"] if share is not None]
    return {f"{100 * share:.1f} %" for share in shares}


def written(given, tmp_path):
    render(given, tmp_path)
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    return html, (tmp_path / "report.md").read_text(encoding="utf-8")


def test_every_accuracy_of_leaky_folds_is_marked_on_the_page_and_in_the_markdown(tmp_path):
    given = page(protocol="leaky-image", leaky=True)
    for text in written(given, tmp_path):
        plain = re.sub(r"<style>.*?</style>|data:image[^\"]*", "", text, flags=re.DOTALL)
        found = 0
        for figure in marked_figures(given):
            for hit in re.finditer(rf"(?<![\d.]){re.escape(figure)}", plain):
                found += 1
                before = re.sub(r"<[^>]*>", " ", plain[hit.start() - 80 : hit.start()])
                above = re.search(r"leaky-image clips:?\s*$", before)  # a tile's label stands above its value
                marked = above or plain[hit.end() :].startswith(" (leaky-image)")
                assert marked, plain[hit.start() - 80 : hit.end() + 40]
        assert found > 20
        assert "tested faces are trained on too" in plain
        assert "Accuracy (leaky-image folds)" in plain


@pytest.mark.parametrize("leaky", [True, False])
def test_the_terminal_marks_leaky_accuracies_and_tells_the_papers_figure(leaky, capsys):
    empty = dict.fromkeys(
        ("engine", "stored_bytes", "ratio_model_bytes", "latency_clip_p50_ns", "speedup_clip", "speedup_predictor", "memory_peak_bytes", "power_w")
    )
    doubts = [str(Doubt.LEAKY_FOLDS)] if leaky else []
    row = {**empty, "variant": "dense", "target": "here", "accuracy": 0.975, "accuracy_ci95": [0.9, 1.0], "n_clips": 40, "doubts": doubts}
    data = {"name": "ckplus", "protocol": "leaky-image" if leaky else "subjects"}
    summary = {"study": "ckplus", "rows": [row], "data": data}
    terminal.show_rows(overview.rows(summary), summary["study"], overview.caption(summary))
    told = " ".join(capsys.readouterr().out.split())
    assert ("97.5 [90.0, 100.0] leaky-image" in told) == leaky
    assert ("tested faces are trained on too" in told) == leaky
    assert "The paper reports 97.96 % on CK+" in told


def test_fair_folds_are_called_leaky_nowhere(tmp_path):
    html, markdown = written(page(), tmp_path)
    assert "leaky-image" not in html + markdown


def test_folds_stand_line_by_line_with_their_mean_and_the_pooled_figure():
    given = page()
    table = folds.table(given, "here")
    assert [line[0].text for line in table.rows] == ["subjects-0", "subjects-1", "subjects-2", "subjects-3", "Mean of folds", "All clips pooled"]
    assert [line[1].text for line in table.rows] == ["95.4 %", "94.3 %", "n/a", "93.2 %", "96.8 %", "97.5 %"]
    assert table.rows[4][1].sub == "SD 3.1 points"
    assert table.rows[5][1].sub == "[92.5, 100.0]"
    assert len(cells.markdown(table).splitlines()) == 2 + 6 + 1 + len(table.notes)


def test_test_clips_of_people_that_are_trained_on_are_counted_beside_their_fold():
    given = page(protocol="given", made_folds=[{**FOLDS[0], "shared": 3}, FOLDS[1]])
    assert [line[0].sub for line in folds.table(given, "here").rows[:2]] == ["n = 10, 3 of people trained on", "n = 10"]


def test_one_fold_has_no_table_of_folds():
    assert folds.table(page(made_folds=FOLDS[:1]), "here").rows == ()


def test_many_folds_are_folded_away():
    many = [{**FOLDS[0], "name": f"subject-{at}"} for at in range(60)]
    given = page(made_folds=many)
    rows = [{**row, "accuracy_folds": [0.5] * 60} for row in given.rows]
    given = toy.report({row["variant"]: {**row, "recipe": given.recipe(row["variant"])} for row in rows}, data=given.data)
    html = texts(given, [story.tell(given, "here")], {"here": []})["index.html"]
    assert "<details><summary>Accuracy, fold by fold (62)</summary>" in html


@pytest.mark.parametrize(
    ("name", "published", "doubts"),
    [
        ("ckplus", "97.96 % on CK+", ("961 of 981 pictures", "327", "without regard to people", "best on the test part")),
        ("mmi", "97.33 % on MMI", ("7.3 points above the best", "205, 208 or 213")),
        ("afew", "55.60 % on AFEW 7.0", ("383 validation clips", "5.0 points wide on each side")),
    ],
)
def test_the_papers_accuracy_stands_on_the_first_screen_with_its_doubts(name, published, doubts, tmp_path):
    given = page(name=name)
    (remark,) = [remark for remark in story.tell(given, "here").sentences if remark.kind == "paper"]
    assert published in remark.text
    for doubt in doubts:
        assert doubt in remark.text
    html, markdown = written(given, tmp_path)
    assert published in html
    assert published in markdown


def test_ours_stands_beside_the_papers_figure_of_its_own_data_set_alone():
    given = page(name="mmi")
    table = paper.beside_the_paper(given, given.rows[0])
    beside = {line[0].text: line[2].text for line in table.rows if line[0].text.startswith("Accuracy")}
    assert beside == {"Accuracy, CK+": "n/a", "Accuracy, MMI": "97.5 % (this study's clips)", "Accuracy, AFEW 7.0": "n/a"}


def test_other_data_sets_get_no_sentence_on_the_paper():
    assert paper.sentence("synthetic-posed", None) is None
    assert paper.sentence("gfe", "contiguous") is None


@pytest.mark.parametrize(("clips", "share"), [(981, "97.96"), (75, "97.33")])
def test_the_arithmetic_of_the_doubts_holds(clips, share):
    """No whole number of clips gives the published percentage; of pictures, or of another number, one does."""

    def reachable(n):
        return any(f"{100 * k / n:.2f}" == share for k in range(n + 1))

    assert reachable(clips)
    assert not any(reachable(n) for n in ((327,) if share == "97.96" else (205, 208, 213)))
