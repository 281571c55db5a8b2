import subprocess
import sys
import time

from fercompress.measure.hostload import Snapshot, before_block, between, snapshot


def test_shares_are_worked_out_between_two_snapshots():
    first = Snapshot(10.0, 100.0, 200.0, 1.0, {(1, 0.0): ("init", 5.0), (2, 0.0): ("gone", 9.0)})
    last = Snapshot(12.0, 103.0, 204.0, 1.2, {(1, 0.0): ("init", 5.5), (3, 11.0): ("new", 50.0)})
    assert between(first, last, "before") == {
        "host_cpu_percent_before": 75.0,
        "host_steal_percent_before": 5.0,
        "host_busiest_before": "init",
        "host_busiest_percent_before": 25.0,
    }


def test_an_idle_machine_has_no_busiest_process():
    one = Snapshot(10.0, 100.0, 200.0, 0.0, {(1, 0.0): ("init", 5.0)})
    assert between(one, one, "during")["host_busiest_during"] == ""


def test_a_process_that_spins_is_found_and_this_one_is_left_out():
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        first = snapshot()
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
        last = snapshot()
        assert any(pid == spinner.pid for pid, _ in last.process_s)
        assert max(spent for name, spent in last.process_s.values()) > 0
        assert between(first, last, "x")["host_busiest_percent_x"] > 5
    finally:
        spinner.kill()
        spinner.wait()


def test_the_look_before_a_block_takes_as_long_as_it_is_told():
    began = time.monotonic()
    facts = before_block(0.05)
    assert time.monotonic() - began >= 0.05
    assert set(facts) == {"host_cpu_percent_before", "host_steal_percent_before", "host_busiest_before", "host_busiest_percent_before"}
