"""Test images of the page: those that retraining mends and loses, or why there are none."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from page_runs import found_in, make_run
from PIL import Image

from gol_decouple.data import cifar, load_data
from gol_decouple.errors import InputError
from gol_decouple.report.page import samples as samples_module
from gol_decouple.report.page.samples import Samples, samples
from gol_decouple.report.page.studies import studies
from gol_decouple.settings import DataConfig

METHODS = {"crt": [[2, 3, 3]]}


def of(path: Path) -> Samples:
    return samples(studies(found_in(path))[0])


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_mended_and_lost_with_what_was_predicted(tmp_path: Path) -> None:
    found = of(make_run(tmp_path / "lt", METHODS))
    assert (found.baseline, found.method, found.reason) == ("stage one", "crt", "")
    assert (found.num_mended, found.num_lost, found.total) == (4, 2, 12)
    assert [one.truth for one in found.mended] == ["blue", "blue", "blue", "green"], "classes with few images first"
    assert {one.truth for one in found.lost} == {"red"}
    first, lost = found.mended[0], found.lost[0]
    assert (first.group, first.before, first.after) == ("few", "red (0.75)", "blue (0.75)")
    assert (lost.group, lost.before, lost.after) == ("many", "red (0.75)", "green (0.75)")
    assert (first.width, first.height, first.is_large) == (8, 8, False)
    assert first.uri.startswith("data:image/png;base64,")
    assert pixels(first.uri)[0, 0].tolist() == [0, 0, 200]
    assert 8 <= first.id < 11
    assert of(tmp_path) == found, "the same at the next time"


def test_of_many_some_are_shown_each_class_before_one_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    groups = {"many": np.array([False] * 3), "medium": np.array([False, False, True])}
    groups["few"] = np.array([True, True, False])
    monkeypatch.setattr(samples_module, "MOST", 5)
    chosen = samples_module._chosen(np.ones(6, dtype=bool), labels, groups)
    assert sorted(labels[chosen[:2]].tolist()) == [0, 1]
    assert sorted(labels[chosen[2:4]].tolist()) == [0, 1]
    assert len(chosen) == 5
    assert labels[chosen[4]] == 0


def test_large_images_are_made_small(tmp_path: Path) -> None:
    uri, width, height = samples_module._data_uri(np.full((300, 600, 3), 90, dtype=np.uint8))
    assert (width, height) == (96, 48)
    assert uri.startswith("data:image/jpeg;base64,")
    assert pixels(uri).shape == (48, 96, 3)


def test_images_in_files(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", METHODS)
    for split, number in (("train", 1), ("test", 4)):
        for place, name in enumerate(("a", "b", "c")):
            for image in range(number):
                path = tmp_path / "photos" / split / name / f"{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((20, 20, 3), 40 * place, dtype=np.uint8)).save(path)
    config = (run / "config.toml").read_text()
    config = config.replace('"npz"', '"folder"').replace(str(tmp_path / "lt.npz"), str(tmp_path / "photos"))
    (run / "config.toml").write_text(config)
    found = of(run)
    assert [one.truth for one in found.mended] == ["c", "c", "c", "b"]
    assert pixels(found.mended[0].uri)[0, 0].tolist() == [80, 80, 80]
    shown = tmp_path / "photos" / "test" / "c"
    for path in shown.iterdir():
        path.write_bytes(b"no image")
    assert "cannot be decoded" in of(run).reason


def test_relative_paths_start_where_the_command_was_typed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "lt", METHODS, folder=str(tmp_path))
    config = run / "config.toml"
    config.write_text(config.read_text().replace(str(tmp_path / "runs" / "lt.npz"), "runs/lt.npz"))
    assert of(run).num_mended == 4


# Where there is none


def test_images_that_are_gone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", METHODS)
    (tmp_path / "lt.npz").unlink()
    assert of(run).reason == f"data.path = {tmp_path / 'lt.npz'}: there is no such file"


def test_images_that_are_others(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", METHODS)
    arrays = dict(np.load(tmp_path / "lt.npz"))
    np.savez(tmp_path / "lt.npz", **arrays | {"test_labels": arrays["test_labels"][::-1]})
    assert of(run).reason == f"the images in {tmp_path / 'lt.npz'} are not those that were tested"
    np.savez(tmp_path / "lt.npz", **{name: part[:5] if "test" in name else part for name, part in arrays.items()})
    assert "are not those that were tested" in of(run).reason


def test_features_without_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", METHODS)
    (run / "config.toml").unlink()
    shutil.copytree(run / "stage2" / "0", run / "stage2" / "1")
    tree = json.loads((run / "stage2" / "1" / "manifest.json").read_text())
    (run / "stage2" / "1" / "manifest.json").write_text(json.dumps(tree | {"method": "softmax"}))
    assert "were made elsewhere" in of(run).reason


@pytest.mark.parametrize("name", ["predictions.npz", "config.toml"])
def test_damaged_files_are_told(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "lt", METHODS)
    found = studies(found_in(run))[0]
    (run / name).write_bytes(b"\xff\x00 = [")
    assert str(run / name) in samples(found).reason


def test_nothing_to_compare(tmp_path: Path) -> None:
    assert of(make_run(tmp_path / "lt", {})).reason == "there is no method and baseline of one run to compare"


def test_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was asked for")

    monkeypatch.setattr(cifar, "_CLASSES", {"cifar10": type("Source", (), {"base_folder": "b", "__init__": refuse})})
    with pytest.raises(InputError, match="has no b"):
        load_data(DataConfig(kind="cifar10", path=str(tmp_path)), download=False)
