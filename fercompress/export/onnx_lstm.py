"""A layer of a `TTLSTM` as stock ONNX operators: the file stores the cores, and onnxruntime merges them once, when it loads the file.

Everything that leads from cores to matrices is made of operators that onnxruntime folds when their inputs are constants
(Cast, Mul, Einsum, Reshape, ...; not DequantizeLinear). int8 cores run through `com.microsoft.DynamicQuantizeLSTM`, whose int8 weights and
scales are computed by the same folding.

Three executions, apart from how the layer is stored:
"dense"       the merged matrix is the LSTM operator's own
"asymmetric"  the last core projects the features, the other cores are the weights of a small LSTM operator
"two-gemm"    all steps' projections by two products with the merged halves of the train (`onnx_two_gemm`), then the recurrence (`onnx_recurrence`)
"""

from __future__ import annotations

import math

import onnx

from fercompress.errors import ModelError
from fercompress.export import onnx_two_gemm
from fercompress.export.onnx_build import OPSET, Builder
from fercompress.export.onnx_recurrence import lstm_operator, recurrence
from fercompress.export.onnx_train import GATES, Matrix, matrices
from fercompress.tt.lstm import TTLSTMLayer
from fercompress.tt.plan import ONNXRUNTIME, Candidate, Plan
from fercompress.tt.weights import TTWeight

EXECUTIONS = ("dense", "two-gemm", "asymmetric")
# Before this opset a file is for converters that know plain operators only and fold nothing: matrices are stored merged, in float32.
_FOLDABLE_FROM = 13


def plan_of(layer: TTLSTMLayer, steps: int, batch: int = 1) -> Plan | None:
    """How the layer's input train may run in onnxruntime, cheapest first; None where that matrix is dense.

    A padded train runs merged: its halves would have to be cropped in the middle of a product.
    """
    if not isinstance(layer.input, TTWeight):
        return None
    plan = Plan.for_lstm(layer.input.shape, steps, batch, bits=layer.input.bits, costs=ONNXRUNTIME)
    if layer.input.shape.padding:
        return Plan(tuple(candidate for candidate in plan.candidates if candidate.execution == "dense"), plan.source)
    return plan


def _candidate(layer: TTLSTMLayer, execution: str | None, steps: int, batch: int) -> Candidate | None:
    """The cheapest of its plan, or the cheapest that runs as wished; None for a dense matrix. raises: ModelError"""
    if execution is not None and execution not in EXECUTIONS:
        raise ModelError(f"no execution is called {execution!r}: choose one of {', '.join(EXECUTIONS)}")
    plan = plan_of(layer, steps, batch)
    usable = [] if plan is None else [candidate for candidate in plan.candidates if execution in (None, candidate.execution)]
    if usable:
        return usable[0]
    if execution in (None, "dense"):
        return None
    assert execution is not None
    stored = f"a train of outputs {layer.input.shape.outputs}" if isinstance(layer.input, TTWeight) else "a dense matrix"
    needs = {"asymmetric": "an asymmetric train", "two-gemm": "a train without padding, of two cores at least"}[execution]
    raise ModelError(f"execution {execution!r} needs {needs}, but the layer's input-to-hidden matrix is {stored}: choose 'dense'")


