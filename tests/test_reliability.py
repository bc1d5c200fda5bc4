"""docs/reliability.md names the test that holds each promise: all of them are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)))


@cache
def named_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"}


def test_promises_name_many_tests() -> None:
    assert len(NAMED) > 100


@pytest.mark.parametrize(("path", "test"), NAMED)
def test_a_promise_is_held_by_a_test(path: str, test: str) -> None:
    assert named_in(path)
    assert not test or test in named_in(path)


def test_no_test_is_named_in_another_form() -> None:
    assert len(re.findall(r"::test_", TEXT)) == len(re.findall(r"`tests/[\w/]+\.py::test_\w+`", TEXT))
