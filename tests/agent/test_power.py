"""Meters on made-up sysfs trees and as real child processes; windows and joules whose answers are known."""

import os
import subprocess
import sys
import threading
import time
import unittest

import agent_fixtures as fixtures
from fercompress_agent import meters, power

PRINT = "import time, sys\nbegan = time.monotonic()\ndef now(): return time.monotonic() - began\n"


def asked(**more):
    """A target's [power] with windows of a fraction of a second."""
    return dict({"source": "auto", "side": "board", "command": [], "node": "", "load_s": 0.4, "idle_s": 0.3, "settle_s": 0.05}, **more)


def program(body):
    return [sys.executable, "-c", PRINT + body]


class Sysfs(fixtures.Tree):
    def domain(self, name, label, energy_uj, wrap_uj="262143328850\n"):
        self.write("class/powercap/{}/name".format(name), label + "\n")
        self.write("class/powercap/{}/max_energy_range_uj".format(name), wrap_uj)
        return self.write("class/powercap/{}/energy_uj".format(name), "{}\n".format(energy_uj))

    def chip(self, number, name, **files):
        self.write("class/hwmon/hwmon{}/name".format(number), name + "\n")
        for key, value in files.items():
            self.write("class/hwmon/hwmon{}/{}".format(number, key), "{}\n".format(value))


class RaplTest(Sysfs):
    def test_packages_are_added_and_their_parts_and_the_whole_platform_are_not(self):
        first = self.domain("intel-rapl:0", "package-0", 1000)
        second = self.domain("intel-rapl:1", "package-1", 5000)
        self.domain("intel-rapl:0:0", "core", 777)
        self.domain("intel-rapl:2", "psys", 888)
        meter = meters.Rapl(self.root)
        self.assertEqual(meter.reason, "")
        self.assertEqual([path for path, _ in meter.counters], [first, second])
        self.assertEqual(meter.energy_uj(), 0)
        self.write(first, "1300\n")
        self.write(second, "5050\n")
        self.assertEqual(meter.energy_uj(), 350)

    def test_a_counter_that_wraps_goes_on_counting(self):
        counter = self.domain("intel-rapl:0", "package-0", 990, "1000\n")
        meter = meters.Rapl(self.root)
        meter.energy_uj()
        self.write(counter, "15\n")
        self.assertEqual(meter.energy_uj(), 25)
        self.write(counter, "5\n")
        self.assertEqual(meter.energy_uj(), 25 + 990)
        self.assertEqual(meter.read(), (25 + 990) / 1e6)

    def test_a_wrap_without_a_known_range_is_not_guessed(self):
        counter = self.domain("intel-rapl:0", "package-0", 990, "not a number\n")
        meter = meters.Rapl(self.root)
        meter.energy_uj()
        self.write(counter, "15\n")
        self.assertIsNone(meter.read())

    def test_a_counter_that_went_away_gives_none(self):
        counter = self.domain("intel-rapl:0", "package-0", 990)
        meter = meters.Rapl(self.root)
        os.remove(counter)
        self.assertIsNone(meter.read())

    def test_a_counter_that_may_not_be_read_says_so(self):
        counter = self.domain("intel-rapl:0", "package-0", 990)
        os.remove(counter)
        os.makedirs(counter)  # unreadable for root too
        self.assertIn("cannot be read", meters.Rapl(self.root).reason)


