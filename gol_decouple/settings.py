"""The settings of a run: every section of a config, its keys, their types and ranges."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


def _number(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, float) and not abs(value) <= 1e38):
        raise PydanticCustomError("number", "input should be a finite number, of at most 1e38")
    return value


def _folder_name(name: str) -> str:
    if name != Path(name).name or name in ("", "..") or not name.isprintable():
        raise PydanticCustomError("folder_name", "input should be the name of a folder, not a path")
    return name


def with_recipe_epochs(stage1: Any) -> Any:
    """A config's [stage1] with `recipe_epochs` filled in: milestones are written for the epochs beside them."""
    epochs = stage1.get("epochs") if isinstance(stage1, dict) else None
    return {"recipe_epochs": epochs} | stage1 if isinstance(epochs, int) and epochs > 0 else stage1


# Upper bounds are those of what the numbers become: int32, NumPy's legacy seeds, and float32.
Positive = Annotated[int, BeforeValidator(_number), Field(gt=0, lt=2**31)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=0, lt=2**31)]
Seed = Annotated[int, BeforeValidator(_number), Field(ge=0, lt=2**32)]
Float = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Rate = Annotated[Float, Field(gt=0)]
NonNegative = Annotated[Float, Field(ge=0)]
Fraction = Annotated[Float, Field(ge=0, lt=1)]
FilePath = Annotated[str | None, AfterValidator(lambda path: path and os.path.expanduser(path))]
FolderName = Annotated[str, AfterValidator(_folder_name)]
Schedule = Literal["constant", "cosine", "step"]
FeatureDtype = Literal["float16", "float32"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which images, and how long their tail is."""

    kind: Literal["digits", "cifar10", "cifar100", "npz"]
    name: str | None = None  # shown in reports; the kind, or the npz file's stem, where unset
    # npz: the file; cifar10, cifar100: the folder that holds or receives the download
    path: FilePath = None
    imbalance_factor: Annotated[Float, Field(ge=1)] | None = None
    imbalance_type: Literal["exp", "step"] = "exp"
    seed: Seed = 0  # of the choice of images


class TransformConfig(_Section):
    """Pixels to network input; crop, flip and AutoAugment act on stage one's training images only."""

    size: Positive | None = None  # images are resized to size x size; unset keeps them as they are
    mean: tuple[Float, Float, Float] = (0.5, 0.5, 0.5)
    std: tuple[Rate, Rate, Rate] = (0.5, 0.5, 0.5)
    crop_padding: Count = 0
    flip: bool = False
    auto_augment: Literal["cifar10", "imagenet", "svhn"] | None = None


class BackboneConfig(_Section):
    """The network in front of the classifier."""

    name: str


class Stage1Config(_Section):
    """Training of the Softmax model."""

    checkpoint: FilePath = None  # weights to start from; then epochs is 0 unless --set says otherwise
    epochs: Count  # 0: no training, only features
    recipe_epochs: Positive | None = None  # the length milestones are written for; unset: the file's own epochs
    batch_size: Positive = 64
    lr: Rate = 0.1
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 0.0
    schedule: Schedule = "step"
    milestones: tuple[NonNegative, ...] = ()  # epochs at which "step" multiplies the learning rate by gamma
    gamma: Rate = 0.1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    evaluate_every: Count = 10  # epochs between accuracies in log.csv; 0: none there
    num_workers: Count | None = None  # processes that augment; unset: by the machine

    @model_validator(mode="before")
    @classmethod
    def _written_for_its_epochs(cls, values: Any) -> Any:
        return with_recipe_epochs(values)


class FeaturesConfig(_Section):
    """The features file."""

    dtype: FeatureDtype = "float16"
    batch_size: Positive = 256
    seed: Seed = 0  # of the order of rows


class Stage2Config(_Section):
    """Retraining of the classifier; what is unset is the method's own."""

    start: Literal["fresh", "stage_one"] | None = None
    lr: Rate | None = None
    epochs: Positive | None = None
    batch_size: Positive | None = None
    schedule: Literal["constant", "cosine"] | None = None
    momentum: Fraction | None = None
    weight_decay: NonNegative | None = None
    clip_norm: Rate | None = None
    q_min: Annotated[Float, Field(lt=0, ge=-80)] | None = None  # the slope below it, exp(-q_min), is a float32


class Config(_Section):
    """One run: a dataset, a backbone, and the recipe of both stages."""

    name: FolderName  # of the run
    seed: Seed = 0
    device: str = "auto"
    data: DataConfig
    transform: TransformConfig = TransformConfig()
    backbone: BackboneConfig
    stage1: Stage1Config
    features: FeaturesConfig = FeaturesConfig()
    stage2: Stage2Config = Stage2Config()
