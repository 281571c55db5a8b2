import contextlib
import functools
import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tiny_bundle

from fercompress.config import Measure
from fercompress.errors import AgentError, BundleError, DiskFullError, InputError, TargetError, TargetTimeoutError
from fercompress.measure.board import Board, connect, load_board
from fercompress.measure.session import MeasuredBundle, measure
from fercompress.records import Block, Pass, Status

QUICK = Measure(rounds=2, block_clips=4, block_s=0.001, warmup_clips=0)
ROWS = np.array([1, 3, 5, 8, 9], np.int64)
CLIPS = tiny_bundle.clips()


class Run:
    """One session over bundles that are made in `folder`; keeps the blocks in the order in which they came."""

    def __init__(self, folder: Path, **bundles) -> None:
        self.folder = folder
        self.bundles = bundles
        self.board = load_board("localhost")
        self.blocks: list[Block] = []
        self.progress = []

    def __call__(self, settings: Measure = QUICK, done=(), record=None, **more):
        return measure(
            self.bundles, CLIPS, settings, self.board, connect(self.board, self.folder / "target", "run"), self.folder / "work",
            done=done, record=record or self.blocks.append, progress=self.progress.append, **more,
        )  # fmt: skip

    def of(self, pass_: Pass) -> list[Block]:
        return [block for block in self.blocks if block.key.pass_ is pass_]


def one(folder: Path, variant: str, seed: int = 0, fold: str = "f0", rows=ROWS, **more) -> MeasuredBundle:
    return MeasuredBundle(tiny_bundle.write(folder / f"{variant}-{seed}-{fold}", variant, seed, **more), seed, fold, rows)


def only(*passes: str, **more) -> Measure:
    return QUICK.model_copy(update={"passes": passes, **more})


