"""A train's projection of all steps by two matrix products: the train's cores in, nodes out.

`y = A x B`: the cores left of a cut are merged into A, those right of it into B, once, when the file is loaded. Which cut, and which of the two
products comes first, is the plan's choice (`fercompress.tt.plan`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fercompress.export.onnx_build import Builder
from fercompress.export.onnx_train import GATES, Matrix
from fercompress.tt.plan import Candidate
from fercompress.tt.shape import TTShape


@dataclass(frozen=True)
class Cut:
    """Where a train is cut, and which half comes first.

    outputs, inputs: (M1, M2) and (N1, N2), the halves' factors; rank: of the bond; place: cores in the left half
    """

    place: int
    outputs: tuple[int, int]
    inputs: tuple[int, int]
    rank: int
    right_first: bool

    @classmethod
    def of(cls, shape: TTShape, candidate: Candidate) -> Cut:
        """A plan's candidate for a train of this shape."""
        place = candidate.cut
        outputs = (math.prod(shape.outputs[:place]), math.prod(shape.outputs[place:]))
        inputs = (math.prod(shape.inputs[:place]), math.prod(shape.inputs[place:]))
        return cls(place, outputs, inputs, shape.ranks[place], candidate.first == "right")


def halves(build: Builder, matrix: Matrix, cut: Cut) -> tuple[str, str]:
    """The merged halves, in the order of use, laid out for `projected`."""
    (m1, m2), (n1, n2), rank = cut.outputs, cut.inputs, cut.rank
    if cut.right_first:
        return (
            matrix.merged(build, "ilo", n2, rank * m2, first=cut.place),
            matrix.merged(build, "oir", m1, n1 * rank, last=cut.place),
        )
    return (
        matrix.merged(build, "ori", m1 * rank, n1, last=cut.place),
        matrix.merged(build, "lio", rank * n2, m2, first=cut.place),
    )


def projected(build: Builder, sequence: str, merged: list[str], cut: Cut, size: int, ordered: bool) -> str:
    """(T, batch, D) -> the sums of all gates, (T, batch, 4H), in ONNX's order, without bias."""
    (m1, _), (n1, n2), rank = cut.outputs, cut.inputs, cut.rank
    sums = build.reshape(sequence, 0, 0, n1, n2)
    if cut.right_first:
        sums = build.op("MatMul", sums, merged[0])
        sums = build.op("MatMul", merged[1], build.reshape(sums, 0, 0, n1 * rank, cut.outputs[1]))
    else:
        sums = build.op("MatMul", merged[0], sums)
        sums = build.op("MatMul", build.reshape(sums, 0, 0, m1, rank * n2), merged[1])
    if not ordered:
        sums = build.op("Gather", build.reshape(sums, 0, 0, 4, size), build.integers(*GATES), axis=2)
    return build.reshape(sums, 0, 0, 4 * size)
