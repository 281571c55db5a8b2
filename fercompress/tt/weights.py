"""One matrix as it is stored: float32 tensors that learn, or 8- or 4-bit codes and float16 scales; as a train's cores, or dense."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.shape import TTShape

LARGEST_CODE = {8: 127, 4: 7}  # symmetric around 0: the most negative code of two's complement stays unused
SMALLEST_SCALE = 2.0**-24  # the smallest number that float16 holds
# Columns of a dense row that share a scale at 4 bits: a float16 scale per 32 codes of 4 bits makes 4.5 bits a weight.
_GROUP = 32


class StoredWeight(nn.Module):
    """Tensors of one matrix: float32 parameters that learn, or codes with float16 scales once `quantize_` was called.

    Codes are int8 tensors, from -127 to 127 at 8 bits and from -7 to 7 at 4 (two of which fit into a byte of a file); value = code * scale,
    a scale being repeated along its axes to the size of the codes.
    """

    def __init__(self, values: list[Tensor], shared: tuple[int, ...]) -> None:
        """shared: the axes along which a tensor's numbers share one scale"""
        super().__init__()
        self.sizes = [tuple(value.shape) for value in values]
        self.shared = shared
        self.values = nn.ParameterList(value.detach().clone() for value in values)

    @property
    def quantized(self) -> bool:
        return not len(self.values)

    @property
    def bits(self) -> int:
        """Of one stored number: 32, 8 or 4."""
        return int(self.get_buffer("code_bits")) if self.quantized else 32

    @property
    def dtype(self) -> str:
        """Of what is stored, by its name: float32, int8 or int4."""
        return f"int{self.bits}" if self.quantized else "float32"

    @property
    def codes(self) -> list[Tensor]:
        """int8, as `tensors`"""
        return [self.get_buffer(f"codes_{k}") for k in range(len(self.sizes))]

    @property
    def scales(self) -> list[Tensor]:
        """float16, as `tensors` with every axis divided by the numbers along it that share a scale"""
        return [self.get_buffer(f"scales_{k}") for k in range(len(self.sizes))]

    def tensors(self) -> list[Tensor]:
        """float32, whatever they are stored in."""
        if self.quantized:
            return [code.float() * _spread(scale.float(), code.shape) for code, scale in zip(self.codes, self.scales, strict=True)]
        return list(self.values)

    def stored_tensors(self) -> list[Tensor]:
        """What `tensors` is computed from: the parameters, or codes and scales."""
        return [*self.codes, *self.scales] if self.quantized else list(self.values)

    @property
    def stored_numbers(self) -> int:
        """Numbers that are kept, scales included."""
        return sum(map(math.prod, self.sizes)) + (sum(scale.numel() for scale in self.scales) if self.quantized else 0)

    @property
    def stored_bytes(self) -> int:
        """Bytes of what is kept, without the names and sizes around it; 4-bit codes two per byte, a tensor's last byte filled up."""
        codes = sum(math.ceil(math.prod(size) * self.bits / 8) for size in self.sizes)
        return codes + (sum(2 * scale.numel() for scale in self.scales) if self.quantized else 0)

    def quantize_(self, bits: int = 8) -> None:
        """Round in place to `bits` (8 or 4), symmetric around 0; what was rounded before stays as it is.

        raises: ShapeError for another number of bits
        """
        if bits not in LARGEST_CODE:
            raise ShapeError(f"a weight cannot be stored in {bits} bits: choose one of {', '.join(map(str, LARGEST_CODE))}")
        if self.quantized:
            return
        values = self._before_rounding()
        self._hold_codes(bits)
        for value, code, scale in zip(values, self.codes, self.scales, strict=True):
            # float16 rounds to nearest, and a scale that came out too small would clip the largest value: one part in 1000 is added first.
            # A code belongs to the scale as it is stored, which is never below float16's smallest number.
            scale.copy_((_largest(value, scale.shape) / LARGEST_CODE[bits] * 1.001).clamp_min(SMALLEST_SCALE))
            step = _spread(scale.float(), value.shape)
            code.copy_((value / step).round().clamp(-LARGEST_CODE[bits], LARGEST_CODE[bits]))

    def _before_rounding(self) -> list[Tensor]:
        return [value.detach() for value in self.values]

    def _scale_size(self, size: tuple[int, ...], bits: int) -> tuple[int, ...]:  # noqa: ARG002  (a dense weight asks for the bits)
        return tuple(1 if axis in self.shared else length for axis, length in enumerate(size))

    def _hold_codes(self, bits: int) -> None:
        device = self.codes[0].device if self.quantized else self.values[0].device
        self.values = nn.ParameterList()
        self.register_buffer("code_bits", torch.tensor(bits, dtype=torch.uint8, device=device))
        for k, size in enumerate(self.sizes):
            self.register_buffer(f"codes_{k}", torch.zeros(size, dtype=torch.int8, device=device))
            self.register_buffer(f"scales_{k}", torch.zeros(self._scale_size(size, bits), dtype=torch.float16, device=device))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # A state saved after quantization loads into a layer that was just made, and one of 4 bits into one of 8.
        if f"{prefix}codes_0" in state_dict:
            bits = int(state_dict.setdefault(f"{prefix}code_bits", torch.tensor(8, dtype=torch.uint8)))  # states of version 0.1 are all of 8 bits
            if bits != self.bits:
                self._hold_codes(bits)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class TTWeight(StoredWeight):
    """A matrix as a train; core k is (r[k], outputs[k], inputs[k], r[k + 1]), quantized with one scale per (output, input) slice."""

    def __init__(self, shape: TTShape, cores: list[Tensor]) -> None:
        if (given := train.shape_of(cores)).cores != shape.cores:
            raise ShapeError(f"the cores have {given}, not {shape}")
        super().__init__(cores, shared=(0, 3))
        self.shape = shape

    def dense(self) -> Tensor:
        """The matrix, float32 (rows, columns), without the train's padding."""
        return train.to_dense(self.tensors())[: self.shape.rows, : self.shape.columns]

    @property
    def padding(self) -> int:
        """Entries that the cores describe and the matrix does not have."""
        return self.shape.padding

    @property
    def description(self) -> dict[str, Any]:
        """How the matrix is stored, for a manifest."""
        shape = self.shape
        layout = "asymmetric" if shape.asymmetric else "balanced"
        described = {"storage": f"{layout} tensor train, {self.dtype} cores", "outputs": list(shape.outputs), "inputs": list(shape.inputs)}
        return {**described, "ranks": list(shape.ranks), **({"padding": shape.padding} if shape.padding else {})}

    def _before_rounding(self) -> list[Tensor]:
        # Rank indices that carry equal weight share a scale well: with the gauge moved, the error is 3-8 times smaller.
        return train.symmetric_gauge(list(self.values))


