"""The shape of a tensor train: the factors of a matrix's two sides and the rank at every bond."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fercompress.errors import ShapeError


@dataclass(frozen=True)
class TTShape:
    """A (rows, columns) matrix as d cores; core k has shape (ranks[k], outputs[k], inputs[k], ranks[k + 1]).

    outputs: factors of the rows, first is slowest; inputs: factors of the columns; ranks: d + 1 numbers, both ends 1
    padded_rows, padded_columns: how many of the rows and columns that the factors multiply to are behind the matrix's own, and cut off
    raises: ShapeError if a factor is below 1, the lengths differ, or a rank is below 1 or above the largest that the bond can use
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    ranks: tuple[int, ...]
    padded_rows: int = 0
    padded_columns: int = 0

    def __post_init__(self) -> None:
        if not self.outputs or len(self.outputs) != len(self.inputs):
            raise ShapeError(f"a train needs as many output as input factors and at least one, got outputs {self.outputs} and inputs {self.inputs}")
        for side, factors in (("output", self.outputs), ("input", self.inputs)):
            for place, factor in enumerate(factors):
                if factor < 1:
                    raise ShapeError(f"{side} factor {place} is {factor}: every factor of {factors} must be at least 1")
        if len(self.ranks) != len(self.outputs) + 1:
            raise ShapeError(f"{len(self.outputs)} cores have {len(self.outputs) + 1} ranks (both ends 1 included), got {self.ranks}")
        if self.ranks[0] != 1 or self.ranks[-1] != 1:
            raise ShapeError(f"the first and the last rank of a train must be 1, got {self.ranks}")
        for bond, (rank, largest) in enumerate(zip(self.ranks, max_ranks(self.outputs, self.inputs), strict=True)):
            if not 1 <= rank <= largest:
                raise ShapeError(f"rank {rank} at bond {bond} of outputs {self.outputs} and inputs {self.inputs}: it must be from 1 to {largest}")
        for bond, (left, output, size, right) in enumerate(self.cores):
            if right > left * output * size or left > right * output * size:
                raise ShapeError(f"ranks {left} and {right} around core {bond} ({output} x {size}): one is above {output * size} times the other")
        for side, padded, factors in (("rows", self.padded_rows, self.outputs), ("columns", self.padded_columns, self.inputs)):
            if not 0 <= padded < math.prod(factors):
                raise ShapeError(f"{padded} padded {side} of {math.prod(factors)}: it must be from 0 to {math.prod(factors) - 1}")

    @classmethod
    def uniform(cls, outputs: Sequence[int], inputs: Sequence[int], rank: int, padded_rows: int = 0, padded_columns: int = 0) -> TTShape:
        """The same rank at every inner bond; at a bond that cannot use as much it is an error, never a silent clip."""
        return cls(tuple(outputs), tuple(inputs), (1, *[rank] * (len(outputs) - 1), 1), padded_rows, padded_columns)

    @property
    def rows(self) -> int:
        """The matrix's own, without padding."""
        return math.prod(self.outputs) - self.padded_rows

    @property
    def columns(self) -> int:
        """The matrix's own, without padding."""
        return math.prod(self.inputs) - self.padded_columns

    @property
    def padding(self) -> int:
        """Entries of the padded matrix that the matrix itself does not have."""
        return math.prod(self.outputs) * math.prod(self.inputs) - self.rows * self.columns

    @property
    def cores(self) -> tuple[tuple[int, int, int, int], ...]:
        return tuple(zip(self.ranks[:-1], self.outputs, self.inputs, self.ranks[1:], strict=True))

    @property
    def params(self) -> int:
        """Numbers that the cores hold."""
        return sum(math.prod(core) for core in self.cores)

    def stored_bytes(self, bits: int = 32) -> int:
        """Bytes of the cores as `TTWeight` stores them: 8 or 4 bits add a float16 scale per (output, input) slice of a core."""
        if bits == 32:
            return 4 * self.params
        scales = sum(output * size for output, size in zip(self.outputs, self.inputs, strict=True))
        return sum(math.ceil(math.prod(core) * bits / 8) for core in self.cores) + 2 * scales

    @property
    def asymmetric(self) -> bool:
        """Whether the last core carries no output factor: it is then one projection of the input, and the rest a small dense matrix."""
        return len(self.outputs) > 1 and self.outputs[-1] == 1


