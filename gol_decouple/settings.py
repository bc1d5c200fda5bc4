"""The settings of a run: every section of a config, its keys, their types and ranges."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from gol_decouple.detector_settings import DetectorConfig
from gol_decouple.setting_types import (
    Count,
    FilePath,
    Float,
    FolderName,
    Fraction,
    NonNegative,
    Positive,
    Rate,
    Section,
    Seed,
    Share,
)


def with_recipe_epochs(stage1: Any) -> Any:
    """A config's [stage1] with `recipe_epochs` filled in: its milestones and warm-up are written for its own epochs."""
    epochs = stage1.get("epochs") if isinstance(stage1, dict) else None
    return {"recipe_epochs": epochs} | stage1 if isinstance(epochs, int) and epochs > 0 else stage1


def with_own_length(stage1: dict[str, Any], typed: Collection[str]) -> dict[str, Any]:
    """A config's [stage1] whose `typed` keys are meant for this run's epochs, the others for the recipe's."""
    recipe, epochs = stage1.get("recipe_epochs"), stage1.get("epochs")
    rest = {key: value for key, value in stage1.items() if key != "recipe_epochs"}
    if not (isinstance(recipe, int) and isinstance(epochs, int) and recipe > 0 and epochs > 0):
        return rest
    for key in ("milestones", "warmup_epochs"):
        value = rest.get(key)
        if key not in typed and isinstance(value, list):
            rest[key] = [epoch * epochs / recipe if isinstance(epoch, int | float) else epoch for epoch in value]
        elif key not in typed and isinstance(value, int | float):
            rest[key] = value * epochs / recipe
    return rest


PLAIN = (0.5, 0.5, 0.5)  # mean and deviation of pixels for backbones whose weights nobody trained elsewhere
Schedule = Literal["constant", "cosine", "step"]
FeatureDtype = Literal["float16", "float32"]


class ListsConfig(Section):
    """The files of data.kind = "list", `path label` a line; names in the folder, or absolute."""

    folder: FilePath = None  # that holds the lists; unset: data.path
    train: FilePath = None
    val: FilePath = None  # unset, as test: held out of train
    test: FilePath = None


class AnnotationsConfig(Section):
    """The files of data.kind = "lvis", JSON in LVIS's format; names in the folder, or absolute."""

    folder: FilePath = None  # that holds the files; unset: data.path
    train: FilePath = None
    val: FilePath = None


class DataConfig(Section):
    """Which images, and how long their tail is."""

    kind: Literal["digits", "cifar10", "cifar100", "npz", "folder", "list", "lvis"]
    name: str | None = None  # shown in reports; the kind, or the name of the npz file, folder or list, where unset
    # npz: the file; folder: the one with train/CLASS/IMAGE; list: the one that the lists' paths start from;
    # lvis: the one with the images; cifar10, cifar100: the one that holds the download
    path: FilePath = None
    lists: ListsConfig = ListsConfig()
    annotations: AnnotationsConfig = AnnotationsConfig()
    limit: Positive | None = None  # lvis: at most so many images of each split, a random choice drawn from data.seed
    # list: a text file in the lists' folder, one name a line in label order, or `label name` a line
    class_names: FilePath = None
    skip: FilePath = None  # list, folder: a text file of images to leave out, as `gol-decouple check` prints them
    # Shares of each class's train images to hold out where there is no such split; unset: of a folder or a list 0.1
    # and 0.2, else none; 0: no val
    val_fraction: Fraction | None = None
    test_fraction: Share | None = None
    imbalance_factor: Annotated[Float, Field(ge=1)] | None = None
    imbalance_type: Literal["exp", "step"] = "exp"
    seed: Seed = 0  # of the choice of images


