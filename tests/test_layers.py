import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fercompress.errors import ModelError, ShapeError
from fercompress.tt.decompose import input_moments
from fercompress.tt.layers import TTLSTM
from fercompress.tt.place import only_lstm
from fercompress.tt.plan import Plan
from fercompress.tt.shape import TTShape, asymmetric, balanced
from fercompress.tt.weights import TTWeight

INPUT, HIDDEN = 48, 16
SHAPES = {
    "asymmetric, both": (asymmetric(64, 48, 4, last=12), asymmetric(64, 16, 4)),
    "balanced, both": (balanced(64, 48, 3, cores=3), balanced(64, 16, 3, cores=3)),
    "input only": (asymmetric(64, 48, 4, last=12), None),
    "hidden only": (None, asymmetric(64, 16, 4)),
}


@pytest.fixture(params=sorted(SHAPES))
def layer(request: pytest.FixtureRequest) -> TTLSTM:
    torch.manual_seed(0)
    return TTLSTM(INPUT, HIDDEN, *SHAPES[request.param], batch_first=True)


def test_outputs_and_state_equal_the_dense_twins(layer: TTLSTM) -> None:
    sequence, state = torch.randn(3, 7, INPUT), (torch.randn(1, 3, HIDDEN), torch.randn(1, 3, HIDDEN))
    twin = layer.to_dense()
    for arguments in ((sequence,), (sequence, state)):
        states, (hidden, cell) = layer(*arguments)
        wanted, (wanted_hidden, wanted_cell) = twin(*arguments)
        torch.testing.assert_close(states, wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(hidden, wanted_hidden, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(cell, wanted_cell, rtol=1e-5, atol=1e-6)


def test_a_carried_state_continues_a_sequence_as_if_it_was_never_cut(layer: TTLSTM) -> None:
    sequence = torch.randn(2, 6, INPUT)
    whole, last = layer(sequence)
    first, state = layer(sequence[:, :4])
    second, final = layer(sequence[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(final, last)


@pytest.mark.parametrize("batch_first", [True, False])
def test_batch_first_and_unbatched_calls_behave_as_nn_lstm(batch_first: bool) -> None:
    torch.manual_seed(1)
    layer = TTLSTM(INPUT, HIDDEN, *SHAPES["asymmetric, both"], batch_first=batch_first)
    twin = layer.to_dense()
    for sequence in (torch.randn(5, 3, INPUT), torch.randn(5, INPUT)):
        torch.testing.assert_close(layer(sequence), twin(sequence), rtol=1e-5, atol=1e-6)
    state = (torch.randn(1, HIDDEN), torch.randn(1, HIDDEN))
    torch.testing.assert_close(layer(sequence, state), twin(sequence, state), rtol=1e-5, atol=1e-6)


def test_full_ranks_reproduce_a_dense_lstm() -> None:
    dense = nn.LSTM(12, 4, batch_first=True)
    layer = TTLSTM.from_dense(dense, TTShape((4, 4, 1), (2, 2, 3), (1, 8, 3, 1)), TTShape((4, 4), (2, 2), (1, 8, 1)))
    sequence = torch.randn(2, 5, 12)
    torch.testing.assert_close(layer(sequence), dense(sequence), rtol=1e-5, atol=1e-5)


def test_the_part_that_is_not_in_tt_form_stays_the_teachers() -> None:
    dense = nn.LSTM(INPUT, HIDDEN, batch_first=True)
    layer = TTLSTM.from_dense(dense, SHAPES["input only"][0], None)
    assert torch.equal(layer.hidden.dense(), dense.weight_hh_l0)


def test_decomposing_moves_no_random_numbers() -> None:
    dense = nn.LSTM(INPUT, HIDDEN)
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    TTLSTM.from_dense(dense, *SHAPES["asymmetric, both"]).to_dense()
    assert torch.equal(torch.rand(1), wanted)


def test_every_parameter_gets_the_gradient_of_its_dense_twin(layer: TTLSTM) -> None:
    sequence = torch.randn(3, 7, INPUT)
    layer(sequence)[0].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
    twin = layer.to_dense()
    twin(sequence)[0].square().sum().backward()
    torch.testing.assert_close(layer.bias.grad, twin.bias_ih_l0.grad, rtol=1e-4, atol=1e-5)


def test_the_gradient_through_the_merge_is_right() -> None:
    torch.manual_seed(0)
    layer = TTLSTM(6, 2, asymmetric(8, 6, 2, last=3), asymmetric(8, 2, 2), batch_first=True).double()
    sequence = torch.randn(2, 3, 6, dtype=torch.float64)
    names = [name for name, _ in layer.named_parameters()]

    def run(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (sequence,))[0]

    assert torch.autograd.gradcheck(run, [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()])


def test_a_random_start_gives_gates_of_about_variance_one() -> None:
    torch.manual_seed(0)
    layer = TTLSTM(1024, 64, asymmetric(256, 1024, 4, last=64), asymmetric(256, 64, 4), batch_first=True)
    gates = torch.randn(200, 1024) @ layer.input.dense().detach().T
    assert 0.4 < float(gates.var()) < 2.5


@pytest.mark.parametrize("quantized", [False, True])
def test_a_state_dict_goes_into_a_fresh_layer(layer: TTLSTM, quantized: bool) -> None:
    if quantized:
        layer.quantize_()
    shapes = [weight.shape if isinstance(weight, TTWeight) else None for weight in (layer.input, layer.hidden)]
    fresh = TTLSTM(INPUT, HIDDEN, *shapes, batch_first=True)
    fresh.load_state_dict(layer.state_dict())
    sequence = torch.randn(2, 5, INPUT)
    assert torch.equal(fresh(sequence)[0], layer(sequence)[0])
    assert fresh.quantized is quantized


def test_int8_cores_are_within_a_percent_and_count_their_scales(layer: TTLSTM) -> None:
    before = [layer.input.dense().detach(), layer.hidden.dense().detach()]
    layer.quantize_()
    for wanted, weight in zip(before, (layer.input, layer.hidden), strict=True):
        assert float((weight.dense() - wanted).norm() / wanted.norm()) < 0.015
        assert all(code.dtype == torch.int8 for code in weight.codes)
        assert weight.stored_numbers == sum(code.numel() for code in weight.codes) + sum(scale.numel() for scale in weight.scales)


def test_no_weight_is_pruned_by_rounding() -> None:
    torch.manual_seed(0)
    layer = TTLSTM(INPUT, HIDDEN, *SHAPES["asymmetric, both"])
    layer.quantize_()
    nonzero = torch.cat([(code != 0).flatten() for code in layer.input.codes]).double().mean()
    assert float(nonzero) > 0.97


@pytest.mark.parametrize(
    ("shape", "execution"), [(asymmetric(512, 2048, 4, last=128), "asymmetric"), (balanced(512, 2048, 4), "two-gemm"), (None, "dense")]
)
def test_the_execution_is_named(shape: TTShape | None, execution: str) -> None:
    layer = TTLSTM(2048, 128, shape, asymmetric(512, 128, 4))
    assert layer.execution.partition(":")[0] == execution


def test_what_is_tiny_is_merged_whatever_its_layout() -> None:
    assert {TTLSTM(INPUT, HIDDEN, *shapes).execution.partition(":")[0] for shapes in SHAPES.values()} == {"dense"}


BIG = {"asymmetric": asymmetric(64, 1536, 4, last=128), "balanced": balanced(64, 1536, 3, cores=3)}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", sorted(BIG))
def test_every_execution_equals_the_dense_twin_with_its_gradients(name: str, bias: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    layer = TTLSTM(1536, 16, BIG[name], None, bias=bias, batch_first=batch_first)
    twin = layer.to_dense()
    sequence, state = torch.randn(3, 4, 1536), tuple(torch.randn(1, 3 if batch_first else 4, 16) for _ in range(2))
    wanted = twin(sequence, state)
    wanted[0].square().sum().backward()
    plan = layer.plan(4, 3)
    assert {candidate.execution for candidate in plan.candidates} >= {"dense", "two-gemm"}
    for candidate in plan.candidates:
        layer.fixed_plan = Plan((candidate,), "chosen by a test")
        layer.zero_grad()
        made = layer(sequence, state)
        torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-5)
        made[0].square().sum().backward()
        torch.testing.assert_close(layer.hidden.values[0].grad, twin.weight_hh_l0.grad, rtol=1e-3, atol=1e-4)
        assert all(value.grad.abs().sum() > 0 for value in layer.input.values)
        with torch.no_grad():
            for _ in range(2):  # merged, and from what was kept
                torch.testing.assert_close(layer(sequence, state), wanted, rtol=1e-4, atol=1e-5)


def test_what_was_merged_follows_an_optimiser_and_rounding() -> None:
    torch.manual_seed(0)
    layer = TTLSTM(1536, 16, BIG["balanced"], asymmetric(64, 16, 4), batch_first=True)
    sequence = torch.randn(2, 5, 1536)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)

    def outputs() -> torch.Tensor:
        with torch.no_grad():
            states = layer(sequence)[0]
            torch.testing.assert_close(states, layer.to_dense()(sequence)[0], rtol=1e-4, atol=1e-5)
        return states

    seen = [outputs()]
    layer(sequence)[0].square().mean().backward()
    optimiser.step()
    seen.append(outputs())
    layer.quantize_(bits=4)
    seen.append(outputs())
    assert layer.bits == 4
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_a_plan_can_be_measured_and_only_for_a_train() -> None:
    layer = TTLSTM(INPUT, HIDDEN, *SHAPES["balanced, both"])
    for training in (False, True):
        plan = layer.measured_plan(4, 2, training=training, rounds=1)
        assert len(plan.candidates) == len(layer.plan(4, 2).candidates)
    with pytest.raises(ShapeError, match="is dense"):
        TTLSTM(INPUT, HIDDEN, *SHAPES["hidden only"]).measured_plan(4)


def test_padded_trains_equal_their_dense_twin() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(1021, 67, batch_first=True)
    layer = TTLSTM.from_dense(lstm, balanced(268, 1021, 4), balanced(268, 67, 4, cores=3))
    assert layer.description["input"]["padding"] == layer.input.padding > 0
    sequence = torch.randn(2, 5, 1021)
    for candidate in layer.plan(5, 2).candidates:
        layer.fixed_plan = Plan((candidate,), "chosen by a test")
        torch.testing.assert_close(layer(sequence), layer.to_dense()(sequence), rtol=1e-4, atol=1e-5)


def test_knowing_the_inputs_makes_a_decomposed_lstms_gates_better() -> None:
    torch.manual_seed(0)
    shape = balanced(64, 48, 3, cores=3)
    scales = [0.3 ** torch.arange(float(size)) for size in shape.inputs]
    samples = torch.randn(500, 48) * torch.kron(torch.kron(scales[0], scales[1]), scales[2])
    lstm = nn.LSTM(48, 16)
    wanted = samples @ lstm.weight_ih_l0.detach().T
    error = [
        float((samples @ TTLSTM.from_dense(lstm, shape, None, input_moments=moments).input.dense().detach().T - wanted).norm())
        for moments in (input_moments(samples, shape.inputs), None)
    ]
    assert error[0] < 0.9 * error[1]


def test_a_packed_sequence_gets_a_clear_error(layer: TTLSTM) -> None:
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(2, 5, INPUT), torch.tensor([5, 3]), batch_first=True)
    with pytest.raises(ModelError, match="PackedSequence: pad the sequences"):
        layer(packed)


def test_another_number_of_features_gets_a_clear_error(layer: TTLSTM) -> None:
    with pytest.raises(ShapeError, match=r"expects \(batch, time, 48\).* got \(2, 5, 47\)"):
        layer(torch.zeros(2, 5, 47))


@pytest.mark.parametrize(("arguments", "message"), [({"bidirectional": True}, "two directions"), ({"proj_size": 3}, "projection to 3")])
def test_an_lstm_that_cannot_be_replaced_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        TTLSTM.from_dense(nn.LSTM(INPUT, HIDDEN, **arguments), *SHAPES["asymmetric, both"])


def test_shapes_of_another_layer_are_refused_and_the_matrix_is_named() -> None:
    with pytest.raises(ShapeError, match=r"hidden-to-hidden matrix is \(64, 16\)"):
        TTLSTM(INPUT, HIDDEN, None, asymmetric(64, 32, 2))
    with pytest.raises(ShapeError, match="at least one matrix"):
        TTLSTM(INPUT, HIDDEN, None, None)


def test_the_one_lstm_of_a_model_is_found_by_name_and_others_are_refused() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ModuleDict({"rnn": nn.LSTM(2, 2)})})
    assert only_lstm(model)[0] == "b.rnn"
    with pytest.raises(ModelError, match="found 0"):
        only_lstm(nn.Linear(2, 2))
    with pytest.raises(ModelError, match=r"found 2 \('0', '1'\)"):
        only_lstm(nn.Sequential(nn.LSTM(2, 2), nn.LSTM(2, 2)))


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 6)),
    st.integers(1, 9),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 4),
    st.booleans(),
)
def test_any_shape_equals_its_dense_twin(modes: tuple[int, int, int], hidden: int, rank: int, batch: int, steps: int, bias: bool) -> None:
    height, width, channels = modes
    size = height * width * channels
    layer = TTLSTM(size, hidden, asymmetric(4 * hidden, size, rank, last=channels), None, bias=bias, batch_first=True)
    sequence = torch.randn(batch, steps, size)
    torch.testing.assert_close(layer(sequence), layer.to_dense()(sequence), rtol=1e-4, atol=1e-5)