class InaTest(Sysfs):
    def test_power_is_in_microwatts_and_wins_over_volts_and_amperes(self):
        self.chip(0, "ina219", power1_input=5670000, in1_input=5000, curr1_input=900)
        self.assertEqual(meters.Ina(self.root).read(), 5.67)

    def test_without_it_millivolts_times_milliamperes_are_read_and_the_shunt_is_not(self):
        self.chip(0, "ina219", in0_input=9, in1_input=12000, curr1_input=450)
        self.assertAlmostEqual(meters.Ina(self.root).read(), 5.4)

    def test_a_chip_that_averages_for_long_is_not_read_faster_than_it_answers(self):
        self.chip(0, "ina226", power1_input=1, update_interval=36)
        self.assertEqual(meters.Ina(self.root).period_s, 0.036)

    def test_other_chips_are_not_taken_for_a_power_monitor(self):
        self.chip(0, "coretemp", power1_input=1)
        self.assertIn("no sensor found, looked for", meters.Ina(self.root).reason)
        self.chip(1, "ina3221", in1_input=1000, curr1_input=1)
        self.assertEqual(meters.Ina(self.root).reason, "")

    def test_of_two_chips_one_must_be_chosen_by_name_device_or_folder(self):
        self.chip(0, "ina219", power1_input=1000000)
        self.chip(1, "ina226", power1_input=2000000)
        self.assertIn("several sensors", meters.Ina(self.root).reason)
        self.assertIn("node", meters.Ina(self.root).reason)
        os.makedirs(os.path.join(self.root, "devices/6-0047"))
        os.symlink("../../../devices/6-0047", os.path.join(self.root, "class/hwmon/hwmon1/device"))
        for node in ("ina226", "6-0047", "hwmon1", os.path.join(self.root, "class/hwmon/hwmon1")):
            self.assertEqual(meters.Ina(self.root, node).read(), 2.0, node)

    def test_a_chip_without_readable_files_says_which_were_looked_for(self):
        self.chip(0, "ina219", in1_input="oops", curr1_input=3)
        self.assertIn("has neither power1_input nor", meters.Ina(self.root).reason)


class FindTest(Sysfs):
    def test_auto_prefers_the_power_monitor_to_the_processor_s_counters(self):
        self.domain("intel-rapl:0", "package-0", 1000)
        self.assertEqual(meters.find(asked(), self.root)[0].source, "powercap")
        self.chip(0, "ina219", power1_input=1)
        self.assertEqual(meters.find(asked(), self.root)[0].source, "hwmon")
        self.assertEqual(meters.find(asked(source="powercap"), self.root)[0].source, "powercap")

    def test_without_a_sensor_the_reason_names_everything_that_was_looked_for(self):
        meter, reason = meters.find(asked(), self.root)
        self.assertIsNone(meter)
        for part in ("n/a: no sensor found, looked for", "class/hwmon/hwmon*", "class/powercap/intel-rapl*/energy_uj"):
            self.assertIn(part, reason)

    def test_none_is_a_reason_too(self):
        self.assertIn('source = "none"', meters.find(asked(source="none"), self.root)[1])


class ParseTest(unittest.TestCase):
    def test_seconds_and_watts_are_two_decimal_numbers(self):
        for line, pair in ((b"1.5 2\n", (1.5, 2.0)), (b"  0\t.25 \r\n", (0.0, 0.25)), (b"1e3 -2.5E-1\n", (1000.0, -0.25))):
            self.assertEqual(meters.parse(line), pair)

    def test_remarks_and_empty_lines_are_nothing(self):
        self.assertIsNone(meters.parse(b"# KEYSIGHT 1 2\n"))
        self.assertIsNone(meters.parse(b" \n"))

    def test_anything_else_is_refused_and_quoted(self):
        for line in (b"1\n", b"1 2 3\n", b"1,2\n", b"1 nan\n", b"inf 1\n", b"1_0 1\n", b"0x1 1\n", b"1 1e400\n", b"\xff\xfe 1\n", b"time power\n", b". 1\n"):
            with self.assertRaises(ValueError) as caught:
                meters.parse(line)
            self.assertIn("not `seconds watts`", str(caught.exception))