def max_ranks(outputs: Sequence[int], inputs: Sequence[int]) -> tuple[int, ...]:
    """The largest useful rank per bond: the smaller side of the unfolding there (Oseledets 2011, sec. 2). d + 1 numbers."""
    sizes = [output * size for output, size in zip(outputs, inputs, strict=True)]
    left = list(itertools.accumulate(sizes, initial=1, func=lambda a, b: a * b))
    return tuple(min(part, left[-1] // part) for part in left)


def asymmetric(rows: int, columns: int, rank: int, last: int | None = None) -> TTShape:
    """Three cores; the last carries one big input factor and no output, the first two carry all rows. Never padded: a prime is a factor too.

    last: the last core's input factor, a divisor of columns (a feature map's channels);
        None: the divisor nearest to the root of columns that can carry `rank`
    raises: ShapeError
    """
    if last is None:
        usable = [divisor for divisor in _divisors(columns) if divisor >= rank]
        last = min(usable or [columns], key=lambda divisor: abs(math.log(divisor / math.sqrt(columns))))
    if last < 1 or columns % last:
        raise ShapeError(f"the last input factor {last} does not divide {columns}")
    return TTShape.uniform((*factors(rows, 2), 1), (*factors(columns // last, 2), last), rank)


def balanced(rows: int, columns: int, rank: int, cores: int = 4) -> TTShape:
    """`cores` cores with output and input factors of similar size each; padded where a side's primes allow no such factors. raises: ShapeError"""
    outputs, inputs = similar_factors(rows, cores), similar_factors(columns, cores)
    return TTShape.uniform(outputs, inputs, rank, math.prod(outputs) - rows, math.prod(inputs) - columns)


def similar_factors(number: int, count: int) -> tuple[int, ...]:
    """`count` factors of `number`, or of the next larger number that has some of similar size: similar_factors(1021, 4) multiply to 1024.

    Similar: the largest is at most 3 times the `count`-th root, or at most 16, where padding would cost about what it saves.
    raises: ShapeError if number or count is below 1
    """
    if number < 1 or count < 1:
        raise ShapeError(f"cannot split {number} into {count} factors: both must be at least 1")
    limit = max(16.0, 3 * number ** (1 / count)) if count > 1 else math.inf
    padded = number
    while max(found := factors(padded, count)) > limit:
        padded += 1
    return found


def factors(number: int, count: int) -> tuple[int, ...]:
    """`count` factors of `number`, as equal as its primes allow, largest first where they differ: factors(1024, 2) == (32, 32).

    raises: ShapeError if number or count is below 1
    """
    if number < 1 or count < 1:
        raise ShapeError(f"cannot split {number} into {count} factors: both must be at least 1")
    if count == 1:
        return (number,)
    root = number ** (1 / count)
    first = min((divisor for divisor in _divisors(number) if divisor >= root - 1e-9), default=number)
    return (first, *factors(number // first, count - 1))


def checked(rows: int, columns: int, outputs: Sequence[int], inputs: Sequence[int], rank: int) -> TTShape:
    """Factors that a user gave, against the matrix that they must multiply to. raises: ShapeError"""
    for side, given, wanted in (("output", outputs, rows), ("input", inputs, columns)):
        if math.prod(given) != wanted:
            raise ShapeError(f"{side} factors {tuple(given)} multiply to {math.prod(given)}, but the layer has {wanted} {side}s")
    return TTShape.uniform(outputs, inputs, rank)


def _divisors(number: int) -> list[int]:
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return sorted({*small, *(number // divisor for divisor in small)})
