"""How two features differ, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gol_decouple import belonging
from gol_decouple.belonging import differences, is_of, own_features, told
from gol_decouple.errors import InputError

FACTS: dict[str, Any] = {
    "backbone": {"name": "resnet32", "sha256": "0123456789abcdef"},
    "dataset": {"name": "cats", "sha256": "1"},
    "transform": {"size": 32, "mean": [0.5, 0.5, 0.5]},
    "classes": ["cat", "dog", "fox"],
    "images": {"train": 9, "test": 3},
    "views": 1,
    "frequency": "rcf",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"transform": {"size": 32, "mean": (0.5, 0.5, 0.5)}}, []),
        ({"new part": 3}, []),
        (
            {"backbone": {"name": "timm:resnet18", "sha256": "fedcba9876543210"}},
            ["backbone.name: resnet32 -> timm:resnet18", "backbone.sha256: 0123456789ab -> fedcba987654"],
        ),
        ({"transform": {"mean": [0.5, 0.5, 0.5]}}, ["transform.size: 32 -> not told"]),
        ({"transform": FACTS["transform"] | {"flip": True}}, ["transform.flip: not told -> True"]),
        ({"classes": ["cat", "fox", "dog"]}, ["class order: class 1 'dog' -> 'fox', and 1 more"]),
        ({"classes": ["cat", "hound", "fox"]}, ["class names: class 1 'dog' -> 'hound'"]),
        ({"classes": ["cat", "dog"]}, ["number of classes: 3 -> 2"]),
        ({"frequency": "rrf"}, ["frequency: class 1 'c' -> 'r'"]),
        ({"images": {"train": 10, "test": 3}, "views": 2}, ["images.train: 9 -> 10", "views: 1 -> 2"]),
        ({"backbone": None}, ["backbone: resnet32 -> not told"]),
    ],
)
def test_differing_fields_have_both_values(changes: dict[str, Any], expected: list[str]) -> None:
    assert differences(FACTS, FACTS | changes) == expected


def test_what_was_not_told_before_is_passed_over() -> None:
    assert differences({"views": 1}, FACTS) == []


def test_features_that_differ_in_their_values_alone_are_told_by_their_fingerprints() -> None:
    line = told(FACTS | {"fingerprint": "a" * 64}, FACTS | {"fingerprint": "b" * 64})
    assert line == "fingerprint: aaaaaaaaaaaa -> bbbbbbbbbbbb, though all that is told of them is alike"


def test_a_classifier_is_of_the_features_of_its_fingerprint() -> None:
    manifest = {"features": {"fingerprint": "a"}}
    assert is_of({"fingerprint": "a"}, manifest)
    assert not is_of({"fingerprint": "b"}, manifest)
    assert is_of({}, manifest), "a run of an older version does not tell"
    assert is_of({"fingerprint": "b"}, {})


def test_own_features_are_those_of_the_manifest_or_of_the_record(tmp_path: Path) -> None:
    assert own_features(tmp_path) == {}
    (tmp_path / belonging.RECORD).write_text(json.dumps({"fingerprint": "record"}))
    assert own_features(tmp_path) == {"fingerprint": "record"}
    (tmp_path / "manifest.json").write_text(json.dumps({"features": {"fingerprint": "run"}}))
    assert own_features(tmp_path) == {"fingerprint": "run"}
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match=r"manifest.json does not hold a JSON object"):
        own_features(tmp_path)
