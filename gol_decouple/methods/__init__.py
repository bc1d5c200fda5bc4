"""Methods of stage two by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from gol_decouple.errors import InputError, unknown
from gol_decouple.methods.record import NEAREST_MEAN, OF_STAGE_ONE, Method
from gol_decouple.methods.search import points as search
from gol_decouple.methods.table import METHODS, OF_ROIS, WITHOUT_BACKGROUND

__all__ = [
    "METHODS",
    "NEAREST_MEAN",
    "OF_STAGE_ONE",
    "Method",
    "apply_settings",
    "changed_settings",
    "default",
    "first_softmax",
    "fits",
    "get",
    "search",
    "select",
]


def get(name: str) -> Method:
    """The method called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def changed_settings(method: Method, background: bool = False) -> dict[str, Any]:
    """The settings in which a method differs from the one of its name, for features with or without background.

    Raises:
        InputError: there is none of its name.
    """
    usual = default(method.name, background).settings
    return {name: value for name, value in method.settings.items() if value != usual[name]}


def select(patterns: Sequence[str], background: bool | None = False) -> list[str]:
    """Names of the methods that match, in the order of the patterns; `*`, `?` and `[...]` as in file names, or "all".

    Args:
        background: whether patterns find the methods for features with background, or those for features without; None:
            both. Names in full always do.

    Raises:
        InputError: a pattern that nothing matches.
    """
    found: list[str] = []
    for pattern in patterns:
        wanted = "*" if pattern == "all" else pattern
        matching = [name for name in METHODS if fnmatchcase(name, wanted)]
        if not matching:
            raise unknown("method", pattern, METHODS)
        if pattern not in METHODS and background is not None:
            hidden, fitting = matching, fits(background)
            matching = [name for name in matching if name in fitting]
            if not matching:
                kind = "make no sense with background samples" if background else "need background samples"
                raise InputError(f"{pattern!r} matches only methods that {kind}: {', '.join(hidden)}")
        found += matching
    return list(dict.fromkeys(found))


def fits(background: bool) -> list[str]:
    """Names of the methods for features with background samples, as RoIs have them, or for those without."""
    if background:
        return [name for name in METHODS if name not in WITHOUT_BACKGROUND]
    return [name for name, method in METHODS.items() if not method.background]


def default(name: str, background: bool) -> Method:
    """The method called `name` with its recipe for features with background samples, as RoIs have them, or without.

    Raises:
        InputError: there is none.
    """
    method = get(name)
    if not background or not method.is_trained:
        return method
    start = {} if method.activation == "softmax" else {"start": "fresh"}
    return method.with_settings(**OF_ROIS, **start)


def first_softmax(background: bool = False) -> Method:
    """What gives methods a Softmax classifier to start from, on a features file that has none."""
    return default("softmax", background).with_settings(start="fresh")


def configured(name: str, settings: Mapping[str, Mapping[str, Any]], background: bool = False) -> Method:
    """The method called `name`, for features with or without background, with what `settings` say of it, if anything.

    Raises:
        InputError: there is none, here or in `settings`, or it has no such setting.
    """
    for other, changes in settings.items():
        get(other).with_settings(**changes)
    return default(name, background).with_settings(**settings.get(name, {}))


def apply_settings(methods: list[Method], changes: Mapping[str, Any]) -> list[Method]:
    """Each method with the changes that it has a setting for."""
    return [
        method.with_settings(**{name: value for name, value in changes.items() if name in method.settings})
        for method in methods
    ]
