"""What of mmdetection's `meta` is kept, and how it is written back."""

from __future__ import annotations

import json

import pytest
import torch

from gol_decouple.backbones.checkpoint_meta import meta_of, number_of_classes, with_classes


def test_only_plain_data_that_matter_are_kept() -> None:
    notes = {
        "config": "model = dict()",
        "cfg": torch.ones(1),
        "epoch": 12,
        "CLASSES": ("cat", "dog"),
        "dataset_meta": {"classes": ["cat", 5], "CLASSES": ("cat", "dog"), "palette": [(1, 2, 3)]},
    }
    found = meta_of(notes)
    both = ["cat", "dog"]
    assert found == {"config": "model = dict()", "CLASSES": both, "dataset_meta": {"CLASSES": both}}
    assert json.loads(json.dumps(found)) == found
    assert number_of_classes(found) == 2
    assert number_of_classes(meta_of({"dataset_meta": {"classes": ["a"]}})) == 1


@pytest.mark.parametrize("notes", [{}, {"format": "pt"}, {"dataset_meta": 5, "CLASSES": "cat"}, {"dataset_meta": {}}])
def test_there_may_be_nothing(notes: dict[str, object]) -> None:
    assert meta_of(notes) == {}
    assert number_of_classes(meta_of(notes)) is None
    assert with_classes(notes, ["a"], None) == {}


def test_names_are_written_in_the_files_order() -> None:
    meta = {"cfg": "text", "dataset_meta": {"classes": ["x", "y"]}}
    assert with_classes(meta, ["a", "b", "c"], (2, 0, 1)) == {
        "cfg": "text", "dataset_meta": {"classes": ("b", "c", "a")}
    }  # fmt: skip
    assert with_classes(meta, ["a", "b"], None)["dataset_meta"]["classes"] == ("a", "b")
    with pytest.raises(ValueError, match="zip"):
        with_classes(meta, ["a", "b"], (0,))