def board_with(folder: Path, shell: str, **more) -> Board:
    """A target whose `python` is a shell script: it sees the job file as $2, and hands over to the real one."""
    script = folder / "python.sh"
    script.write_text(f'#!/bin/sh\n{shell}\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return Board(name="odd", kind="local", python=str(script), **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two variants that share an extractor, all passes, two seeds of one of them."""
    folder = tmp_path_factory.mktemp("whole")
    both = [one(folder, "a", 0), one(folder, "a", 1)]
    run = Run(folder, a=both, b=[one(folder, "b", 3, extractor_seed=0)])
    run.keys = run()
    return run


def test_the_logits_are_those_of_numpy(whole):
    assert [(block.key.variant, block.key.seed) for block in sorted(whole.of(Pass.ACCURACY), key=lambda b: b.key.seed)] == [
        ("a", 0),
        ("a", 1),
        ("b", 3),
    ]
    for block in whole.of(Pass.ACCURACY):
        extractor = tiny_bundle.weights(0 if block.key.variant == "b" else block.key.seed)[0]
        expected = tiny_bundle.logits_by_numpy(CLIPS.frames[ROWS], extractor, tiny_bundle.weights(block.key.seed)[1])
        assert block.logits.dtype == np.float32
        np.testing.assert_array_equal(block.clip_index, ROWS)
        np.testing.assert_allclose(block.logits, expected, rtol=2e-5, atol=2e-5)


def test_variants_with_one_extractor_file_compute_its_features_once_and_leave_none_behind(whole):
    told = {(block.key.variant, block.key.seed): block.facts["features"] for block in whole.of(Pass.ACCURACY)}
    assert told == {("a", 0): "computed", ("a", 1): "computed", ("b", 3): "read from the cache"}
    assert list((whole.folder / "target" / "features").iterdir()) == []


def test_each_round_is_an_order_and_its_mirror_and_times_the_first_bundle_only(whole):
    latency = whole.of(Pass.LATENCY)
    for round_ in range(2):
        here = [block for block in latency if block.key.round == round_]
        names = [block.key.variant for block in here]
        assert sorted(names[:2]) == ["a", "b"]
        assert names[2:] == names[:2][::-1]
        assert [block.key.position for block in here] == [0, 1, 2, 3]
    assert {(block.key.variant, block.key.seed) for block in latency} == {("a", 0), ("b", 3)}


def test_a_latency_block_holds_every_clip_and_frame_in_nanoseconds(whole):
    for block in whole.of(Pass.LATENCY):
        assert len(block.clip_ns) >= 4
        assert len(block.frame_ns) == len(block.clip_ns) * tiny_bundle.FRAMES
        frames = np.reshape(block.frame_ns, (-1, tiny_bundle.FRAMES))
        np.testing.assert_array_equal(frames.sum(axis=1), block.extractor_ns)
        assert all(
            clip >= extractor + predictor > 0
            for clip, extractor, predictor in zip(block.clip_ns, block.extractor_ns, block.predictor_ns, strict=True)
        )


def test_memory_is_told_apart_by_step_and_grows(whole):
    for block in whole.of(Pass.MEMORY):
        steps = [block.memory_bytes[step] for step in ("interpreter", "runtime", "model", "peak")]
        assert steps == sorted(steps)
        assert steps[1] - steps[0] > 5 << 20  # numpy and onnxruntime take at least that


def test_power_is_a_number_or_a_reason(whole):
    for block in whole.of(Pass.POWER):
        assert block.status is Status.OK
        assert ("power_w" in block.power) != block.reason.startswith("n/a: ")


def test_blocks_carry_the_facts_that_a_reader_needs_to_trust_them(whole):
    for block in whole.of(Pass.LATENCY):
        for fact in ("python", "cpu", "engine", "start_utc", "end_utc", "pid", "threads", "clock_resolution_ns", "warmup_clips", "agent_sha256",
                     "host_cpu_percent_before", "host_busiest_percent_before", "host_busiest_percent_during"):  # fmt: skip
            assert fact in block.facts, fact
        assert block.facts["engine"].keys() == {"numpy", "onnxruntime"}
    pids = [block.facts["pid"] for block in whole.blocks]
    assert len(set(pids)) == len(pids)  # a fresh process each


def test_passes_come_in_order_and_progress_counts_up(whole):
    assert [block.key.pass_ for block in whole.blocks] == [Pass.ACCURACY] * 3 + [Pass.LATENCY] * 8 + [Pass.MEMORY] * 2 + [Pass.POWER] * 2
    assert [step.done for step in whole.progress] == list(range(15))
    assert {step.total for step in whole.progress} == {15}
    assert {block.key for block in whole.blocks} == set(whole.keys)
    assert len(set(whole.keys)) == 15


def test_a_stopped_session_goes_on_where_it_was(whole):
    again = Run(whole.folder, **whole.bundles)
    missing = whole.keys[5]
    assert again(done=set(whole.keys) - {missing}) == whole.keys
    assert [block.key for block in again.blocks] == [missing]


def test_a_changed_setting_measures_again_what_depends_on_it_and_nothing_else(whole):
    again = Run(whole.folder, **whole.bundles)
    again(QUICK.model_copy(update={"block_clips": 3, "passes": ("accuracy", "latency"), "rounds": 1}), done=whole.keys)
    assert [block.key.pass_ for block in again.blocks] == [Pass.LATENCY] * 4


def test_more_rounds_add_to_those_that_are_there(whole):
    again = Run(whole.folder, **whole.bundles)
    again(only("latency", rounds=3), done=whole.keys)
    assert [block.key.round for block in again.blocks] == [2] * 4


def test_another_variant_beside_them_times_all_of_them_anew_but_keeps_their_accuracy(whole, tmp_path):
    again = Run(whole.folder, **whole.bundles, c=[one(tmp_path, "c", 4)])
    again(only("accuracy", "latency", rounds=1), done=whole.keys)
    assert [block.key.variant for block in again.of(Pass.ACCURACY)] == ["c"]
    assert sorted(block.key.variant for block in again.of(Pass.LATENCY)) == ["a", "a", "b", "b", "c", "c"]


def test_each_fold_is_tested_on_its_own_clips(tmp_path):
    folds = [one(tmp_path, "a", 0, "f0", np.array([0, 2], np.int64)), one(tmp_path, "a", 0, "f1", np.array([7, 1, 4], np.int64))]
    run = Run(tmp_path, a=folds)
    run(only("accuracy"))
    for block, measured in zip(sorted(run.blocks, key=lambda b: b.key.fold), folds, strict=True):
        np.testing.assert_array_equal(block.clip_index, measured.clip_index)
        np.testing.assert_allclose(block.logits, tiny_bundle.logits_by_numpy(CLIPS.frames[measured.clip_index]), rtol=2e-5, atol=2e-5)


def test_a_variant_that_fails_is_recorded_and_left_out_after_the_second_time_while_others_go_on(tmp_path):
    run = Run(tmp_path, good=[one(tmp_path, "good")], silent=[one(tmp_path, "silent", predictor_scale=0.0)])
    keys = run(only("latency", "memory"))
    assert len(run.blocks) == len(keys) + 1 == 11
    statuses = [block.status for block in run.blocks if block.key.variant == "silent"]
    assert statuses == [Status.FAILED] * 2 + [Status.EXCLUDED] * 4
    assert {block.status for block in run.blocks if block.key.variant == "good"} == {Status.OK}
    reasons = [block.reason for block in run.blocks if block.key.variant == "silent"]
    assert "all zero" in reasons[0]
    assert reasons[-1].startswith("quarantined: failed 2 times, at last because the model's logits are all zero")


def test_an_agent_that_is_killed_in_a_block_is_a_failed_block(tmp_path):
    run = Run(tmp_path, a=[one(tmp_path, "a")])
    run.board = board_with(tmp_path, """grep -q '"job": "latency"' "$2" && kill -9 $$""")
    run(only("latency", "memory"))
    assert [block.status for block in run.blocks] == [Status.FAILED] * 2 + [Status.EXCLUDED] * 4
    assert run.blocks[0].reason == "the agent was ended by SIGKILL; was the target out of memory?"


def test_an_agent_that_breaks_tells_its_last_line(tmp_path):
    run = Run(tmp_path, a=[one(tmp_path, "a")])
    run.board = board_with(tmp_path, """grep -q '"job": "memory"' "$2" && { echo first >&2; echo ValueError: odd >&2; exit 1; }""")
    run(only("memory"))
    assert run.blocks[0].reason == "the agent broke with exit code 1: ValueError: odd"


def test_a_graph_that_the_runtime_cannot_load_tells_the_runtimes_words(tmp_path):
    run = Run(tmp_path, a=[one(tmp_path, "a", predictor=b"no graph")])
    run(only("memory"))
    assert run.blocks[0].status is Status.FAILED
    assert "predictor.onnx" in run.blocks[0].reason
    assert "INVALID_PROTOBUF" in run.blocks[0].reason


def test_an_agent_that_hangs_is_ended_at_the_deadline_with_its_children(tmp_path):
    run = Run(tmp_path, a=[one(tmp_path, "a")])
    run.board = board_with(tmp_path, f"""grep -q '"job": "memory"' "$2" && {{ sleep 301 & echo $! > {tmp_path}/pid; wait; }}""")
    for deadline_s in (3.0, 12.0, 48.0):  # on a busy machine the look at the engines may take longer than the first
        with contextlib.suppress(TargetTimeoutError):
            run(only("memory", deadline_s=deadline_s))
            break
    assert run.blocks[0].status is Status.FAILED
    assert f"within {deadline_s:g} s: killed" in run.blocks[0].reason
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text())) or _ends(int((tmp_path / "pid").read_text()))


