import dataclasses
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress.errors import DiskFullError, ResultsError
from fercompress.records import Block, BlockKey, Bundle, Clips, Fold, History, LeftOut, Pass, Size, Status
from fercompress.results import rows
from fercompress.results.store import FILE, Store, Training

SIZE = Size(10, 1000, 20, 1010, 500, 530, 1520, 2048, 1024)
OLD_FILES = Path(__file__).parent / "data"


def key(variant="tt", pass_=Pass.LATENCY, seed=0, round_=0, position=0, settings_sha256="s"):
    return BlockKey(variant, "localhost", pass_, seed, "all", round_, position, settings_sha256)


def latency_block(clip_ns=(3, 4), bundle="b", **place):
    return Block(
        key(**place),
        bundle,
        Status.OK,
        extractor_ns=(1, 2),
        predictor_ns=(2, 2),
        clip_ns=clip_ns,
        frame_ns=(1, 0, 1, 1),
        facts={"cpu": "x", "load": 0.1},
    )


def failed_block(bundle="b", **place):
    return Block(key(**place), bundle, Status.FAILED, reason="the agent was killed")


def bundle(sha256="b", variant="tt"):
    return Bundle(Path("x"), sha256, variant, "onnxruntime", {"graph_key": "g", "size": dataclasses.asdict(SIZE)}, SIZE)


def clips(n=6):
    names = tuple(f"c{i}" for i in range(n))
    labels = np.arange(n) % 2
    return Clips(
        "toy",
        np.zeros((n, 2, 4, 4), np.uint8),
        labels,
        ("calm", "glad"),
        names,
        names,
        names,
        names,
        (0,) * n,
        "fp",
        True,
        (LeftOut("c9", "no face"),),
    )


FOLD = Fold("all", np.array([0, 1]), np.array([2]), np.array([3, 4, 5]))


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / FILE) as opened:
        yield opened


def equal(a: Block, b: Block) -> bool:
    def plain(block):
        return [value.tolist() if isinstance(value, np.ndarray) else value for value in dataclasses.asdict(block).values()]

    return plain(a) == plain(b)


int64s = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5).map(tuple)