class CommandTest(unittest.TestCase):
    def meter(self, body, argv=None):
        meter = meters.Command(argv or program(body))
        meter.start()
        self.addCleanup(meter.stop)
        return meter

    def wait_for_trouble(self, meter):
        limit = time.monotonic() + 60
        while not meter.reason and time.monotonic() < limit:
            time.sleep(0.01)
        return meter.reason

    def wait_for_lines(self, meter, number):
        limit = time.monotonic() + 60
        while len(meter.lines) < number and time.monotonic() < limit:
            time.sleep(0.01)

    def test_its_samples_lie_on_our_clock_whatever_its_own_begins_at(self):
        began = time.monotonic()
        meter = self.meter("while True:\n    print(1e6 + now(), 2.5)\n    time.sleep(0.01)")
        self.wait_for_lines(meter, 6)
        meter.stop()
        ended = time.monotonic()
        self.assertEqual(meter.reason, "")
        self.assertGreater(len(meter.samples), 5)
        self.assertEqual({watts for _, watts in meter.samples}, {2.5})
        self.assertTrue(began - 0.01 <= meter.samples[0][0] <= meter.samples[-1][0] <= ended)

    def test_the_least_delayed_line_sets_the_clock(self):
        meter = meters.Command(["never started"])
        meter.lines = [(10.9, 0.0, 1.0), (11.1, 1.0, 1.0), (12.5, 2.0, 1.0)]
        self.assertEqual([round(seconds, 9) for seconds, _ in meter.samples], [10.1, 11.1, 12.1])

    def test_a_program_that_is_not_there_is_named(self):
        meter = self.meter("", ["/no/such/meter"])
        self.assertIn("'/no/such/meter' cannot be started (No such file or directory", meter.reason)

    def test_a_program_that_dies_is_quoted(self):
        meter = self.meter("print(now(), 1)\nprint(now(), 1)\nsys.exit('the instrument fell off the table')")
        reason = self.wait_for_trouble(meter)
        self.assertIn("ended with exit code 1 after 2 lines: the instrument fell off the table", reason)

    def test_a_program_that_is_killed_says_by_which_signal(self):
        meter = self.meter("import os\nprint(now(), 1)\nos.kill(os.getpid(), 9)")
        self.assertIn("ended with signal 9", self.wait_for_trouble(meter))

    def test_a_program_that_is_gone_is_told_though_its_output_is_held_open(self):
        meter = self.meter("import os\nprint(now(), 1)\nif os.fork() == 0:\n    time.sleep(20)\nelse:\n    os.kill(os.getpid(), 9)")
        self.assertIn("ended with signal 9 after 1 lines", self.wait_for_trouble(meter))

    def test_garbage_is_quoted_with_its_line(self):
        meter = self.meter("print(now(), 1)\nprint('overload!')\ntime.sleep(60)")
        self.assertIn("printed 'overload!', not `seconds watts`, in line 2", self.wait_for_trouble(meter))

    def test_a_line_without_end_is_not_read_for_ever(self):
        meter = self.meter("sys.stdout.write('7' * 100000)\nsys.stdout.flush()\ntime.sleep(60)")
        self.assertIn("longer than 256 bytes", self.wait_for_trouble(meter))

    def test_time_that_runs_backwards_is_refused(self):
        meter = self.meter("print(5, 1)\nprint(4.5, 1)\ntime.sleep(60)")
        self.assertIn("went back in time, from 5 s to 4.5 s, in line 2", self.wait_for_trouble(meter))

    def test_a_flood_is_stopped(self):
        meter = self.meter("t = 0\nwhile True:\n    sys.stdout.write('1 1\\n' * 10000)")
        self.assertIn("floods", self.wait_for_trouble(meter))

    def test_silence_is_told_after_a_while(self):
        before, meters.FIRST_LINE_S = meters.FIRST_LINE_S, 0.3
        self.addCleanup(setattr, meters, "FIRST_LINE_S", before)
        meter = self.meter("time.sleep(60)")
        self.assertIn("printed no line within 0.3 s", meter.reason)

    def test_milliseconds_are_not_taken_for_seconds(self):
        meter = self.meter("while True:\n    print(1e3 * now(), 1)\n    time.sleep(0.01)")
        self.wait_for_lines(meter, 6)
        meter.stop()
        self.assertIn("does it print seconds", meter.reason)

    def test_a_meter_ends_with_a_stop_and_with_the_death_of_its_parent(self):
        meter = self.meter("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True:\n    print(now(), 1)\n    time.sleep(0.01)")
        pid = meter._child.pid
        meter.stop()
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        if not sys.platform.startswith("linux"):
            return
        parent = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys, time\nfrom fercompress_agent import meters\n"
                "meter = meters.Command([sys.executable, '-c', 'import time\\nprint(0, 1, flush=True)\\ntime.sleep(60)'])\n"
                "meter.start()\nprint(meter._child.pid, flush=True)\ntime.sleep(60)",
            ],
            stdout=subprocess.PIPE,
        )
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        parent.stdout.close()
        limit = time.monotonic() + 10
        while _runs(child) and time.monotonic() < limit:
            time.sleep(0.01)
        self.assertFalse(_runs(child))


