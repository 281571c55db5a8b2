import contextlib
import sys

import pytest
from fercompress_agent import engines
from hypothesis import given
from hypothesis import strategies as st

from fercompress.errors import InputError, StudyError
from fercompress.export.part import MAKEABLE
from fercompress.measure.board import Board, check_engine, common_engine, connect, known_hosts, load_board, parse_board, shipped_boards
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
        ('kind = "moon"', r"here: kind: input should be 'local', 'ssh' or 'simulated' \(given: 'moon'\)"),
        ('kind = "local"\nthreads = 0', r"here: threads: .*greater than or equal to 1 \(given: 0\)"),
        ('kind = "local"\nthreads = "2"', r"here: threads: .*valid integer \(given: '2'\)"),
        ('kind = "local"\ncores = []', r"here: cores: .*at least 1 item"),
        ('kind = "local"\ncores = [-1]', r"here: cores.0: .*greater than or equal to 0"),
        ("kind = ", r"here: not valid TOML"),
        ('kind = "local"\nhost = "x"', r'host: only for kind = "ssh", this target is "local"'),
        ('kind = "ssh"\nhost = "-oProxyCommand=x"', r"here: host: .*pattern"),
        ('kind = "ssh"\nworkspace = "../up"', r"workspace is a folder below the login home, got '../up'"),
        ('kind = "ssh"\npassword = "x"', r"here: unknown key 'password'"),
        ('like = "rpi5"', r"here: like: no shipped target is named 'rpi5'; did you mean 'rpi4'\?"),
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
    channel = connect(load_board("localhost"), tmp_path, "run")
    assert isinstance(channel, LocalChannel)
    channel.close()


def test_a_file_like_a_shipped_target_keeps_what_it_does_not_say():
    board = parse_board('like = "rk3399pro-debian10"\nhost = "10.0.0.7"\nuser = "linaro"', "edge-r", "edge-r.toml")
    assert (board.name, board.kind, board.host, board.user, board.cores, board.governor) == (
        "edge-r",
        "ssh",
        "10.0.0.7",
        "linaro",
        (4, 5),
        "performance",
    )
    assert board.engines == ("rknnlite", "rknn", "onnxruntime", "numpy")


def test_a_board_runs_its_own_python_not_this_machines_path():
    assert parse_board('kind = "ssh"\nhost = "x"', "a", "a").python == "python3"


def test_a_shipped_board_without_a_host_says_how_to_give_one(tmp_path):
    with pytest.raises(InputError, match=r"target 'rpi4' has no host: write a file of your own(.|\n)*like = \"rpi4\"(.|\n)*host ="):
        connect(load_board("rpi4"), tmp_path, "run")


def test_pinned_host_keys_lie_in_the_users_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert known_hosts() == tmp_path / "fercompress" / "known_hosts"


def test_bundles_are_made_for_the_first_engine_that_is_preferred_makeable_and_common():
    lean = parse_board('kind = "ssh"\nhost = "x"\nengines = ["rknnlite", "onnxruntime-c", "onnxruntime"]', "lean", "lean")
    makeable = ("onnxruntime", "onnxruntime-c")
    assert common_engine([lean], makeable) == "onnxruntime-c"
    assert common_engine([lean, load_board("localhost")], makeable) == "onnxruntime"
    npu = parse_board('kind = "ssh"\nhost = "x"\nengines = ["rknnlite"]', "npu", "npu")
    with pytest.raises(InputError, match=r"no engine in common .*onnxruntime-c\): lean: rknnlite, onnxruntime-c, onnxruntime; npu: rknnlite"):
        common_engine([lean, npu], makeable)


def test_a_pair_is_taken_where_it_is_listed_or_asked_for_and_both_halves_run():
    makeable = ("onnxruntime", "onnxruntime+numpy")
    both = parse_board('kind = "ssh"\nhost = "x"\nengines = ["onnxruntime", "numpy"]', "both", "both")
    pair = parse_board('kind = "ssh"\nhost = "x"\nengines = ["onnxruntime+numpy", "onnxruntime"]', "pair", "pair")
    assert common_engine([both], makeable) == "onnxruntime"
    assert common_engine([pair, both], makeable) == "onnxruntime+numpy"
    assert common_engine([both], makeable, "onnxruntime+numpy") == "onnxruntime+numpy"
    with pytest.raises(InputError, match=r"target 'localhost' runs onnxruntime, the bundle needs 'onnxruntime\+numpy'"):
        common_engine([both, load_board("localhost")], makeable, "onnxruntime+numpy")
    with pytest.raises(StudyError, match=r"no bundle is made for 'onnxruntim'; did you mean 'onnxruntime'\?; known: onnxruntime, onnxruntime\+numpy"):
        common_engine([both], makeable, "onnxruntim")


def test_every_engine_that_a_bundle_can_be_made_for_is_one_that_the_agent_can_compose():
    for name in MAKEABLE:
        assert engines.make(name, 1).name == name
    assert {"onnxruntime", "onnxruntime-c", "onnxruntime+numpy"} <= set(MAKEABLE)
    assert "onnxruntime-c+numpy" not in MAKEABLE  # what the one gives the other cannot read
