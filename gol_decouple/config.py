"""Configs: a TOML file (ours by name, or the user's by path), overridden by dotted `key=value` settings."""

from __future__ import annotations

import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gol_decouple.errors import InputError, unknown

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Triple = tuple[float, float, float]
M = TypeVar("M", bound=BaseModel)
Schedule = Literal["constant", "cosine", "step"]
FeatureDtype = Literal["float16", "float32"]

# Where and how fast a run executes does not change what it is: two configs that differ only here are the same run.
EXECUTION_KEYS = frozenset({"device", "stage1.num_workers", "features.batch_size"})


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which images, and how long their tail is."""

    kind: Literal["digits", "cifar10", "cifar100", "npz"]
    name: str | None = None  # shown in reports; the kind, or the npz file's stem, where unset
    path: str | None = None  # npz: the file; cifar10, cifar100: the folder that holds or receives the download
    imbalance_factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    imbalance_type: Literal["exp", "step"] = "exp"
    seed: int = 0  # of the choice of images


class TransformConfig(_Section):
    """Pixels to network input; crop, flip and AutoAugment act on stage one's training images only."""

    size: Positive | None = None  # images are resized to size x size; unset keeps them as they are
    mean: Triple = (0.5, 0.5, 0.5)
    std: tuple[Rate, Rate, Rate] = (0.5, 0.5, 0.5)
    crop_padding: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    auto_augment: Literal["cifar10", "imagenet", "svhn"] | None = None


class BackboneConfig(_Section):
    """The network in front of the classifier."""

    name: str


class Stage1Config(_Section):
    """Training of the Softmax model."""

    epochs: Positive
    recipe_epochs: Positive | None = None  # the length milestones are written for; unset: the file's own epochs
    batch_size: Positive = 64
    lr: Rate = 0.1
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 0.0
    schedule: Schedule = "step"
    milestones: tuple[NonNegative, ...] = ()  # epochs at which "step" multiplies the learning rate by gamma
    gamma: Rate = 0.1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    evaluate_every: Annotated[int, Field(ge=0)] = 10  # epochs between accuracies in log.csv; 0: only at the end
    num_workers: Annotated[int, Field(ge=0)] | None = None  # processes that augment; unset: by the machine


class FeaturesConfig(_Section):
    """The features file."""

    dtype: FeatureDtype = "float16"
    batch_size: Positive = 256
    seed: int = 0  # of the order of rows


class Stage2Config(_Section):
    """Retraining of the classifier; what is unset is the method's own."""

    start: Literal["fresh", "stage_one"] | None = None
    lr: Rate | None = None
    epochs: Positive | None = None
    batch_size: Positive | None = None
    schedule: Literal["constant", "cosine"] | None = None
    momentum: Fraction | None = None
    q_min: Annotated[float, Field(lt=0, allow_inf_nan=False)] | None = None


class Config(_Section):
    """One run: a dataset, a backbone, and the recipe of both stages."""

    name: str  # of the run folder
    seed: int = 0
    device: str = "auto"
    data: DataConfig
    transform: TransformConfig = TransformConfig()
    backbone: BackboneConfig
    stage1: Stage1Config
    features: FeaturesConfig = FeaturesConfig()
    stage2: Stage2Config = Stage2Config()


def config_names() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(path.stem for path in _configs_dir().glob("*.toml"))


def load_config(name_or_path: str, overrides: Iterable[str] = (), **settings: Any) -> Config:
    """Read a config by name (`cifar100_lt`) or path (`my.toml`).

    Args:
        overrides: `dotted.key=value` texts, as given to `--set`; a value parses as TOML, else as a string, and a
            string field takes the text as typed.
        settings: top-level fields (`seed`, `device`, `name`); None leaves the config's own.

    Raises:
        InputError: no such config, a key or value that does not fit, or a file that is not TOML.
    """
    path = _find(name_or_path)
    tree = _read_toml(path)
    tree.setdefault("name", path.stem)
    stage1 = tree.get("stage1")
    if isinstance(stage1, dict) and "epochs" in stage1:
        stage1.setdefault("recipe_epochs", stage1["epochs"])
    for override in overrides:
        _set(tree, *split_override(override))
    tree |= {key: value for key, value in settings.items() if value is not None}
    return validate(Config, tree, where=str(path))


def override_section(section: Stage2Config, overrides: Iterable[str], prefix: str) -> Stage2Config:
    """`section` with `prefix.key=value` texts applied; a key outside the section is an error."""
    tree: dict[str, Any] = {prefix: section.model_dump()}
    for override in overrides:
        dotted, text = split_override(override)
        if not dotted.startswith(f"{prefix}."):
            raise InputError(f"--set {override}: only {prefix}.* can be set here", f"--set {prefix}.lr=1e-3")
        _set(tree, dotted, text)
    return validate(type(section), tree[prefix], where="--set", prefix=prefix)


def split_override(override: str) -> tuple[str, str]:
    """`"a.b=1"` as `("a.b", "1")`."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise InputError(f"--set {override!r} is not of the form key=value", "--set stage1.epochs=20")
    return dotted.strip(), text.strip()


def validate(model: type[M], tree: Mapping[str, Any], where: str, prefix: str = "") -> M:
    """`tree` as a `model`, or an InputError that names every key that does not fit."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        lines, hint = [], None
        for problem in error.errors():
            keys = [str(part) for part in problem["loc"]]
            dotted = ".".join([prefix, *keys] if prefix else keys)
            if problem["type"] == "extra_forbidden":
                valid = list(_section_at(model, keys[:-1]).model_fields)
                hint = unknown("key", keys[-1], valid).hint
                lines.append(f"unknown key {dotted!r}")
            elif problem["type"] == "missing":
                lines.append(f"{dotted} is missing")
            else:
                lines.append(f"{dotted} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
        raise InputError(f"{where}: {'; '.join(lines)}", hint) from None


def to_toml(config: BaseModel) -> str:
    """The config as TOML that `load_config` reads back; unset keys are left out."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def differing_fields(old: Config, new: Config) -> list[str]:
    """`dotted.key: old -> new` for every field in which two configs describe different runs."""
    before, after = dict(_flatten(old.model_dump())), dict(_flatten(new.model_dump()))
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key not in EXECUTION_KEYS
    ]


def _configs_dir() -> Path:
    """Inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.parent != Path("."):
        if not path.is_file():
            raise InputError(f"config file {name_or_path} does not exist", f"or use one by name: {config_names()}")
        return path
    if name_or_path not in config_names():
        raise unknown("config", name_or_path, config_names())
    return _configs_dir() / f"{name_or_path}.toml"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None


def _set(tree: dict[str, Any], dotted: str, text: str) -> None:
    *parents, leaf = dotted.split(".")
    node = tree
    for key in parents:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise InputError(f"--set {dotted}: {key!r} is a value, not a section")
    node[leaf] = text if _is_text_field(dotted.split(".")) else _parse(text)


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _is_text_field(keys: list[str]) -> bool:
    """Whether the config's field at `keys` holds text; its value is then taken as typed."""
    section = _section_at(Config, keys[:-1])
    field = section.model_fields.get(keys[-1])
    if field is None:
        return False
    return any(kind is str or typing.get_origin(kind) is Literal for kind in _alternatives(field.annotation))


def _section_at(model: type[BaseModel], keys: list[str]) -> type[BaseModel]:
    for key in keys:
        field = model.model_fields.get(key)
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return model


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