def _runs(pid):
    try:
        with open("/proc/{}/stat".format(pid)) as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def every(step, begin, end, watts):
    return [(begin + index * step, watts(begin + index * step)) for index in range(int(round((end - begin) / step)) + 1)]


class WindowTest(unittest.TestCase):
    def test_a_square_wave_of_two_watts_half_of_the_time_has_a_mean_of_one(self):
        samples = every(0.001, 0.0, 10.0, lambda t: 2.0 if t % 1 < 0.5 else 0.0)
        found, reason = power.window(samples, False, 2.0, 8.0)
        self.assertEqual(reason, "")
        self.assertAlmostEqual(found["watts"], 1.0, delta=0.001)

    def test_a_ramp_is_integrated_exactly_even_where_no_sample_lies_on_an_edge(self):
        samples = every(0.05, 0.0, 10.0, lambda t: 3 * t)
        found, _ = power.window(samples, False, 2.013, 7.777)
        self.assertAlmostEqual(found["watts"], 3 * (2.013 + 7.777) / 2, places=9)

    def test_uneven_samples_weigh_by_their_time_not_by_their_number(self):
        samples = sorted(every(0.01, 0.0, 1.0, lambda t: 9.0) + every(0.1, 1.1, 4.0, lambda t: 1.0))
        found, _ = power.window(samples, False, 0.0, 4.0)
        self.assertAlmostEqual(found["watts"], (9 * 1 + 5 * 0.1 + 1 * 2.9) / 4)

    def test_a_counter_gives_its_difference_over_time(self):
        samples = every(0.05, 100.0, 110.0, lambda t: 5.0 * (t - 100))
        found, _ = power.window(samples, True, 101.02, 109.01)
        self.assertAlmostEqual(found["watts"], 5.0)
        self.assertEqual(found["samples"], 160)

    def test_a_gap_of_more_than_a_twentieth_leaves_no_figure(self):
        samples = [pair for pair in every(0.01, 0.0, 10.0, lambda t: 1.0) if not 3.0 < pair[0] < 3.4]
        found, reason = power.window(samples, False, 0.0, 10.0)
        self.assertEqual(reason, "")
        self.assertAlmostEqual(found["gap_s"], 0.4, places=6)
        self.assertIn("gap of 0.4 s in a window of 5 s", power.window(samples, False, 0.0, 5.0)[1])

    def test_a_meter_that_began_late_or_ended_early_has_a_gap_too(self):
        samples = every(0.01, 1.0, 9.0, lambda t: 1.0)
        self.assertIn("gap of 1 s", power.window(samples, False, 0.0, 9.0)[1])
        self.assertIn("gap of 1 s", power.window(samples, False, 1.0, 10.0)[1])
        self.assertIn("gap of 5 s", power.window(samples, False, 20.0, 25.0)[1])
        self.assertIn("gap of 5 s", power.window([], False, 20.0, 25.0)[1])
        self.assertIn("gap", power.window(every(8.0, 1.0, 9.0, lambda t: 1.0), False, 2.0, 8.0)[1])


PHASES = {"idle_before": [0.0, 30.0], "load": [32.0, 92.0], "idle_after": [94.0, 124.0]}


def load_of(watts, before=2.0, after=2.0):
    return lambda t: before if t < 31 else watts if t < 93 else after


