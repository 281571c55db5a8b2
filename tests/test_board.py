import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercompress.errors import InputError, StudyError
from fercompress.measure.board import Board, check_engine, connect, load_board, parse_board, shipped_boards
from fercompress.measure.channel import LocalChannel


def test_this_machine_ships_as_a_target_and_uses_the_running_python():
    board = load_board("localhost")
    assert "localhost" in shipped_boards()
    assert (board.name, board.kind, board.python, board.engines) == ("localhost", "local", sys.executable, ("onnxruntime",))


@pytest.mark.parametrize("name", shipped_boards())
def test_every_shipped_target_can_be_read(name):
    assert load_board(name).name == name


def test_a_file_of_ones_own_is_named_after_its_stem(tmp_path):
    file = tmp_path / "attic.toml"
    file.write_text('kind = "local"\npython = "/opt/py/bin/python"\ncores = [1]\nthreads = 2\n')
    board = load_board(str(file))
    assert (board.name, board.python, board.cores, board.threads) == ("attic", "/opt/py/bin/python", (1,), 2)


def test_an_unknown_name_is_told_its_neighbour_and_what_ships():
    with pytest.raises(StudyError, match=r"no target named 'lokalhost'; did you mean 'localhost'\?; shipped: localhost"):
        load_board("lokalhost")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "local"\npyton = "x"', r"here: unknown key 'pyton'; did you mean 'python'\? \(known: accuracy_processes, cool_down_s, cores"),
        ("", r"here: kind: missing"),
        ('kind = "moon"', r"here: kind: input should be 'local' \(given: 'moon'\)"),
        ('kind = "local"\nthreads = 0', r"here: threads: .*greater than or equal to 1 \(given: 0\)"),
        ('kind = "local"\nthreads = "2"', r"here: threads: .*valid integer \(given: '2'\)"),
        ('kind = "local"\ncores = []', r"here: cores: .*at least 1 item"),
        ('kind = "local"\ncores = [-1]', r"here: cores.0: .*greater than or equal to 0"),
        ("kind = ", r"here: not valid TOML"),
    ],
)
def test_a_mistake_in_a_target_is_told_in_the_words_of_the_file(text, message):
    with pytest.raises(StudyError, match=message):
        parse_board(text, "here", "here")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"gone.toml: cannot read the target"):
        load_board(str(tmp_path / "gone.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(StudyError, match=r"binary.toml: cannot read the target"):
        load_board(str(tmp_path / "binary.toml"))


@given(st.text())
def test_any_text_is_a_target_or_a_study_error(text):
    with contextlib.suppress(StudyError):
        assert isinstance(parse_board(text, "any", "any"), Board)


def test_an_engine_that_a_target_does_not_list_is_refused():
    with pytest.raises(InputError, match=r"target 'localhost' runs onnxruntime, the bundle needs 'rknn'"):
        check_engine(load_board("localhost"), "rknn")


def test_the_way_to_this_machine_is_a_local_channel(tmp_path):
    channel = connect(load_board("localhost"), tmp_path)
    assert isinstance(channel, LocalChannel)
    channel.close()
