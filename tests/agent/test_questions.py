import os
import sys
import unittest

import agent_fixtures as fixtures

from fercompress_agent import questions

RUNTIME = '''
class Runtime:
    """Refuses what the real one refuses: calls out of order."""

    def __init__(self):
        self.state = "made"

    def load_rknn(self, path):
        with open(path, "rb") as file:
            self.state = "loaded" if file.read() == b"RKNN" else "made"
        return 0 if self.state == "loaded" else -1

    def init_runtime(self):
        assert self.state == "loaded"
        self.state = "ready"
        return 0

    def inference(self, inputs):
        return [inputs] if self.state == "ready" else None

    def eval_perf(self, inputs, is_print):
        assert self.state == "ready"
        return {answer}

    def release(self):
        self.state = "released"
'''
NUMPY = 'uint8 = "u1"\ndef full(shape, value, kind):\n    return (shape, value, kind)\n'


class QuestionsTest(fixtures.Tree):
    def ask(self, name, **more):
        asked = {"question": name, "sysfs": os.path.join(self.root, "sys"), "proc": os.path.join(self.root, "proc"), "load_s": 0.1, "gemm_s": 0.05, "long_s": 0.1}
        asked.update(more)
        return questions.ask(asked)

    def runtimes(self, answer="{'total_time': 1000.0}"):
        """Made-up rknn, rknnlite and numpy on the path; returns the job's model."""
        self.write("path/numpy.py", NUMPY)
        for package, name in (("rknn", "RKNN"), ("rknnlite", "RKNNLite")):
            self.write("path/{}/__init__.py".format(package), "")
            self.write("path/{}/api.py".format(package), RUNTIME.replace("{answer}", answer).replace("class Runtime", "class " + name))
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in ("numpy", "rknn", "rknnlite")}
        sys.path.insert(0, os.path.join(self.root, "path"))

        def restore():
            sys.path.remove(os.path.join(self.root, "path"))
            for name in list(sys.modules):
                if name.split(".")[0] in ("numpy", "rknn", "rknnlite"):
                    del sys.modules[name]
            sys.modules.update(hidden)

        self.addCleanup(restore)
        path = self.write("model.rknn", "RKNN")
        return {"path": path, "sha256": fixtures.sha256(path), "shape": [4, 4, 3]}

    def test_without_an_npu_every_question_says_why_it_has_no_answer(self):
        for name in ("eval_perf", "power_sensor", "npu_memory", "transfer", "npu_latency", "throttle"):
            with self.subTest(name=name):
                found = self.ask(name)
                self.assertRegex(found["conclusion"], "^n/a: (this Python has n|no chip of the INA2xx family)")
                self.assertTrue(found["probed"])

    def test_with_a_runtime_but_no_model_the_model_is_asked_for(self):
        self.runtimes()
        for name in ("eval_perf", "npu_memory", "transfer", "npu_latency", "throttle"):
            self.assertEqual(self.ask(name)["conclusion"], "n/a: it takes a model: --rknn FILE=H,W,C")

    def test_what_eval_perf_returns_is_named_by_its_type(self):
        self.assertEqual(self.ask("eval_perf", model=self.runtimes())["conclusion"], "eval_perf returns a dict with the keys total_time")

    def test_an_eval_perf_that_returns_text_is_told_too(self):
        model = self.runtimes(answer="'Average inference Time(us): 5438.98'")
        self.assertEqual(self.ask("eval_perf", model=model)["conclusion"], "eval_perf returns no dict but a str")
        self.assertEqual(self.ask("transfer", model=model)["raw"]["npu_us"], 5438.98)

    def test_the_npus_own_time_is_taken_from_the_hosts_and_the_bus_is_named(self):
        self.write("sys/bus/usb/devices/3-1/idVendor", "2207\n")
        found = self.ask("transfer", model=self.runtimes())
        self.assertEqual((found["raw"]["bus"], found["raw"]["npu_us"]), ("USB", 1000.0))
        self.assertRegex(found["conclusion"], "^over USB: .* 1000 us in the NPU")

    def test_latency_memory_and_long_load_are_measured_with_a_model(self):
        model = self.runtimes()
        self.assertEqual(len(self.ask("npu_latency", model=model)["raw"]["ms"]), questions.LATENCY_CALLS)
        self.assertRegex(self.ask("npu_memory", model=model)["conclusion"], r"^VmHWM [\d.]+ MiB")
        self.assertRegex(self.ask("throttle", model=model)["conclusion"], "^the last tenth's median is ")

    def test_a_model_that_arrived_damaged_breaks_one_question(self):
        model = self.runtimes()
        self.write("model.rknn", "other")
        self.assertEqual(self.ask("npu_latency", model=model)["conclusion"], "n/a: it broke: the model is not the one that was sent")

    def test_a_sensor_on_the_boards_supply_is_told_from_one_on_a_cores_rail(self):
        for chip, millivolts in (("hwmon0", "12012"), ("hwmon1", "812")):
            self.write("sys/class/hwmon/{}/name".format(chip), "ina219\n")
            self.write("sys/class/hwmon/{}/in1_input".format(chip), millivolts)
            self.write("sys/class/hwmon/{}/curr1_input".format(chip), "430\n")
        self.write("sys/class/hwmon/hwmon0/shunt_resistor", "10000\n")
        self.write("sys/class/hwmon/hwmon2/name", "cpu_thermal\n")
        one, other = self.ask("power_sensor")["conclusion"].split("; ")
        self.assertIn("a supply of the board (12.01 V), 430 mA idle, 430 mA with all cores busy, shunt 10000 microohm", one)
        self.assertIn("a core's rail (0.81 V)", other)

    def test_one_core_of_every_kind_is_found(self):
        parts = ["0xd03"] * 4 + ["0xd08"] * 2
        self.write("proc/cpuinfo", "\n".join("processor\t: {}\nCPU part\t: {}\n".format(core, part) for core, part in enumerate(parts)))
        self.assertEqual(questions.kinds(os.path.join(self.root, "proc")), {"Cortex-A53": 0, "Cortex-A72": 4})

    def test_the_agent_answers_one_question_in_a_process_of_its_own(self):
        code, result, stderr = fixtures.run_agent(self.root, fixtures.job(self.root, "question", question="npu_memory"))
        self.assertEqual(code, 0, stderr)
        self.assertIn("n/a: this Python has no rknnlite", result["facts"]["answer"]["conclusion"])


if __name__ == "__main__":
    unittest.main()
