"""`fercompress board check --answers` against a real sshd on a machine that is no RK3399Pro, and against a simulated board."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from fercompress_agent import questions
from hypothesis import given
from hypothesis import strategies as st
from sshlab import Sshd
from test_boardcli import board, target

from fercompress.errors import InputError
from fercompress.measure.openquestions import QUESTIONS, Model, _quoted


def test_every_question_is_one_that_the_agent_knows_or_says_why_it_is_asked_elsewhere() -> None:
    assert [question.number for question in QUESTIONS] == list(range(1, 11))
    assert {question.probe for question in QUESTIONS if question.probe} == set(questions.QUESTIONS)


def test_on_a_board_without_an_npu_every_answer_says_why_and_what_was_found_is_kept(lab: Sshd, tmp_path: Path) -> None:
    file, answers, model = target(lab, tmp_path), tmp_path / "answers.toml", tmp_path / "one.rknn"
    model.write_bytes(b"RKNN")
    board("check", file, "--answers", str(answers), "--rknn", f"{model}=4,4,3")
    told = tomllib.loads(answers.read_text())
    assert (told["target"], told["kind"]) == ("mine", "ssh")
    found = {answer["number"]: answer for answer in told["answers"]}
    assert set(found) == set(range(1, 11))
    assert found[1]["conclusion"].startswith("n/a: this Python has no rknn.api")
    assert found[8]["conclusion"] == "no password opens it over SSH: it takes keys only"
    assert json.loads(found[8]["raw"]) == ["publickey"]
    gflops = [core["gflops"] for core in json.loads(found[6]["raw"]).values()]
    assert gflops
    assert min(gflops) > 0
    assert found[6]["conclusion"].startswith("n/a: no Cortex-A53 here; ")
    assert not list((lab.files / "models").iterdir())  # models are large: they do not stay


def test_a_simulated_board_answers_nothing_and_says_so(tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    board("check", "rk3399pro-sim", "--answers", str(answers))
    told = json.loads(answers.read_text())
    assert all(answer["conclusion"].startswith("n/a: ") for answer in told["answers"])
    assert len(told["answers"]) == 10


def test_a_model_is_given_with_its_shape(tmp_path: Path) -> None:
    (tmp_path / "a=b.rknn").write_bytes(b"")
    assert Model.parse(f"{tmp_path}/a=b.rknn=224,224,3").shape == (224, 224, 3)
    for text in (f"{tmp_path}/a=b.rknn", f"{tmp_path}/a=b.rknn=224,224", f"{tmp_path}/absent.rknn=1,1,1", f"{tmp_path}/a=b.rknn=0,1,1"):
        with pytest.raises(InputError, match="--rknn "):
            Model.parse(text)
    with pytest.raises(InputError, match="--answers FILE"):
        board("check", "localhost", "--rknn", f"{tmp_path}/a=b.rknn=224,224,3")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_a_board_says_is_a_string_of_toml(text: str) -> None:
    assert tomllib.loads(f"key = {_quoted(text)}") == {"key": text}
