"""Properties of readers, tried on what hypothesis makes: the same few examples in every run, many in slow ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# For `@pytest.mark.parametrize("examples", EXAMPLES)`.
EXAMPLES = (40, pytest.param(3000, marks=pytest.mark.slow))
FEWER = (15, pytest.param(600, marks=pytest.mark.slow))

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1e308]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def hold(examples: int, *strategies: Any) -> Callable[[Callable[..., None]], None]:
    """Runs what it decorates on so many examples of the strategies."""

    def run(body: Callable[..., None]) -> None:
        how = settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        how(given(*strategies)(body))()

    return run


def places(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to every part of a tree."""
    found = [before]
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        found += places(value, (*before, key))
    return found


def changed(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The tree with another value at a place; nothing of it is shared with the first."""
    if not place:
        return value
    key, *rest = place
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[key] = changed(tree[key], tuple(rest), value)
    return copy


def spoiled(tree: Any, values: st.SearchStrategy[Any] = TREES) -> st.SearchStrategy[Any]:
    """The tree with one or two of its parts replaced."""
    one = st.builds(lambda place, value: changed(tree, place, value), st.sampled_from(places(tree)), values)
    return one.flatmap(
        lambda first: st.one_of(
            st.just(first),
            st.builds(lambda place, value: changed(first, place, value), st.sampled_from(places(first)), values),
        )
    )


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Bytes with some of them changed, left out, or put in twice."""

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        found = bytearray(data)
        for place, length, new in edits:
            found[place : place + length] = new
        return bytes(found)

    edit = st.tuples(st.integers(0, len(data)), st.integers(0, 40), st.binary(max_size=8))
    return st.lists(edit, min_size=1, max_size=4).map(apply)
