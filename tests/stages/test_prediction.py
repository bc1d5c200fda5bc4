"""`gol-decouple predict`: what a finished model sees in image files, and that it is what the evaluation saw."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NOT_LINEAR, PLAIN, TEMPERED, Outcome, RunCli
from PIL import Image

from gol_decouple import predictions
from gol_decouple.data.pictures import find_pictures
from gol_decouple.errors import InputError
from gol_decouple.stages.finding import find_classifier
from gol_decouple.stages.prediction import predict_images
from gol_decouple.stages.restored import restore

NAMES = ["red", "green", "blue"]


@pytest.fixture
def run(retrained_run: Path) -> Path:
    return retrained_run


def predict(run_cli: RunCli, run: Path, *arguments: object) -> list[dict[str, Any]]:
    outcome = run_cli("predict", run, *arguments, "--format", "json")
    assert outcome.code == 0, outcome.err
    found: list[dict[str, Any]] = json.loads(outcome.out)
    return found


def assert_refused(outcome: Outcome, message: str, hint: str) -> None:
    assert (outcome.code, outcome.out) == (2, "")
    first, second = outcome.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith("hint: ")
    assert hint in second


# That it is what the evaluation saw


@pytest.mark.parametrize("method", [None, *PLAIN, *TEMPERED, *NOT_LINEAR])
def test_it_sees_in_images_what_the_evaluation_saw_in_their_features(
    run_cli: RunCli, run: Path, photos: Path, method: str | None
) -> None:
    found = predict(run_cli, run, photos, *([] if method is None else ["--method", method, "--seed", 0]))
    folder = find_classifier(run, method, None if method is None else 0).folder
    with np.load(folder / "predictions.npz") as saved:
        place = {number: at for at, number in enumerate(saved["id"].tolist())}
        classes, scores = saved["classes"], saved["scores"].astype(np.float64)
    assert len(found) == 30
    for one in found:
        row = place[int(Path(one["image"]).stem)]
        assert [each["class"] for each in one["predictions"]] == classes[row].tolist()
        assert [each["name"] for each in one["predictions"]] == [NAMES[label] for label in classes[row]]
        # The evaluation has read the features as float16, which moves logits by up to 2^-11 of their size, and with
        # them a score by a quarter of that at most.
        size = np.ptp(np.log(scores[row].clip(1e-30)))
        wanted = pytest.approx(scores[row], rel=1e-2, abs=max(2e-3, size * 2**-13))
        assert [each["score"] for each in one["predictions"]] == wanted


def test_scores_of_a_temperature_are_those_at_it(run: Path, photos: Path) -> None:
    model = restore(find_classifier(run, "focal"))
    assert model.temperature == model.found.manifest["temperature"] != 1.0
    pictures = find_pictures([photos])
    for one in predict_images(model, pictures, device="cpu"):
        assert isinstance(one, predictions.ImagePrediction)
        assert sum(one.scores) == pytest.approx(1.0, abs=1e-5)
    logits = torch.randn(4, 3)
    torch.testing.assert_close(model.scores(logits), (logits / model.temperature).softmax(1))


def test_images_are_resized_as_the_run_resized_them(
    tmp_path: Path, small_config: Path, photos: Path, run_cli: RunCli
) -> None:
    settings = ("--set", "transform.size=6", "--set", "transform.resize=9", "--set", "stage1.epochs=1")
    assert run_cli("stage1", small_config, *settings, "--runs-dir", tmp_path).code == 0
    run = tmp_path / "colours"
    with np.load(run / "predictions.npz") as saved:
        scores = dict(zip(saved["id"].tolist(), saved["scores"], strict=True))
    for one in predict(run_cli, run, photos):
        assert [each["score"] for each in one["predictions"]] == pytest.approx(
            scores[int(Path(one["image"]).stem)], rel=5e-3, abs=1e-6
        )
    Image.new("RGB", (40, 25)).save(tmp_path / "other.jpg")
    assert len(predict(run_cli, run, tmp_path / "other.jpg")) == 1, "and of any size"


def test_many_batches_in_worker_processes_are_one(tmp_path: Path, run_cli: RunCli, run: Path, photos: Path) -> None:
    alone = predict(run_cli, run, photos)
    other = Path(shutil.copytree(run, tmp_path / "colours"))
    config = (other / "config.toml").read_text()
    config = config.replace("num_workers = 0", "num_workers = 2").replace("batch_size = 256", "batch_size = 7")
    (other / "config.toml").write_text(config)
    found = predict(run_cli, other, photos)
    assert [one["image"] for one in found] == [one["image"] for one in alone]
    for one, same in zip(found, alone, strict=True):
        assert [each["class"] for each in one["predictions"]] == [each["class"] for each in same["predictions"]]
        scores, others = ([each["score"] for each in each_of["predictions"]] for each_of in (one, same))
        assert scores == pytest.approx(others, rel=1e-5, abs=1e-6), "batches of another size are rounded otherwise"


def test_it_needs_no_features_any_more(tmp_path: Path, run_cli: RunCli, run: Path, photos: Path) -> None:
    before = predict(run_cli, run, photos, "--method", "bags")
    other = Path(shutil.copytree(run, tmp_path / "colours"))
    (other / "features.h5").unlink()
    assert predict(run_cli, other, photos, "--method", "bags") == before


def test_groups_of_classes_are_those_of_what_was_trained_on(tmp_path: Path, run_cli: RunCli, images_npz: Path) -> None:
    """A class of 95 train and 10 val images is in another group than one of 95."""
    stream = np.random.default_rng(0)
    with np.load(images_npz) as old:
        arrays = {name: old[name] for name in ("test_images", "test_labels", "class_names")}
    for split, counts in (("train", (120, 95, 8)), ("val", (10, 10, 4))):
        arrays[f"{split}_labels"] = np.repeat(np.arange(3), counts)
        arrays[f"{split}_images"] = stream.integers(0, 255, (sum(counts), 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "more.npz", **arrays)
    from_config = ("--set", "data.kind=npz", "--set", "data.imbalance_factor=1", "--set", "stage1.epochs=0")
    arguments = ("--data-root", tmp_path / "more.npz", "--name", "more", "--runs-dir", tmp_path, *from_config)
    assert run_cli("stage1", "digits_lt", *arguments, "--set", "features.views=1").code == 0
    settings = ("--set", "stage2.refit=true", "--set", "stage2.epochs=1")
    assert run_cli("stage2", tmp_path / "more", "--method", "bags", *settings).code == 0
    found = find_classifier(tmp_path / "more", "bags")
    assert found.manifest["class_counts"] == [130, 105, 12]
    model = restore(found)
    assert model.loss.num_groups == 2, "one of 10 to 100, one of 100 to 1000"


# What is printed


def test_a_table_says_whose_scores_they_are(run_cli: RunCli, run: Path, photos: Path) -> None:
    outcome = run_cli("predict", run, photos / "red" / "3.png", photos / "blue" / "25.png", "--top-k", 2)
    assert outcome.code == 0, outcome.err
    lines = [line for line in outcome.out.splitlines() if line.strip()]
    assert lines[0].strip() == f"{run}, stage one"
    assert lines[1].split() == ["image", "rank", "class", "score"]
    rows = [line.split() for line in lines[3:7]]
    assert [len(row) for row in rows] == [4, 3, 4, 3], "the image stands beside its first class"
    assert [row[0] for row in rows if len(row) == 4] == [
        str(photos / "red" / "3.png"),
        str(photos / "blue" / "25.png"),
    ]
    assert "sum" not in outcome.out


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_scores_that_do_not_sum_to_one_are_said_to_be_such(
    run_cli: RunCli, run: Path, photos: Path, format_: str
) -> None:
    told = "scores of {} are one for each class, and do not sum to 1"
    for method, seeds in (("gumbel", ["--seed", 1]), ("bags", []), ("softmax", []), ("focal", [])):
        outcome = run_cli("predict", run, photos / "red", "--method", method, *seeds, "--format", format_)
        assert outcome.code == 0, outcome.err
        where, other = (outcome.out, outcome.err) if format_ == "table" else (outcome.err, outcome.out)
        assert (told.format(method) in where) == (method in ("gumbel", "bags"))
        assert "sum to 1" not in other
    if format_ == "table":
        assert f"{run}, focal (epochs 2, temperature val, seed 0)" in " ".join(outcome.out.split())


def test_csv_has_a_line_for_each_class_of_each_image(tmp_path: Path, run_cli: RunCli, run: Path, photos: Path) -> None:
    shutil.copy(photos / "red" / "0.png", tmp_path / 'a "red", one.png')
    outcome = run_cli("predict", run, tmp_path, photos / "blue", "--top-k", 2, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert len(rows) == 22
    assert list(rows[0]) == ["image", "rank", "class", "name", "score"]
    assert [row["rank"] for row in rows[:4]] == ["1", "2", "1", "2"]
    assert rows[0]["image"] == str(tmp_path / 'a "red", one.png')
    asked = predict(run_cli, run, tmp_path, "--top-k", 2)
    assert [(int(row["class"]), row["name"]) for row in rows[:2]] == [
        (each["class"], each["name"]) for each in asked[0]["predictions"]
    ]
    assert [float(row["score"]) for row in rows[:2]] == pytest.approx(
        [each["score"] for each in asked[0]["predictions"]], rel=1e-5
    )


def test_more_classes_than_there_are_is_all_of_them(run_cli: RunCli, run: Path, photos: Path) -> None:
    (one,) = predict(run_cli, run, photos / "red" / "0.png", "--top-k", 50)
    assert sorted(each["name"] for each in one["predictions"]) == sorted(NAMES)
    (one,) = predict(run_cli, run, photos / "red" / "0.png", "--top-k", 1)
    assert len(one["predictions"]) == 1


def test_long_results_are_several_tables(
    run_cli: RunCli, run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gol_decouple.report.predicted.IMAGES_A_TABLE", 12)
    outcome = run_cli("predict", run, photos)
    assert outcome.out.count("image ") == 3
    assert sum(".png" in line for line in outcome.out.splitlines()) == 30


def test_a_name_that_is_no_text_can_be_printed(tmp_path: Path, run_cli: RunCli, run: Path, photos: Path) -> None:
    target = tmp_path.joinpath(b"caf\xe9.png".decode("utf-8", "surrogateescape"))
    shutil.copy(photos / "red" / "0.png", target)
    for format_ in ("table", "csv", "json"):
        outcome = run_cli("predict", run, tmp_path, "--format", format_)
        assert outcome.code == 0
        assert "caf" in outcome.out


# Which images


def test_folders_are_searched_and_lists_are_read(tmp_path: Path, run_cli: RunCli, run: Path, photos: Path) -> None:
    hidden = tmp_path / "some" / ".hidden"
    hidden.mkdir(parents=True)
    (tmp_path / "some" / "deeper").mkdir()
    for path in ("some/b.png", "some/deeper/c.PNG", "some/.hidden/d.png", "a 7", "e.png"):
        shutil.copy(photos / "red" / "0.png", tmp_path / path)
    (tmp_path / "some" / "notes.md").write_text("no image")
    (tmp_path / "list.txt").write_text(f"\ufeffsome/b.png 12\na 7\n{photos / 'blue' / '20.png'}\n  \ne.png   0\n")
    found = predict(run_cli, run, tmp_path / "e.png", tmp_path / "some", tmp_path / "list.txt")
    assert [one["image"] for one in found] == [
        str(path)
        for path in (
            *(tmp_path / name for name in ("e.png", "some/b.png", "some/deeper/c.PNG", "some/b.png", "a 7")),
            photos / "blue" / "20.png",
            tmp_path / "e.png",
        )
    ]


def test_images_that_cannot_be_used_are_named_and_the_others_predicted(
    tmp_path: Path, run_cli: RunCli, run: Path, photos: Path
) -> None:
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (12, 9)).save(tmp_path / "large.png")
    for number in (1, 11, 21):
        shutil.copy(photos / NAMES[number // 10] / f"{number}.png", tmp_path)
    outcome = run_cli("predict", run, tmp_path, tmp_path / "none.jpg", "--format", "json")
    assert outcome.code == 2
    assert [Path(one["image"]).name for one in json.loads(outcome.out)] == ["1.png", "11.png", "21.png"]
    told = [line for line in outcome.err.splitlines() if not line.startswith("images: ")]
    assert told == [
        f"warning: {tmp_path / 'large.png'} is 9x12, the run's images 8x8",
        f"warning: {tmp_path / 'text.png'} cannot be decoded: not an image",
        f"warning: {tmp_path / 'none.jpg'} cannot be decoded: No such file or directory",
        "error: 3 of 6 images could not be used, and are named above",
        "hint: resize it to 8x8",
    ]
    nothing = run_cli("predict", run, tmp_path / "none.jpg", "--format", "json")
    assert (nothing.code, json.loads(nothing.out)) == (2, [])


def test_of_a_run_that_did_not_keep_its_size_the_first_image_of_a_batch_tells(
    tmp_path: Path, run_cli: RunCli, run: Path, photos: Path
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "colours"))
    manifest = json.loads((other / "manifest.json").read_text())
    assert manifest.pop("image_size") == [8, 8]
    (other / "manifest.json").write_text(json.dumps(manifest))
    Image.new("RGB", (12, 9)).save(tmp_path / "large.png")
    outcome = run_cli("predict", other, photos / "red", tmp_path / "large.png", "--format", "json")
    assert (outcome.code, len(json.loads(outcome.out))) == (2, 10)
    assert "large.png is 9x12, the run's images 8x8" in outcome.err
    assert len(predict(run_cli, other, tmp_path / "large.png")) == 1


def test_what_holds_no_images_is_refused(tmp_path: Path, run_cli: RunCli, run: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text(" \n")
    assert_refused(run_cli("predict", run, tmp_path / "empty"), "has no images in it", "image files")
    assert_refused(run_cli("predict", run, tmp_path / "list.txt"), "list.txt is empty", "a path a line")
    assert_refused(run_cli("predict", run, tmp_path / "no.txt"), "no.txt cannot be read: No such file", "a path a line")


def test_a_program_can_do_it_too(run: Path, photos: Path) -> None:
    (one,) = predict_images(restore(find_classifier(run, "gumbel", 1)), [photos / "red" / "0.png"], top_k=2)
    assert isinstance(one, predictions.ImagePrediction)
    assert (one.image, len(one.names)) == (photos / "red" / "0.png", 2)
    pictures = [photos / "red" / name for name in ("0.png", "none.png", "1.png")]
    kinds = [type(one) for one in predict_images(restore(find_classifier(run)), pictures)]
    assert kinds == [predictions.ImagePrediction, InputError, predictions.ImagePrediction], "in the order of the images"