class TransformConfig(Section):
    """Pixels to network input; what is random acts on stage one's training images and on augmented views.

    What is unset of size, resize, interpolation, mean and std is the backbone's own, if its library says so.
    """

    size: Positive | None = None  # images are resized to size x size; else unset keeps them as they are
    resize: Positive | None = None  # the shorter side is resized to this first, then size x size cropped at the centre
    interpolation: Literal["bilinear", "bicubic"] | None = None  # of resizing; else unset is bilinear
    mean: tuple[Float, Float, Float] | None = None  # else unset is PLAIN
    std: tuple[Rate, Rate, Rate] | None = None
    random_resized_crop: bool = False  # training: a random part of the image, resized to size x size
    crop_padding: Count = 0
    flip: bool = False
    auto_augment: Literal["cifar10", "imagenet", "svhn"] | None = None
    cutout: Count = 0  # side of the square that is painted over; 0: none

    @model_validator(mode="after")
    def _sized(self) -> TransformConfig:
        if self.size is None and self.resize is not None:
            raise PydanticCustomError("size", "resize needs a size")
        if self.size is not None and self.resize is not None and self.resize < self.size:
            raise PydanticCustomError("size", "resize should not be smaller than size")
        return self

    @property
    def is_random(self) -> bool:
        """Whether an augmented view can differ from the clean one."""
        return any((self.random_resized_crop, self.crop_padding, self.flip, self.auto_augment, self.cutout))


class BackboneConfig(Section):
    """The network in front of the classifier."""

    name: str  # resnet32, or a library's: timm:resnet50.a1_in1k, torchvision:resnet152
    pretrained: bool = False  # start from the library's published weights, downloaded unless they are here
    # Parts that stage one trains besides the classifier, as ["layer4"]; unset: all, []: none.
    trainable: tuple[str, ...] | None = None


class Stage1Config(Section):
    """Training of the Softmax model."""

    checkpoint: FilePath = None  # weights to start from; then epochs is 0 unless --set says otherwise
    epochs: Count  # 0: no training, only features
    # The length that milestones and warm-up are written for; unset: the file's own epochs.
    recipe_epochs: Positive | None = None
    max_steps: Positive | None = None  # of the optimiser, after which training ends, wherever its schedule is
    batch_size: Positive = 64  # images a step of the optimiser, in all processes and passes together
    passes: Positive = 1  # forward and backward passes that each process takes for its share of a batch
    sampler: Literal["random", "class_balanced", "repeat_factor"] = "random"  # repeat_factor: of images with boxes
    lr: Rate = 0.1
    lr_batch_size: Positive | None = None  # what lr is written for: it is scaled by batch_size over this; unset: not
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 0.0
    warmup_epochs: NonNegative = 0.0  # over which the learning rate rises from 0; written for recipe_epochs
    schedule: Schedule = "step"
    milestones: tuple[NonNegative, ...] = ()  # epochs at which "step" multiplies the learning rate by gamma
    gamma: Rate = 0.1
    label_smoothing: Fraction = 0.0
    mixup: NonNegative = 0.0  # alpha of the Beta distribution that images are mixed by; 0: none
    ema: Fraction = 0.0  # decay of the moving average of weights that becomes the model; 0: the last weights do
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    sync_batchnorm: bool = False  # BatchNorm statistics of all processes' images together; on GPUs
    tensorboard: bool = False  # write TensorBoard's files too, beside log.csv
    evaluate_every: Count = 10  # epochs between accuracies in log.csv; 0: none there
    num_workers: Count | None = None  # processes that augment; unset: by the machine

    @model_validator(mode="before")
    @classmethod
    def _written_for_its_epochs(cls, values: Any) -> Any:
        return with_recipe_epochs(values)

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Stage1Config:
        length = self.recipe_epochs or self.epochs
        if 0 < length <= self.warmup_epochs:
            raise PydanticCustomError(
                "warmup",
                "warmup_epochs, {warmup}, should be less than the {length} epochs it is written for",
                {"warmup": self.warmup_epochs, "length": length},
            )
        return self

    @property
    def scaled_lr(self) -> float:
        """The learning rate for `batch_size`, before its schedule."""
        return self.lr * (self.batch_size / self.lr_batch_size if self.lr_batch_size else 1.0)


