"""The power pass on the host's side: a target's [power], an agent's answer, and real programs as meters."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fercompress_agent import meters
from fercompress_agent import power as agent_power
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fercompress.errors import AgentError
from fercompress.measure import clockoffset, power
from fercompress.measure.agentjob import Answer
from fercompress.measure.board import parse_board
from fercompress.measure.channel import LocalChannel
from fercompress.measure.clockoffset import Offset
from fercompress.measure.power import Power, announcement, checked, host_figures, metered

METERS = Path(__file__).parents[1] / "remote" / "meters"
MEASURED = {
    **dict.fromkeys(power.KEYS, 1.0), "power_w": 5.67, "idle_w": 2.0, "net_w": 3.67, "energy_per_clip_j": 0.1, "clips": 560, "seconds": 60.0,
}  # fmt: skip
STEADY = "import time\nwhile True:\n    print(1e5 + time.monotonic(), 2 if time.monotonic() % 0.1 < 0.05 else 4)\n    time.sleep(0.001)"
SHORT = {"source": "command", "side": "host", "load_s": 0.6, "idle_s": 0.4, "settle_s": 0.1}


def asked(program: str, **more) -> Power:
    return Power(command=(sys.executable, "-c", program), **{**SHORT, **more})


# What a target's file may say


def test_a_target_s_file_names_source_side_command_and_lengths():
    board = parse_board(
        'kind = "local"\n[power]\nsource = "command"\nside = "host"\ncommand = ["scpi", "10.0.0.2"]\nload_s = 300\nidle_s = 45.5', "b", "b.toml"
    )
    assert board.power == Power(source="command", side="host", command=("scpi", "10.0.0.2"), load_s=300.0, idle_s=45.5)
    assert parse_board('kind = "local"', "b", "b.toml").power == Power(source="auto", side="board", load_s=60, idle_s=30)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": "command"}, "need each other"),
        ({"source": "hwmon", "command": ("x",)}, "need each other"),
        ({"source": "powercap", "side": "host"}, "would tell the host's power"),
        ({"source": "powercap", "node": "ina219"}, "node names a sensor of hwmon"),
        ({"load_s": 0.0}, "greater than 0"),
    ],
)
def test_what_makes_no_sense_together_is_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        Power(**wrong)


def test_the_length_is_announced_and_a_short_load_is_marked():
    assert announcement(Power(source="hwmon", settle_s=0.0, idle_s=25.0), 7) == "power: 7 variants x 2.0 min = 14 min"
    assert announcement(Power(settle_s=0.0, load_s=10.0, idle_s=5.0), 3) == (
        "power: 3 variants x 30 s = 2 min, if a sensor is found; a load of 10 s is a short window"
    )
    assert "none" in announcement(Power(source="none"), 7)


def test_a_deadline_leaves_room_for_a_long_load():
    assert power.deadline_s(Power(load_s=3000.0), 300.0) > 3000
    assert power.deadline_s(Power(source="none"), 300.0) == 300


# What an agent answers


def test_a_measurement_passes():
    assert checked(MEASURED, "") == (MEASURED, "")
    assert checked({**MEASURED, "net_w": -0.1}, "")[0]["net_w"] == -0.1  # idle may drift above a load that takes next to nothing


def test_every_figure_that_the_agent_gives_is_one_that_the_host_asks_for():
    samples = [(float(t), 2.0 + (10 < t < 50)) for t in range(61)]
    phases = {"idle_before": [0.0, 10.0], "load": [15.0, 45.0], "idle_after": [50.0, 60.0]}
    found, reason = agent_power.figures(samples, False, phases, 10, 16)
    assert (found, "gap of 1 s" in reason) == ({}, True)  # one sample a second is a tenth of ten seconds
    found, _ = agent_power.figures([(t / 10, 2.0 + (100 < t < 500)) for t in range(601)], False, phases, 10, 16)
    assert set(found) == set(power.KEYS)


def test_no_sensor_is_none_with_the_reason():
    reason = "n/a: no sensor found, looked for /sys/class/powercap/intel-rapl*/energy_uj"
    assert checked({}, reason) == ({}, reason)


@pytest.mark.parametrize("wrong", [{"power_w": float("nan")}, {"power_w": -1.0}, {"seconds": float("inf")}])
def test_a_figure_that_is_no_measurement_is_refused(wrong):
    with pytest.raises(AgentError, match=f"no such measurement exists: {next(iter(wrong))}"):
        checked({**MEASURED, **wrong}, "")


def test_missing_figures_are_named_and_silence_is_refused():
    with pytest.raises(AgentError, match=r"missing: energy_per_clip_j, net_w;"):
        checked({key: value for key, value in MEASURED.items() if key not in ("net_w", "energy_per_clip_j")}, "")
    with pytest.raises(AgentError, match="gave no reason"):
        checked({}, "")


# Lines of a meter


@given(st.floats(-1e9, 1e9), st.floats(-1e6, 1e6), st.sampled_from([" ", "\t", "   "]), st.sampled_from(["\n", "\r\n"]))
def test_whatever_decimal_numbers_a_meter_prints_are_read_as_they_are(seconds, watts, between, end):
    assert meters.parse(f"{seconds!r}{between}{watts!r}{end}".encode()) == (seconds, watts)


@given(st.binary(max_size=40))
def test_a_line_is_a_pair_of_numbers_or_nothing_or_refused(line):
    try:
        parsed = meters.parse(line)
    except ValueError:
        return
    if parsed is None:
        assert not line.strip() or line.split()[0].startswith(b"#")
    else:
        assert parsed == tuple(float(word) for word in line.split())
        assert np.isfinite(parsed).all()


@given(st.lists(st.tuples(st.floats(0.001, 0.02), st.floats(0, 50)), min_size=80, max_size=200))
def test_the_mean_over_a_window_is_numpy_s_trapezoid(steps):
    seconds = np.cumsum([step for step, _ in steps])
    watts = np.array([value for _, value in steps])
    samples = list(zip(seconds.tolist(), watts.tolist(), strict=True))
    begin, end = float(seconds[0] + 0.1 * (seconds[-1] - seconds[0])), float(seconds[-1] - 0.2 * (seconds[-1] - seconds[0]))
    found, reason = agent_power.window(samples, False, begin, end)
    inside = seconds[(seconds > begin) & (seconds < end)]
    grid = np.concatenate([[begin], inside, [end]])
    if max(np.diff(grid)) > 0.05 * (end - begin):
        assert "gap" in reason
        return
    assert found["watts"] == pytest.approx(np.trapezoid(np.interp(grid, seconds, watts), grid) / (end - begin), rel=1e-9, abs=1e-9)


# Two clocks


def test_an_offset_is_taken_from_the_shortest_round_trip():
    here, there = iter([0.0, 9.0, 10.0, 10.2, 20.0, 24.0]), iter([1000.0, 1010.13, 1021.0])
    offset = clockoffset.measure(lambda: next(there), 3, lambda: next(here))
    assert offset.seconds == pytest.approx(1000.03)  # the truth, 1000.0, lies within the uncertainty
    assert offset.uncertainty_s == pytest.approx(0.1)


def test_a_drift_between_two_offsets_is_uncertain():
    assert clockoffset.between(Offset(5.0, 0.01), Offset(5.2, 0.03)) == Offset(pytest.approx(5.1), pytest.approx(0.13))


def test_the_clock_of_a_real_target_is_read_through_its_channel(tmp_path):
    with LocalChannel(tmp_path) as channel:
        offset = clockoffset.measure(clockoffset.reader(channel, sys.executable))
        assert abs(offset.seconds) <= offset.uncertainty_s  # this machine has one monotonic clock
        with pytest.raises(AgentError, match="does not tell its clock"):
            clockoffset.reader(channel, "/bin/false")()


def test_a_channel_with_a_clock_of_its_own_is_asked_first(tmp_path):
    class Clocked(LocalChannel):
        def clock(self) -> float:
            return 42.0

    assert clockoffset.reader(Clocked(tmp_path), "python")() == 42.0


PHASES = {
    "power_phases": {"idle_before": [1000.0, 1030.0], "load": [1032.0, 1092.0], "idle_after": [1094.0, 1124.0]},
    "power_clips": 600,
    "power_frames": 16,
}


def host_samples(step: float) -> list[tuple[float, float]]:
    """On this machine's clock, which shows 0 where the target's shows 1000; 5 W from 31 to 93."""
    return [(t, 5.0 if 31 < t < 93 else 2.0) for t in np.arange(-1, 126, step).tolist()]


def test_phases_are_carried_over_to_the_host_s_clock():
    found, reason = host_figures(host_samples(0.01), PHASES, Offset(1000.0, 0.2))
    assert (reason, found["power_w"], found["idle_w"], found["uncertainty_s"]) == ("", pytest.approx(5.0), pytest.approx(2.0), 0.2)
    assert found["energy_per_clip_j"] == pytest.approx(0.5)
    assert checked(found, reason)[0] == found


def test_clocks_that_agree_too_badly_leave_no_figure():
    found, reason = host_figures(host_samples(0.01), PHASES, Offset(1000.0, 0.7))
    assert found == {}
    assert reason.startswith("n/a: the target's clock is known within 700 ms only, a load of 60 s allows 600 ms")


def test_a_window_in_which_the_meter_was_silent_has_no_figure():
    samples = [(t, w) for t, w in host_samples(0.01) if not 50 < t < 54]
    found, reason = host_figures(samples, PHASES, Offset(1000.0, 0.01))
    assert (found, reason) == ({}, "n/a: the meter has a gap of 4.01 s in a window of 60 s: it may cover 5% (phase load)")


@pytest.mark.parametrize("wrong", [{"power_phases": None}, {"power_phases": {"load": [1]}}, {"power_clips": "many"}, {"power_frames": 0}])
def test_phases_that_cannot_be_used_are_the_agent_s_fault(wrong):
    with pytest.raises(AgentError, match="the agent's answer"):
        host_figures(host_samples(0.1), {**PHASES, **wrong}, Offset(1000.0, 0.01))


# A program on this side, read while an agent runs


def agent_answer(target_ahead_s: float = 0.0, window_s: float = 0.4):
    """What an agent does and answers: three phases, stamped by a clock that is ahead of ours."""

    def do() -> Answer:
        phases = {}
        for name in ("idle_before", "load", "idle_after"):
            time.sleep(0.05)
            begin = time.monotonic()
            time.sleep(window_s)
            phases[name] = [begin + target_ahead_s, time.monotonic() + target_ahead_s]
        time.sleep(0.1)
        facts = {"power_phases": phases, "power_clips": 6, "power_frames": 2, "power_side": "host"}
        return Answer(schema=1, nonce="", ok=True, reason="n/a: the meter is on the host's side", facts=facts)

    return do


def test_a_square_wave_of_two_and_four_watts_has_a_mean_of_three():
    for window_s in (2.0, 8.0, 24.0):  # a busy machine may keep the meter waiting for more than a twentieth of a window
        answer = metered(asked(STEADY), agent_answer(500.0, window_s=window_s), lambda: time.monotonic() + 500.0)
        if "gap of" not in answer.reason:
            break
    assert answer.reason == ""
    assert checked(answer.power, answer.reason)[0]["power_w"] == pytest.approx(3.0, abs=0.5)
    assert answer.power["energy_per_clip_j"] == pytest.approx(answer.power["power_w"] * answer.power["seconds"] / 6)
    assert (answer.facts["power_source"], answer.facts["power_side"]) == ("command", "host")
    assert answer.facts["clock_offset_s"] == pytest.approx([500.0, 500.0], abs=answer.power["uncertainty_s"] + 1e-6)
    assert answer.facts["power_trace"]


def test_a_meter_that_cannot_start_costs_no_agent_s_time():
    def never() -> Answer:
        raise AssertionError("the agent was started without a meter")

    answer = metered(Power(**SHORT, command=("/no/such/meter",)), never, time.monotonic)
    assert answer.reason.startswith("n/a: the meter '/no/such/meter' cannot be started")
    assert checked(answer.power, answer.reason) == ({}, answer.reason)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys, time\nprint(time.monotonic(), 1, flush=True)\ntime.sleep(0.1)\nsys.exit('fuse')", "exit code 1 after 1 lines: fuse"),
        ("import time\nprint(time.monotonic(), 1, flush=True)\nprint('E 42')\ntime.sleep(60)", "printed 'E 42'"),
        ("import time\nprint(time.monotonic(), 1, flush=True)\ntime.sleep(60)", "gap of"),
    ],
)
def test_a_meter_that_breaks_on_the_way_leaves_a_reason(program, reason):
    answer = metered(asked(program), agent_answer(), time.monotonic)
    assert answer.power == {}
    assert answer.reason.startswith("n/a: ")
    assert reason in answer.reason


def test_a_failed_agent_stays_failed_and_its_meter_is_ended():
    failed = Answer(schema=1, nonce="", ok=False, reason="no module named onnxruntime")
    assert metered(asked(STEADY), lambda: failed, time.monotonic) == failed

    def interrupted() -> Answer:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        metered(asked(STEADY), interrupted, time.monotonic)
    assert set(threading.enumerate()) <= before  # others' may have ended meanwhile


def test_the_board_s_own_meter_needs_nothing_from_here():
    answer = Answer(schema=1, nonce="", ok=True, reason="", power=MEASURED)
    assert metered(Power(source="hwmon"), lambda: answer, time.monotonic) is answer


# The programs that ship


def test_a_recording_is_replayed_at_its_pace_from_its_first_line_on_and_again(tmp_path):
    recording = tmp_path / "watts.txt"
    recording.write_text("# seconds watts\n1000.0 1.5\n1000.1 2.5\n1000.2 3.5\n")
    meter = meters.Command([sys.executable, str(METERS / "replay.py"), str(recording)])
    meter.start()
    limit = time.monotonic() + 60
    while len(meter.lines) < 4 and time.monotonic() < limit:
        time.sleep(0.01)
    meter.stop()
    assert meter.reason == ""
    seconds, watts = zip(*meter.samples, strict=True)
    assert watts[:4] == (1.5, 2.5, 3.5, 1.5)
    np.testing.assert_allclose(np.diff(seconds), 0.1, atol=1e-5)


class Supply(threading.Thread):
    """A bench supply: 12 V and 0.45 A, asked in SCPI, on a real socket; after `answers` it hangs up."""

    def __init__(self, answers: int) -> None:
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.answers = answers
        self.asked: list[bytes] = []
        self.start()

    def run(self) -> None:
        link, _ = self.server.accept()
        with self.server, link, link.makefile("rwb", buffering=0) as lines:
            for _ in range(self.answers):
                self.asked.append(lines.readline().strip())
                lines.write(b"EXAMPLE,PSU,0,1\n" if self.asked[-1] == b"*IDN?" else b"+1.20000E+01;+4.50000E-01\n")
                time.sleep(0.01)
            lines.readline()  # unread requests would make the end a reset


def test_a_bench_supply_is_asked_for_volts_and_amperes_over_a_socket():
    supply = Supply(20)
    meter = meters.Command([sys.executable, str(METERS / "scpi.py"), "127.0.0.1", str(supply.port), "2"])
    meter.start()
    supply.join(60)
    limit = time.monotonic() + 60
    while not meter.reason and time.monotonic() < limit:
        time.sleep(0.01)
    meter.stop()
    assert supply.asked[:2] == [b"*IDN?", b"MEAS:VOLT? (@2);:MEAS:CURR? (@2)"]
    assert {watts for _, watts in meter.samples} == {5.4}
    assert "the instrument closed the link" in meter.reason


@pytest.mark.parametrize("name", ["scpi.py", "replay.py"])
def test_a_wrong_call_says_how_to_call(name):
    done = subprocess.run([sys.executable, METERS / name], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"python {name}" in done.stderr