def test_an_answer_that_is_not_json_is_a_failed_block(tmp_path):
    run = Run(tmp_path, a=[one(tmp_path, "a")])
    run.board = board_with(tmp_path, """grep -q '"job": "memory"' "$2" && { echo '{"schema": 1, "non' > "${2%.json}.result.json"; exit 0; }""")
    run(only("memory"))
    assert run.blocks[0].status is Status.FAILED
    assert "the agent's answer cannot be used" in run.blocks[0].reason


def test_a_full_disk_on_the_target_ends_the_session(tmp_path):
    run = Run(tmp_path, a=[one(tmp_path, "a")])
    for job in ("memory", "accuracy"):
        run.board = board_with(tmp_path, f"""grep -q '"job": "{job}"' "$2" && {{ echo no space left on the target: x >&2; exit 4; }}""")
        with pytest.raises(DiskFullError, match="no space left on the target"):
            run(only(job))
    assert run.blocks == []


def test_an_error_while_recording_ends_the_session_and_leaves_no_thread_waiting(tmp_path):
    run = Run(tmp_path, a=[one(tmp_path, "a"), one(tmp_path, "a", 1), one(tmp_path, "a", 2)])

    def full(block: Block) -> None:
        raise DiskFullError(f"no space for {block.key.variant}")

    with pytest.raises(DiskFullError, match="no space for a"):
        run(only("accuracy"), record=full)


