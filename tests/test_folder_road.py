"""A folder of photographs on the road through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Outcome, RunCli, colour_images
from PIL import Image
from test_cli import snapshot

NAMES = ("red", "green", "blue")
COUNTS = (12, 8, 5)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """`photos/train`, three classes of 12, 8 and 5 JPEGs and PNGs, each of a size of its own; neither val nor test."""
    images, labels = colour_images(COUNTS, 0)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "photos" / "train" / NAMES[label] / f"{number}.{'png' if number % 3 == 0 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((12 + number, 30 - number)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """One epoch of stage one on 8x8 pixels."""
    path = tmp_path / "photos.toml"
    path.write_text(
        """
[data]
kind = "folder"

[transform]
size = 8
random_resized_crop = true
flip = true

[backbone]
name = "resnet32"

[stage1]
epochs = 1
batch_size = 8
lr = 0.01
num_workers = 0
""",
        encoding="utf-8",
    )
    return path


def stage1(run_cli: RunCli, config: Path, photos: Path, *more: object) -> Outcome:
    return run_cli("stage1", config, "--data-root", photos, "--runs-dir", photos.parent / "runs", *more)


def assert_refused(outcome: Outcome, message: str) -> None:
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert "hint: " in outcome.err
    assert "Traceback" not in outcome.err


def break_pixels(path: Path) -> None:
    """Leave a PNG's header and end as they are: what cannot be decoded is in between."""
    data = path.read_bytes()
    start = data.index(b"IDAT") + 4
    path.write_bytes(data[:start] + b"\xff" * 40 + data[start + 40 :])


def test_a_folder_of_photographs_through_both_stages(config: Path, photos: Path, run_cli: RunCli) -> None:
    runs_dir = photos.parent / "runs"
    first = stage1(run_cli, config, photos)
    assert first.code == 0, first.err
    notes = first.err.splitlines()[:3]
    # Of 12, 8 and 5: 2, 2 and 1 for test; of the 10, 6 and 4 left: 1 each for val.
    assert notes == [
        "there is no test split: 5 train images, 20% of each class, are held out",
        "there is no val split: 3 train images, 10% of each class, are held out",
        f"stage one in {runs_dir / 'photos'}: resnet32 on photos (17 train, 3 val, 5 test images, 3 classes), 1 epochs",
    ]

    second = run_cli("stage2", runs_dir / "photos", "--activation", "gumbel", "--set", "stage2.epochs=2")
    assert second.code == 0, second.err
    report = run_cli("report", runs_dir, "--format", "json")
    assert report.code == 0, report.err
    rows = json.loads(report.out)
    assert [(row["stage"], row["method"]) for row in rows] == [(1, "softmax"), (2, "gumbel")]
    for row in rows:
        assert row["top1"] in (0, 20, 40, 60, 80, 100), "of five test images"
        assert (row["num_many"], row["num_medium"], row["num_few"]) == (0, 0, 3)
    assert "photos" in run_cli("report", runs_dir).out


def test_a_file_that_is_no_image_stops_before_anything_is_made(config: Path, photos: Path, run_cli: RunCli) -> None:
    (photos / "train" / "red" / "4.jpg").write_text("hello")
    (photos / "train" / "blue" / "24.png").write_bytes(b"")
    outcome = stage1(run_cli, config, photos)
    names = "train/blue/24.png (not an image), train/red/4.jpg (not an image)"
    assert_refused(outcome, f"error: {photos}: 2 of 25 images cannot be decoded: {names}\n")
    assert not (photos.parent / "runs").exists()


def test_a_file_that_is_no_image_costs_no_finished_run(config: Path, photos: Path, run_cli: RunCli) -> None:
    assert stage1(run_cli, config, photos, "--set", "stage1.epochs=0").code == 0
    before = snapshot(photos.parent / "runs")
    (photos / "train" / "red" / "4.jpg").write_text("hello")
    outcome = stage1(run_cli, config, photos, "--overwrite")
    assert_refused(outcome, "train/red/4.jpg (not an image)")
    assert snapshot(photos.parent / "runs") == before


def test_pixels_that_cannot_be_decoded_are_found_in_training_and_named(
    config: Path, photos: Path, run_cli: RunCli
) -> None:
    path = photos / "train" / "green" / "15.png"
    whole = path.read_bytes()
    break_pixels(path)
    outcome = stage1(run_cli, config, photos)
    assert_refused(outcome, f"error: {path} cannot be decoded: ")
    assert not (photos.parent / "runs" / "photos" / "manifest.json").exists()
    path.write_bytes(whole)
    again = stage1(run_cli, config, photos)
    assert again.code == 0, again.err


def test_photographs_of_different_sizes_need_a_size(config: Path, photos: Path, run_cli: RunCli) -> None:
    text = config.read_text(encoding="utf-8").replace("size = 8\nrandom_resized_crop = true\n", "", 1)
    config.write_text(text, encoding="utf-8")
    outcome = stage1(run_cli, config, photos)
    assert_refused(outcome, "error: images differ in size: 6x36, 7x35, 8x34 and 22 more\n")
    assert "hint: --set transform.size=64 resizes them all" in outcome.err
    assert not (photos.parent / "runs").exists()


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("nowhere", "error: data.path = nowhere: there is no such folder"),
        (None, "error: data.kind = 'folder' needs data.path"),
    ],
)
def test_a_folder_that_is_not_there(
    tmp_path: Path, config: Path, run_cli: RunCli, root: str | None, message: str
) -> None:
    arguments = [] if root is None else ["--data-root", root]
    outcome = run_cli("stage1", config, *arguments, "--runs-dir", tmp_path / "runs")
    assert_refused(outcome, message)
    assert not (tmp_path / "runs").exists()
