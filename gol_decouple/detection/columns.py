"""Columns out of a list of JSON objects: fields that are missing or of another kind are told with their places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError, few

Ints = NDArray[np.signedinteger[Any]]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """JSON objects of one kind, and how messages call them: `results[7]` of `where`.

    Attributes:
        first: the place of the first of them, if these are a part of more.
    """

    rows: Sequence[Any]
    what: str
    where: str
    first: int = 0

    def error(self, bad: Sequence[int] | Ints, text: str, hint: str | None = None) -> InputError:
        """The error for the rows at `bad`, of which there is at least one."""
        places = few([f"{self.what}[{self.first + int(place)}]" for place in bad[:4]])
        others = len(bad) - 3
        listed = places if len(bad) <= 3 else f"{places.partition(' and ')[0]} and {others:,} more"
        return InputError(f"{self.where}: {len(bad):,} of {len(self.rows):,} {self.what} {text}: {listed}", hint)

    def field(self, name: str, hint: str | None = None) -> list[Any]:
        """The field of every row.

        Raises:
            InputError: rows do not have it, or are no JSON objects.
        """
        try:
            return [row[name] for row in self.rows]
        except (KeyError, TypeError, IndexError):
            bad = [place for place, row in enumerate(self.rows) if not isinstance(row, Mapping) or name not in row]
            raise self.error(bad, f"have no {name!r}", hint) from None

    def integers(self, name: str) -> Ints:
        """The field of every row, [N].

        Raises:
            InputError: it is no whole number in some rows.
        """
        values = self.field(name)
        array = _array(values)
        if array is not None and array.ndim == 1 and array.dtype.kind == "i":
            return array.astype(np.int64, copy=False)
        return self._converted(values, name, "a whole number", _is_integer, (), np.int64)

    def numbers(self, name: str) -> Floats:
        """The field of every row, [N]; may be NaN.

        Raises:
            InputError: it is no number in some rows.
        """
        values = self.field(name)
        array = _array(values)
        if array is not None and array.ndim == 1 and array.dtype.kind in "iuf":
            return array.astype(np.float64, copy=False)
        return self._converted(values, name, "a number", _is_number, (), np.float64)

    def boxes(self, name: str) -> Floats:
        """The field of every row, [N, 4]; may have NaN.

        Raises:
            InputError: it is no list of four numbers in some rows.
        """
        values = self.field(name)
        array = _array(values)
        if array is not None and array.ndim == 2 and array.shape[1] == 4 and array.dtype.kind in "iuf":
            return array.astype(np.float64, copy=False)
        return self._converted(values, name, "four numbers", _is_box, (4,), np.float64)

    def _converted(
        self, values: list[Any], name: str, kind: str, fits: Callable[[Any], bool], shape: tuple[int, ...], dtype: type
    ) -> NDArray[Any]:
        bad = [place for place, value in enumerate(values) if not fits(value)]
        if bad:
            raise self.error(bad, f"have a {name!r} that is not {kind}")
        return np.array(values, dtype=dtype).reshape(len(values), *shape)

    def unique(self, ids: Ints) -> None:
        """Raise an InputError if rows share an id."""
        _, first = np.unique(ids, return_index=True)
        if len(first) < len(ids):
            again = np.delete(np.arange(len(ids)), first)
            raise self.error(again, f"have an id that another has too ({few(_texts(ids[again]))})", "ids are unique")

    def proper_boxes(self, boxes: Floats, name: str) -> None:
        """Raise an InputError for boxes that are not finite, or of a negative width or height."""
        bad = np.flatnonzero(~np.isfinite(boxes).all(1) | (boxes[:, 2:] < 0).any(1))
        if len(bad):
            text = f"have a {name} that is not finite, or of negative width or height (the first is {boxes[bad[0]]})"
            raise self.error(bad, text, "boxes are [x, y, width, height], in pixels")


def places_of(ids: Ints, known: Ints) -> Ints:
    """The place of every id in `known`, which is ascending, or -1: [N]."""
    if not len(known):
        return np.full(len(ids), -1)
    places = np.searchsorted(known, ids).clip(max=len(known) - 1)
    return np.where(known[places] == ids, places, -1)


def is_in(keys: Ints, ascending: Ints) -> Bools:
    """Whether every key is among some that are ascending: [N]."""
    return places_of(keys, ascending) >= 0


def told_ids(ids: Ints) -> str:
    """How many different ids these are, and the first of them."""
    different = np.unique(ids)
    shown = [str(value) for value in different[:3]]
    return ", ".join(shown) + (f" and {len(different) - 3:,} more" if len(different) > 3 else "")


def _texts(ids: Ints) -> list[str]:
    return [str(value) for value in ids]


def _array(values: list[Any]) -> NDArray[Any] | None:
    try:
        return np.array(values)
    except (ValueError, TypeError, OverflowError):
        return None


def _is_integer(value: Any) -> bool:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        return False
    return -(2**63) <= int(value) < 2**63


def _is_number(value: Any) -> bool:
    if isinstance(value, (int, np.integer)):
        return _is_integer(value)
    return isinstance(value, (float, np.floating))


def _is_box(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) and len(value) == 4 and all(_is_number(part) for part in value)
