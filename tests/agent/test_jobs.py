"""Whole jobs, most of them through a real process of the Python that runs these tests."""

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

import agent_fixtures as fixtures
from fercompress_agent import Problem, engines, facts, governor, jobs, npyfile, sensors


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def add_engine(self, logits):
        """An engine that answers these logits, whatever it is shown."""

        class Stub(engines.Null):
            def predict(self, joined):
                return logits

        engines.ENGINES["stub"] = Stub
        self.addCleanup(engines.ENGINES.pop, "stub")


class ProcessTest(Folder):
    def test_a_latency_job_gives_one_number_per_clip_and_frame(self):
        code, result, stderr = fixtures.run_agent(self.folder, fixtures.job(self.folder, "latency"))
        self.assertEqual((code, result["ok"], result["nonce"], stderr), (0, True, "a nonce", ""))
        self.assertEqual([len(result[key]) for key in ("extractor_ns", "predictor_ns", "clip_ns")], [7, 7, 7])
        self.assertEqual(len(result["frame_ns"]), 7 * fixtures.FRAMES)
        for index in range(7):
            frames = result["frame_ns"][index * fixtures.FRAMES : (index + 1) * fixtures.FRAMES]
            self.assertEqual(sum(frames), result["extractor_ns"][index])
            self.assertGreaterEqual(result["clip_ns"][index], result["extractor_ns"][index] + result["predictor_ns"][index])
        for fact in ("python", "platform", "pid", "start_utc", "end_utc", "clock_resolution_ns", "threads", "warmup_clips", "load_ns", "first_clip_ns"):
            self.assertIn(fact, result["facts"])

    def test_an_accuracy_job_writes_the_logits_of_the_asked_rows(self):
        code, result, _ = fixtures.run_agent(self.folder, fixtures.job(self.folder, "accuracy"))
        self.assertEqual((code, result["ok"]), (0, True))
        rows = npyfile.Rows(self.path("logits.npy"))
        self.addCleanup(rows.close)
        self.assertEqual(rows.shape, (3, 2))
        self.assertEqual(struct.unpack("<2f", rows.row(2)), (1.0, 2.0))

    @unittest.skipUnless(sensors.high_water_bytes(), "no VmHWM on this system")
    def test_a_memory_job_tells_the_steps_apart_and_they_never_fall(self):
        _, result, _ = fixtures.run_agent(self.folder, fixtures.job(self.folder, "memory"))
        steps = [result["memory_bytes"][step] for step in ("interpreter", "runtime", "model", "peak")]
        self.assertLessEqual(result["memory_bytes"].get("inference_peak", 0), steps[-1])
        self.assertEqual(result["facts"]["memory_method"], "VmHWM of /proc/self/status")
        self.assertIn("/proc/self/", result["facts"]["memory_parts_method"])
        for step in ("interpreter", "runtime", "model", "peak"):
            parts = [result["memory_bytes"]["{}_{}".format(step, part)] for part in ("anonymous", "file")]
            self.assertTrue(all(parts))
        self.assertLessEqual(result["memory_bytes"]["peak_anonymous"], result["memory_bytes"]["peak"] + (1 << 20))  # the kernel counts in batches
        self.assertEqual(steps, sorted(steps))
        self.assertGreater(steps[0], 1 << 20)

    def test_a_job_works_in_a_folder_of_any_name_under_a_plain_c_locale(self):
        plain = self.path("plain")
        os.makedirs(plain)
        asked = fixtures.job(plain, "accuracy")
        asked.update({key: os.path.basename(asked[key]) for key in ("bundle", "clips", "logits", "result")})
        with open(os.path.join(plain, "job.json"), "w") as file:
            json.dump(asked, file)
        named = os.path.join(os.fsencode(self.folder), b"B\xc3\xa4r")
        os.rename(plain, named)
        environment = dict(os.environ, LANG="C", LC_ALL="C", PYTHONPATH=os.path.dirname(os.path.dirname(jobs.__file__)))
        child = subprocess.Popen([sys.executable, "-m", "fercompress_agent", "job.json"], cwd=named, env=environment, stderr=subprocess.PIPE)
        self.assertEqual((child.communicate()[1], child.returncode), (b"", 0))
        self.assertIn(b"logits.npy", os.listdir(named))

    def test_a_probe_names_engines_that_can_start_and_modules_that_are_missing(self):
        code, result, _ = fixtures.run_agent(self.folder, fixtures.job(self.folder, "probe"))
        self.assertEqual(code, 0)
        self.assertIn("null", result["engines"])
        self.assertEqual("onnxruntime" in result["engines"], "onnxruntime" not in result["missing"])

    def test_a_job_of_another_schema_and_an_unknown_job_are_refused_with_a_reason(self):
        code, result, _ = fixtures.run_agent(self.folder, fixtures.job(self.folder, "latency", schema=99))
        self.assertEqual((code, result["ok"]), (3, False))
        self.assertIn("schema 99", result["reason"])
        code, result, _ = fixtures.run_agent(self.folder, fixtures.job(self.folder, "layers"))
        self.assertEqual((code, result["ok"]), (3, False))
        self.assertIn("accuracy, clean, conditions, doctor, latency", result["reason"])

    def test_a_changed_file_is_found_before_anything_runs(self):
        asked = fixtures.job(self.folder, "latency")
        with open(self.path("bundle/predictor.onnx"), "ab") as file:
            file.write(b"!")
        code, result, _ = fixtures.run_agent(self.folder, asked)
        self.assertEqual((code, result["ok"]), (3, False))
        self.assertIn("predictor.onnx: file does not match the manifest's sha256", result["reason"])

    def test_a_changed_manifest_a_missing_file_and_changed_clips_are_named(self):
        for name, words in (("bundle/manifest.json", "the manifest is not the one"), ("clips.npy", "the clips are not the ones")):
            asked = fixtures.job(self.folder, "accuracy")
            with open(self.path(name), "ab") as file:
                file.write(b" ")
            code, result, _ = fixtures.run_agent(self.folder, asked)
            self.assertEqual(code, 3)
            self.assertIn(words, result["reason"])
        asked = fixtures.job(self.folder, "accuracy")
        os.remove(self.path("bundle/extractor.onnx"))
        _, result, _ = fixtures.run_agent(self.folder, asked)
        self.assertIn("extractor.onnx: No such file", result["reason"])

    def test_an_agent_whose_host_has_gone_ends_at_once(self):
        code, result, _ = fixtures.run_agent(self.folder, fixtures.job(self.folder, "latency"), {"FERCOMPRESS_HOST_PID": "1"})
        self.assertEqual((code, result), (-signal.SIGKILL, None))

    def test_an_agent_ends_itself_soon_after_its_deadline(self):
        script = (
            "import signal, time\n"
            "from fercompress_agent import __main__ as agent\n"
            "signal.alarm = lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds / 100)\n"
            "agent.end_with(1, None)\n"
            "time.sleep(20)"
        )
        child = subprocess.Popen([sys.executable, "-c", script])
        self.assertEqual(child.wait(), -signal.SIGALRM)

    def test_a_full_disk_has_an_exit_code_of_its_own(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full on this system")
        asked = fixtures.job(self.folder, "probe")
        os.symlink("/dev/full", asked["result"] + ".part")
        code, result, stderr = fixtures.run_agent(self.folder, asked)
        self.assertEqual((code, result), (4, None))
        self.assertIn("no space left on the target", stderr)

    def test_a_wrong_call_says_how_to_call(self):
        child = subprocess.Popen([sys.executable, "-m", "fercompress_agent"], stderr=subprocess.PIPE)
        self.assertIn(b"usage", child.communicate()[1])
        self.assertEqual(child.returncode, 2)


class AnswerTest(Folder):
    def test_a_model_that_answers_zeros_is_not_counted_as_fast(self):
        self.add_engine([0.0, 0.0])
        for kind in ("latency", "accuracy", "memory"):
            with self.assertRaises(Problem) as caught:
                jobs.run(fixtures.job(self.folder, kind, engine="stub"), 1 << 20)
            self.assertIn("all zero", str(caught.exception))

    def test_a_model_that_answers_no_number_is_refused(self):
        answer = [0.0, 1.0]
        self.add_engine(answer)
        for answer[0] in (float("nan"), float("inf")):
            with self.assertRaises(Problem) as caught:
                jobs.run(fixtures.job(self.folder, "latency", engine="stub"), 1 << 20)
            self.assertIn("not finite", str(caught.exception))

    def test_a_model_that_answers_the_same_for_all_clips_is_refused_but_one_clip_tells_nothing(self):
        class Deaf(engines.Null):
            language = "array"

        engines.ENGINES["stub"] = Deaf
        self.addCleanup(engines.ENGINES.pop, "stub")
        asked = fixtures.job(self.folder, "accuracy", engine="stub")
        with self.assertRaises(Problem) as caught:
            jobs.run(asked, 1 << 20)
        self.assertIn("the same logits for all 3 clips", str(caught.exception))
        self.assertEqual(jobs.run(dict(asked, rows=[2]), 1 << 20)["facts"]["features"], "computed")

    def test_a_model_with_too_many_classes_is_refused(self):
        self.add_engine([1.0, 2.0, 3.0])
        with self.assertRaises(Problem) as caught:
            jobs.run(fixtures.job(self.folder, "accuracy", engine="stub"), 1 << 20)
        self.assertIn("3 logits for 2 classes", str(caught.exception))

    def test_clips_of_another_shape_are_refused(self):
        asked = fixtures.job(self.folder, "accuracy")
        with open(self.path("clips.npy"), "wb") as file:
            npyfile.write_header(file, "|u1", (4, 9, 2, 2))
        with self.assertRaises(Problem) as caught:
            jobs.run(dict(asked, clips_sha256=fixtures.sha256(self.path("clips.npy"))), 1 << 20)
        self.assertIn("(9, 2, 2) do not fit the bundle's (3, 2, 2)", str(caught.exception))

    def test_an_unknown_engine_and_cores_that_are_not_there_are_refused(self):
        with self.assertRaises(Problem) as caught:
            jobs.run(fixtures.job(self.folder, "latency", engine="tpu"), 1 << 20)
        self.assertIn("no engine named 'tpu'", str(caught.exception))
        if facts.affinity():
            with self.assertRaises(Problem) as caught:
                jobs.run(fixtures.job(self.folder, "latency", affinity=[4000]), 1 << 20)
            self.assertIn("cores [4000]", str(caught.exception))

    def test_a_system_that_tells_no_memory_gives_a_reason(self):
        result = jobs.run(fixtures.job(self.folder, "memory", proc=self.path("no-proc")), None)
        self.assertEqual(result["memory_bytes"], {})
        self.assertIn("n/a:", result["reason"])


class CacheTest(Folder):
    def test_features_are_computed_once_and_then_read(self):
        calls = []

        class Counting(engines.Null):
            def extract(self, frame):
                calls.append(frame)
                return frame

        engines.ENGINES["counting"] = Counting
        self.addCleanup(engines.ENGINES.pop, "counting")
        asked = fixtures.job(self.folder, "accuracy", engine="counting", features=self.path("features"))
        first = jobs.run(asked, 1 << 20)
        self.assertEqual((first["facts"]["features"], len(calls)), ("computed", 9))
        second = jobs.run(asked, 1 << 20)
        self.assertEqual((second["facts"]["features"], len(calls)), ("read from the cache", 9))
        jobs.run(dict(asked, rows=[1]), 1 << 20)
        self.assertEqual(len(calls), 12)

    def test_a_job_that_fails_leaves_no_half_cache_that_another_would_read(self):
        class Broken(engines.Null):
            def predict(self, joined):
                raise Problem("broke in the middle")

        engines.ENGINES["stub"] = Broken
        self.addCleanup(engines.ENGINES.pop, "stub")
        asked = fixtures.job(self.folder, "accuracy", engine="stub", features=self.path("features"))
        with self.assertRaises(Problem):
            jobs.run(asked, 1 << 20)
        self.assertEqual(os.listdir(self.path("features")), [])

    def test_clean_removes_a_folder_and_does_not_mind_one_that_is_not_there(self):
        os.makedirs(self.path("features/deep"))
        for _ in range(2):
            self.assertEqual(jobs.run({"job": "clean", "folder": self.path("features")}, 0), {})
            self.assertFalse(os.path.exists(self.path("features")))


class StoredTest(Folder):
    """Features from elsewhere, and a predictor that sums each of its two columns over time."""

    def setUp(self):
        super().setUp()

        class Sum(engines.Null):
            parts = ("predictor",)
            language = "array"
            streams = True

            def load_predictor(self, folder, manifest):
                self.steps = manifest["frames"]

            def from_bytes(self, data):
                return struct.unpack("<{}f".format(self.steps), data)

            def predict(self, joined):
                return [sum(joined), 1.0]

        engines.ENGINES["sum"] = Sum
        self.addCleanup(engines.ENGINES.pop, "sum")

    def features(self, shape, values):
        with open(self.path("features.npy"), "wb") as file:
            npyfile.write_header(file, "<f4", shape)
            file.write(struct.pack("<{}f".format(len(values)), *values))
        return {"features_file": self.path("features.npy"), "features_sha256": fixtures.sha256(self.path("features.npy"))}

    def test_the_rows_of_a_features_file_are_the_rows_of_the_clips(self):
        more = self.features((4, 3, 1), range(12))
        result = jobs.run(fixtures.job(self.folder, "accuracy", engine="stored+sum", features=self.path("cache"), **more), 1 << 20)
        self.assertEqual(result["facts"]["features"], "computed elsewhere")
        rows = npyfile.Rows(self.path("logits.npy"))
        self.addCleanup(rows.close)
        self.assertEqual([struct.unpack("<2f", rows.row(index))[0] for index in range(3)], [21.0, 3.0, 30.0])

    def test_latency_is_of_the_predictor_alone_and_says_why(self):
        result = jobs.run(fixtures.job(self.folder, "latency", engine="stored+sum", stream_clips=2, **self.features((4, 3, 1), range(12))), 1 << 20)
        self.assertEqual([len(result[key]) for key in ("predictor_ns", "extractor_ns", "clip_ns", "frame_ns")], [7, 0, 0, 0])
        self.assertIn("computed elsewhere", result["reason"])

    def test_features_that_are_not_named_changed_or_of_another_shape_are_refused(self):
        good = self.features((4, 3, 1), range(12))
        for more, words in (
            ({}, "the job names none"),
            (dict(good, features_sha256="0"), "not the ones that were sent"),
            (self.features((4, 2, 1), range(8)), "(2, 1) do not fit the bundle's (3, 1)"),
        ):
            with self.assertRaises(Problem) as caught:
                jobs.run(fixtures.job(self.folder, "accuracy", engine="stored+sum", **more), 1 << 20)
            self.assertIn(words, str(caught.exception))


class GovernorTest(Folder):
    def node(self, core, text):
        folder = self.path("sys/devices/system/cpu/cpu{}/cpufreq".format(core))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "scaling_governor"), "w") as file:
            file.write(text)
        return os.path.join(folder, "scaling_governor")

    def test_a_governor_is_set_while_the_job_runs_read_back_and_put_back_even_when_it_fails(self):
        node = self.node(0, "ondemand")
        for kind, code in (("latency", 0), ("layers", 3)):
            found, result, _ = fixtures.run_agent(self.folder, fixtures.job(self.folder, kind, governor="performance", sysfs=self.path("sys")))
            self.assertEqual((found, result["facts"]["governor_asked"]), (code, "asked performance, found performance"))
            self.assertEqual(result["facts"]["clocks_start"]["cpu0"]["governor"], "performance")
            self.assertEqual(sensors.read_text(node), "ondemand")

    def test_what_cannot_be_set_is_told_and_leave_touches_nothing(self):
        self.node(0, "performance")
        os.remove(self.node(1, "ondemand"))
        os.makedirs(self.path("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor"))  # not even root can write a folder
        asked = governor.Asked("performance", self.path("sys"))
        self.assertIn("asked performance, found performance, unreadable (1 of 2 could not be written", asked.facts()["governor_asked"])
        self.assertEqual(governor.Asked("leave", self.path("sys")).facts(), {})
        self.assertIn("no core that tells", governor.Asked("performance", self.path("nowhere")).facts()["governor_asked"])


class ResultTest(Folder):
    def test_result_files_are_sorted_ascii_json(self):
        asked = fixtures.job(self.folder, "probe", nonce="\u00fc")
        fixtures.run_agent(self.folder, asked)
        with open(asked["result"], "rb") as file:
            text = file.read().decode("ascii")
        self.assertEqual(json.dumps(json.loads(text), sort_keys=True), text)


if __name__ == "__main__":
    unittest.main()
