"""Messages in one voice: the rules of CONTRIBUTING.md that can be read off the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gol_decouple

PACKAGE = Path(gol_decouple.__file__).parent
SPEAKING = {"InputError", "EnvironmentFailure", "SomeFailed", "GolDecoupleError", "say", "warn", "fail", "refuse"}
# What begins with a capital because it is called so.
NAMES = ("ONNX", "RoIs", "BatchNorm", "CUDA", "Mask R-CNN", "TensorBoard", "LVIS", "COCO", "RUN", "Detection(")
AVOIDED = re.compile(r"\b(please|sorry|invalid|failed to|unable to|oops)\b", re.IGNORECASE)
FILL = "\x00"  # what stands for a value that is filled in


def text_of(node: ast.AST) -> str | None:
    """A literal text, with FILL for what is filled in; None if it is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else FILL for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return (left if left is not None else FILL) + (right if right is not None else FILL)
    return None


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def said(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every literal message, warning and hint, with its line; also those that a name holds on the way."""
    for node in ast.walk(tree):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Call):
            parts += node.args[:2] if called(node) in SPEAKING else []
            parts += [keyword.value for keyword in node.keywords if keyword.arg == "hint"]
        elif isinstance(node, ast.Assign) and {getattr(one, "id", "") for one in node.targets} & {"told", "hint"}:
            parts.append(node.value)
        for part in parts:
            text = text_of(part)
            if text:
                yield part.lineno, text  # type: ignore[attr-defined]


def problems_of(text: str) -> list[str]:
    """Which of the rules a message breaks."""
    found = []
    if text.endswith(".") and not text.endswith("..."):
        found.append("ends with a full stop")
    if text[0].isupper() and not text.startswith(NAMES):
        found.append("begins with a capital")
    if text.endswith("!"):
        found.append("shouts")
    if word := AVOIDED.search(text):
        found.append(f"says {word[0]!r}")
    if re.search(rf"(?<!\d)'{FILL}'", text):
        found.append("quotes a name by hand, not by !r")
    return found


def test_messages_follow_the_rules() -> None:
    broken = []
    count = 0
    for module in sorted(PACKAGE.rglob("*.py")):
        for line, text in said(ast.parse(module.read_text(encoding="utf-8"))):
            count += 1
            broken += [f"{module.relative_to(PACKAGE)}:{line}: {why}: {text!r}" for why in problems_of(text)]
    assert not broken, "\n".join(broken)
    assert count > 500, "the walk finds them"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("the file is damaged.", "full stop"),
        ("The file is damaged", "capital"),
        ("it is done!", "shouts"),
        ("please run it again", "'please'"),
        (f"unknown method '{FILL}'", "!r"),
    ],
)
def test_the_rules_find_what_breaks_them(text: str, why: str) -> None:
    (found,) = problems_of(text)
    assert why in found
    assert problems_of("RoIs have no ids, see docs/...") == []


def test_help_texts_are_sentences() -> None:
    broken, count = [], 0
    for module in sorted((PACKAGE / "cli").rglob("*.py")):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            texts = []
            if isinstance(node, ast.Call):
                texts = [text_of(keyword.value) for keyword in node.keywords if keyword.arg == "help"]
            elif isinstance(node, ast.FunctionDef) and any(
                "attr='command'" in ast.dump(one) for one in node.decorator_list
            ):
                texts = [ast.get_docstring(node)]
            for text in texts:
                count += 1
                if text is None or not text.endswith("."):
                    broken.append(f"{module.name}:{node.lineno}: {text!r}")
    assert not broken, "\n".join(broken)
    assert count > 50
