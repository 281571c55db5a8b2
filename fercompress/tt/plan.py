"""How a train is executed, apart from how it is stored: a shape and the rows to come in, the cheapest of all candidates out.

dense       merge all cores to the matrix, one GEMM
two-gemm    merge the cores on either side of one bond, left (M1, N1, R) and right (R, M2, N2), and contract the input with one after the other;
            left first: `(left[(M1 R), N1] @ x[rows, N1, N2]).reshape(rows * M1, R * N2) @ right[(R N2), M2]`;
            right first: `left[M1, (N1 R)] @ (x[rows * N1, N2] @ right[N2, (R M2)]).reshape(rows, N1 * R, M2)`
asymmetric  right first at the last bond where the last core has no output (M2 = 1): a projection, after which the left part is an ordinary matrix
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fercompress.errors import ShapeError
from fercompress.tt.shape import TTShape


@dataclass(frozen=True)
class Costs:
    """What one unit of work takes on one CPU core. `where` says which, and how it was measured."""

    ns_per_mac: float
    ns_per_mac_int8: float
    ns_per_byte_written: float  # intermediates, results, and the copies that a GEMM packs its operands into
    ns_per_byte_read: float  # of weights, which stream from memory
    ns_per_call: float
    packs_weights: bool  # on every call; a runtime that loads a file packs them once
    calls_per_step: int  # of a recurrence whose input projections come ready-made, beyond those of the fused LSTM kernel; counted, not timed
    picks_rows: bool  # ready-made projections are the matrix of the recurrence's operator, which an identity of all rows is multiplied with
    narrow_factor: float  # how much slower a batch of products is whose results have fewer than 16 columns
    where: str


# Measured on dense and two-GEMM projections of 1, 16 and 128 or 512 rows, 4096 to 1024 and 512 to 512; within about a factor of 2 of all of them.
TORCH = Costs(0.032, 0.032, 0.2, 0.03, 4000, True, 8, False, 30, "torch 2.13, float32, one thread of a 2-core AMD EPYC (Zen 3, AVX2)")
ONNXRUNTIME = Costs(0.025, 0.0125, 0.15, 0.045, 1500, False, 0, True, 2, "onnxruntime 1.32, one thread of a 2-core AMD EPYC (Zen 3, AVX2, no VNNI)")
_NARROW = 16
_CALLS_TO_WRITE_SUMS = 16  # about 23 us more than the operator alone, measured with 16 steps of 256 units


@dataclass(frozen=True)
class Candidate:
    """One way to contract an input with a train, and its cost; of a forward pass, or of a training step's forward and backward pass."""

    execution: str  # "dense", "two-gemm" or "asymmetric"
    cut: int  # cores on the left side of the bond; 0 for dense
    first: str  # "left" or "right", the side that the input meets first; "" for dense
    macs: int
    bytes_written: int
    bytes_read: int
    calls: int
    cost_ns: float

    @property
    def name(self) -> str:
        return self.execution if self.execution != "two-gemm" else f"two-gemm, cut {self.cut}, {self.first} first"


@dataclass(frozen=True)
class Plan:
    """All candidates, cheapest first (dense first among equals), and where their costs are from. raises: ShapeError without candidates"""

    candidates: tuple[Candidate, ...]
    source: str

    def __post_init__(self) -> None:
        if not self.candidates:
            raise ShapeError("a plan needs at least one candidate")
        ordered = sorted(self.candidates, key=lambda candidate: (candidate.cost_ns, candidate.execution != "dense"))
        object.__setattr__(self, "candidates", tuple(ordered))

    @classmethod
    def of(cls, shape: TTShape, rows: int, *, bits: int = 32, training: bool = False, costs: Costs = TORCH) -> Plan:
        """Of a projection of `rows` inputs, by a model of the cost.

        bits: of the stored weights: at 8 and fewer a runtime multiplies whole matrices in int8; training: cores are merged in every step, and
            the backward pass counts (twice the products of the forward pass). raises: ShapeError
        """
        return cls._modelled(shape, rows, 0, bits, training, costs)

    @classmethod
    def for_lstm(cls, shape: TTShape, steps: int, batch: int = 1, *, bits: int = 32, training: bool = False, costs: Costs = TORCH) -> Plan:
        """Of an LSTM's input-to-hidden projection of all steps at once: two-GEMM forgoes the fused kernel of the recurrence, and pays for it."""
        return cls._modelled(shape, steps * batch, steps, bits, training, costs)

    @classmethod
    def _modelled(cls, shape: TTShape, rows: int, steps: int, bits: int, training: bool, costs: Costs) -> Plan:
        if rows < 1:
            raise ShapeError(f"a plan is for at least one row of input, got {rows}")
        if bits not in (32, 8, 4):
            raise ShapeError(f"a plan for weights of {bits} bits: choose one of 32, 8, 4")
        found = [_dense(shape, rows, bits, training, costs)]
        for cut in range(1, len(shape.outputs)):
            found.extend(_split(shape, rows, steps, cut, first, bits, training, costs) for first in ("left", "right"))
        return cls(tuple(found), f"modelled for {rows} rows{', training' if training else ''}: {costs.where}")

    def measured(self, runs: Mapping[Candidate, Callable[[], object]], rounds: int = 9, clock: Callable[[], int] = time.perf_counter_ns) -> Plan:
        """The same candidates with the medians of `rounds` interleaved calls each; a candidate without a run is left out.

        runs: candidate -> what to time, after one call that is not timed. raises: ShapeError for a candidate of another plan
        """
        for candidate in runs:
            if candidate not in self.candidates:
                raise ShapeError(f"{candidate.name} is no candidate of this plan")
        for run in runs.values():
            run()
        times: dict[Candidate, list[int]] = {candidate: [] for candidate in runs}
        for _ in range(rounds):
            for candidate, run in runs.items():
                start = clock()
                run()
                times[candidate].append(clock() - start)
        timed = tuple(replace(candidate, cost_ns=float(statistics.median(taken))) for candidate, taken in times.items())
        return Plan(timed, f"measured, median of {rounds} interleaved calls")

    @property
    def chosen(self) -> Candidate:
        return self.candidates[0]

    @property
    def execution(self) -> str:
        """ "dense", "two-gemm" or "asymmetric" """
        return self.chosen.execution

    def explain(self) -> str:
        """The candidates as an aligned table of text, cheapest first, and below it where the costs are from."""
        head = ("candidate", "MACs", "written B", "read B", "calls", "cost us")
        body = [
            (c.name, f"{c.macs:,}", f"{c.bytes_written:,}", f"{c.bytes_read:,}", str(c.calls), f"{c.cost_ns / 1e3:,.1f}") for c in self.candidates
        ]
        widths = [max(len(row[k]) for row in (head, *body)) for k in range(len(head))]
        lines = []
        for place, (name, *numbers) in enumerate((head, *body)):
            cells = [name.ljust(widths[0]), *(number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))]
            lines.append(("> " if place == 1 else "  ") + "  ".join(cells))
        return "\n".join([*lines, f"costs: {self.source}"])