class FiguresTest(unittest.TestCase):
    def test_watts_and_joules_gross_and_net_are_known(self):
        found, reason = power.figures(every(0.002, -1.0, 125.0, load_of(5.0)), False, PHASES, 600, 16)
        self.assertEqual(reason, "")
        for key, value in (
            ("power_w", 5.0), ("idle_w", 2.0), ("net_w", 3.0), ("energy_per_clip_j", 0.5), ("energy_per_clip_net_j", 0.3),
            ("energy_per_inference_j", 0.5 / 16), ("energy_per_inference_net_j", 0.3 / 16), ("seconds", 60.0), ("idle_seconds", 30.0),
        ):  # fmt: skip
            self.assertAlmostEqual(found[key], value, places=9, msg=key)
        self.assertAlmostEqual(found["rate_hz"], 500, delta=1)
        self.assertAlmostEqual(found["gap_s"], 0.002, places=6)

    def test_idles_before_and_after_are_told_apart(self):
        found, _ = power.figures(every(0.01, -1.0, 125.0, load_of(5.0, 2.0, 3.0)), False, PHASES, 600, 16)
        self.assertEqual([round(found[key], 9) for key in ("idle_before_w", "idle_after_w", "idle_w", "net_w")], [2.0, 3.0, 2.5, 2.5])

    def test_unsure_clocks_narrow_the_windows_so_that_no_phase_leaks_into_another(self):
        late = {phase: [begin + 0.8, end + 0.8] for phase, (begin, end) in PHASES.items()}
        sharp = {"idle_before": [0.0, 31.0], "load": [31.0, 93.0], "idle_after": [93.0, 124.0]}
        samples = every(0.01, -1.0, 126.0, load_of(5.0))
        self.assertAlmostEqual(power.figures(samples, False, late, 600, 16, 1.0)[0]["power_w"], 5.0, places=9)
        self.assertAlmostEqual(power.figures(samples, False, sharp, 620, 16, 0.5)[0]["energy_per_clip_j"], 0.5, places=9)

    def test_a_counter_that_stands_still_and_a_meter_at_zero_are_no_figures(self):
        self.assertIn("stood still", power.figures(every(0.05, -1.0, 125.0, lambda t: 7.0), True, PHASES, 600, 16)[1])
        self.assertIn("reads 0 W", power.figures(every(0.05, -1.0, 125.0, lambda t: 0.0), False, PHASES, 600, 16)[1])

    def test_a_pass_without_all_phases_or_clips_has_no_figure(self):
        samples = every(0.05, -1.0, 125.0, load_of(5.0))
        self.assertIn("before the phase load", power.figures(samples, False, {"idle_before": [0.0, 30.0]}, 0, 16)[1])
        self.assertIn("no clip", power.figures(samples, False, PHASES, 0, 16)[1])
        self.assertIn("(phase idle_after)", power.figures([pair for pair in samples if pair[0] < 100], False, PHASES, 600, 16)[1])

    def test_the_trace_is_short_and_keeps_the_mean(self):
        samples = every(0.002, 0.0, 124.0, load_of(5.0))
        traced = power.trace(samples, False)
        self.assertLessEqual(len(traced), 241)
        self.assertAlmostEqual(sum(watts for _, watts in traced) / len(traced), (31 * 2 + 62 * 5 + 31 * 2) / 124.0, delta=0.05)
        counted = power.trace([(seconds, 3.0 * seconds) for seconds, _ in samples], True)
        self.assertEqual({watts for _, watts in counted}, {3.0})


