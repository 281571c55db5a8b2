import os
import unittest

import agent_fixtures as fixtures

from fercompress_agent import doctor


class DoctorTest(fixtures.Tree):
    def test_what_the_system_files_say_is_told_and_what_is_absent_is_left_out(self):
        policy = "sys/devices/system/cpu/cpufreq/policy4/"
        for name, text in (
            (policy + "scaling_governor", "ondemand\n"),
            (policy + "scaling_available_governors", "ondemand performance \n"),
            (policy + "scaling_cur_freq", "408000\n"),
            ("sys/class/hwmon/hwmon0/name", "ina219\n"),
            ("sys/class/hwmon/hwmon0/power1_input", "5670000\n"),
            ("sys/class/hwmon/hwmon1/name", "cpu_thermal\n"),
            ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
            ("proc/meminfo", "MemTotal:  1000 kB\nMemAvailable:   400 kB\nSwapTotal: 100 kB\nSwapFree: 90 kB\n"),
            ("proc/48/stat", "48 (npu_transfer_pr) S 1 1"),
            ("proc/49/stat", "49 (npu_transfer_pr) Z 1 1"),
            ("proc/50/stat", "50 (python3) S 1 1"),
        ):
            self.write(name, text)
        found = doctor.examine(self.root, os.path.join(self.root, "sys"), os.path.join(self.root, "proc"))
        self.assertEqual(found["policies"]["policy4"]["available"], ["ondemand", "performance"])
        self.assertEqual(found["policies"]["policy4"]["khz"], 408000)
        self.assertEqual(found["power_nodes"], {"hwmon0 ina219": True, "intel-rapl:0": False})
        self.assertEqual([found[key] for key in ("memory_bytes", "available_bytes", "swap_used_bytes")], [1024000, 409600, 10240])
        self.assertEqual(found["npu_proxies"], 1)
        self.assertNotIn("model", found)

    def test_a_job_tells_it_in_its_facts(self):
        code, result, _ = fixtures.run_agent(self.root, fixtures.job(self.root, "doctor"))
        self.assertEqual(code, 0)
        self.assertGreater(result["facts"]["doctor"]["free_bytes"], 0)


if __name__ == "__main__":
    unittest.main()
