"""Image lists on the road through the command line, and `check` before it."""

from __future__ import annotations

import json
import random
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from conftest import Outcome, RunCli, colour_images
from PIL import Image
from test_folder_road import break_pixels, stage1

from gol_decouple.cli import main
from gol_decouple.data.images import ImageFiles

NAMES = ("red", "green", "blue")
COUNTS = (12, 8, 5)
HINT = "hint: gol-decouple check CONFIG ... > bad.txt, then --set data.skip=bad.txt leaves them out\n"
SUMMARY = [
    "train.txt, test.txt have a layout of its own (images/red/0.png)",
    "there is no val split: 3 train images, 10% of each class, are held out",
    "train: 22 images, 3 of 3 classes (0 many, 0 medium, 3 few)",
    "val: 3 images, 3 of 3 classes",
    "test: 6 images, 3 of 3 classes",
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """`train.txt` of 12, 8 and 5 images and `test.txt` of 2 each, PNGs of sizes of their own."""
    root = tmp_path / "photos"
    for split, counts, seed in (("train", COUNTS, 0), ("test", (2, 2, 2), 1)):
        lines = []
        for number, (pixels, label) in enumerate(zip(*colour_images(counts, seed), strict=True)):
            path = root / ("images" if split == "train" else "more") / NAMES[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((12 + number, 30 - number)).save(path)
            lines.append(f"{path.relative_to(root)} {label}\n")
        (root / f"{split}.txt").write_text("".join(lines))
    return root


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """One epoch of stage one on 8x8 pixels."""
    path = tmp_path / "photos.toml"
    path.write_text(
        """
[data]
kind = "list"

[data.lists]
train = "train.txt"
test = "test.txt"

[transform]
size = 8

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


def check(run_cli: RunCli, config: Path, photos: Path, *more: object) -> Outcome:
    return run_cli("check", config, "--data-root", photos, *more)


def spoil(photos: Path) -> list[str]:
    """A missing image, two that are none, and one whose header and end look well; as `check` prints them."""
    (photos / "images/red/3.png").unlink()
    (photos / "images/red/4.png").write_text("hello")
    break_pixels(photos / "images/green/15.png")
    (photos / "more/blue/5.png").write_bytes(b"")
    return ["images/red/3.png", "images/red/4.png", "images/green/15.png", "more/blue/5.png"]


def test_lists_through_both_stages(config: Path, photos: Path, run_cli: RunCli) -> None:
    runs_dir = photos.parent / "runs"
    first = stage1(run_cli, config, photos)
    assert first.code == 0, first.err
    assert first.err.splitlines()[:3] == [
        *SUMMARY[:2],
        f"stage one in {runs_dir / 'photos'}: resnet32 on photos (22 train, 3 val, 6 test images, 3 classes), 1 epochs",
    ]
    second = run_cli("stage2", runs_dir / "photos", "--activation", "gumbel", "--set", "stage2.epochs=2")
    assert second.code == 0, second.err
    rows = json.loads(run_cli("report", runs_dir, "--format", "json").out)
    assert [(row["stage"], row["method"]) for row in rows] == [(1, "softmax"), (2, "gumbel")]
    again = stage1(run_cli, config, photos)
    assert "is finished and kept as it is" in again.err


def test_repeats_are_warned_of_in_training(config: Path, photos: Path, run_cli: RunCli) -> None:
    with (photos / "test.txt").open("a") as file:
        file.write("images/blue/24.png 1\nimages/blue/24.png 3\n")
    outcome = stage1(run_cli, config, photos, "--set", "stage1.epochs=0", "--set", "data.val_fraction=0.1")
    assert outcome.code == 0, outcome.err
    assert "warning: 1 images are in " in outcome.err
    assert "warning: 1 images have more than one label, such as images/blue/24.png: 2 and 1\n" in outcome.err
    assert "warning: no train sample of 1 classes: class 3\n" in outcome.err


def test_a_malformed_list_stops_before_anything_is_made(config: Path, photos: Path, run_cli: RunCli) -> None:
    (photos / "train.txt").write_text("images/red/1.png 0\nimages/red/2.png\n")
    for outcome in (stage1(run_cli, config, photos), check(run_cli, config, photos)):
        assert (outcome.code, outcome.out) == (2, "")
        line = f"error: {photos / 'train.txt'}, line 2: 'images/red/2.png' is not a path and a label\nhint: a line is"
        assert outcome.err.startswith(line)
    assert not (photos.parent / "runs").exists()


def test_bad_files_stop_before_anything_is_made(config: Path, photos: Path, run_cli: RunCli) -> None:
    spoil(photos)
    outcome = stage1(run_cli, config, photos)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: {photos}: 2 of 25 images cannot be decoded: images/red/3.png (No such file" in outcome.err
    assert "hint: replace these files; or gol-decouple check CONFIG ... > bad.txt" in outcome.err
    assert not (photos.parent / "runs").exists()


# Check


def test_check_of_good_images_prints_nothing_but_counts(config: Path, photos: Path, run_cli: RunCli) -> None:
    outcome = check(run_cli, config, photos)
    assert (outcome.code, outcome.out) == (0, "")
    *said, bar, last = outcome.err.splitlines()
    assert said == SUMMARY
    assert bar.startswith("check: 31/31 images (100%)")
    assert last == "all 31 images of photos decode"
    assert sorted(path.name for path in photos.parent.iterdir()) == ["photos", "photos.toml"], "nothing is made"


def test_check_prints_a_line_for_each_bad_image(config: Path, photos: Path, run_cli: RunCli) -> None:
    names = spoil(photos)
    outcome = check(run_cli, config, photos)
    assert outcome.code == 2
    lines = dict(line.split("\t") for line in outcome.out.splitlines())
    assert sorted(lines) == sorted(names)
    assert lines[names[0]] == "No such file or directory"
    assert lines[names[1]] == lines[names[3]] == "not an image"
    assert lines[names[2]]
    assert outcome.err.splitlines()[: len(SUMMARY)] == SUMMARY
    error, hint = outcome.err.splitlines(keepends=True)[-2:]
    assert error.startswith(
        f"error: {photos}: 4 of 31 images are bad; 1 missing: images/red/3.png; 3 cannot be decoded: "
    )
    assert "images/red/4.png (not an image)" in error
    assert hint == HINT
    assert "Traceback" not in outcome.err


def test_what_check_prints_is_what_skip_leaves_out(config: Path, photos: Path, run_cli: RunCli) -> None:
    spoil(photos)
    bad = photos.parent / "bad.txt"
    bad.write_text(check(run_cli, config, photos).out, encoding="utf-8")
    note = f"data.skip = {bad}: 3 of 25 train, 1 of 6 test images are left out: images/green/15.png, images/red/3.png,"
    again = check(run_cli, config, photos, "--set", f"data.skip={bad}")
    assert (again.code, again.out) == (0, "")
    assert note in again.err
    assert again.err.endswith("all 27 images of photos decode\n")
    trained = stage1(run_cli, config, photos, "--set", f"data.skip={bad}")
    assert trained.code == 0, trained.err
    assert note in trained.err


def test_an_image_in_two_splits_is_checked_and_printed_once(config: Path, photos: Path, run_cli: RunCli) -> None:
    (photos / "images/red/3.png").write_text("hello")
    with (photos / "test.txt").open("a") as file:
        file.write("images/red/3.png 0\n")
    outcome = check(run_cli, config, photos)
    assert outcome.out == "images/red/3.png\tnot an image\n"
    assert "1 of 31 images are bad; 1 cannot be decoded" in outcome.err


def test_check_tells_of_sizes_that_need_a_size(config: Path, photos: Path, run_cli: RunCli) -> None:
    config.write_text(config.read_text().replace("size = 8\n", "", 1))
    outcome = check(run_cli, config, photos)
    assert (outcome.code, outcome.out) == (2, "")
    assert "error: images differ in size: 6x36, 7x35, 8x34 and 22 more\nhint: --set transform.size=64" in outcome.err
    (photos / "images/blue/24.png").unlink()
    both = check(run_cli, config, photos)
    assert (both.code, both.out) == (2, "images/blue/24.png\tNo such file or directory\n")
    assert "warning: images differ in size: 7x35, 8x34, 9x33 and 21 more (--set transform.size=64" in both.err
    assert "error: " in both.err
    assert "1 of 31 images are bad" in both.err


def test_check_of_lists_for_another_layout_says_so(config: Path, photos: Path, run_cli: RunCli) -> None:
    (photos / "data_256/a/airfield").mkdir(parents=True)
    lines = "".join(f"train/airfield/{i:08}.jpg 0\n" for i in range(10))
    (photos / "train.txt").write_text(lines)
    outcome = check(run_cli, config, photos)
    assert (outcome.code, len(outcome.out.splitlines())) == (2, 10)
    assert "10 of 16 images are bad; 10 missing: " in outcome.err
    hint = "holds Places365's data_256 layout, but the images are listed in Places365's easy-directory layout"
    assert f"hint: {photos} {hint}: take the list that goes with the images\n" in outcome.err


def test_check_of_folders(config: Path, photos: Path, run_cli: RunCli) -> None:
    (photos / "images").rename(photos / "train")
    (photos / "more").rename(photos / "test")
    text = config.read_text().replace('"list"', '"folder"')
    start, end = text.index("[data.lists]"), text.index("[transform]")
    config.write_text(text[:start] + text[end:])
    assert check(run_cli, config, photos).err.endswith("all 31 images of photos decode\n")
    break_pixels(photos / "train/green/15.png")
    outcome = check(run_cli, config, photos)
    assert outcome.out.startswith("train/green/15.png\t")
    assert (outcome.code, outcome.out.count("\n")) == (2, 1)


def test_check_of_arrays_counts_them(small_config: Path, tmp_path: Path, run_cli: RunCli) -> None:
    outcome = run_cli("check", small_config)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.splitlines() == [
        "train: 67 images, 3 of 3 classes (0 many, 2 medium, 1 few)",
        "test: 30 images, 3 of 3 classes",
        "97 images in arrays: there is nothing to decode",
    ]
    zeros, labels = np.zeros((3, 4, 4, 3), np.uint8), np.arange(3)
    np.savez(tmp_path / "a.npz", train_images=zeros, train_labels=labels, test_images=zeros[:, :3], test_labels=labels)
    other = run_cli("check", small_config, "--data-root", tmp_path / "a.npz")
    assert (other.code, other.out) == (2, "")
    assert "error: images differ in size: 3x4, 4x4" in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data-root", "nowhere"], "error: data.path = nowhere: there is no such folder"),
        ([], "error: data.kind = 'list' needs data.path"),
        (["--set", "data.lists.train="], "error: data.kind = 'list' needs data.lists.train"),
        (["--set", "data.kind=digits"], "error: data.lists is set, but data.kind = 'digits' has no lists"),
        (["--set", "data.skip=x.txt", "--set", "data.kind=digits"], "error: data.skip leaves out images in files, but"),
    ],
)
def test_check_of_what_is_not_there(config: Path, run_cli: RunCli, arguments: list[str], message: str) -> None:
    outcome = run_cli("check", config, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(message)
    assert "hint: " in outcome.err


def test_a_name_that_is_not_utf_8_is_printed_as_it_is(
    config: Path, photos: Path, handlers_as_before: None, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with (photos / "test.txt").open("ab") as file:
        file.write(b"caf\xe9.png 0\n")
    with pytest.MonkeyPatch.context() as patch:
        cast("TextIOWrapper", sys.stderr).reconfigure(errors="backslashreplace")  # as that of a program is
        patch.setattr("sys.argv", ["gol-decouple", "check", str(config), "--data-root", str(photos)])
        assert main() == 2
    assert capsysbinary.readouterr().out == b"caf\xe9.png\tNo such file or directory\n"


# Real photographs


def test_check_of_real_photographs_grey_ones_among_them(
    tmp_path: Path, real_data: Path, config: Path, run_cli: RunCli
) -> None:
    root = real_data / "tiny_imagenet_lt"
    lines = {split: (root / f"TinyImageNet_LT_{split}.txt").read_text().splitlines() for split in ("train", "test")}
    every = [line.rsplit(" ", 1)[0] for split in lines.values() for line in split]
    grey = []
    for name in every:
        with Image.open(root / name) as image:
            if image.mode == "L":
                grey.append(name)
    assert len(grey) == 131
    chosen = {*grey, *random.Random(0).sample(every, 200), every[-1]}  # the last is of the last class
    for split, all_lines in lines.items():
        some = [line for line in all_lines if line.rsplit(" ", 1)[0] in chosen]
        (tmp_path / f"{split}.txt").write_text("\n".join(some))
    settings = [f"data.lists.folder={tmp_path}", f"data.class_names={root / 'classes.txt'}"]
    outcome = run_cli("check", config, "--data-root", root, "--set", settings[0], "--set", settings[1])
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    assert outcome.err.endswith(f"all {len(chosen)} images of tiny_imagenet_lt decode\n")
    files = ImageFiles(root, grey[:5])
    for i in range(5):
        assert files[i].shape == (64, 64, 3)
        assert (files[i] == files[i][..., :1]).all()
