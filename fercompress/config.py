"""What a study may say: one frozen, checked section per table of its file; `fercompress.studyfile` reads the file."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fercompress.dataconfig import Data
from fercompress.section import Name, Rank, Section, Share, did_you_mean

Engine = Annotated[str, Field(pattern=r"^[a-z0-9-]+(\+[a-z0-9-]+)?$")]


class Model(Section):
    """`zoo` names a row of `fercompress.model.zoo.ZOO`; `factory = "package:function"` is a model of one's own.

    A factory is called with keyword arguments channels, size, frames, classes, hidden and returns two nn.Modules:
    extractor, float32 (N, channels, size, size) -> (N, c, h, w), and predictor, float32 (B, T, h*w*c) -> (B, classes), which holds one nn.LSTM.
    """

    zoo: str | None = "small"
    factory: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    weights: str | None = None  # a .safetensors file, or a state_dict that torch.load(weights_only=True) takes; every name and shape must fit
    weights_part: Literal["extractor"] | None = None  # load this part alone, the rest starts at random; None: all
    weights_prefix: str = ""  # take only the entries whose names begin so, without it: "module.", "features."
    hidden: Annotated[int, Field(ge=1)] = 256

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.factory is not None and "zoo" in self.model_fields_set:
            raise ValueError("give zoo or factory, not both")
        if self.weights is None and (self.weights_part is not None or self.weights_prefix):
            raise ValueError("weights_part and weights_prefix say how weights is read: give weights too")
        return self


class Augment(Section):
    """One random affine map per clip (the same for all its frames), one change of its pace and one of its light, never on validation or test."""

    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # share of the picture's side
    scale: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    rotate_deg: Annotated[float, Field(ge=0, le=45)] = 0.0
    flip: bool = False
    pace: Annotated[float, Field(ge=0, le=0.3)] = 0.0  # the middle of a clip comes earlier or later by up to this share of its length; the ends stay
    brightness: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # grey values grow or shrink by up to this share


class Train(Section):
    """How the teacher is trained (AdamW, one-cycle learning rate, best epoch by validation accuracy)."""

    epochs: Annotated[int, Field(ge=0)] = 10  # 0: it stays as it starts, with [model] weights or at random
    batch: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    patience: Annotated[int, Field(ge=1)] = 5  # epochs without a better validation accuracy before training stops
    class_weights: bool = True
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the target that is spread over all classes
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0  # clips of a batch are blended in pairs, by a share drawn from Beta(mixup, mixup); 0: none
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay per step of the running average of the weights that is kept; 0: the weights themselves
    augment: Augment = Augment()
    device: Literal["cpu", "cuda"] = "cpu"


class FineTune(Section):
    """How every compressed predictor and every control is trained: on the frozen extractor's cached features, all alike."""

    epochs: Annotated[int, Field(ge=0)] = 20  # 0: compressed, and left so
    batch: Annotated[int, Field(ge=1)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    patience: Annotated[int, Field(ge=1)] = 10
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0  # as in [train]
    distill: Share = 0.5  # weight of the teacher's soft labels; the rest is the labels' cross-entropy
    temperature: Annotated[float, Field(gt=0)] = 3.0
    match_states: Annotated[float, Field(ge=0)] = 0.0  # weight of the squared distance to the teacher's hidden states, where sizes agree
    # For an extractor that learns to give the teacher's features (low-rank, quantization-aware); 0: it is left as it was compressed.
    extractor_epochs: Annotated[int, Field(ge=0)] = 3
    copies: Annotated[int, Field(ge=1, le=64)] = 1  # augmented copies of every training clip in the feature cache, the plain one included


class LowRank(Section):
    """Put the extractor's convolution kernels into tensor-train form (1x1, k x k, 1x1), then train it to give the teacher's features."""

    step: Literal["low-rank"]
    ratio: Annotated[float, Field(gt=1)]  # numbers in the dense kernels / numbers in the trains, all layers together
    calibration_clips: Annotated[int, Field(ge=1)] = 32  # training clips that show what the kernels read: their error is weighted by it


class Ranks(Section):
    """A way to choose ranks, exactly one: from the singular values of the teacher's matrix, or by what a rank costs on the validation clips."""

    per_bond: list[Rank] | None = None  # one for every inner bond
    relative_error: Annotated[float, Field(ge=0, lt=1)] | None = None  # of the matrix, Frobenius: the smallest ranks that keep it
    ratio: Annotated[float, Field(gt=1)] | None = None  # numbers in the matrix / numbers in the train
    bytes: Annotated[int, Field(ge=1)] | None = None  # of the matrix's cores in 8 bits
    budget_bytes: Annotated[int, Field(ge=1)] | None = None  # of both matrices' cores together, spent by measured sensitivity

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def policy(self) -> tuple[str, float | list[int]]:
        """The name in `fercompress.tt.ranks` and its value."""
        (field,) = self.model_fields_set
        return field.replace("_", "-"), getattr(self, field)


class TensorTrain(Section):
    """Put the LSTM's matrices into tensor-train form.

    `from-scratch` starts at random, `decompose` at the teacher's TT-SVD, `data-aware` at the TT-SVD weighted by what the layer's inputs look like.
    """

    step: Literal["tensor-train"]
    rank: Rank | Ranks  # every bond of the input-to-hidden train
    hidden_rank: Rank | Ranks | None = None  # every bond of the hidden-to-hidden train; None: the same
    part: Literal["input", "hidden", "both"] = "both"
    layout: Literal["asymmetric", "balanced"] = "asymmetric"
    start: Literal["decompose", "data-aware", "from-scratch"] = "decompose"
    input_modes: list[Annotated[int, Field(ge=1)]] | None = None  # factors of D; None: chosen
    output_modes: list[Annotated[int, Field(ge=1)]] | None = None  # factors of 4H; None: chosen

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        budgets = [rank for rank in (self.rank, self.hidden_rank) if isinstance(rank, Ranks) and rank.budget_bytes is not None]
        if budgets and self.hidden_rank is not None:
            raise ValueError("budget_bytes is for both matrices together: leave hidden_rank out")
        return self


class Bottleneck(Section):
    """Control: a 1x1 convolution to `rank` channels, then a small dense LSTM, trained like the variants."""

    step: Literal["bottleneck"]
    rank: Rank
    bytes_of: str | None = None  # None: as many hidden units as the teacher; a variant's name: as many as its stored bytes allow


class Retrain(Section):
    """Control: the dense predictor itself, trained on like the variants: what their further training alone is worth."""

    step: Literal["retrain"]


class SmallDense(Section):
    """Control: a pooled dense LSTM as large as another variant's stored bytes allow, trained like the variants."""

    step: Literal["small-dense"]
    bytes_of: str


class Quantize(Section):
    """No weight dropped: static for the extractor; TT cores where there are any, else the LSTM operator, for the predictor.

    bits: of the stored weights. An extractor's 4-bit kernels run in 8-bit arithmetic (its linear layers, if any, stay at 8); `mean_bits` gives 4 bits
    to the layers that bear it best and 8 to the rest, until the kernels have so many bits on average. A dense LSTM's matrices take 8 bits only.
    npu: the extractor runs on an RK3399Pro's NPU, in fp16 or in per-tensor u8 calibrated on training clips, the only roundings that it knows; the
    converter rounds then, so `bits`, `mean_bits` and `qat` are not for it.
    """

    step: Literal["quantize"]
    part: Literal["extractor", "predictor"]
    bits: Literal[4, 8] = 8
    mean_bits: Annotated[float, Field(ge=4, le=8)] | None = None
    # Quantization-aware training of the extractor: where rounding alone costs more than half a point of validation accuracy, never, or always.
    qat: Literal["auto", "never", "always"] = "auto"
    calibration_clips: Annotated[int, Field(ge=1)] = 32
    npu: Literal["fp16", "u8"] | None = None

    @model_validator(mode="after")
    def _mixed(self) -> Self:
        if self.mean_bits is not None and (self.part == "predictor" or "bits" in self.model_fields_set):
            raise ValueError("mean_bits is for the extractor, and stands in the place of bits")
        return self

    @model_validator(mode="after")
    def _on_the_npu(self) -> Self:
        if self.npu is None:
            return self
        if self.part == "predictor":
            raise ValueError("npu is for the extractor: the predictor runs on the processor")
        if foreign := sorted(self.model_fields_set & {"bits", "mean_bits", "qat"}):
            raise ValueError(f"{', '.join(foreign)}: not with npu, whose converter does the rounding itself")
        if self.npu == "fp16" and "calibration_clips" in self.model_fields_set:
            raise ValueError("calibration_clips: not with npu = 'fp16', which needs no calibration")
        return self


Step = Annotated[LowRank | TensorTrain | Bottleneck | SmallDense | Retrain | Quantize, Field(discriminator="step")]


class Variant(Section):
    """engine: that runs it, "a" or "a+b" (a's extractor, b's predictor); None: the study's, or for the NPU the first that a target has."""

    name: Name
    recipe: tuple[Step, ...] = ()
    engine: Engine | None = None

    @model_validator(mode="after")
    def _order(self) -> Self:
        kinds = [step.step for step in self.recipe]
        if sum(kind not in ("quantize", "low-rank") for kind in kinds) > 1:
            raise ValueError("a recipe holds at most one of tensor-train, bottleneck, small-dense and retrain")
        if "low-rank" in kinds[1:]:
            raise ValueError("low-rank comes first in a recipe, and once: the predictor learns on the features of the extractor that it makes")
        if "quantize" in kinds and any(kind != "quantize" for kind in kinds[kinds.index("quantize") :]):
            raise ValueError("quantize comes last in a recipe")
        parts = [step.part for step in self.recipe if isinstance(step, Quantize)]
        if len(parts) != len(set(parts)):
            raise ValueError("a recipe quantizes each part once")
        return self


class Measure(Section):
    """What is measured on each target, and for how long."""

    # In the place of rounds, block_clips and block_s: so much in all of every variant, and rounds until each verdict against the baseline is decided.
    tier: Literal["smoke", "quick", "full", "soak"] | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None  # with a tier: rounds are added only as long as a target is timed no longer than that
    rounds: Annotated[int, Field(ge=1)] = 6  # each is a random order of all variants and its mirror: two blocks per variant
    block_clips: Annotated[int, Field(ge=1)] = 16  # a block times at least so many clips ...
    block_s: Annotated[float, Field(gt=0)] = 0.5  # ... and at least so long
    warmup_clips: Annotated[int, Field(ge=0)] = 10
    threads: Annotated[int, Field(ge=1)] = 1
    deadline_s: Annotated[float, Field(gt=0)] = 600.0  # one agent process may take so long
    memory_blocks: Annotated[int, Field(ge=1)] = 1
    # "onnxruntime", or "a+b": a's extractor and b's predictor; None: the first of the targets' own lists that all of them run
    engine: Engine | None = None
    stream_clips: Annotated[int, Field(ge=0, le=64)] = 0  # a latency block then times so many clips as streams too: frame by frame, state carried on
    passes: tuple[Literal["accuracy", "latency", "memory", "power"], ...] = ("accuracy", "latency", "memory", "power")

    @model_validator(mode="after")
    def _budget(self) -> Self:
        if self.minutes is not None and self.tier is None:
            raise ValueError("minutes end what a tier begins: name a tier too (smoke, quick, full, soak)")
        return self


class Study(Section):
    name: Name
    title: str = ""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("localhost",)
    baseline: str
    data: Data
    model: Model = Model()
    train: Train = Train()
    fine_tune: FineTune = FineTune()
    measure: Measure = Measure()
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    ladder: tuple[str, ...] = ()  # variants whose steps the report tells one by one; empty: all but the controls, in order

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [variant.name for variant in self.variants]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two variants are named {name!r}")
        if self.baseline not in names:
            raise ValueError(f"baseline {self.baseline!r} is not a variant{did_you_mean(self.baseline, names)}")
        sized = {variant.name for variant in self.variants if bytes_of(variant)}
        for variant in self.variants:
            model = bytes_of(variant)
            if model is not None and model not in names:
                raise ValueError(f"variant {variant.name!r}: bytes_of {model!r} is not a variant{did_you_mean(model, names)}")
            if model in sized:
                raise ValueError(f"variant {variant.name!r}: bytes_of {model!r} is itself sized after another variant")
        for name in self.ladder:
            if name not in names:
                raise ValueError(f"ladder: {name!r} is not a variant{did_you_mean(name, names)}")
            if self.ladder.count(name) > 1:
                raise ValueError(f"ladder holds {name!r} twice")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds holds a seed twice")
        return self

    @property
    def untrained(self) -> bool:
        """Whether the weights are random ones: sizes, latency and memory are those of trained ones, accuracy says nothing."""
        return self.train.epochs == 0 and (self.model.weights is None or self.model.weights_part is not None)

    @model_validator(mode="after")
    def _trained(self) -> Self:
        if self.untrained:
            if "accuracy" in self.measure.passes:
                raise ValueError('train.epochs is 0: the weights are random, and their accuracy says nothing; leave "accuracy" out of measure.passes')
            if self.fine_tune.epochs or self.fine_tune.extractor_epochs:
                raise ValueError(
                    "train.epochs is 0: the weights are random, there is nothing to learn from; set fine_tune's epochs and extractor_epochs to 0"
                )
        for variant in self.variants:
            for step in variant.recipe:
                if not self.fine_tune.epochs and not self.untrained and _starts_at_random(step):
                    raise ValueError(f"variant {variant.name!r}: {step.step} starts at random and fine_tune.epochs is 0: it would never learn")
                if not self.fine_tune.extractor_epochs and isinstance(step, Quantize) and step.qat == "always":
                    raise ValueError(f"variant {variant.name!r}: qat = 'always' and fine_tune.extractor_epochs is 0: raise it, or choose another qat")
        return self


def _starts_at_random(step: Step) -> bool:
    return isinstance(step, Bottleneck | SmallDense) or (isinstance(step, TensorTrain) and step.start == "from-scratch")


def npu_step(variant: Variant) -> Quantize | None:
    """The step that puts a variant's extractor on the NPU, if there is one."""
    return next((step for step in variant.recipe if isinstance(step, Quantize) and step.npu), None)


def bytes_of(variant: Variant) -> str | None:
    """The variant whose stored bytes a control may take, if it is such a control."""
    return next((step.bytes_of for step in variant.recipe if isinstance(step, SmallDense | Bottleneck) and step.bytes_of), None)
