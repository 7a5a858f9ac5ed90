"""The keys and values of a recipe."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from classify.words import ClassFolders
from retrieval.backbones.names import BackboneName, parse_name
from retrieval.errors import RecipeError
from retrieval.settings import Frozen
from retrieval.words import DEFAULT_FIT, Fit

Share = Annotated[float, Field(ge=0, le=1)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
RAND = re.compile(r"rand(-(m|n|inc|mmax)\d+|-(p|mstd)\d+(\.\d+)?|-t\w+)*")
ClassWeight = Annotated[float, Field(ge=1e-6, le=1e6)]
Width = Annotated[int, Field(ge=1, le=16384)]


class DataSettings(Frozen):
    """Where the labelled images come from.

    name: of the data set it was made for. validation: share of the training images that is held
    out where there is no val/ folder; test: the same, of plain class folders, for a test split.
    fraction: share of the training images that is used, for trying out. classes: which folders are
    classes: "folder" each subfolder with all below it, "deepest" each folder that holds images,
    named by its path; "auto" as "folder" where that is plain. group_duplicates: keep near copies
    (bursts, crops, pictures saved again) on one side of a split, as copies of a file always are.
    """

    name: str = ""
    validation: Below1 = 0.2
    test: Below1 = 0.0
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    classes: ClassFolders = "auto"
    group_duplicates: bool = False


class Input(Frozen):
    """The pixels. size: side of the square, pixels; None: the backbone's own. mean, std: None:
    the backbone's own, or ImageNet's."""

    size: Annotated[int, Field(ge=16, le=1024)] | None = None
    fit: Fit = DEFAULT_FIT
    mean: tuple[float, float, float] | None = None
    std: tuple[Positive, Positive, Positive] | None = None


class Augmentation(Frozen):
    """How training pictures are augmented. Shares are of the picture's side, angles in degrees.

    flip, greyscale, erase: probabilities. rotation, shear, translation, zoom, perspective: largest,
    drawn evenly in both directions. crop: range of the area of a random crop; its aspect is
    between 3/4 and 4/3. Flips and translations alone move whole pixels. brightness, contrast,
    saturation, hue: largest change. rand: a RandAugment policy as timm writes it, such as
    "rand-m9-n2". mixup, cutmix: alpha (Zhang et al. 2018, "mixup"; Yun et al. 2019, "CutMix").
    fill: what lies outside of the picture.
    """

    flip: Share = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    shear: Annotated[float, Field(ge=0, le=60)] = 0.0
    translation: Share = 0.0
    zoom: Below1 = 0.0
    perspective: Below1 = 0.0
    crop: tuple[Positive, Positive] | None = None
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    greyscale: Share = 0.0
    erase: Share = 0.0
    rand: str = ""
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    fill: Literal["zeros", "border", "reflection"] = "reflection"

    @property
    def mixes(self) -> bool:
        """Whether pictures are mixed with one another, in pairs."""
        return bool(self.mixup or self.cutmix)

    @model_validator(mode="after")
    def _crop_ascends(self) -> Augmentation:
        if self.crop is not None and not self.crop[0] <= self.crop[1] <= 1:
            raise ValueError("crop must be a range of areas, such as [0.5, 1.0]")
        return self

    @model_validator(mode="after")
    def _rand_is_timms(self) -> Augmentation:
        if self.rand and not RAND.fullmatch(self.rand):
            raise ValueError("rand must be a policy, such as rand-m9-n2 or rand-m9-mstd0.5-inc1")
        return self


class Head(Frozen):
    """The layers from the last map to the classes.

    pool: "own" keeps a timm model's own head and puts a linear layer behind it; to another network
    it is "avg". dense: widths.
    norm_input: batch norm before the first dense layer; norm: one after each. dropout: before the
    first dense layer and after each, or one number for the last of these places. l2: penalty on the
    dense weights, as Keras counts it.
    """

    pool: Literal["own", "avg", "max", "avg+max", "flatten"] = "own"
    dense: tuple[Width, ...] = Field(default=(), max_length=8)
    norm_input: bool = False
    norm: bool = False
    dropout: Below1 | tuple[Below1, ...] = 0.0
    l2: NotNegative = 0.0

    @property
    def dropouts(self) -> tuple[float, ...]:
        """The dropout of each of the len(dense) + 1 places."""
        if isinstance(self.dropout, tuple):
            return self.dropout
        return (0.0,) * len(self.dense) + (self.dropout,)

    @model_validator(mode="after")
    def _fits(self) -> Head:
        if len(self.dropouts) != len(self.dense) + 1:
            raise ValueError(f"dropout needs one number, or {len(self.dense) + 1} for this head")
        if self.pool == "own" and (self.dense or self.norm_input):
            raise ValueError("dense layers need pool = avg, max, avg+max or flatten")
        if self.l2 and not self.dense:
            raise ValueError("l2 needs dense layers, which this head does not have")
        return self


class ModelSpec(Frozen):
    """The network.

    backbone: "cnn", a timm name, or "torchvision:NAME". layers, norm: of a "cnn": a number is a
    3x3 convolution with so many filters and ReLU, "pool" a 2x2 max pooling, "avgpool" its mean,
    "dropout:P", "residual:FILTERS:BLOCKS:STRIDE" a stage of He et al. 2016, "Deep residual
    learning for image recognition". norm: batch norm after each convolution. conv_bias: give the
    convolutions of a backbone a bias, as Keras does. drop_path: stochastic depth of a timm model.
    weights: a folder with the backbone's weights, "pretrained" for those of its name, "random".
    """

    backbone: str = "cnn"
    layers: tuple[Annotated[int, Field(ge=1, le=4096)] | str, ...] = Field((), max_length=256)
    norm: bool = True
    conv_bias: bool | None = None
    drop_path: Below1 = 0.0
    weights: str = "random"
    head: Head = Head()

    @model_validator(mode="after")
    def _layers_of_a_cnn(self) -> ModelSpec:
        if (self.backbone == "cnn") != bool(self.layers):
            raise ValueError('layers and backbone = "cnn" need each other')
        return self

    @property
    def is_timm(self) -> bool:
        """Whether timm makes the backbone."""
        return self.backbone != "cnn" and not self.backbone.startswith("torchvision:")

    @property
    def architecture(self) -> BackboneName:
        """timm's network, whatever its weights. Raises BackboneError, or RecipeError for others."""
        name = parse_name(self.backbone)
        if name.architecture is None:
            raise RecipeError(
                f"model.backbone: {self.backbone[:80]} is not a network of timm. Give the name of "
                "one, and set model.weights for weights in a folder or on the hub."
            )
        return BackboneName("timm", name.architecture)


