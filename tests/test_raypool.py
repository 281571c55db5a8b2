"""Cells made by Ray on two local nodes: the same results as one process gives, whatever dies meanwhile; a board is never used twice at once.

One cluster serves the whole module; a node that a test kills is one of its own.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import socket
import threading
import time
import warnings
from pathlib import Path

import facetrees
import pytest
import small_study
import test_study
import torch
from rich.console import Console

from fercompress import raypool
from fercompress.data import source
from fercompress.errors import InputError, ModelError
from fercompress.made import Made
from fercompress.making import Maker
from fercompress.measure import board
from fercompress.progress import Reporter
from fercompress.raypool import Pool
from fercompress.studyfile import parse_study
from fercompress.workspace import Workspace

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'fercompress[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIM = "rk3399pro-sim"
ONLY = """
[[variant]]
name = "dense-fp32"

[[variant]]
name = "tt-r2"
recipe = [{ step = "tensor-train", rank = 2 }]

[[variant]]
name = "tt-r2-int8"
recipe = [{ step = "tensor-train", rank = 2 }, { step = "quantize", part = "predictor" }]

[[variant]]
name = "lowrank-tt-r2-int8"
recipe = [
    { step = "low-rank", ratio = 2.0 },
    { step = "tensor-train", rank = 2, start = "data-aware" },
    { step = "quantize", part = "extractor", qat = "always", calibration_clips = 2 },
]

[[variant]]
name = "small-dense-int8"
recipe = [{ step = "small-dense", bytes_of = "tt-r2-int8" }, { step = "quantize", part = "predictor" }]
"""
HEAD = small_study.text("small", "", ("accuracy", "latency", "memory", "power")).partition("\n[[variant]]")[0]


def study_of(*wishes: str):
    return parse_study(HEAD + ONLY, "small.toml", ["seeds=[0, 1]", 'measure.passes=["accuracy"]', *wishes])


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of a core each; the second one holds the simulated board."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # as in `raypool.connected`
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray leaves the log files of its client server open
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": port})
        found.add_node(num_cpus=1, resources={raypool.resource(SIM): 1})
        gc.collect()
    found.client_address = f"ray://127.0.0.1:{port}"
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def connected(cluster):
    with raypool.connected(Pool(cluster.address), ()) as found:
        yield found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Bundle by bundle what one process makes: variant, seed and fold -> sha256."""
    return bundles_of(maker_in(tmp_path_factory.mktemp("alone")))


def maker_in(folder: Path, *wishes: str) -> Maker:
    study = study_of(*wishes)
    clips = source.load(study.data, None, folder)
    folds = source.SOURCES[study.data.name].folds(study.data, clips)
    workspace = Workspace(folder / "out")
    workspace.root.mkdir(exist_ok=True)
    return Maker(workspace, study, clips, folds, Reporter(Console(quiet=True)), dict.fromkeys([each.name for each in study.variants], "onnxruntime"))


def bundles_of(maker: Maker) -> dict[str, str]:
    found = {}
    for seed, fold in maker.cells():
        for name, made in maker.bundles(seed, fold).items():
            assert isinstance(made, Made)
            found[f"{name} {seed} {fold.name}"] = made.bundle.sha256
    return found


def ahead(found, maker: Maker, pool: Pool, targets=(), record=lambda _: None) -> raypool.Log:
    absent = {target.name: {} for target in targets}
    return raypool.make_ahead(found, pool, maker, targets, absent, maker.tell, record=record, done=set(), run_id="test")


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_two_nodes_make_the_bundles_that_one_process_makes_and_a_board_is_used_by_one_cell_at_a_time(cluster, connected, alone, tmp_path):
    assert torch.get_num_threads() == 1
    maker, blocks = maker_in(tmp_path), []
    targets = board.load_boards((SIM,))
    log = ahead(connected, maker, Pool(cluster.address), targets, blocks.append)
    assert len(log.nodes) == 2
    assert log.tasks == 2 * 7  # for two seeds: a teacher, two extractors, no training, and those of tt-r2, lowrank-tt-r2-int8 and small-dense
    made = files_of(maker.workspace.root)
    assert bundles_of(maker) == alone
    assert files_of(maker.workspace.root) == made  # nothing was left to make
    assert not [name for name in made if "features-" in name]
    # Ten cells ran on the board, each by itself.
    spans = sorted((each.started_s, each.ended_s) for each in log.ahead)
    assert len(spans) == len(blocks) == 10
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))
    assert {f"{block.key.variant} {block.key.seed} {block.key.fold}": block.bundle_sha256 for block in blocks} == alone


def test_what_was_made_on_an_earlier_day_is_not_made_again(cluster, connected, alone, tmp_path):
    maker = maker_in(tmp_path)
    seeds = maker.study.seeds
    maker.study = maker.study.model_copy(update={"seeds": seeds[:1]})
    bundles_of(maker)
    maker.study = maker.study.model_copy(update={"seeds": seeds})
    log = ahead(connected, maker, Pool(cluster.address))
    assert log.tasks == 7
    assert bundles_of(maker) == alone
    assert ahead(connected, maker, Pool(cluster.address)).tasks == 0


def test_the_trials_of_a_killed_node_are_finished_by_the_others(cluster, connected, alone, tmp_path):
    doomed = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    maker, killed = maker_in(tmp_path), []

    def kill_when_busy() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            busy = {node["NodeID"] for node in connected.nodes() if node["Alive"]} and connected.available_resources().get("CPU", 0) == 0
            if busy:
                cluster.remove_node(doomed, allow_graceful=False)
                killed.append(True)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=kill_when_busy)
    thread.start()
    log = ahead(connected, maker, Pool(cluster.address))
    thread.join()
    assert killed
    assert log.tasks == 14
    assert bundles_of(maker) == alone