class DenseWeight(StoredWeight):
    """A matrix that stays dense beside one in TT form: one scale per row at 8 bits, per row and group of columns at 4."""

    def __init__(self, value: Tensor) -> None:
        super().__init__([value], shared=(1,))

    def dense(self) -> Tensor:
        """The matrix, float32 (rows, columns)."""
        return self.tensors()[0]

    @property
    def description(self) -> dict[str, Any]:
        """How the matrix is stored, for a manifest."""
        return {"storage": f"dense, {self.dtype}", "shape": list(self.sizes[0])}

    def _scale_size(self, size: tuple[int, ...], bits: int) -> tuple[int, ...]:
        rows, columns = size
        return (rows, 1 if bits == 8 else columns // group_columns(columns))


def group_columns(columns: int) -> int:
    """How many neighbouring columns share a 4-bit scale: the divisor from 16 to 64 nearest to 32, or the whole row where there is none."""
    fitting = [size for size in range(_GROUP // 2, 2 * _GROUP + 1) if columns % size == 0]
    return min(fitting, key=lambda size: abs(math.log(size / _GROUP)), default=columns)


def _spread(scale: Tensor, size: tuple[int, ...]) -> Tensor:
    """Every scale beside the numbers that share it: axes that hold fewer scales than numbers are repeated."""
    for axis, (scales, numbers) in enumerate(zip(scale.shape, size, strict=True)):
        if scales not in (1, numbers):
            scale = scale.repeat_interleave(numbers // scales, axis)
    return scale


def _largest(value: Tensor, size: tuple[int, ...]) -> Tensor:
    """The largest absolute value of the numbers that share a scale; `size` is the scales'."""
    split = [length for scales, numbers in zip(size, value.shape, strict=True) for length in (scales, numbers // scales)]
    return value.abs().reshape(split).amax(dim=tuple(range(1, len(split), 2)))