class MetricLearning(Frozen):
    """A metric loss on the embedding, added to the loss of the classifier."""

    name: Literal["arcface", "proxy-anchor"]
    weight: Positive = 1.0


class Loss(Frozen):
    """The loss of a classifier.

    smoothing: of the labels. gamma, alpha: of the focal loss (Lin et al. 2017). class_weights:
    "none", "balanced", or a weight for some classes by name. metric: an added metric loss.
    """

    name: Literal["cross-entropy", "focal"] = "cross-entropy"
    smoothing: Below1 = 0.0
    gamma: NotNegative = 2.0
    alpha: Positive = 0.25
    class_weights: Literal["none", "balanced"] | dict[str, ClassWeight] = "none"
    metric: MetricLearning | None = None


class Distillation(Frozen):
    """A teacher that the network learns to agree with; see classify/training/distillation.py.

    teacher: a timm name or a folder with weights. size: the side at which it sees a picture,
    pixels; None: the network's. embedding, maps, labels: weights of the distance of embeddings
    (1 - cosine), of the error of maps, and of the loss on the labels. whitened: weight of the
    distance of embeddings after retrieval's transform `auto`, fitted to the teacher's. layers:
    whose outputs the maps are, by name, a star for one part of it; "a>b" are two that follow one
    another and count as one. apart: give each of these layers the input of the teacher's, and
    reduce their errors alone.
    """

    teacher: str
    size: Annotated[int, Field(ge=16, le=1024)] | None = None
    embedding: NotNegative = 1.0
    maps: NotNegative = 0.0
    labels: NotNegative = 0.0
    whitened: NotNegative = 0.0
    layers: tuple[str, ...] = Field((), max_length=64)
    apart: bool = False

    @model_validator(mode="after")
    def _layers_apart(self) -> Distillation:
        if self.apart and not self.layers:
            raise ValueError("apart needs layers")
        if self.apart and self.size is not None:
            raise ValueError("layers that are trained apart need a teacher of the same size")
        return self


Epochs = Annotated[int, Field(ge=1, le=10_000)]
Schedule = Literal["constant", "cosine", "plateau", "step"]
Statistics = Literal["batch", "running"]


