"""An LSTM that stores its matrices as tensor trains: `TTLSTM` is called as `nn.LSTM` is, and keeps its state as it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fercompress.errors import ModelError, ShapeError
from fercompress.tt.lstm import TTLSTMLayer
from fercompress.tt.shape import TTShape

LayerShapes = tuple[TTShape | None, TTShape | None]  # of the input-to-hidden and the hidden-to-hidden matrix; None: dense


class TTLSTM(TTLSTMLayer):
    """`nn.LSTM` in one direction, of one or more layers, at least one of whose matrices is a train.

    It is its own first layer, which reads the features: `input`, `hidden`, `bias`, `plan`, `execution`, ... are that layer's. The layers above
    it, which read the states of the one below, are in `deeper`; `layers` has them all.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        input_shape: TTShape | None,
        hidden_shape: TTShape | None,
        *,
        deeper: Sequence[LayerShapes] = (),
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
    ) -> None:
        """A random start, see `TTLSTMLayer`.

        deeper: the trains of every layer above the first, whose input-to-hidden matrix is (4H, H)
        dropout: the share of every layer's states, but the last one's, that are dropped in training
        raises: ShapeError, ModelError for a dropout outside 0 to 1
        """
        if all(shape is None for pair in ((input_shape, hidden_shape), *deeper) for shape in pair):
            raise ShapeError("a TTLSTM needs at least one matrix in tensor-train form: give input_shape, hidden_shape or both")
        if not 0 <= dropout <= 1:
            raise ModelError(f"the dropout of a TTLSTM is a share from 0 to 1, not {dropout:g}")
        super().__init__(input_size, hidden_size, input_shape, hidden_shape, bias=bias, batch_first=batch_first)
        self.dropout = dropout
        self.deeper = nn.ModuleList()
        for place, shapes in enumerate(deeper, 1):
            try:
                self.deeper.append(TTLSTMLayer(hidden_size, hidden_size, *shapes, bias=bias, batch_first=batch_first))
            except ShapeError as error:
                raise ShapeError(f"layer {place}: {error}") from error

    @classmethod
    def from_dense(
        cls,
        lstm: nn.LSTM,
        input_shape: TTShape | None,
        hidden_shape: TTShape | None,
        backend: str = "gram",
        input_moments: Sequence[Tensor] | None = None,
        hidden_moments: Sequence[Tensor] | None = None,
        *,
        deeper: Sequence[LayerShapes] = (),
    ) -> TTLSTM:
        """The TT-SVD of a dense LSTM's matrices.

        input_moments, hidden_moments: of what the first layer reads, features and its own states, from `decompose.input_moments`;
        None, and in all layers above it: all inputs weigh the same
        deeper: the trains of every layer above the first
        raises: ShapeError, ModelError if the LSTM has two directions or a projection
        """
        check_supported(lstm)
        if len(deeper) != lstm.num_layers - 1:
            raise ShapeError(
                f"the LSTM has {lstm.num_layers} layers, but deeper has the trains of {len(deeper)} above the first: give a pair for each of them"
            )
        with torch.random.fork_rng(devices=[]):  # the random start is thrown away: it must not move the caller's random numbers
            layer = cls(
                lstm.input_size, lstm.hidden_size, input_shape, hidden_shape,
                deeper=deeper, bias=bool(lstm.bias), batch_first=lstm.batch_first, dropout=lstm.dropout,
            )  # fmt: skip
        for place, part in enumerate(layer.layers):
            moments = (input_moments, hidden_moments) if place == 0 else (None, None)
            part.decompose_(lstm, place, backend, *moments)
        layer.to(lstm.get_parameter("weight_ih_l0").device).train(lstm.training)
        return layer

    def to_dense(self) -> nn.LSTM:
        """The `nn.LSTM` that computes the same."""
        with torch.random.fork_rng(devices=[]):
            lstm = nn.LSTM(
                self.input_size, self.hidden_size, self.num_layers, bias=self.bias is not None, batch_first=self.batch_first,
                dropout=self.dropout if self.num_layers > 1 else 0.0,  # of one layer it is nothing but a warning
            )  # fmt: skip
        for place, layer in enumerate(self.layers):
            layer.merge_into(lstm, place)
        return lstm.train(self.training)

    @property
    def layers(self) -> tuple[TTLSTMLayer, ...]:
        """From the one that reads the features, which is `self`, up."""
        return (self, *cast("Sequence[TTLSTMLayer]", self.deeper))

    @property
    def num_layers(self) -> int:
        return 1 + len(self.deeper)

    @property
    def stored_numbers(self) -> int:
        """Of all layers."""
        return sum(layer.own_stored_numbers for layer in self.layers)

    def quantize_(self, kernel_bits: int = 8, bits: int = 8) -> None:
        """Round all layers, see `TTLSTMLayer.quantize_`."""
        super().quantize_(kernel_bits, bits)
        for layer in self.layers[1:]:
            layer.quantize_(kernel_bits, bits)

    def forward(self, sequence: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """sequence: float32 (B, T, D), or (T, B, D) without batch_first, or (T, D); state: h and c, (layers, B, H) each, or (layers, H); None: zeros.

        returns: the last layer's hidden states of all steps, like sequence with H last, and every layer's last (h, c), shaped like state
        raises: ModelError for a packed sequence, ShapeError for another number of features or another state
        """
        if not isinstance(sequence, Tensor):
            raise ModelError(f"TTLSTM takes a plain tensor, not {type(sequence).__name__}: pad the sequences to one length instead of packing them")
        if sequence.ndim not in (2, 3) or sequence.shape[-1] != self.input_size:
            raise ShapeError(f"TTLSTM expects (batch, time, {self.input_size}) or (time, {self.input_size}), got {tuple(sequence.shape)}")
        batched = sequence.ndim == 3
        batch = (sequence.shape[0 if self.batch_first else 1],) if batched else ()
        wanted = (self.num_layers, *batch, self.hidden_size)
        if state is None:
            zeros = sequence.new_zeros(wanted)
            state = (zeros, zeros)
        for name, part in zip("hc", state, strict=True):
            if part.shape != wanted:
                raise ShapeError(f"TTLSTM expects the state {name} as {wanted} (layers, batch, hidden units), got {tuple(part.shape)}")
        if not batched:
            sequence = sequence.unsqueeze(0 if self.batch_first else 1)
            state = (state[0].unsqueeze(1), state[1].unsqueeze(1))
        states, last, cells = sequence, [], []
        for place, layer in enumerate(self.layers):
            if place and self.dropout and self.training:
                states = self._dropped(states)
            states, hidden, cell = layer.states(states, (state[0][place : place + 1], state[1][place : place + 1]))
            last.append(hidden)
            cells.append(cell)
        ends = (torch.cat(last), torch.cat(cells)) if self.num_layers > 1 else (last[0], cells[0])
        if batched:
            return states, ends
        return states.squeeze(0 if self.batch_first else 1), (ends[0].squeeze(1), ends[1].squeeze(1))

    def _dropped(self, states: Tensor) -> Tensor:
        # Time first whatever the caller's layout, as nn.LSTM has it: from the same seed the same states are dropped.
        ordered = states.transpose(0, 1) if self.batch_first else states
        dropped = torch.dropout(ordered, self.dropout, train=True)
        return dropped.transpose(0, 1) if self.batch_first else dropped

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", num_layers={self.num_layers}, dropout={self.dropout:g}" if self.num_layers > 1 else "")


def check_supported(lstm: nn.LSTM) -> None:
    """raises: ModelError if tensor trains cannot stand in for this LSTM"""
    for what, found in (
        ("two directions", lstm.bidirectional),
        (f"a projection to {lstm.proj_size} numbers", lstm.proj_size != 0),
    ):
        if found:
            raise ModelError(f"the LSTM has {what}: only one direction and no projection can be put into tensor-train form")