def test_a_worker_s_own_error_arrives_as_it_was(cluster, connected, tmp_path):
    maker = maker_in(tmp_path)
    maker.study = maker.study.model_copy(update={"model": maker.study.model.model_copy(update={"zoo": None, "factory": "nowhere:make"})})
    with pytest.raises(ModelError, match=r"^model.factory 'nowhere:make' failed: No module named 'nowhere'"):
        ahead(connected, maker, Pool(cluster.address))


def test_a_worker_of_another_version_is_refused(cluster, connected, tmp_path, monkeypatch):
    monkeypatch.setattr(raypool, "__version__", "0.0.1")
    with pytest.raises(InputError, match=r"has fercompress .*, this is 0\.0\.1: install the same everywhere"):
        ahead(connected, maker_in(tmp_path), Pool(cluster.address))


def test_more_cores_than_there_are_is_told_at_once(cluster, connected, tmp_path):
    with pytest.raises(InputError, match=r"--cpus 64: Ray has \d+ cores in all"):
        ahead(connected, maker_in(tmp_path), Pool(cluster.address, 64))


def test_a_whole_run_with_ray_ends_like_one_without(cluster, tmp_path):
    """Every figure that no clock decides, with a board that is held while it is measured on."""
    (tmp_path / "small.toml").write_text(HEAD + ONLY)
    asked = ("run", "small.toml", "--set", 'measure.passes=["accuracy"]', "--target", "localhost", "--target", SIM)
    with_ray = small_study.run(tmp_path, *asked, "--out", "ray", "--executor", "ray", "--ray-address", cluster.address, timeout_s=600)
    assert with_ray.returncode == 0, with_ray.stderr
    told = " ".join(with_ray.stderr.split())
    assert "Ray: 7 tasks on " in told
    assert "5 accuracy cells ran on boards meanwhile" in told
    without = small_study.run(tmp_path, *asked, "--out", "alone", timeout_s=600)
    assert without.returncode == 0, without.stderr
    rows = [test_study.untimed(json.loads((tmp_path / name / "summary.json").read_text())["rows"]) for name in ("ray", "alone")]
    for mine, other in zip(*rows, strict=True):
        assert {key: (value, other[key]) for key, value in mine.items() if other[key] != value} == {}, mine["variant"]


def test_a_board_that_somebody_holds_is_waited_for(connected):
    order = []

    def second() -> None:
        with raypool.held(connected, SIM):
            order.append("second")

    with raypool.held(connected, SIM):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(2.0)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_cluster_is_used_from_outside_it(cluster, alone, tmp_path):
    (tmp_path / "small.toml").write_text(HEAD + ONLY)
    asked = ("compress", "small.toml", "--out", "out", "--only", "tt-r2", "--json", "--executor", "ray", "--ray-address", cluster.client_address)
    done = small_study.run(tmp_path, *asked, timeout_s=600)
    assert done.returncode == 0, done.stderr
    assert "Ray: 4 tasks on " in " ".join(done.stderr.split())
    assert {row["variant"]: Path(row["bundle"]).name[-12:] for row in json.loads(done.stdout)} == {
        name: alone[f"{name} 0 subjects"][:12] for name in ("dense-fp32", "tt-r2")
    }


PLANNED = """
[study]
name = "planned"
baseline = "dense-fp32"
[data]
name = "folder"
protocol = "leave-one-subject-out"
frames = 2
size = 32
faces = { by = "none" }
[[variant]]
name = "dense-fp32"
[[variant]]
name = "tt-r{rank}"
matrix = { rank = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19] }
recipe = [{ step = "tensor-train", rank = "{rank}" }]
"""


def test_three_sets_of_ten_folds_and_twenty_variants_are_planned_with_their_cost_before_anything_starts(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "planned.toml").write_text(PLANNED)
    counted = 0
    for name in ("first", "second", "third"):
        facetrees.folder(tmp_path / name, subjects=10, clips=1, frames=2, traps=False)
        asked = ("run", "planned.toml", "--data-root", name, "--plan", "--json", "--executor", "ray", "--ray-address", cluster.address)
        done = small_study.run(tmp_path, *asked, timeout_s=600)
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)
        (tasks,) = (row for row in rows if row["stage"] == "ray")
        (total,) = (row for row in rows if row["stage"] == "total")
        # A fold: a teacher, its features, twenty trainings of which one is none. No longer than one after the other, no shorter than by all hands.
        work = sum(row["about_seconds"] for row in rows if row["stage"] in ("train", "export"))
        assert work / 3 - 2 <= tasks["about_seconds"] <= work + 2
        assert total["times"] == 200
        assert total["about_seconds"] >= tasks["about_seconds"]
        counted += tasks["times"]
    assert counted == 3 * 10 * 22
    assert not (tmp_path / "reports").exists()


def test_no_ray_at_an_address_is_one_line(tmp_path):
    (tmp_path / "small.toml").write_text(HEAD + ONLY)
    asked = ("compress", "small.toml", "--out", "out", "--executor", "ray", "--ray-address", "127.0.0.1:1")
    done = small_study.run(tmp_path, *asked, timeout_s=600)
    assert done.returncode == 2, done.stderr
    assert "fercompress: no Ray at 127.0.0.1:1: " in done.stderr
    assert "Traceback" not in done.stderr
