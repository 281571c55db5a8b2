"""The timing loop on a clock that is told what to say."""

import gc
import unittest

from fercompress_agent import timing


class Steps:
    """A clock that advances by one step per look, and a model that advances it by its own cost."""

    def __init__(self, extract_ns=100, join_ns=5, predict_ns=1000):
        self.now = 0
        self.extract_ns, self.join_ns, self.predict_ns = extract_ns, join_ns, predict_ns
        self.extracted = []

    def clock(self):
        return self.now

    def extract(self, frame):
        self.now += self.extract_ns
        self.extracted.append(frame)
        return "f" + frame

    def join(self, features):
        self.now += self.join_ns
        return "".join(features)

    def predict(self, joined):
        self.now += self.predict_ns() if callable(self.predict_ns) else self.predict_ns
        return joined


class TimingTest(unittest.TestCase):
    def test_each_frame_is_timed_alone_and_the_clip_also_holds_the_joining(self):
        model, times = Steps(), timing.Times()
        timing.time_clip(model, ["a", "b", "c"], times, model.clock)
        self.assertEqual(times.frame_ns, [100, 100, 100])
        self.assertEqual(times.extractor_ns, [300])
        self.assertEqual(times.predictor_ns, [1000])
        self.assertEqual(times.clip_ns, [1305])
        self.assertEqual(times.logits, ["fafbfc"])

    def test_a_block_has_at_least_its_clips_though_its_seconds_are_over(self):
        model = Steps()
        times = timing.time_block(model, [["a"], ["b"]], 5, 0.0, model.clock)
        self.assertEqual(len(times.clip_ns), 5)
        self.assertEqual(model.extracted, ["a", "b", "a", "b", "a"])

    def test_a_block_lasts_at_least_its_seconds_though_its_clips_are_done(self):
        model = Steps(extract_ns=0, join_ns=0, predict_ns=1000000)
        times = timing.time_block(model, [["a"]], 2, 0.01, model.clock)
        self.assertEqual(len(times.clip_ns), 10)

    def test_a_steady_model_is_warm_after_twenty_clips(self):
        model = Steps()
        facts = timing.warm_up(model, [["a"]], 10, 60.0, model.clock)
        self.assertEqual(facts["warmup_clips"], 20)
        self.assertTrue(facts["warmup_settled"])

    def test_a_model_that_starts_slowly_is_warmed_up_until_its_medians_agree(self):
        costs = iter([5000] * 15 + [1000] * 1000)
        model = Steps(extract_ns=0, join_ns=0, predict_ns=lambda: next(costs))
        facts = timing.warm_up(model, [["a"]], 10, 60.0, model.clock)
        self.assertTrue(facts["warmup_settled"])
        # Ten clips back to back must mostly be fast, and the ten before them too: 15 + 4 + 10.
        self.assertEqual(facts["warmup_clips"], 31)

    def test_a_model_that_never_settles_is_stopped_by_the_cap_and_told_apart(self):
        cost = [1000000]

        def slower():
            cost[0] = int(cost[0] * 1.1)
            return cost[0]

        model = Steps(extract_ns=0, join_ns=0, predict_ns=slower)
        facts = timing.warm_up(model, [["a"]], 10, 1.0, model.clock)
        self.assertFalse(facts["warmup_settled"])
        self.assertGreaterEqual(facts["warmup_s"], 1.0)
        self.assertLess(facts["warmup_s"], 1.2)

    def test_no_warm_up_is_made_when_none_is_asked_for(self):
        model = Steps()
        self.assertEqual(timing.warm_up(model, [["a"]], 0, 60.0, model.clock)["warmup_clips"], 0)
        self.assertEqual(model.extracted, [])

    def test_the_median_of_an_even_number_lies_between_the_middle_two(self):
        self.assertEqual(timing.median([4, 1, 3, 2]), 2.5)
        self.assertEqual(timing.median([9, 1, 5]), 5)

    def test_the_clock_counts_nanoseconds_forward(self):
        first = timing.clock_ns()
        self.assertIsInstance(first, int)
        self.assertGreaterEqual(timing.clock_ns(), first)
        self.assertGreater(timing.clock_facts()["clock_resolution_ns"], 0)

    def test_the_garbage_collector_is_off_after_it_was_stopped(self):
        self.addCleanup(gc.enable)
        timing.stop_collector()
        self.assertFalse(gc.isenabled())


if __name__ == "__main__":
    unittest.main()