class TrainingSettings(Frozen):
    """How a phase is trained.

    schedule: "cosine" to zero over the phase, "plateau" by `factor` after `wait` epochs without
    gain, "step" by `factor` every `wait` epochs. warmup: epochs. patience: epochs without gain
    after which the phase ends; 0: never. monitor: what gain is measured in, on the validation
    images. backbone_lr: learning rate of the backbone as a share of the head's. clip: largest norm
    of the gradient; 0: any. statistics: what batch norms normalise with, those of the "batch" or
    the "running" ones, which then stay as they are: a batch's are noise to a network that has
    almost learnt what it should.
    """

    epochs: Epochs = 20
    optimiser: str = "adamw"
    lr: Positive = 1e-3
    backbone_lr: Positive = 1.0
    weight_decay: NotNegative = 0.0
    schedule: Schedule = "cosine"
    warmup: NotNegative = 0.0
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    wait: Epochs = 3
    patience: Annotated[int, Field(ge=0)] = 0
    clip: NotNegative = 0.0
    statistics: Statistics = "batch"


class Training(TrainingSettings):
    """The settings of all phases, and those of the whole run.

    ema: decay; 0: none. precise_norm: batches of training pictures over which the statistics of
    batch norms are measured anew before each validation (Wu and Johnson 2021); 0: moving averages.
    """

    batch: Annotated[int, Field(ge=2, le=65536)] = 32
    ema: Below1 = 0.0
    precise_norm: Annotated[int, Field(ge=0, le=10_000)] = 0
    monitor: Literal["accuracy", "loss"] = "accuracy"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class Phase(Frozen):
    """A stage of training. open: which layers learn: "head", "all", or how many of the backbone's
    last layers besides the head. The rest: see TrainingSettings; None takes that of training."""

    open: Literal["head", "all"] | Annotated[int, Field(ge=1, le=10_000)] = "all"
    epochs: Epochs | None = None
    optimiser: str | None = None
    lr: Positive | None = None
    backbone_lr: Positive | None = None
    weight_decay: NotNegative | None = None
    schedule: Schedule | None = None
    warmup: NotNegative | None = None
    factor: Annotated[float, Field(gt=0, lt=1)] | None = None
    wait: Epochs | None = None
    patience: Annotated[int, Field(ge=0)] | None = None
    clip: NotNegative | None = None
    statistics: Statistics | None = None


class StatedFigures(Frozen):
    """Figures on the test images: to beat, or measured here. parameters: Keras' total, for as many
    classes as the row has. note: what stands in the way of comparing them."""

    accuracy: Share | None = None
    top5: Share | None = None
    loss: float | None = None
    f1: Share | None = None
    parameters: int | None = None
    note: str = ""


class Recipe(Frozen):
    """A recipe to train a classifier by; docs/guide/train.md lists the keys of its file."""

    title: str = ""
    reproduces: str = ""
    data: DataSettings = DataSettings()
    input: Input = Input()
    augmentation: Augmentation = Augmentation()
    model: ModelSpec
    loss: Loss = Loss()
    distillation: Distillation | None = None
    training: Training = Training()
    phases: tuple[Phase, ...] = Field((Phase(),), min_length=1, max_length=16)
    reference: StatedFigures = StatedFigures()
    measured: StatedFigures = StatedFigures()

    @model_validator(mode="after")
    def _teachers_take_whole_pictures(self) -> Recipe:
        mixed = self.augmentation.mixup or self.augmentation.cutmix or self.augmentation.erase
        if self.distillation is not None and mixed:
            raise ValueError("distillation cannot be combined with mixup, cutmix or erase")
        return self

    @model_validator(mode="after")
    def _metric_losses_take_whole_pictures(self) -> Recipe:
        if self.loss.metric is not None and self.augmentation.mixes:
            raise ValueError("loss.metric cannot be combined with mixup or cutmix")
        return self

    @model_validator(mode="after")
    def _layers_apart_learn_no_labels(self) -> Recipe:
        if self.distillation is None or not self.distillation.apart:
            return self
        if self.loss != Loss() or self.distillation.labels:
            raise ValueError("layers that are trained apart learn no labels, and take no loss")
        return self

    @property
    def training_loss(self) -> str:
        """What is made small, such as "focal + proxy-anchor", or "distillation"."""
        taught, metric = self.distillation, self.loss.metric
        parts = ["distillation"] if taught else []
        parts += [self.loss.name] if taught is None or taught.labels else []
        parts += [metric.name] if metric else []
        return " + ".join(parts)

    @property
    def validation_loss(self) -> str:
        """What is measured on validation images; figures of different ones do not compare."""
        return "1 - cosine to the teacher" if self.distillation else "cross-entropy"

    def settings(self, phase: int) -> TrainingSettings:
        """The settings of a phase: its own, and the rest from training."""
        own = self.phases[phase].model_dump(exclude={"open"}, exclude_none=True)
        kept = {key: getattr(self.training, key) for key in TrainingSettings.model_fields}
        return TrainingSettings.model_validate(kept | own)
