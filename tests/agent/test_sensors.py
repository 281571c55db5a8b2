"""Sensors on made-up /sys and /proc trees."""

import mmap
import os
import time
import unittest

import agent_fixtures as fixtures
from fercompress_agent import facts, sensors


class ShareTest(unittest.TestCase):
    def test_a_process_that_ran_three_quarters_of_the_time_has_that_share(self):
        self.assertEqual(sensors.processor_share((10.0, 1.0, 5), (12.0, 2.5, 9)), {"block_cpu_share": 0.75, "block_interrupted": 4})
        self.assertEqual(sensors.processor_share((10.0, 1.0, None), (12.0, 3.0, None)), {"block_cpu_share": 1.0})

    def test_a_sleeping_process_has_next_to_no_share_of_the_processor(self):
        before = sensors.processor_use()
        time.sleep(0.2)
        self.assertLess(sensors.processor_share(before, sensors.processor_use())["block_cpu_share"], 0.5)


class MachineTest(fixtures.Tree):
    def test_clocks_and_temperatures_come_with_their_units(self):
        self.write("devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
        self.write("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1416000\n")
        self.write("devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "unknown\n")
        self.write("class/thermal/thermal_zone0/temp", "48750\n")
        self.write("class/thermal/thermal_zone0/type", "soc-thermal\n")
        self.write("class/thermal/thermal_zone1/temp", "\n")
        self.assertEqual(sensors.clocks(self.root), {"cpu0": {"governor": "performance", "khz": 1416000}})
        self.assertEqual(sensors.temperatures(self.root), {"thermal_zone0 soc-thermal": 48750})

    def test_the_high_water_mark_is_read_in_bytes_or_is_none(self):
        self.assertIsNone(sensors.high_water_bytes(self.root))
        self.write("self/status", "Name:\tpython3\nVmPeak:\t  999 kB\nVmHWM:\t   61120 kB\nVmRSS:\t 5 kB\n")
        self.assertEqual(sensors.high_water_bytes(self.root), 61120 * 1024)

    def test_cooling_and_the_clocks_of_other_devices_are_named_after_what_they_are(self):
        self.write("class/thermal/cooling_device0/type", "thermal-cpufreq-0\n")
        self.write("class/thermal/cooling_device0/cur_state", "3\n")
        self.write("class/thermal/cooling_device1/cur_state", "\n")
        self.write("class/devfreq/dmc/governor", "dmc_ondemand\n")
        self.write("class/devfreq/dmc/cur_freq", "800000000\n")
        self.assertEqual(sensors.cooling(self.root), {"cooling_device0 thermal-cpufreq-0": 3})
        self.assertEqual(sensors.devices(self.root), {"dmc": {"governor": "dmc_ondemand", "hz": 800000000}})
        told = facts.conditions("end", self.root)
        self.assertEqual((told["cooling_end"], told["devices_end"]["dmc"]["hz"]), ({"cooling_device0 thermal-cpufreq-0": 3}, 800000000))

    def test_without_a_high_water_mark_the_largest_pss_of_the_moments_is_told_as_such(self):
        self.write("self/smaps", "00400000-0040b000 r-xp\nPss:    10 kB\nSwapPss:  9 kB\n7f00-7f01 rw-p\nPss:    32 kB\n")
        self.assertEqual(sensors.pss_bytes(self.root), 42 * 1024)
        gauge = sensors.MemoryGauge(None, self.root)
        self.write("self/smaps", "Pss: 100 kB\n")
        gauge.sample()
        self.write("self/smaps", "Pss: 50 kB\n")
        gauge.start_again()
        self.assertEqual((gauge.peak_bytes(), gauge.again), (100 * 1024, False))
        self.assertIn("largest Pss", gauge.method)
        self.assertIsNone(sensors.MemoryGauge(None, os.path.join(self.root, "nowhere")).method)

    def test_anonymous_pages_are_told_from_those_that_files_back(self):
        self.write("self/status", "VmHWM:\t 90 kB\nVmRSS:\t 80 kB\nRssAnon:\t 50 kB\nRssFile:\t 28 kB\nRssShmem:\t 2 kB\n")
        found, how = sensors.resident_bytes(self.root)
        self.assertEqual(found, {"anonymous": 50 * 1024, "file": 30 * 1024})
        self.assertIn("RssAnon", how)

    def test_an_old_kernel_tells_them_in_smaps_and_one_that_does_not_is_n_a_with_the_reason(self):
        self.write("self/status", "VmHWM:\t 90 kB\nVmRSS:\t 80 kB\n")
        self.write("self/smaps", "00400000-0040b000 r-xp\nRss:  40 kB\nAnonymous:  4 kB\n7f00-7f01 rw-p\nRss: 30 kB\nAnonymous: 26 kB\nAnonHugePages: 9 kB\n")
        found, how = sensors.resident_bytes(self.root)
        self.assertEqual(found, {"anonymous": 30 * 1024, "file": 40 * 1024})
        self.assertIn("smaps", how)
        self.write("self/smaps", "00400000-0040b000 r-xp\nRss:  40 kB\nPss: 12 kB\n")
        found, how = sensors.resident_bytes(self.root)
        self.assertEqual((found, how[:5]), ({}, "n/a: "))

    def test_a_gauge_keeps_the_largest_of_both_parts(self):
        line = "VmHWM:\t 900 kB\nRssAnon:\t {} kB\nRssFile:\t {} kB\nRssShmem:\t 0 kB\n"
        self.write("self/status", line.format(50, 10))
        gauge = sensors.MemoryGauge(100 * 1024, self.root)
        for anonymous, file in ((70, 8), (60, 12)):
            self.write("self/status", line.format(anonymous, file))
            gauge.sample()
        self.assertEqual(gauge.parts, {"anonymous": 70 * 1024, "file": 12 * 1024})

    def test_memory_that_a_process_fills_is_anonymous(self):
        before, _ = sensors.resident_bytes()
        filled = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # not memory that was freed before
        self.addCleanup(filled.close)
        filled.write(os.urandom(1 << 20) * 16)
        after, _ = sensors.resident_bytes()
        self.assertGreater(after["anonymous"] - before["anonymous"], 0.9 * len(filled))
        self.assertLess(abs(after["file"] - before["file"]), 0.1 * len(filled))

    def test_the_peak_of_inference_is_told_apart_where_the_mark_can_be_set_back(self):
        self.write("self/status", "VmHWM:\t 900 kB\n")
        reset = self.write("self/clear_refs", "")
        gauge = sensors.MemoryGauge(100 * 1024, self.root)
        gauge.start_again()
        self.assertEqual((gauge.again, sensors.read_text(reset)), (True, "5"))
        self.write("self/status", "VmHWM:\t 500 kB\n")  # as the kernel does
        self.assertEqual((gauge.since_bytes(), gauge.peak_bytes()), (500 * 1024, 900 * 1024))

    def test_an_x86_processor_is_named_and_an_arm_one_described(self):
        self.assertEqual(facts.cpu_model(self.write("x86", "processor\t: 0\nmodel name\t: AMD EPYC\n")), "AMD EPYC")
        arm = "".join("processor: {}\nCPU part\t: {}\n".format(i, part) for i, part in enumerate(["0xd03"] * 4 + ["0xd08"] * 2))
        self.assertIn("4x 0xd03 2x 0xd08", facts.cpu_model(self.write("arm", arm)))


if __name__ == "__main__":
    unittest.main()