def lstm_nodes(
    layer: TTLSTMLayer,
    dense: onnx.NodeProto,
    execution: str | None = None,
    *,
    steps: int,
    opset: int = OPSET,
    batch: int = 1,
    prefix: str = "tt_",
    clips_first: str | None = None,
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes and constants that stand in for `dense`, the LSTM operator of the layer's dense twin: same sequence, initial state and outputs.

    execution: one of `EXECUTIONS`; None: what `plan_of` finds cheapest
    steps, batch: of the sequence; prefix: of the new tensors' names
    clips_first: the same sequence as (batch, steps, columns), where there is one: of several clips the few numbers of an asymmetric projection are
        put in order, not all that is projected
    raises: ModelError for an execution that the layer's train does not allow
    """
    candidate = _candidate(layer, execution, steps, batch)
    execution = "dense" if candidate is None else candidate.execution
    plain = opset < _FOLDABLE_FROM
    build = Builder(prefix, OPSET if plain else opset)
    int8 = layer.quantized and not plain
    matrix, hidden_matrix, bias = matrices(build, layer)
    size = layer.hidden_size
    projections: list[str] = []
    cut = None
    if execution == "two-gemm":
        assert isinstance(layer.input, TTWeight)
        assert candidate is not None
        cut = onnx_two_gemm.Cut.of(layer.input.shape, candidate)
        projections = list(onnx_two_gemm.halves(build, matrix, cut))
        w = ""
    elif execution == "asymmetric":
        last = len(matrix.cores) - 1
        inputs, rank = matrix.inputs[-1], matrix.ranks[-2]
        projections = [matrix.merged(build, "il", inputs, rank, first=last)]
        w = _weight(build, matrix, size, layer.input_size // inputs * rank, int8, last)
    else:
        w = _weight(build, matrix, size, layer.input_size, int8)
    r = _weight(build, hidden_matrix, size, size, int8)
    w_scale = r_scale = ""
    if int8:
        r, r_scale = _int8(build, r, layer.kernel_bits)
        if w:
            w, w_scale = _int8(build, w, layer.kernel_bits)
    if plain:
        # The file never sees what led here, so that its opset may lack it.
        fixed = build.folded([name for name in (*projections, w, r, bias) if name])
        projections = [fixed[name] for name in projections]
        w, r, bias = (fixed.get(name, "") for name in (w, r, bias))
        build.opset = opset

    sequence, *_, state_h, state_c = [*dense.input, "", "", ""][:7]
    # The operator wants a second bias, which is zero.
    bias = bias and build.op("Pad", build.reshape(bias, 1, 4 * size), build.integers(0, 0, 0, 4 * size))
    outputs, state = list(dense.output), (state_h, state_c)
    if cut is not None:
        sums = onnx_two_gemm.projected(build, sequence, projections, cut, size, matrix.ordered)
        node = recurrence(build, sums, steps, batch, (r, r_scale), bias, state, outputs, size)
    else:
        if execution == "asymmetric":
            outer = layer.input_size // matrix.inputs[-1]
            given = sequence if clips_first is None or batch == 1 else clips_first
            projected = build.op("MatMul", build.reshape(given, 0, 0, outer, matrix.inputs[-1]), projections[0])
            projected = build.reshape(projected, 0, 0, outer * matrix.ranks[-2])
            sequence = projected if given == sequence else build.op("Transpose", projected, perm=[1, 0, 2])
        node = lstm_operator(build, (sequence, w, r, bias, *state), (w_scale, r_scale), outputs, size)
    return [*build.nodes, node], build.initializers


def _weight(build: Builder, matrix: Matrix, size: int, columns: int, by_columns: bool, last: int | None = None) -> str:
    """The cores up to `last` as the operator wants them: (1, 4H, columns), or (1, columns, 4H) for int8; the rank behind them counts as an input."""
    axes, shape, rows = ("iro", (1, columns, 4 * size), 2) if by_columns else ("oir", (1, 4 * size, columns), 1)
    described = [1, math.prod(matrix.inputs[:last]) * (matrix.ranks[last] if last else 1)]
    described.insert(rows, math.prod(matrix.outputs[:last]))
    merged = matrix.merged(build, axes, *described, last=last)
    if tuple(described) != shape:  # a padded train
        merged = build.op("Slice", merged, build.integers(0, 0, 0), build.integers(*shape))
    return merged if matrix.ordered else _gather(build, merged, rows, shape)


def _gather(build: Builder, tensor: str, axis: int, shape: tuple[int, ...]) -> str:
    """`tensor`, of the given shape, with the gates along `axis` put into ONNX's order: for trains whose first core cannot be stored so."""
    gates = build.reshape(tensor, *shape[:axis], 4, shape[axis] // 4, *shape[axis + 1 :])
    return build.reshape(build.op("Gather", gates, build.integers(*GATES), axis=axis), *shape)


def _int8(build: Builder, matrix: str, bits: int) -> tuple[str, str]:
    """(1, columns, 4H) float32 -> the same in int8, and one scale per row of the layer's matrix, (1, 4H)."""
    largest = build.op("ReduceMax", build.op("Abs", matrix), axes=[1], keepdims=0)
    # A row of zeros must not be divided by zero.
    scale = build.op("Div", build.op("Max", largest, build.number(1e-12)), build.number(2 ** (bits - 1) - 1))
    return build.cast(build.op("Round", build.op("Div", matrix, scale)), onnx.TensorProto.INT8), scale
