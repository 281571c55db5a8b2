"""A model of the RK3399Pro: a network's layers in; milliseconds, watts and bytes out. Every number it gives is simulated.

    t = call + sum over layers of max(operations / (efficiency * peak), bytes / bandwidth) + bytes in and out / link        (a roofline per layer)

`benchmarks/board_model.py` fitted `PARAMETERS` by least squares on the logarithm of published times, on some networks, and validated them on others:
`VALIDATED` holds the outcome per family. What a family that is not valid predicts may drive tests, but enters no report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fercompress.measure.simlayers import Layer

Unit = Literal["a72", "a53", "npu"]
CORE_OPS_S = {"a72": 14.4e9, "a53": 11.3e9}  # fp32, per core: 8 per cycle at 1.8 and 1.416 GHz
CORE_BYTES_S = {"a72": 5.6e9, "a53": 2.8e9}  # read and written, per core: twice the measured copying speed (2.8 and 1.4 GB/s)
NPU_OPS_S = {"int8": 3.04e12, "fp16": 0.101e12}  # 1920 and 64 products per cycle at 792 MHz
CORES = {"a53": (0, 1, 2, 3), "a72": (4, 5)}
IDLE_W = 4.932  # the whole board at its 12 V input, with its network cable (Tinker Edge R)
MIB = 1 << 20


@dataclass(frozen=True)
class Parameters:
    """Fitted; see `benchmarks/results/board_model.json`.

    cpu_*: share of a core's fp32 peak, counted in operations of the plain convolution (so the Winograd algorithm may exceed 1); int8 too
    a53_efficiency: of an A53 core against an A72 core's share; *_gain: how many times faster all cores of a cluster are than one of them
    npu_bytes_s, npu_link_bytes_s: of the NPU's own memory, of the link to it; npu_call_ms: per call of the board's own NPU from Python
    npu_*: share of the NPU's int8 peak; npu_fp16: share of its fp16 peak; *_w: net watts, beside `IDLE_W`
    """

    cpu_winograd: float
    cpu_dense: float
    cpu_depthwise: float
    cpu_winograd_int8: float
    cpu_dense_int8: float
    cpu_depthwise_int8: float
    a53_efficiency: float
    a72_gain: float
    a53_gain: float
    npu_dense: float
    npu_depthwise: float
    npu_bytes_s: float
    npu_link_bytes_s: float
    npu_call_ms: float
    npu_fp16: float
    a72_w: float
    npu_wait_w: float
    npu_busy_w: float


@dataclass(frozen=True)
class Validity:
    """How far predictions lay from published rows of networks that no parameter was fitted on.

    rows, networks: how many; median_error: of |predicted / published - 1|; spearman: rank correlation, None where it does not exist
    """

    rows: int
    networks: int
    median_error: float | None
    spearman: float | None

    @property
    def valid(self) -> bool:
        """The rule was set before the fit: at least 8 rows of 3 networks, median error <= 35 %, rank correlation >= 0.8."""
        enough = self.rows >= 8 and self.networks >= 3
        return enough and self.median_error is not None and self.median_error <= 0.35 and self.spearman is not None and self.spearman >= 0.8


PARAMETERS = Parameters(
    cpu_winograd=1.39,
    cpu_dense=0.5491,
    cpu_depthwise=2.127,
    cpu_winograd_int8=1.237,
    cpu_dense_int8=0.6505,
    cpu_depthwise_int8=4.057,
    a53_efficiency=0.6289,
    a72_gain=1.618,
    a53_gain=2.976,
    npu_dense=0.8197,
    npu_depthwise=0.05,
    npu_bytes_s=2.942e9,
    npu_link_bytes_s=3.753e7,
    npu_call_ms=3.492,
    npu_fp16=0.05322,
    a72_w=2.28,
    npu_wait_w=0.2774,
    npu_busy_w=0.7221,
)

VALIDATED: dict[str, Validity] = {
    "cpu fp32": Validity(23, 6, 0.2722, 0.9315),
    "cpu int8": Validity(12, 4, 0.1366, 0.9965),
    "npu int8": Validity(9, 7, 0.1571, 0.8703),
    "npu fp16": Validity(2, 1, 0.4516, None),
    "power": Validity(5, 2, 0.2, 0.8944),
}


def cpu_ms(layers: Sequence[Layer], unit: Unit, cores: int, given: Parameters = PARAMETERS) -> float:
    """Milliseconds of one inference on `cores` cores of a cluster (1, or all of them; between, the gain grows with cores)."""
    most = len(CORES[unit])
    if not 1 <= cores <= most:
        raise ValueError(f"the {unit} cluster has {most} cores, {cores} were asked for")
    whole = given.a72_gain if unit == "a72" else given.a53_gain
    gain = 1 + (whole - 1) * (cores - 1) / (most - 1)
    ops_s = CORE_OPS_S[unit] * gain * (given.a53_efficiency if unit == "a53" else 1)
    bytes_s = CORE_BYTES_S[unit] * gain
    return 1e3 * sum(max(2 * layer.macs / (_cpu_share(layer, given) * ops_s), layer.moved_bytes / bytes_s) for layer in layers)


def _cpu_share(layer: Layer, given: Parameters) -> float:
    plain = {"winograd": given.cpu_winograd, "depthwise": given.cpu_depthwise}
    small = {"winograd": given.cpu_winograd_int8, "depthwise": given.cpu_depthwise_int8}
    return small.get(layer.kind, given.cpu_dense_int8) if layer.int8 else plain.get(layer.kind, given.cpu_dense)


def npu_busy_ms(layers: Sequence[Layer], precision: Literal["int8", "fp16"], given: Parameters = PARAMETERS) -> float:
    """Milliseconds that the NPU itself computes."""
    seconds = 0.0
    for layer in layers:
        share = given.npu_depthwise if layer.kind == "depthwise" else given.npu_dense
        ops_s = share * NPU_OPS_S["int8"] if precision == "int8" else given.npu_fp16 * NPU_OPS_S["fp16"]
        moved = (layer.weights + layer.inputs + layer.outputs) * (1 if precision == "int8" else 2)
        seconds += max(2 * layer.macs / ops_s, moved / given.npu_bytes_s)
    return 1e3 * seconds


def link_ms(bytes_in_out: float, given: Parameters = PARAMETERS) -> float:
    return 1e3 * bytes_in_out / given.npu_link_bytes_s


def npu_ms(layers: Sequence[Layer], precision: Literal["int8", "fp16"], given: Parameters = PARAMETERS) -> float:
    """Milliseconds of one call from Python on the board: the call, the picture's bytes over the link, the NPU's own work."""
    return given.npu_call_ms + link_ms(layers[0].inputs, given) + npu_busy_ms(layers, precision, given)


def net_w(cpu_share: float, npu_share: float, cores: int, given: Parameters = PARAMETERS) -> float:
    """Watts beside idle. cpu_share, npu_share: of the time, that the processor computes, and that the NPU does while the processor waits"""
    waiting = 1 - cpu_share
    return cpu_share * given.a72_w * (1 + (cores - 1) * 0.5) + waiting * given.npu_wait_w + npu_share * given.npu_busy_w


def memory_bytes(parts: Sequence[Sequence[Layer]]) -> dict[str, int]:
    """High-water marks of a process that holds these networks: a floor from sizes alone, never validated.

    Python with numpy 28 MiB, a runtime of 22 MiB (both assumed); the weights once; at the peak the largest layer's input and output beside them.
    """
    weights = sum(layer.weights * (1 if layer.int8 else 4) for part in parts for layer in part)
    largest = max((layer.moved_bytes for part in parts for layer in part), default=0)
    steps = {"interpreter": 10.0 * MIB, "runtime": 50.0 * MIB}
    steps["model"] = steps["runtime"] + weights
    return {name: int(value) for name, value in (*steps.items(), ("peak", steps["model"] + largest))}
