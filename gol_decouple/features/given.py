"""What callers give, made into arrays of the kind that is expected; torch is not imported for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.errors import InputError


def array(what: str, values: Any) -> NDArray[Any]:
    """NumPy from NumPy or torch; bfloat16 becomes float32.

    Raises:
        InputError: `what` cannot be made an array.
    """
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} cannot be made an array: {error}") from None


def pair(what: str, values: Any, expected: str) -> tuple[Any, Any]:
    """Two values.

    Raises:
        InputError: they are not two, as `expected` says.
    """
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise InputError(f"{what} is {type(values).__name__}, expected a pair {expected}")
    return values[0], values[1]


def integers(what: str, values: Any, count: int) -> NDArray[np.int64]:
    """[count] integers.

    Raises:
        InputError: they are not, or do not fit int64.
    """
    given = array(what, values)
    if given.ndim != 1 or given.dtype.kind not in "iu" or len(given) != count:
        raise InputError(f"{what} are {given.dtype} {list(given.shape)}, expected {count} integers")
    if given.dtype == np.uint64 and count and given.max() > np.iinfo(np.int64).max:
        raise InputError(f"{what} reach {given.max()}, which does not fit 64 bits with a sign")
    return given.astype(np.int64)


def numbers(what: str, values: Any, shape: Sequence[int]) -> NDArray[np.float32]:
    """Numbers of a shape, as float32.

    Raises:
        InputError: they are none, or of another shape.
    """
    given = array(what, values)
    if given.shape != tuple(shape) or given.dtype.kind not in "fiu":
        raise InputError(f"{what} are {given.dtype} {list(given.shape)}, expected numbers {list(shape)}")
    with np.errstate(over="ignore"):
        return given.astype(np.float32)
