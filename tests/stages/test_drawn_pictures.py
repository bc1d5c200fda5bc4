"""`gol-decouple predict --pictures`: which files are written, and that nothing is overwritten."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli
from PIL import Image
from test_prediction import assert_refused

from gol_decouple.detection.drawing import drawn
from gol_decouple.predictions import Best, ImageDetections
from gol_decouple.stages.detector_prediction import detect_in_pictures
from gol_decouple.stages.finding import find_classifier
from gol_decouple.stages.restored_detector import restore_detector

pytestmark = pytest.mark.usefixtures("narrow_detectors")


@pytest.fixture
def run(retrained_detector: Path) -> Path:
    return retrained_detector


@pytest.fixture
def images(tmp_path: Path, annotated_root: Path) -> Path:
    """Two of the run's images, in two folders and several formats."""
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(annotated_root / "train" / "0.png", folder / "a.png")
    with Image.open(annotated_root / "train" / "1.png") as image:
        image.save(folder / "b.JPG", format="JPEG")
        image.save(folder / "c.bmp")
    shutil.copy(annotated_root / "train" / "1.png", folder / "deeper" / "a.png")
    return folder


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_each_picture_is_written_as_it_lies(tmp_path: Path, run_cli: RunCli, run: Path, images: Path) -> None:
    out = tmp_path / "new" / "drawn"
    outcome = run_cli("predict", run, images, "--min-score", 0.05, "--pictures", out)
    assert outcome.code == 0, outcome.err
    assert files_of(out) == ["a.png", "b.JPG", "c.bmp.png", "deeper/a.png"]
    assert f"4 pictures with what was found are in {out}\n" in outcome.err
    assert outcome.out.count(str(images)) == 4, "and the table is printed as ever"
    with Image.open(out / "b.JPG") as image:
        assert (image.format, image.size) == ("JPEG", (72 * 6, 56 * 6))
    with Image.open(out / "c.bmp.png") as image:
        assert image.format == "PNG"


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_what_is_shown_is_drawn_with_its_masks(
    tmp_path: Path, run_cli: RunCli, run: Path, annotated_root: Path, format_: str
) -> None:
    """Whatever is printed beside: a program's csv may have all, a picture would be full of it."""
    picture = annotated_root / "train" / "0.png"
    arguments = ("--method", "gumbel", "--format", format_, "--pictures", tmp_path / "out")
    assert run_cli("predict", run, picture, *arguments).code == 0
    model = restore_detector(find_classifier(run, "gumbel"))
    shown = Best(20, 0.1)
    (found,) = detect_in_pictures(model, [picture], shown, shown)
    assert isinstance(found, ImageDetections)
    assert len(found.masks) == len(found.boxes) > 0
    with Image.open(tmp_path / "out" / "0.png") as image, Image.open(picture) as plain:
        assert np.array_equal(np.asarray(image), np.asarray(drawn(np.asarray(plain.convert("RGB")), found)))


def test_top_k_and_min_score_hold_for_pictures_too(
    tmp_path: Path, run_cli: RunCli, run: Path, annotated_root: Path
) -> None:
    picture = annotated_root / "train" / "0.png"
    arguments = ("--format", "json", "--top-k", 1, "--min-score", 0.0)
    assert run_cli("predict", run, picture, *arguments, "--pictures", tmp_path / "out").code == 0
    (found,) = detect_in_pictures(restore_detector(find_classifier(run)), [picture], Best(1), Best(1))
    assert isinstance(found, ImageDetections)
    with Image.open(tmp_path / "out" / "0.png") as image, Image.open(picture) as plain:
        assert np.array_equal(np.asarray(image), np.asarray(drawn(np.asarray(plain.convert("RGB")), found)))


def test_nothing_is_overwritten(tmp_path: Path, run_cli: RunCli, run: Path, images: Path) -> None:
    before = {name: (images / name).read_bytes() for name in files_of(images)}
    refused = run_cli("predict", run, images, "--pictures", images)
    assert_refused(refused, f"--pictures {images} has {images / 'a.png'}", "name another folder, or remove")
    (tmp_path / "out" / "deeper").mkdir(parents=True)
    (tmp_path / "out" / "deeper" / "a.png").write_text("mine")
    refused = run_cli("predict", run, images, "--pictures", tmp_path / "out")
    assert_refused(refused, f"has {tmp_path / 'out' / 'deeper' / 'a.png'} already", "name another folder")
    assert files_of(tmp_path / "out") == ["deeper/a.png"]
    (tmp_path / "file").write_text("")
    refused = run_cli("predict", run, images, "--pictures", tmp_path / "file")
    assert_refused(refused, "file is not a folder", "it is made if it is not there")
    shutil.copy(images / "c.bmp", images / "c.bmp.png")
    refused = run_cli("predict", run, images, "--pictures", tmp_path / "new")
    assert_refused(refused, "two images would be drawn as", "rename")
    assert {name: (images / name).read_bytes() for name in before} == before


def test_runs_are_never_drawn_into(tmp_path: Path, run_cli: RunCli, run: Path, images: Path) -> None:
    before = files_of(run)
    for folder in (run, find_classifier(run, "gumbel").folder):
        refused = run_cli("predict", run, images, "--pictures", folder)
        assert_refused(refused, f"--pictures {folder} is a run", "name a folder outside of it")
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(run / "config.toml", begun)
    assert_refused(run_cli("predict", run, images, "--pictures", begun), f"{begun} is a run", "outside of it")
    assert (files_of(run), files_of(begun)) == (before, ["config.toml"])


def test_a_disk_that_refuses_ends_it(
    tmp_path: Path, run_cli: RunCli, run: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    outcome = run_cli("predict", run, images, "--pictures", tmp_path / "out")
    assert outcome.code == 3
    assert "error: the disk is full" in outcome.err
    assert "hint: free some space, or choose another folder" in outcome.err
    assert files_of(tmp_path / "out") == []