def test_a_damaged_bundle_is_found_before_anything_runs(tmp_path):
    run = Run(tmp_path, a=[one(tmp_path, "a")])
    (tmp_path / "a-0-f0" / "predictor.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"predictor.onnx: does not match the manifest's sha256"):
        run()
    (tmp_path / "a-0-f0" / "predictor.onnx").unlink()
    with pytest.raises(BundleError, match=r"predictor.onnx: cannot be read \(No such file"):
        run()
    assert not (tmp_path / "target").exists()


def test_bundles_of_one_variant_must_share_their_recipe_but_may_differ_in_ranks(tmp_path):
    other = tiny_bundle.write(tmp_path / "other", "a", 1, recipe=({"step": "tensor-train", "rank": 2},))
    first = one(tmp_path, "a")
    with pytest.raises(BundleError, match="differ in recipe"):
        Run(tmp_path, a=[first, MeasuredBundle(other, 1, "f0", ROWS)])()
    ranked = tiny_bundle.write(tmp_path / "ranked", "a", 1, graph_key="another")
    Run(tmp_path, a=[first, MeasuredBundle(ranked, 1, "f0", ROWS)])()
    with pytest.raises(BundleError, match="variant 'a' has no bundle"):
        Run(tmp_path, a=[])()


def test_an_engine_that_the_target_does_not_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="the bundle needs 'rknn'"):
        Run(tmp_path, a=[one(tmp_path, "a", engine="rknn")])()


def test_a_target_without_the_runtime_says_what_to_install(tmp_path):
    run = Run(tmp_path, a=[one(tmp_path, "a")])
    run.board = Board(name="bare", kind="local", python="/bin/sh")
    with pytest.raises(AgentError):
        run()
    bare = subprocess.run([sys.executable, "-c", "import sys; print(sys._base_executable)"], capture_output=True, text=True).stdout.strip()
    if subprocess.run([bare, "-c", "import onnxruntime"], capture_output=True).returncode == 0:
        pytest.skip(f"{bare} has onnxruntime")
    run.board = Board(name="bare", kind="local", python=bare)
    with pytest.raises(AgentError, match=r"target 'bare': .* has no module .*onnxruntime; install it there: pip install"):
        run()


def test_the_null_engine_measures_the_loop_alone(tmp_path):
    run = Run(tmp_path, null=[one(tmp_path, "null", engine="null")], model=[one(tmp_path, "model")])
    run.board = load_board("localhost").model_copy(update={"engines": ("onnxruntime", "null")})
    run(only("latency", rounds=1, block_clips=500))
    assert {block.status for block in run.blocks} == {Status.OK}
    least = {name: min(min(block.clip_ns) for block in run.blocks if block.key.variant == name) for name in ("null", "model")}
    assert least["null"] < least["model"]


def _ends(pid: int, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("pass_", ["latency", "accuracy"])
def test_a_session_that_is_stopped_leaves_no_agent_running(tmp_path, stop, pass_):
    """Ctrl-C by closing the channel; kill -9 by the agent's own tie to its host."""
    script = f"""
    import sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from pathlib import Path
    import numpy as np
    import tiny_bundle
    from fercompress.config import Measure
    from fercompress.measure.board import connect, load_board
    from fercompress.measure.session import MeasuredBundle, measure
    folder = Path({str(tmp_path)!r})
    bundles = [MeasuredBundle(tiny_bundle.write(folder / str(i), "a", i), i, "f", np.zeros(150_000, int)) for i in range(2)]
    board = load_board("localhost")
    settings = Measure(passes=({pass_!r},), block_s=300.0)
    channel = connect(board, folder / "target", "run")
    measure(dict(a=bundles), tiny_bundle.clips(), settings, board, channel, folder / "work", done=[], record=print, progress=print)
    """
    heed = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a test in a shell's background ignores Ctrl-C
    host = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, preexec_fn=heed
    )
    agents = _agents_when(host, pass_)
    host.send_signal(stop)
    _, stderr = host.communicate(timeout=60)
    assert (b"KeyboardInterrupt" in stderr) == (stop is signal.SIGINT)
    assert all(_ends(pid) for pid in agents)


def _agents_when(host: subprocess.Popen, pass_: str, seconds: float = 60.0) -> list[int]:
    """The pids of the host's agents, once one runs a job of this pass."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for child in psutil.Process(host.pid).children():
            try:
                words = child.cmdline()
                job = json.loads((Path(child.cwd()) / words[-1]).read_text()) if words[-1:] and words[-1].endswith(".json") else {}
            except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                continue
            if job.get("job") == pass_:
                time.sleep(0.5)
                return [process.pid for process in psutil.Process(host.pid).children(recursive=True)]
        time.sleep(0.02)
    raise AssertionError(f"no agent within {seconds} s; the host's exit code: {host.poll()}")


def test_a_target_that_is_gone_ends_the_session(tmp_path):
    run = Run(tmp_path, a=[one(tmp_path, "a")])
    run.board = run.board.model_copy(update={"python": "/no/such/python"})
    with pytest.raises(TargetError, match="cannot start /no/such/python"):
        run()
