"""Configs: a TOML file (ours by name, or the user's by path), overridden by dotted `key=value` settings."""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gol_decouple.config_files import config_names, configs_dir
from gol_decouple.errors import EnvironmentFailure, InputError, unknown
from gol_decouple.files import read_bytes
from gol_decouple.limits import DEPTH, SETTINGS_BYTES
from gol_decouple.settings import Config, Stage2Config, with_own_length, with_recipe_epochs
from gol_decouple.toml_texts import parse_toml

M = TypeVar("M", bound=BaseModel)
_MOST_PROBLEMS = 20
_MOST_SHOWN = 200  # characters of a value

# Of stage two, which trains anew what they change: a run and its features are the same whatever these are.
STAGE_TWO = ("stage2.", "methods.")

# What a run is called, where and how fast it executes does not change what it is: two configs that differ only here
# are the same run.
EXECUTION_KEYS = frozenset(
    {
        *("name", "device", "stage1.num_workers", "stage1.tensorboard"),
        *("features.batch_size", "stage2.memory_gb", "stage2.gradients", "stage2.tensorboard"),
    }
)


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
    if "stage1" in tree:
        tree["stage1"] = with_recipe_epochs(tree["stage1"])
    typed = {}
    for override in overrides:
        typed[_set(tree, override)] = f"--set {override}"
    written = {"milestones", "warmup_epochs"} & {key.removeprefix("stage1.") for key in typed}
    if written and "stage1.recipe_epochs" not in typed:
        tree["stage1"] = with_own_length(tree["stage1"], written)
    if "stage1.checkpoint" in typed:  # instead of what the config starts from and trains
        for key, value in (("stage1.epochs", 0), ("backbone.pretrained", "false")):
            if key not in typed:
                _set(tree, f"{key}={value}")
    for key, value in settings.items():
        if value is not None:
            tree[key], typed[key] = value, f"--{key} {value!r}"
    return _validate(Config, tree, str(path), typed)


def override_section(section: Stage2Config, overrides: Iterable[str], prefix: str) -> list[Stage2Config]:
    """`section` with `prefix.key=value` texts applied; a key outside the section is an error.

    A value that is a list makes a grid: one section for each of its values, and for each combination of several lists.
    """
    tree: dict[str, Any] = {prefix: section.model_dump()}
    typed = {}
    for override in overrides:
        key = _set(tree, override)
        if not key.startswith(f"{prefix}."):
            raise InputError(f"--set {override}: only {prefix}.* can be set here", f"--set {prefix}.lr=1e-3")
        key = key.removeprefix(f"{prefix}.")
        typed[key] = f"--set {override}"
        value = tree[prefix].get(key)
        if isinstance(value, str) and value.startswith("["):
            value = tree[prefix][key] = _parse(value)  # a field that holds text took the text of the list as typed
        if value == []:
            raise InputError(f"--set {override}: the list is empty", f"--set {prefix}.lr=[1e-4,1e-3]")
    choices = [value if isinstance(value, list) else [value] for value in tree[prefix].values()]
    points = (dict(zip(tree[prefix], values, strict=True)) for values in itertools.product(*choices))
    return [_validate(type(section), point, prefix, typed) for point in points]


def to_toml(config: BaseModel) -> str:
    """The config as TOML that `load_config` reads back; unset keys are left out."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def differing_fields(old: Config, new: Config) -> list[str]:
    """`dotted.key: old -> new` for every field in which two configs describe different runs."""
    differ = _differing(old, new)
    return [told for key, told in differ.items() if key not in EXECUTION_KEYS and not key.startswith(STAGE_TWO)]


def differing_stage2_settings(old: Config, new: Config) -> list[str]:
    """The same for every setting of stage two, which belongs to no run in particular."""
    return [told for key, told in _differing(old, new).items() if key.startswith(STAGE_TWO)]


def _differing(old: Config, new: Config) -> dict[str, str]:
    before, after = dict(_flatten(old.model_dump())), dict(_flatten(new.model_dump()))
    return {
        key: f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if name_or_path in config_names():
        return configs_dir() / f"{name_or_path}.toml"
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"config {name_or_path!r} is a folder", f"name a TOML file; a run's is {path / 'config.toml'}")
    if path.suffix == ".toml" or path.name != name_or_path:
        raise InputError(f"config file {path} does not exist", f"choose one by name: {', '.join(config_names())}")
    raise unknown("config", name_or_path, config_names())


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_bytes(path, SETTINGS_BYTES).decode())
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error.message}", error.hint) from None
    except ValueError as error:
        hint = f'texts need quotes, as in kind = "npz"; examples lie in {configs_dir()}'
        raise InputError(f"{path} is not valid TOML: {error}", hint) from None
    except OSError as error:
        raise EnvironmentFailure(f"{path} cannot be read: {error.strerror}") from None


def _set(tree: dict[str, Any], override: str) -> str:
    """Apply the text of a `--set` to a config's tree; returns its dotted key."""
    dotted, equals, text = (part.strip() for part in override.partition("="))
    if not equals or not dotted:
        raise InputError(f"--set {override!r} is not of the form key=value", "--set stage1.epochs=20")
    *parents, leaf = keys = dotted.split(".")
    DEPTH.check(len(keys), f"--set {dotted:.50}... has a key of {len(keys)} parts")
    if _section_at(Config, keys) is not _section_at(Config, parents):
        raise InputError(f"--set {override}: {dotted} is a section", f"set a key of it: --set {dotted}.KEY=VALUE")
    node = tree
    for key in parents:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise InputError(f"--set {override}: {key!r} is a value, not a section")
    node[leaf] = text if _is_text_field(keys) else _parse(text)
    return dotted