FULL = (TTShape((4, 4, 1), (2, 2, 3), (1, 8, 3, 1)), TTShape((4, 4), (2, 2), (1, 8, 1)))  # of an LSTM of 12 features and 4 units, as are these:
FULL_DEEPER = (TTShape((4, 4), (2, 2), (1, 8, 1)), TTShape((4, 4), (2, 2), (1, 8, 1)))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_at_full_ranks_it_is_a_drop_in_for_nn_lstm_of_any_number_of_layers(layers: int, bias: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    dense = nn.LSTM(12, 4, layers, bias=bias, batch_first=batch_first)
    layer = TTLSTM.from_dense(dense, *FULL, deeper=[FULL_DEEPER] * (layers - 1))
    assert layer.num_layers == layers
    for sequence, batch in ((torch.randn(5, 3, 12), (3 if not batch_first else 5,)), (torch.randn(5, 12), ())):
        state = (torch.randn(layers, *batch, 4), torch.randn(layers, *batch, 4))
        for arguments in ((sequence,), (sequence, state)):
            torch.testing.assert_close(layer(*arguments), dense(*arguments), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(layer.to_dense()(*arguments), dense(*arguments), rtol=1e-5, atol=1e-5)


def _two_layers(**options: bool) -> TTLSTM:
    torch.manual_seed(0)
    deeper = [(asymmetric(64, 16, 4), None)]
    return TTLSTM(INPUT, HIDDEN, *SHAPES["asymmetric, both"], deeper=deeper, batch_first=True, dropout=0.5, **options).eval()


@pytest.mark.parametrize("batch_first", [True, False])
def test_from_one_seed_the_states_between_layers_that_nn_lstm_drops_are_dropped(batch_first: bool) -> None:
    dense = nn.LSTM(12, 4, 3, batch_first=batch_first, dropout=0.5)
    layer = TTLSTM.from_dense(dense, *FULL, deeper=[FULL_DEEPER] * 2)
    sequence = torch.randn(5, 3, 12)
    outputs = []
    for module in (dense, layer, layer.to_dense()):
        torch.manual_seed(1)
        outputs.append(module(sequence)[0])
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs[2], outputs[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(outputs[0], layer.eval()(sequence)[0], atol=1e-3)


def test_a_state_carried_through_several_layers_continues_a_sequence() -> None:
    layer, sequence = _two_layers(), torch.randn(2, 6, INPUT)
    whole, last = layer(sequence)
    first, state = layer(sequence[:, :4])
    second, final = layer(sequence[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(final, last)


def test_the_gradient_through_several_layers_is_right() -> None:
    torch.manual_seed(0)
    layer = TTLSTM(6, 2, asymmetric(8, 6, 2, last=3), None, deeper=[(asymmetric(8, 2, 1), asymmetric(8, 2, 2))], batch_first=True).double()
    sequence = torch.randn(2, 3, 6, dtype=torch.float64)
    names = [name for name, _ in layer.named_parameters()]

    def run(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (sequence,))[0]

    assert torch.autograd.gradcheck(run, [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()])


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_a_state_dict_of_several_layers_goes_into_a_fresh_one(bits: int) -> None:
    layer, fresh, sequence = _two_layers(), _two_layers(), torch.randn(2, 5, INPUT)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if bits < 32:
        layer.quantize_(bits=bits)
    assert not torch.equal(fresh(sequence)[0], layer(sequence)[0])
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(sequence)[0], layer(sequence)[0])
    assert {part.bits for part in fresh.layers} == {bits}


def test_one_layers_state_dict_has_the_names_that_it_had_before_there_were_several() -> None:
    names = set(TTLSTM(INPUT, HIDDEN, *SHAPES["input only"]).state_dict())
    assert names == {"bias", "input.values.0", "input.values.1", "input.values.2", "hidden.values.0"}


def test_every_layers_numbers_are_counted_and_every_layer_describes_itself() -> None:
    layer = _two_layers()
    assert layer.stored_numbers == sum(parameter.numel() for parameter in layer.parameters())
    assert sum(part.description["stored_numbers"] for part in layer.layers) == layer.stored_numbers
    assert layer.layers[1].description["hidden"] == {"storage": "dense, float32", "shape": [64, 16]}


def test_training_layers_above_a_frozen_one_changes_them_alone() -> None:
    layer, sequence = _two_layers(), torch.randn(2, 5, INPUT)
    for part in (layer.input, layer.hidden):
        part.requires_grad_(False)
    layer(sequence)[0].sum().backward()
    assert all(parameter.grad is None for part in (layer.input, layer.hidden) for parameter in part.parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in layer.deeper.parameters())


@pytest.mark.parametrize("shape", [(1, 2, HIDDEN), (2, 3, HIDDEN), (2, HIDDEN)])
def test_a_state_of_another_number_of_layers_or_clips_gets_a_clear_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"state h as \(2, 2, 16\)"):
        _two_layers()(torch.randn(2, 5, INPUT), (torch.zeros(shape), torch.zeros(shape)))


def test_shapes_for_another_number_of_layers_are_refused_and_the_layer_is_named() -> None:
    with pytest.raises(ShapeError, match="has 2 layers, but deeper has the trains of 0"):
        TTLSTM.from_dense(nn.LSTM(INPUT, HIDDEN, 2), *SHAPES["input only"])
    with pytest.raises(ShapeError, match=r"layer 1: the input-to-hidden matrix is \(64, 16\)"):
        TTLSTM(INPUT, HIDDEN, None, None, deeper=[SHAPES["input only"]])
    with pytest.raises(ModelError, match=r"share from 0 to 1, not 1\.5"):
        TTLSTM(INPUT, HIDDEN, *SHAPES["input only"], dropout=1.5)
