import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fercompress.records import History

SCRIPT = Path(__file__).parents[1] / "benchmarks/time_to_accuracy.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("time_to_accuracy", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_seconds_count_up_to_the_first_epoch_that_is_good_enough(script):
    history = History((1.0, 1.0, 1.0), (0.5, 0.8, 0.7), (2.0, 3.0, 5.0), 1)
    assert script.seconds_until(history, 0.5) == (2.0, 1)
    assert script.seconds_until(history, 0.75) == (5.0, 2)
    assert script.seconds_until(history, 0.9) is None


def test_ratios_are_medians_over_the_seeds_that_reached_it_with_an_interval_from_six(script):
    def row(train):
        return {"seconds": {"dense": 10.0, "from-scratch": train, "decompose": None, "data-aware": train}}

    found = script.ratios([row(seconds) for seconds in (1.0, 2.0, 4.0, 2.0, 2.0, 2.0)])
    assert found["from-scratch"]["ratio"] == pytest.approx(0.2)
    low, high = found["from-scratch"]["ci95"]
    assert low <= 0.2 <= high
    assert found["decompose"] == {"ratio": None, "seeds_that_reached_it": 0, "of": 6, "ci95": None}
    assert script.ratios([row(1.0)] * 3)["from-scratch"]["ci95"] is None
    assert np.isclose(script.ratios([row(1.0)] * 3)["from-scratch"]["ratio"], 0.1)