def _parse(text: str) -> Any:
    try:
        tree = parse_toml(f"value = {text}")
    except InputError as error:
        raise InputError(f"--set ...={text:.50}...: {error.message}", error.hint) from None
    except ValueError:
        return text
    return tree["value"] if len(tree) == 1 else text


def _is_text_field(keys: list[str]) -> bool:
    """Whether the config's field at `keys` holds text; its value is then taken as typed."""
    field = _section_at(Config, keys[:-1]).model_fields.get(keys[-1])
    kinds = (field.annotation, *typing.get_args(field.annotation)) if field else ()
    return any(kind is str or typing.get_origin(kind) is Literal for kind in kinds)


def _validate(model: type[M], tree: Mapping[str, Any], where: str, typed: Mapping[str, str]) -> M:
    """`tree`, read from `where` with some keys `typed` as arguments, as a `model`; or every key that does not fit."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        problems: dict[str, list[str]] = {}
        hint = None
        found = error.errors(include_url=False)
        for problem in found[:_MOST_PROBLEMS]:
            keys = [part for part in problem["loc"] if isinstance(part, str)]
            dotted = ".".join(keys)
            argument = next((typed[key] for key in typed if f"{key}.".startswith(f"{dotted}.")), None)
            problems.setdefault(argument or where, []).append(_describe(problem, dotted, argument is not None))
            if problem["type"] == "extra_forbidden":
                hint = _nearest_key(model, keys)
            elif problem["type"] == "missing" and argument is None:
                hint = hint or f"examples lie in {configs_dir()}"
        lines = [f"{place}: {', '.join(dict.fromkeys(said))}" for place, said in problems.items()]
        lines += [f"and {len(found) - _MOST_PROBLEMS:,} more"] if len(found) > _MOST_PROBLEMS else []
        raise InputError("; ".join(lines), hint) from None


def _describe(problem: ErrorDetails, dotted: str, was_typed: bool) -> str:
    """What is wrong with a key; its value too, unless it stands in the argument that is named."""
    name = dotted + "".join(f"[{part}]" for part in problem["loc"] if isinstance(part, int))
    message = problem["msg"][0].lower() + problem["msg"][1:]
    texts = {
        "missing": f"{name} is missing",
        "extra_forbidden": f"unknown key {name!r}",
        "model_type": f"{name} is a section, not a value",
    }
    return texts.get(problem["type"], message if was_typed else f"{name} = {_shown(problem['input'])}: {message}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _nearest_key(model: type[BaseModel], keys: list[str]) -> str | None:
    """A hint for an unknown key: the key of that name in another section, or the nearest one in its own."""
    leaf = keys[-1]
    elsewhere = [f"{name}.{leaf}" for name, section in _sections(model) if leaf in section.model_fields]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return unknown("key", leaf, _section_at(model, keys[:-1]).model_fields).hint


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Dotted names of all sections, also of those within sections."""
    for name in model.model_fields:
        section = _section_at(model, [name])
        if section is not model:
            yield f"{prefix}{name}", section
            yield from _sections(section, f"{prefix}{name}.")


def _section_at(model: type[BaseModel], keys: list[str]) -> type[BaseModel]:
    for key in keys:
        field = model.model_fields.get(key)
        inner = _section_of(field.annotation) if field else None
        if inner is None:
            break
        model = inner
    return model


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field of this type is, or may be; None for a value."""
    optional = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(annotation) if optional else (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
