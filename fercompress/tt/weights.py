"""One matrix as it is stored: float32 tensors that learn, or int8 codes and float16 scales; as a train's cores, or dense."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.shape import TTShape


class StoredWeight(nn.Module):
    """Tensors of one matrix: float32 parameters that learn, or int8 codes with float16 scales once `quantize_` was called; value = code * scale."""

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
    def codes(self) -> list[Tensor]:
        """int8, as `tensors`"""
        return [self.get_buffer(f"codes_{k}") for k in range(len(self.sizes))]

    @property
    def scales(self) -> list[Tensor]:
        """float16, as `tensors` with the shared axes of size 1"""
        return [self.get_buffer(f"scales_{k}") for k in range(len(self.sizes))]

    def tensors(self) -> list[Tensor]:
        """float32, whatever they are stored in."""
        if self.quantized:
            return [code.float() * scale.float() for code, scale in zip(self.codes, self.scales, strict=True)]
        return list(self.values)

    @property
    def stored_numbers(self) -> int:
        """Numbers that are kept, scales included."""
        return sum(map(math.prod, self.sizes)) + (sum(scale.numel() for scale in self.scales) if self.quantized else 0)

    def quantize_(self) -> None:
        """Round to int8 in place, symmetric around 0."""
        if self.quantized:
            return
        values = self._before_rounding()
        self._hold_codes()
        for value, code, scale in zip(values, self.codes, self.scales, strict=True):
            # float16 rounds to nearest, and a scale that came out too small would clip the largest value: one part in 1000 is added first.
            scale.copy_(value.abs().amax(dim=self.shared, keepdim=True) / 127 * 1.001)
            code.copy_((value / scale.float().clamp_min(torch.finfo(torch.float16).tiny)).round().clamp(-127, 127))

    def _before_rounding(self) -> list[Tensor]:
        return [value.detach() for value in self.values]

    def _hold_codes(self) -> None:
        device = self.values[0].device
        self.values = nn.ParameterList()
        for k, size in enumerate(self.sizes):
            scale = tuple(1 if axis in self.shared else length for axis, length in enumerate(size))
            self.register_buffer(f"codes_{k}", torch.zeros(size, dtype=torch.int8, device=device))
            self.register_buffer(f"scales_{k}", torch.zeros(scale, dtype=torch.float16, device=device))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # A state saved after quantization loads into a layer that was just made.
        if f"{prefix}codes_0" in state_dict and not self.quantized:
            self._hold_codes()
        super()._load_from_state_dict(state_dict, prefix, *rest)


class TTWeight(StoredWeight):
    """A matrix as a train; core k is (r[k], outputs[k], inputs[k], r[k + 1]), quantized with one scale per (output, input) slice."""

    def __init__(self, shape: TTShape, cores: list[Tensor]) -> None:
        if (given := train.shape_of(cores)) != shape:
            raise ShapeError(f"the cores have {given}, not {shape}")
        super().__init__(cores, shared=(0, 3))
        self.shape = shape

    def dense(self) -> Tensor:
        """The matrix, float32 (rows, columns)."""
        return train.to_dense(self.tensors())

    def _before_rounding(self) -> list[Tensor]:
        # Rank indices that carry equal weight share a scale well: with the gauge moved, the error is 3-8 times smaller.
        return train.symmetric_gauge(list(self.values))


class DenseWeight(StoredWeight):
    """A matrix that stays dense beside one in TT form, quantized with one scale per row."""

    def __init__(self, value: Tensor) -> None:
        super().__init__([value], shared=(1,))

    def dense(self) -> Tensor:
        """The matrix, float32 (rows, columns)."""
        return self.tensors()[0]