@settings(max_examples=25, deadline=None)
@given(ns=int64s, logits=st.lists(st.floats(width=32), min_size=6, max_size=6), reason=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_every_kind_of_block_comes_back_as_it_was_recorded(tmp_path_factory, ns, logits, reason):
    table = np.array(logits, np.float32).reshape(2, 3)
    blocks = [
        Block(key(), "b", Status.OK, reason, ns, ns, ns, ns, facts={"zone °C": [41.5, None]}),
        Block(key(pass_=Pass.ACCURACY), "b", Status.OK, logits=table, clip_index=np.array([7, 2**40])),
        Block(key(pass_=Pass.MEMORY), "b", Status.OK, memory_bytes={"interpreter": 1, "peak": 2**40}),
        Block(key(pass_=Pass.POWER), "b", Status.OK, power={"power_w": 5.67}),
        Block(key(round_=1), "b", Status.FAILED, reason=reason or "killed"),
    ]
    with Store.open(tmp_path_factory.mktemp("run") / FILE) as opened:
        assert all(opened.record(block) for block in blocks)
        back = opened.blocks()
    assert back[1].logits.tobytes() == table.tobytes()  # NaN and -0 too, bit by bit
    back[1], blocks[1] = (dataclasses.replace(block, logits=np.zeros(())) for block in (back[1], blocks[1]))
    assert all(map(equal, back, blocks))


def test_raw_nanoseconds_are_little_endian_int64_on_the_disk(store):
    store.record(latency_block(clip_ns=(3, 2**40)))
    (blob,) = sqlite3.connect(store.path).execute("SELECT clip_ns FROM blocks").fetchone()
    assert blob == (3).to_bytes(8, "little") + (2**40).to_bytes(8, "little")


def test_a_finished_block_is_recorded_once_and_the_first_stays(store):
    assert store.record(latency_block(clip_ns=(3, 4)))
    assert not store.record(latency_block(clip_ns=(9, 9)))
    assert [block.clip_ns for block in store.blocks()] == [(3, 4)]


def test_a_failed_block_is_not_done_and_gives_way_to_a_finished_one(store):
    store.record(failed_block())
    store.record(failed_block())
    assert store.done() == set()
    assert [block.status for block in store.blocks()] == [Status.FAILED]
    store.record(latency_block())
    assert store.done() == {key()}
    assert [block.status for block in store.blocks()] == [Status.OK]
    assert [entry.counted for entry in store.entries()] == [False, False, True]


def test_a_block_of_a_replaced_bundle_is_kept_but_neither_done_nor_counted(store):
    store.record_bundle(bundle("old"), 0, "all", timed=True)
    store.record(latency_block(bundle="old"))
    store.record_bundle(bundle("new"), 0, "all", timed=True)
    assert store.done() == set()
    assert store.blocks() == []
    assert store.record(latency_block(bundle="new"))
    assert [block.bundle_sha256 for block in store.blocks()] == ["new"]
    store.record_bundle(bundle("old"), 0, "all", timed=True)  # back to the old study
    assert [block.bundle_sha256 for block in store.blocks()] == ["old"]
    assert len(list(store.entries())) == 2


def test_only_blocks_of_the_plan_are_counted_once_there_is_a_plan(store):
    store.record(latency_block(round_=0))
    store.record(latency_block(round_=1))
    store.record_plan([key(round_=0), key(round_=2)])
    assert [block.key.round for block in store.blocks()] == [0]
    assert store.plan() == {key(round_=0), key(round_=2)}
    assert store.done() == {key(round_=0), key(round_=1)}


def test_a_plan_holds_for_its_own_study_only(store):
    store.record(latency_block(round_=0))
    store.record(latency_block(round_=1))
    for study, planned in (({"name": "one"}, 0), ({"name": "two"}, 1), ({"name": "one"}, 0)):
        store.record_study(study)
        assert [block.key.round for block in store.blocks()] == [0, 1]  # not planned yet
        store.record_plan([key(round_=planned)])
        assert [block.key.round for block in store.blocks()] == [planned]


def test_without_a_plan_the_newest_settings_count(store):
    store.record(latency_block(clip_ns=(1, 1), settings_sha256="one"))
    store.record(latency_block(clip_ns=(2, 2), settings_sha256="two"))
    assert [block.clip_ns for block in store.blocks()] == [(2, 2)]


def test_blocks_can_be_asked_for_by_variant_target_and_pass(store):
    store.record(latency_block(variant="a"))
    store.record(latency_block(variant="b"))
    store.record(Block(key("a", Pass.MEMORY), "b", Status.OK, memory_bytes={"peak": 1}))
    assert len(store.blocks(variant="a")) == 2
    assert len(store.blocks(pass_=Pass.LATENCY)) == 2
    assert len(store.blocks(variant="a", target="localhost", pass_=Pass.MEMORY)) == 1
    assert store.blocks(target="board") == []


def test_what_is_recorded_again_alike_is_recorded_once_and_the_first_date_stays(tmp_path):
    for day in ("2026-01-01", "2026-01-02"):
        with Store.open(tmp_path / FILE, clock=lambda day=day: day) as opened:
            opened.record_study({"name": "default", "seeds": [0]})
            opened.record_clips(clips(), [FOLD])
            opened.record_bundle(bundle(), 0, "all", timed=True)
            opened.record_training(Training("tt", 0, "all", "from scratch", History((1.0,), (0.5,), (0.1,), 0), 0.1))
            opened.record_plan([key()])
    db = sqlite3.connect(tmp_path / FILE)
    for table in ("studies", "clips", "bundles", "trainings", "plans"):
        assert db.execute(f"SELECT recorded FROM {table}").fetchall() == [("2026-01-01",)], table


def test_study_clips_bundles_and_trainings_come_back(store):
    store.record_study({"name": "default", "seeds": [0]})
    store.record_clips(clips(), [FOLD])
    store.record_bundle(bundle(), 3, "all", timed=True)
    training = Training("tt", 3, "all", "from scratch", History((np.float32(1.0), 0.5), (0.5, 0.75), (0.1, 0.1), 1), 0.1, last_epoch_accuracy=0.7)
    store.record_training(training)
    assert store.study() == {"name": "default", "seeds": [0]}
    facts = store.clips()
    assert (facts.name, facts.fingerprint, facts.simulated, facts.classes) == ("toy", "fp", True, ("calm", "glad"))
    assert facts.left_out == (LeftOut("c9", "no face"),)
    (fold,) = facts.folds
    assert (fold.name, fold.train_clips, fold.validation_clips, fold.clip_ids, fold.subjects) == ("all", 2, 1, ("c3", "c4", "c5"), ("c3", "c4", "c5"))
    assert fold.index.tolist() == [3, 4, 5]
    assert fold.labels.tolist() == [1, 0, 1]
    (stored,) = store.bundles()
    assert (stored.variant, stored.seed, stored.sha256, stored.timed, stored.size, stored.manifest["graph_key"]) == ("tt", 3, "b", True, SIZE, "g")
    assert store.trainings() == [training]


def test_an_empty_journal_says_what_it_lacks(store):
    assert store.created() == ""
    assert store.clips() is None
    assert store.plan() is None
    with pytest.raises(ResultsError, match="holds no study yet"):
        store.study()


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to have a header of a hundred bytes" * 4, b"hi", b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_was(tmp_path, content):
    path = tmp_path / FILE
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"results.sqlite: .*(move it away)"):
        Store.open(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / FILE
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE holidays (day TEXT)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ResultsError, match="not a fercompress results file; move it away or choose another --out"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / FILE
    Store.open(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=r"newer fercompress \(schema 99; known: 1\); upgrade fercompress"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_file_cut_short_anywhere_is_refused_and_left_as_it_was(tmp_path):
    whole = tmp_path / "whole.sqlite"
    with Store.open(whole) as opened:
        for round_ in range(30):
            opened.record(latency_block(clip_ns=(round_, 1), round_=round_))
    content = whole.read_bytes()
    for size in (1, 50, 100, 4096, 5000, len(content) // 2, len(content) - 4096):
        path = tmp_path / f"{size}.sqlite"
        path.write_bytes(content[:size])
        with pytest.raises(ResultsError, match=r"damaged|not a fercompress"):
            Store.open(path)
        assert path.read_bytes() == content[:size]


def test_a_changed_sample_is_found_by_its_checksum(store):
    store.record(latency_block())
    db = sqlite3.connect(store.path)
    db.execute("UPDATE blocks SET clip_ns = ?", ((5).to_bytes(8, "little") * 2,))
    db.commit()
    db.close()
    with pytest.raises(ResultsError, match=r"damaged \(blocks: row 1 does not match its checksum\)"):
        store.blocks()


def test_a_changed_study_is_found_by_its_checksum(store):
    store.record_study({"name": "default", "seeds": [0]})
    db = sqlite3.connect(store.path)
    db.execute("UPDATE studies SET study = replace(study, '0', '1')")
    db.commit()
    db.close()
    with pytest.raises(ResultsError, match=r"damaged \(studies: row 1 does not match its checksum\)"):
        store.study()


@settings(max_examples=40, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=20))
def test_a_file_with_any_bytes_changed_says_the_same_as_before_or_is_refused(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("run") / FILE
    whole = path.with_name("whole.sqlite")  # a copy: SQLite writes beside what it reads
    content = bytearray((OLD_FILES / "results-v1.sqlite").read_bytes())
    whole.write_bytes(content)
    for place, change in changes:
        content[place % len(content)] ^= change
    path.write_bytes(content)
    try:
        with Store.open(path) as opened:
            said = everything(opened)
    except ResultsError:
        return
    with Store.open(whole, writable=False) as opened:
        assert said == everything(opened)


def everything(opened):
    done = opened.done()
    assert all(isinstance(each, BlockKey) for each in done)
    plain = [opened.study(), opened.clips(), opened.bundles(), opened.trainings(), [str(rows.block_row(block)) for block in opened.blocks()]]
    return str(plain)


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"results.sqlite: cannot write it .*choose another --out"):
        Store.open(tmp_path / folder / FILE)


def test_a_full_disk_loses_nothing_that_was_recorded(store):
    store.record(latency_block(round_=0))
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says when the disk is full
    with pytest.raises(DiskFullError, match="no space left on the disk; free some and run the same command again"):
        store.record(dataclasses.replace(latency_block(round_=1), facts={"long": "x" * 100_000}))
    store._db.execute("PRAGMA max_page_count = 100000")
    assert store.done() == {key(round_=0)}
    assert store.record(latency_block(round_=1))


def test_a_journal_being_read_stays_as_it_is_and_leaves_no_files_behind(tmp_path):
    path = tmp_path / FILE
    with Store.open(path) as opened:
        opened.record(latency_block())
    before = path.read_bytes()
    with Store.open(path, writable=False) as opened:
        assert len(opened.blocks()) == 1
        with pytest.raises(ResultsError):
            opened.record(latency_block(round_=1))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE]


def test_reading_a_folder_without_results_says_which_folder_to_give(tmp_path):
    with pytest.raises(ResultsError, match="no such file; give a folder that `fercompress run` wrote"):
        Store.open(tmp_path / FILE, writable=False)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_finished_blocks_while_another_process_writes(store):
    store.record(latency_block())
    with Store.open(store.path, writable=False) as reader:
        assert len(reader.blocks()) == 1
        store.record(latency_block(round_=1))
        assert len(reader.blocks()) == 2


def test_two_writers_wait_for_each_other(tmp_path):
    path = tmp_path / FILE

    def write(variant):
        with Store.open(path) as opened:
            for round_ in range(20):
                opened.record(latency_block(variant=variant, round_=round_))

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Store.open(path) as opened:
        assert len(opened.done()) == 40


CHILD = """
import sys
from pathlib import Path
from fercompress.records import Block, BlockKey, Pass, Status
from fercompress.results.store import Store
with Store.open(Path(sys.argv[1])) as store:
    first = len(store.done())
    for number in range(first, first + 100000):
        ns = (number,) * 2000
        store.record(Block(BlockKey("tt", "here", Pass.LATENCY, 0, "all", number, 0, "s"), "b", Status.OK, "", ns, ns, ns, ns))
        print(number, flush=True)
"""


def test_a_process_killed_at_any_moment_loses_no_block_that_it_finished(tmp_path):
    path = tmp_path / FILE
    moments = random.Random(7)
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        finished = int(child.stdout.readline())  # imported, opened, first block recorded
        time.sleep(moments.uniform(0, 0.15))
        child.send_signal(signal.SIGKILL)
        finished = max([finished, *map(int, child.stdout.read().split())])
        child.stdout.close()
        child.wait()
        with Store.open(path) as opened:
            blocks = opened.blocks()
        assert [block.key.round for block in blocks] == list(range(len(blocks)))
        assert all(block.clip_ns == (block.key.round,) * 2000 for block in blocks)
        assert len(blocks) in (finished + 1, finished + 2)  # the last one may have been recorded without a word


def test_a_process_killed_while_making_the_journal_leaves_one_that_opens(tmp_path):
    for name, content in (("empty", b""), ("header-only", None)):
        path = tmp_path / f"{name}.sqlite"
        if content is None:
            db = sqlite3.connect(path)
            db.execute("PRAGMA journal_mode = WAL")
            db.close()
            assert path.stat().st_size
        else:
            path.write_bytes(content)
        with Store.open(path) as opened:
            assert opened.record(latency_block())


@pytest.mark.parametrize("version", [1])
def test_a_real_file_of_every_schema_still_opens(tmp_path, version):
    shutil.copy(OLD_FILES / f"results-v{version}.sqlite", tmp_path / FILE)
    with Store.open(tmp_path / FILE) as opened:
        assert opened.study()["name"] == "toy"
        assert {block.key.pass_ for block in opened.blocks()} == set(Pass)
        assert len(opened.bundles()) == 4
        assert len(opened.trainings()) == 4
        assert opened.clips().classes == ("calm", "glad")
        assert opened.record(latency_block(variant="another"))