class FeaturesConfig(Section):
    """The features file."""

    dtype: FeatureDtype = "float16"
    views: Annotated[Positive, Field(le=1000)] = 1  # of each train image: the clean one, and views - 1 augmented ones
    batch_size: Positive = 256
    seed: Seed = 0  # of the order of rows, and of the augmented views


class MethodConfig(Section):
    """A method's settings; what is unset is the method's own."""

    start: Literal["fresh", "stage_one", "paper"] | None = None  # paper: weights 0.001, biases -2, as GOL's detectors
    lr: Rate | None = None
    epochs: Positive | None = None
    batch_size: Positive | None = None
    views: Literal["clean", "random"] | None = None  # random: any cached view of a sample, drawn anew each epoch
    schedule: Literal["constant", "cosine"] | None = None
    momentum: Fraction | None = None
    weight_decay: NonNegative | None = None
    clip_norm: Rate | None = None
    precision: Literal["float32", "bfloat16"] | None = None  # of the matrix products
    q_min: Annotated[Float, Field(lt=0, ge=-80)] | None = None  # the slope below it, exp(-q_min), is a float32
    cosine_scale: Rate | None = None
    space: Literal["raw", "l2", "centred_l2"] | None = None
    temperature: Literal["none", "val"] | None = None  # of the scores, fitted on val or not
    # Parameters of losses and corrections; what one does not allow of these ranges, it refuses itself.
    max_margin: NonNegative | None = None
    scale: Rate | None = None
    head: Fraction | None = None
    tail: Fraction | None = None
    shift: Literal["exact", "link"] | None = None
    tau: Float | None = None
    variant: Literal["raw", "smooth", "rel", "normit", "gombit", "base2", "base10"] | None = None
    gamma: NonNegative | None = None
    beta: Fraction | None = None
    deferred: Annotated[Float, Field(ge=0, le=1)] | None = None
    lambda_: NonNegative | None = None
    p: NonNegative | None = None
    q: NonNegative | None = None
    eps: Rate | None = None
    ratio: NonNegative | None = None
    mu: Float | None = None
    alpha: NonNegative | None = None
    threshold: Fraction | None = None
    base: Annotated[Float, Field(gt=1)] | None = None
    form: Literal["code", "paper"] | None = None
    num_sampled: Positive | None = None
    power: NonNegative | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """What replaces the method's own settings."""
        return self.model_dump(exclude_none=True)


class Stage2Config(MethodConfig):
    """Retraining of the classifier, by whichever methods."""

    refit: bool | None = None  # train what is chosen on val once more with val; unset: if val was held out of train
    # 10^9 bytes for features, which are streamed if they are more; unset: half of what is free
    memory_gb: Rate | None = None
    gradients: bool = False  # sum the gradient of every class in every epoch too, into gradients.csv; changes no result
    tensorboard: bool = False  # write TensorBoard's files too, in each classifier's folder

    @property
    def changes(self) -> dict[str, Any]:
        """What replaces the methods' own settings."""
        return self.model_dump(exclude_none=True, exclude={"refit", "memory_gb", "gradients", "tensorboard"})


class Config(Section):
    """One run: a dataset, a backbone, and the recipe of both stages."""

    name: FolderName  # of the run
    seed: Seed = 0
    device: str = "auto"
    deterministic: bool = False  # only operations that give equal bits each time, on a GPU too, where they are slower
    data: DataConfig
    transform: TransformConfig = TransformConfig()
    backbone: BackboneConfig
    detector: DetectorConfig | None = None  # of data.kind = "lvis", and there never None
    stage1: Stage1Config
    features: FeaturesConfig = FeaturesConfig()
    stage2: Stage2Config = Stage2Config()
    # What replaces a method's own settings on this data; stage2 replaces both.
    methods: dict[str, MethodConfig] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _with_detector(cls, values: Any) -> Any:
        data = values.get("data") if isinstance(values, dict) else None
        return {"detector": {}} | values if isinstance(data, dict) and data.get("kind") == "lvis" else values