def _dense(shape: TTShape, rows: int, bits: int, training: bool, costs: Costs) -> Candidate:
    numbers = math.prod(shape.outputs) * math.prod(shape.inputs)
    int8 = bits <= 8 and not training
    read = numbers * (1 if int8 else 4)
    written = 4 * rows * shape.rows
    if costs.packs_weights and rows > 1:
        written += 4 * numbers
    macs, calls = rows * numbers, 1
    if training:  # merged in every step, its gradient formed and taken apart again
        macs, written, calls = 3 * macs + 3 * _merge_macs(shape, 0, len(shape.outputs)), 3 * written + 4 * 4 * numbers, 3 + 6 * len(shape.outputs)
    return _costed("dense", 0, "", macs, written, read, calls, costs, costs.ns_per_mac_int8 if int8 else costs.ns_per_mac)


def _split(shape: TTShape, rows: int, steps: int, cut: int, first: str, bits: int, training: bool, costs: Costs) -> Candidate:
    m1, m2 = math.prod(shape.outputs[:cut]), math.prod(shape.outputs[cut:])
    n1, n2 = math.prod(shape.inputs[:cut]), math.prod(shape.inputs[cut:])
    rank = shape.ranks[cut]
    if first == "left":
        between, batched, plain, columns = m1 * rank * n2, m1 * rank * n1 * n2, m1 * rank * n2 * m2, n2
    else:
        between, batched, plain, columns = n1 * rank * m2, m1 * n1 * rank * m2, n1 * n2 * rank * m2, m2
    halves = m1 * n1 * rank + rank * m2 * n2
    asymmetric = first == "right" and shape.asymmetric and cut == len(shape.outputs) - 1
    macs, written, read = rows * (batched + plain), 4 * rows * (between + shape.rows), 4 * halves
    if steps and costs.picks_rows and not asymmetric:
        macs += rows * rows * shape.rows
    # One column makes a plain product of all rows, and one row is no batch.
    slow = rows * batched * (costs.narrow_factor - 1) if 1 < columns < _NARROW and rows > 1 else 0.0
    # Sums that are the operator's matrix are written once for all steps, however few.
    ready = _CALLS_TO_WRITE_SUMS if steps and costs.picks_rows else steps * costs.calls_per_step
    calls = 2 + (0 if asymmetric else ready)
    if costs.packs_weights and rows > 1:
        written += 4 * halves
    if training:
        merging = _merge_macs(shape, 0, cut) + _merge_macs(shape, cut, len(shape.outputs))
        # The backward pass copies both operands of the batched product once more.
        macs, written, calls, slow = 3 * (macs + merging), 4 * written + 4 * 4 * halves, 3 * calls + 6 * len(shape.outputs), 2 * slow
    # The matrix behind an asymmetric projection is the LSTM operator's, which runs in int8 where the weights do; a folded half is float32.
    int8 = bits <= 8 and not training and asymmetric
    ns_per_mac = costs.ns_per_mac_int8 if int8 else costs.ns_per_mac
    made = _costed("asymmetric" if asymmetric else "two-gemm", cut, first, macs, written, read, calls, costs, ns_per_mac)
    return replace(made, cost_ns=made.cost_ns + slow * ns_per_mac)


def _costed(execution: str, cut: int, first: str, macs: int, written: int, read: int, calls: int, costs: Costs, ns_per_mac: float) -> Candidate:
    cost_ns = macs * ns_per_mac + written * costs.ns_per_byte_written + read * costs.ns_per_byte_read + calls * costs.ns_per_call
    return Candidate(execution, cut, first, macs, written, read, calls, cost_ns)


def _merge_macs(shape: TTShape, start: int, stop: int) -> int:
    """Of merging the cores from `start` to before `stop`, left to right."""
    numbers, macs = 0, 0
    for k, (left, output, size, right) in enumerate(shape.cores[start:stop]):
        macs += numbers * output * size * right if k else 0
        numbers = (left if k == 0 else numbers // left) * output * size * right
    return macs
