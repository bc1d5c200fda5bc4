"""docs/features-format.md: its examples run, and stage two takes what they write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli

from gol_decouple import features
from gol_decouple.errors import InputError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features-format.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)

COMMANDS = re.findall(r"^    gol-decouple (stage2 .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(example: str) -> None:
    exec(compile(example, str(PAGE), "exec"), {})


def test_there_are_three_examples() -> None:
    assert (len(EXAMPLES), len(COMMANDS)) == (3, 2)


def test_a_file_from_arrays_goes_through_stage_two(folder: Path, run_cli: RunCli) -> None:
    run(EXAMPLES[0])
    file = features.open("my_features.h5")
    assert file.checked
    assert file.classes.train_counts.tolist() == [200, 40, 8]
    outcome = run_cli(*COMMANDS[0].split(), "--set", "stage2.epochs=2")
    assert outcome.code == 0, outcome.err
    assert "no checksums" not in outcome.err
    assert len(list((folder / "runs" / "my_features" / "stage2").iterdir())) >= 1


def test_rois_of_another_framework_go_through_stage_two(folder: Path, run_cli: RunCli) -> None:
    run(EXAMPLES[1])
    file = features.open("my_rois.h5")
    assert file.checked
    assert file.is_detection
    assert file.classifier is not None
    assert file.classifier.weight.shape == (4, 16)
    assert file.regressor is not None
    assert file.regressor.weight.shape == (3, 4, 16)
    images = file["test"].images
    np.testing.assert_array_equal(images.ids, np.arange(60, 80))
    assert set(images.num_rois.tolist()) <= {4, 5, 6, 7, 8}
    assert file.classes.frequency is not None
    assert file.classes.frequency.tolist() == ["c", "c", "r"]
    images = [{"id": id_, "height": 200, "width": 200, "neg_category_ids": [1, 2, 3]} for id_ in range(60, 80)]
    categories = [{"id": id_, "name": name} for id_, name in ((1, "dog"), (2, "cat"), (3, "fox"))]
    one = {"id": 1, "image_id": 60, "category_id": 2, "bbox": [5, 5, 40, 40]}
    tree = {"images": images, "annotations": [one], "categories": categories}
    (folder / "my_val.json").write_text(json.dumps(tree))
    outcome = run_cli(*COMMANDS[1].split(), "--set", "stage2.epochs=2")
    assert outcome.code == 0, outcome.err
    assert "20 images of my_val.json" in " ".join(outcome.out.split())


def test_a_minimal_file_is_read_and_reported_as_unchecked(folder: Path, run_cli: RunCli) -> None:
    run(EXAMPLES[2])
    file = features.open("bare_features.h5")
    assert (file.checked, file.splits, file.feature_size) == (False, ["train", "test"], 3)
    assert file["train"].features.shape == (1, 248, 3)
    np.testing.assert_array_equal(file["test"].labels, np.repeat([0, 1, 2], 20))
    outcome = run_cli("stage2", "bare_features.h5", "--activation", "softmax", "--set", "stage2.epochs=2")
    assert outcome.code == 0, outcome.err
    assert "it has no checksums" in outcome.err


@pytest.mark.parametrize("part", ["format", "version", "train", "train/features", "train/labels"])
def test_the_minimal_file_is_minimal(folder: Path, part: str) -> None:
    """Every part of it is required."""
    import h5py

    run(EXAMPLES[2])
    with h5py.File("bare_features.h5", "r+") as file:
        del (file.attrs if part in file.attrs else file)[part]
    with pytest.raises(InputError, match="bare_features"):
        features.open("bare_features.h5")
