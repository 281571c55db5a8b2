"""The doctor's judgement of made-up machines: a healthy one, and one where everything is wrong."""

from __future__ import annotations

from typing import Any

from fercompress.measure.answer import Answer
from fercompress.measure.board import parse_board
from fercompress.measure.doctor import Finding, Level, findings, worst
from fercompress.measure.sshchannel import Greeting

BOARD = parse_board('like = "rk3399pro-debian10"\nhost = "10.0.0.7"', "mine", "mine.toml")
GREETING = Greeting("3.7.3", "/usr/bin/python3", "boot", "/home/toybrick/.cache/fercompress/files", 0, 1 << 33, 0.4, 0.002)
HEALTHY = {
    "model": "TB-RK3399ProD Board", "glibc": "glibc 2.28", "free_bytes": 4 << 30, "available_bytes": 3 << 30, "swap_used_bytes": 0, "load": 0.05,
    "policies": {
        "policy0": {"governor": "performance", "available": ["performance", "ondemand"], "writable": False, "khz": 1416000, "max_khz": 1416000},
        "policy4": {"governor": "ondemand", "available": ["performance", "ondemand"], "writable": True, "khz": 408000, "max_khz": 1800000},
    },
    "temperature_mc": {"thermal_zone0 soc-thermal": 45000}, "cooling": {"cooling_device0 thermal-cpufreq-0": 0},
    "power_nodes": {"hwmon0 ina219": True}, "npu_proxies": 1,
}  # fmt: skip
WRONG = {
    "free_bytes": 20 << 20, "available_bytes": 60 << 20, "swap_used_bytes": 300 << 20, "load": 3.9,
    "policies": {
        "policy0": {"governor": "ondemand", "available": ["performance", "ondemand"], "writable": False},
        "policy4": {"governor": "schedutil", "available": ["schedutil"], "writable": True},
    },
    "temperature_mc": {"thermal_zone0 soc-thermal": 91000}, "cooling": {"cooling_device0 thermal-cpufreq-0": 3, "cooling_device1 pwm-fan": 4},
    "power_nodes": {"hwmon0 ina219": False}, "npu_proxies": 2,
}  # fmt: skip


def probe(engines: dict[str, dict[str, str]], **facts: Any) -> Answer:
    missing = {name: ["numpy", name] for name in BOARD.engines if name not in engines}
    facts = {"python": "3.7.3", "platform": "Linux 4.4.194 aarch64", "affinity": [0, 1, 2, 3, 4, 5], "cores": 6, **facts}
    return Answer.model_validate({"schema": 1, "nonce": "", "ok": True, "reason": "", "facts": facts, "engines": engines, "missing": missing})


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {f"{finding.what} {finding.found.split()[0]}" if finding.what == "governor" else finding.what: finding for finding in found}


def test_a_healthy_board_has_nothing_to_mend_but_engines_that_it_does_not_need() -> None:
    found = list(findings(BOARD, probe({"rknnlite": {"rknnlite": "1.7.5"}, "numpy": {"numpy": "1.16.2"}}), HEALTHY, GREETING))
    assert {finding.what: finding.level for finding in found if finding.level is not Level.OK} == {
        "engine rknn": "note",
        "engine onnxruntime": "note",
    }
    assert by_name(found)["machine"].found == "TB-RK3399ProD Board, Linux 4.4.194 aarch64"
    assert worst(found) is Level.NOTE


def test_where_everything_is_wrong_every_line_says_what_to_do() -> None:
    late = Greeting("3.7.3", "/usr/bin/python3", "boot", "/x", 0, 0, -1.7e9, 0.9)
    found = list(findings(BOARD, probe({}, affinity=[0, 1, 2, 3]), WRONG, late))
    told = by_name(found)
    fails = {name for name, finding in told.items() if finding.level is Level.FAILS}
    assert fails == {"engines", "cores", "governor policy4", "disk", "memory", "throttled", "npu", *(f"engine {name}" for name in BOARD.engines)}
    assert all(finding.mend for finding in found if finding.level is not Level.OK)
    assert told["governor policy0"].mend == "as root there: echo performance > /sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    assert told["clock"].found == "the target's clock is 1700000000.0 s behind"
    assert told["cores"].found == "no core 4, 5 (there are [0, 1, 2, 3])"
    assert told["throttled"].found == "cooling_device0 thermal-cpufreq-0 at 3"  # a fan that turns slows nothing down
    assert worst(found) is Level.FAILS


def test_a_system_that_tells_nothing_is_noted_not_failed() -> None:
    found = list(findings(BOARD.model_copy(update={"cores": None}), probe({"numpy": {"numpy": "1.16.2"}}), {}, None))
    assert worst(found) is Level.NOTE
    assert {"governor", "disk", "memory", "temperature", "power", "npu"} <= {finding.what for finding in found if finding.level is Level.NOTE}