class PassTest(Sysfs):
    """Whole power jobs through a real agent process."""

    def run_power(self, **settings):
        job = fixtures.job(self.root, "power", sysfs=os.path.join(self.root, "sys"), power=asked(**settings))
        code, result, stderr = fixtures.run_agent(self.root, job)
        self.assertEqual((code, result["ok"]), (0, True), stderr)
        return result

    def run_undisturbed(self, **settings):
        """A busy machine may keep a meter waiting for more than a twentieth of a short window: then once more, in longer ones."""
        for seconds in (2.0, 8.0, 24.0):
            result = self.run_power(load_s=seconds, idle_s=seconds, **settings)
            if "gap of" not in result["reason"]:
                break
        return result

    def test_a_program_on_the_board_gives_watts_joules_and_what_weakens_them(self):
        body = "while True:\n    print(now(), 4)\n    time.sleep(0.002)"
        result = self.run_undisturbed(source="command", command=program(body))
        measured = result["power"]
        self.assertEqual(result["reason"], "")
        self.assertAlmostEqual(measured["power_w"], 4.0)
        self.assertAlmostEqual(measured["net_w"], 0.0)
        self.assertAlmostEqual(measured["energy_per_clip_j"] * measured["clips"], 4.0 * measured["seconds"])
        self.assertAlmostEqual(measured["energy_per_inference_j"] * fixtures.FRAMES, measured["energy_per_clip_j"])
        facts = result["facts"]
        self.assertEqual((facts["power_source"], facts["power_side"]), ("command", "board"))
        self.assertIn("what the program reads: " + sys.executable, facts["power_scope"])
        self.assertEqual(sorted(facts["power_phases"]), ["idle_after", "idle_before", "load"])
        self.assertTrue(facts["power_trace"])

    def test_a_power_monitor_is_read_by_a_thread_while_the_model_runs(self):
        self.chip(0, "none", power1_input=0)
        self.write("sys/class/hwmon/hwmon0/name", "ina219\n")
        self.write("sys/class/hwmon/hwmon0/power1_input", "5670000\n")
        result = self.run_undisturbed()
        self.assertEqual(result["reason"], "")
        self.assertAlmostEqual(result["power"]["power_w"], 5.67)
        self.assertIn("what flows through ina219", result["facts"]["power_scope"])
        self.assertGreater(result["power"]["samples"], 5)

    def test_counters_are_differences_and_the_load_is_told_from_idle(self):
        counter = os.path.join("sys/class/powercap/intel-rapl:0/energy_uj")
        self.write("sys/class/powercap/intel-rapl:0/name", "package-0\n")
        self.write("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "10000000\n")
        self.write(counter, "0\n")
        stop = threading.Event()
        began = time.monotonic()

        def count():  # 10 W, wrapping every second
            while not stop.is_set():
                self.write(counter, "{}\n".format(int((time.monotonic() - began) * 1e7) % 10000000))
                time.sleep(0.002)

        thread = threading.Thread(target=count)
        thread.start()
        try:
            result = self.run_undisturbed()
        finally:
            stop.set()
            thread.join()
        self.assertEqual(result["reason"], "")
        # A wrap that was not counted would take 10 J, or 5 W and more of two seconds.
        self.assertAlmostEqual(result["power"]["power_w"], 10.0, delta=2.0)
        self.assertEqual(result["power"]["counter"], 1)

    def test_without_a_sensor_nothing_is_loaded_and_the_reason_is_the_answer(self):
        result = self.run_power(load_s=600)
        self.assertEqual(result["power"], {})
        self.assertIn("n/a: no sensor found, looked for", result["reason"])

    def test_a_program_that_dies_in_the_first_idle_ends_the_pass_early(self):
        result = self.run_power(source="command", load_s=1e6, command=program("print(now(), 1)\ntime.sleep(0.2)\nsys.exit('no more power')"))
        self.assertEqual(result["power"], {})
        self.assertIn("ended with exit code 1 after 1 lines: no more power", result["reason"])

    def test_a_program_that_falls_silent_leaves_a_gap_not_a_guess(self):
        body = "while now() < 0.2:\n    print(now(), 1)\n    time.sleep(0.005)\ntime.sleep(60)"
        result = self.run_power(source="command", command=program(body))
        self.assertEqual(result["power"], {})
        self.assertIn("n/a: the meter has a gap of", result["reason"])

    def test_a_host_s_meter_needs_the_phases_alone(self):
        result = self.run_power(source="command", side="host", command=["/no/such/program/here"])
        self.assertEqual(result["power"], {})
        self.assertIn("host's side", result["reason"])
        facts = result["facts"]
        stamps = [stamp for phase in power.PHASES for stamp in facts["power_phases"][phase]]
        self.assertEqual(stamps, sorted(stamps))
        self.assertGreater(facts["power_clips"], 0)
        self.assertEqual(facts["power_frames"], fixtures.FRAMES)
        self.assertGreaterEqual(stamps[3] - stamps[2], 0.35)  # at least the load that was asked for


if __name__ == "__main__":
    unittest.main()
