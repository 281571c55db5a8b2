import pytest

from fercompress.errors import AgentError
from fercompress.measure.power import checked, power_w

MEASURED = {"power_w": 5.67, "idle_w": 2.0, "energy_per_clip_j": 0.1, "clips": 560, "seconds": 10.0}


def test_a_measurement_passes_and_its_watts_are_read():
    assert checked(MEASURED, "") == (MEASURED, "")
    assert power_w(MEASURED, "") == (5.67, "")


def test_no_sensor_is_none_with_the_reason():
    reason = "n/a: no sensor found, looked for /sys/class/powercap/intel-rapl*/energy_uj"
    assert checked({}, reason) == ({}, reason)
    assert power_w({}, reason) == (None, reason)


def test_a_pass_that_was_not_run_says_so():
    assert power_w(None, "") == (None, "n/a: the power pass was not run")


@pytest.mark.parametrize("wrong", [{"power_w": float("nan")}, {"power_w": -1.0}, {"seconds": float("inf")}])
def test_a_figure_that_is_no_measurement_is_refused(wrong):
    with pytest.raises(AgentError, match="cannot be used"):
        checked({**MEASURED, **wrong}, "")


def test_missing_figures_are_named_and_silence_is_refused():
    with pytest.raises(AgentError, match=r"missing: energy_per_clip_j, idle_w"):
        checked({"power_w": 1.0, "clips": 1, "seconds": 1.0}, "")
    with pytest.raises(AgentError, match="gave no reason"):
        checked({}, "")
