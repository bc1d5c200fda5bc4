"""`gol-decouple predict` of detectors: what they find in image files, and that it is what the evaluation found."""

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
from conftest import OTHERS_OF_ROIS, PLAIN_OF_ROIS, RunCli
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_prediction import assert_refused

from gol_decouple import features, losses, methods, runs
from gol_decouple.config import load_config, to_toml
from gol_decouple.data.pictures import find_pictures
from gol_decouple.detection.whole_detector import DetectorImage, detector_results
from gol_decouple.errors import InputError
from gol_decouple.predictions import Best, ImageDetections
from gol_decouple.sealed_tensors import SEAL
from gol_decouple.stages.classifier_file import load_classifier
from gol_decouple.stages.detection_evaluation import DetectionEvaluation, _scorer
from gol_decouple.stages.detector_prediction import detect_in_pictures, for_people
from gol_decouple.stages.finding import find_classifier
from gol_decouple.stages.jobs import loss_of
from gol_decouple.stages.restored_detector import restore_detector
from gol_decouple.stages.samples import TRAIN

pytestmark = pytest.mark.usefixtures("narrow_detectors")

CPU = torch.device("cpu")
SOFTMAX = losses.get("cross_entropy", activation="softmax", background=True)
ALL = [None, *PLAIN_OF_ROIS, *OTHERS_OF_ROIS]


@pytest.fixture
def run(retrained_detector: Path) -> Path:
    return retrained_detector


@pytest.fixture
def images(annotated_root: Path) -> Path:
    """Of the images that the run was trained and evaluated on; image N has id 100 + N."""
    return annotated_root / "train"


def results(run_cli: RunCli, run: Path, *arguments: object) -> list[dict[str, Any]]:
    outcome = run_cli("predict", run, *arguments, "--format", "json")
    assert outcome.code == 0, outcome.err
    found: list[dict[str, Any]] = json.loads(outcome.out)
    return found


def chosen(method: str | None) -> list[object]:
    return [] if method is None else ["--method", method]


def without_features(run: Path, folder: Path) -> Path:
    """A copy without the features, which may have been removed."""
    return Path(shutil.copytree(run, folder / run.name, ignore=shutil.ignore_patterns("*.h5")))


# That it is what the evaluation found


@pytest.mark.parametrize("method", ALL)
def test_it_finds_what_the_evaluation_found(
    tmp_path: Path, run_cli: RunCli, run: Path, images: Path, annotated_root: Path, method: str | None
) -> None:
    """With a loss that knows of the classes what the features say, where the program has the manifest alone."""
    copy = without_features(run, tmp_path)
    rows = results(run_cli, copy, images, *chosen(method), "--annotations", annotated_root / "train.json")
    opened = features.open(run / "features.h5")
    evaluation = DetectionEvaluation(opened, load_config(str(run / "config.toml")), run, None, CPU)
    found = find_classifier(run, method)
    if method is None:
        classifier: Any = opened.classifier
        loss = SOFTMAX
    else:
        classifier = load_classifier(found.folder)
        loss = loss_of(methods.get(method).with_settings(**found.manifest["settings"]), TRAIN.facts(opened))
    if method is not None:
        restored, told = restore_detector(found).loss._facts, loss._facts
        np.testing.assert_array_equal(restored.class_counts, told.class_counts)
        np.testing.assert_array_equal(restored.image_frequency, told.image_frequency)
        assert (restored.num_images, restored.background) == (told.num_images, True)
    arguments = ([_scorer(classifier, loss, CPU)], evaluation._category_ids, evaluation.settings)
    evaluated = detector_results(evaluation._detector, evaluation._images(), *arguments)
    wanted = [row for (of_image,) in evaluated for row in of_image]
    assert len(wanted) > 20
    assert sorted(rows, key=str) == sorted(wanted, key=str)


@pytest.mark.parametrize("method", [None, "gol", "norcal", "seesaw"])
def test_its_results_have_the_average_precision_of_the_run(
    tmp_path: Path, run_cli: RunCli, run: Path, images: Path, annotated_root: Path, method: str | None
) -> None:
    annotations = annotated_root / "train.json"
    outcome = run_cli("predict", run, images, *chosen(method), "--annotations", annotations, "--format", "json")
    assert f"note: image_id is that of {annotations}" in outcome.err
    (tmp_path / "results.json").write_text(outcome.out)
    told = find_classifier(run, method).manifest["detection"]
    for iou_type, name in (("bbox", "boxes"), ("segm", "masks")):
        evaluated = run_cli(
            "evaluate", annotations, tmp_path / "results.json", "--iou-type", iou_type, "--format", "json"
        )
        assert evaluated.code == 0, evaluated.err
        figures = json.loads(evaluated.out)
        assert told[name]["ap"] > 0.1
        assert {key: figures[key] for key in told[name]} == told[name]


def test_stage_one_may_have_another_activation(tmp_path: Path, run: Path) -> None:
    """Of a checkpoint whose classifier was trained one-vs-all, the background's row is never looked at."""
    copy = without_features(run, tmp_path)
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("[detector]", '[detector]\nactivation = "gumbel"'))
    model = restore_detector(find_classifier(copy))
    weights = load_file(copy / "model.safetensors")
    weight, bias = (weights[f"roi_heads.box_predictor.cls_score.{part}"] for part in ("weight", "bias"))
    x = torch.randn(6, weight.shape[1])
    wanted = torch.exp(-torch.exp(-(x @ weight[1:].T + bias[1:])))
    torch.testing.assert_close(model.loss.scores(model.classifier.logits(x)), wanted)
    assert for_people(model) == Best(20, 0.1)
    own = restore_detector(find_classifier(run))
    wanted = (x @ weight.T + bias).softmax(1)[:, 1:]
    torch.testing.assert_close(own.loss.scores(own.classifier.logits(x)), wanted)
    assert for_people(own) == Best(20, 0.3)
    assert for_people(own, 3, 0.0) == Best(3, 0.0)


def test_rotated_files_are_seen_upright(tmp_path: Path, run: Path, images: Path) -> None:
    upright = np.asarray(Image.open(images / "0.png").convert("RGB"))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored so that it has to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
    model = restore_detector(find_classifier(run))
    one, other = detect_in_pictures(model, [images / "0.png", tmp_path / "turned.png"], masked=Best())
    assert isinstance(one, ImageDetections)
    assert isinstance(other, ImageDetections)
    assert len(one.boxes) > 5
    assert (one.size, one.boxes, one.masks) == (other.size, other.boxes, other.masks)
    assert one.size == upright.shape[:2]


def test_a_program_can_do_it_too(run: Path, images: Path) -> None:
    model = restore_detector(find_classifier(run, "gol"))
    pictures = [images / "0.png", images / "none.png", images / "1.png"]
    seen = []
    found = list(detect_in_pictures(model, pictures, Best(4), Best(2), see=lambda pixels, one: seen.append(pixels)))
    assert [type(one) for one in found] == [ImageDetections, InputError, ImageDetections], "in the images' order"
    assert [pixels.shape for pixels in seen] == [(64, 80, 3), (56, 72, 3)]
    one = found[0]
    assert isinstance(one, ImageDetections)
    assert (len(one.scores), len(one.boxes), len(one.names), len(one.masks)) == (4, 4, 4, 2)
    assert one.scores == sorted(one.scores, reverse=True)
    assert one.next_score is not None
    assert one.next_score <= one.scores[-1]
    assert (one.first(2).scores, one.first(2).next_score) == (one.scores[:2], one.scores[2])
    assert [model.class_names[label] for label in one.classes] == one.names
    assert [int(model.category_ids[label]) for label in one.classes] == one.category_ids
    (everything,) = detect_in_pictures(model, [images / "0.png"])
    assert isinstance(everything, ImageDetections)
    assert (everything.masks, everything.next_score) == ([], None)
    assert everything.boxes[:4] == one.boxes


# What is printed


def test_people_are_shown_the_best_of_each_image(run_cli: RunCli, run: Path, images: Path) -> None:
    pictures = [images / "0.png", images / "1.png"]
    outcome = run_cli("predict", run, *pictures, "--top-k", 2, "--min-score", 0.01)
    assert outcome.code == 0, outcome.err
    lines = [line.split() for line in outcome.out.splitlines() if line.strip()]
    assert lines[1] == ["image", "class", "score", "x", "y", "width", "height"]
    assert [len(line) for line in lines[3:7]] == [7, 6, 7, 6], "the image stands beside its first object"
    assert [line[0] for line in (lines[3], lines[5])] == [str(picture) for picture in pictures]
    assert " ".join(lines[-1]) == "at most 2 objects an image, of scores from 0.01 (--top-k, --min-score); pixels"
    rows = sorted(results(run_cli, run, pictures[0]), key=lambda row: -row["score"])
    assert [line[-5] for line in lines[3:5]] == [f"{row['score']:.4f}" for row in rows[:2]]
    assert lines[3][-4:] == [f"{side:.0f}" for side in rows[0]["bbox"]]


def test_images_without_objects_are_told(run_cli: RunCli, run: Path, images: Path) -> None:
    best = max(row["score"] for row in results(run_cli, run, images))
    outcome = run_cli("predict", run, images, "--min-score", 0.999)
    lines = [line.split() for line in outcome.out.splitlines() if ".png" in line]
    assert [line[1:] for line in lines] == [["–"] * 6] * 5
    assert f"5 of 5 images have none; the best score below is {best:.2g}\n" in outcome.out
    assert "scores from 0.3 " in run_cli("predict", run, images).out
    assert "scores from 0.1 " in run_cli("predict", run, images, "--method", "gol").out


def test_csv_has_all_that_the_test_settings_leave(run_cli: RunCli, run: Path, images: Path) -> None:
    outcome = run_cli("predict", run, images, "--method", "gumbel", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    wanted = results(run_cli, run, images, "--method", "gumbel")
    assert len(rows) == len(wanted)
    assert list(rows[0]) == [
        *("image", "rank", "class", "category_id", "name", "score", "x", "y", "width", "height")
    ]  # fmt: skip
    assert [int(row["category_id"]) for row in rows] == [row["category_id"] for row in wanted]
    assert {(row["class"], row["category_id"], row["name"]) for row in rows} <= {
        *(("0", "3", "three"), ("1", "7", "seven"), ("2", "9", "nine"))
    }
    box = [[float(row[side]) for side in ("x", "y", "width", "height")] for row in rows]
    np.testing.assert_allclose(box, [row["bbox"] for row in wanted], atol=0.006)
    some = run_cli("predict", run, images, "--method", "gumbel", "--format", "csv", "--top-k", 3, "--min-score", 0.01)
    few = list(csv.DictReader(io.StringIO(some.out)))
    assert few == [row for row in rows if int(row["rank"]) <= 3 and float(row["score"]) >= 0.01]


def test_masks_are_made_where_they_are_asked_for(
    tmp_path: Path, run_cli: RunCli, run: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, masks = [], DetectorImage.masks
    monkeypatch.setattr(
        DetectorImage, "masks", lambda self, found: numbers.append(len(found.labels)) or masks(self, found)
    )
    picture, wanted = images / "0.png", {"table": 0, "csv": 0, "json": 12}
    for format_, number in wanted.items():
        assert run_cli("predict", run, picture, "--format", format_).code == 0
        assert numbers.pop() == number
        drawn = ("--pictures", tmp_path / format_, "--min-score", 0.9)
        assert run_cli("predict", run, picture, "--format", format_, *drawn).code == 0
        assert numbers.pop() < 12


def test_image_ids_are_numbers_or_places(tmp_path: Path, run_cli: RunCli, run: Path, images: Path) -> None:
    for number, name in ((0, "COCO_val2014_000000000012.png"), (1, "000000000007.png")):
        shutil.copy(images / f"{number}.png", tmp_path / name)
    outcome = run_cli("predict", run, tmp_path, "--format", "json", "--top-k", 1)
    assert {row["image_id"] for row in json.loads(outcome.out)} == {7, 12}
    assert "note: image_id is the number that the file's name ends in\n" in outcome.err
    shutil.copy(images / "2.png", tmp_path / "plain.png")
    outcome = run_cli("predict", run, tmp_path, "--format", "json", "--top-k", 1)
    assert {row["image_id"] for row in json.loads(outcome.out)} == {1, 2, 3}
    assert "note: image_id is the picture's place, from 1\n" in outcome.err
    twice = results(run_cli, run, tmp_path, tmp_path / "plain.png", "--top-k", 1)
    assert twice == json.loads(outcome.out), "an image that is named twice is looked at once"


# What cannot be used


def test_images_that_cannot_be_used_are_named_and_the_others_done(
    tmp_path: Path, run_cli: RunCli, run: Path, images: Path
) -> None:
    (tmp_path / "1.png").write_text("hello")
    pictures = [tmp_path / "1.png", images / "2.png", tmp_path / "3.png"]
    outcome = run_cli("predict", run, *pictures, "--format", "json", "--pictures", tmp_path / "drawn")
    assert outcome.code == 2
    assert {row["image_id"] for row in json.loads(outcome.out)} == {2}
    told = [line for line in outcome.err.splitlines() if not line.startswith(("images: ", "note: "))]
    assert told == [
        f"warning: {tmp_path / '1.png'} cannot be decoded: not an image",
        f"warning: {tmp_path / '3.png'} cannot be decoded: No such file or directory",
        f"1 pictures with what was found are in {tmp_path / 'drawn'}",
        "error: 2 of 3 images could not be used, and are named above",
        "hint: replace the file, or remove it",
    ]
    assert len([path for path in (tmp_path / "drawn").rglob("*") if path.is_file()]) == 1


def test_options_of_detectors_are_refused_elsewhere(
    run_cli: RunCli, run: Path, retrained_run: Path, images: Path, photos: Path
) -> None:
    for option, value in (("--min-score", 0.5), ("--pictures", "out"), ("--annotations", "a.json")):
        refused = run_cli("predict", retrained_run, photos, option, value)
        assert_refused(refused, f"{option} is for detectors, and {retrained_run} tells", "leave it out")
    refused = run_cli("predict", run, images, "--annotations", "a.json")
    assert_refused(refused, "which only json has", "--format json")
    assert not Path("out").exists()


def test_a_run_of_a_body_alone_has_no_classifier(tmp_path: Path, run_cli: RunCli, run: Path, images: Path) -> None:
    copy = without_features(run, tmp_path)
    manifest = json.loads((copy / "manifest.json").read_text())
    assert manifest["has_classifier"] is True
    undefined = {**manifest["detection"], "boxes": {**manifest["detection"]["boxes"], "ap": None}}
    (copy / "manifest.json").write_text(json.dumps(manifest | {"detection": undefined}))
    assert run_cli("predict", copy, images).code == 0, "nothing of the annotations is a classifier's fault"
    for other in (manifest | {"has_classifier": False}, {**manifest, "detection": undefined}):
        if other["has_classifier"]:
            del other["has_classifier"]  # as runs of former versions have it
        (copy / "manifest.json").write_text(json.dumps(other))
        assert_refused(run_cli("predict", copy, images), "only a backbone was loaded", "--method")
    assert run_cli("predict", copy, images, "--method", "gol").code == 0


def test_what_is_damaged_is_refused(tmp_path: Path, run_cli: RunCli, run: Path, images: Path) -> None:
    from safetensors.torch import save_file

    copy = without_features(run, tmp_path)
    folders = {path.name.partition("-")[0]: path for path in (copy / "stage2").iterdir()}
    (folders["gol"] / "per_class_ap.csv").unlink()
    assert_refused(run_cli("predict", folders["gol"], images), "which names the classes, cannot be read", "repeat")
    table = folders["bags"] / "per_class_ap.csv"
    table.write_text(table.read_text().replace(",7,", ",seven,"))
    assert_refused(run_cli("predict", folders["bags"], images), "which names the classes, cannot be read", "repeat")
    path = folders["gumbel"] / "classifier.safetensors"
    save_file({name: tensor[:2].clone() for name, tensor in load_file(path).items()}, path)
    assert_refused(run_cli("predict", folders["gumbel"], images), "is [2, 1024], not [3, 1024]", "--overwrite")
    told = json.loads((folders["seesaw"] / "manifest.json").read_text())
    del told["image_counts"]
    (folders["seesaw"] / "manifest.json").write_text(json.dumps(told))
    refused = run_cli("predict", folders["seesaw"], images)
    assert_refused(refused, "does not tell the classifier's settings: 'image_counts'", "repeat gol-decouple stage2")
    told = json.loads((copy / "manifest.json").read_text())
    del told["features"]["backbone"]  # of which the weights have to be
    (copy / "manifest.json").write_text(json.dumps(told))
    tensors = load_file(copy / "model.safetensors")
    mask = "roi_heads.mask_predictor.mask_fcn_logits"
    others = {f"{mask}.weight": tensors[f"{mask}.weight"][:2].clone(), f"{mask}.bias": tensors[f"{mask}.bias"][:2]}
    save_file({**tensors, **{name: part.clone() for name, part in others.items()}}, copy / "model.safetensors")
    refused = run_cli("predict", copy, images)
    assert_refused(refused, f"{mask}.bias, {mask}.weight are not there, or for another number", "gol-decouple stage1")
    opened, config = features.open(run / "features.h5"), load_config(str(run / "config.toml"))
    with pytest.raises(InputError, match=rf"{mask}.bias, {mask}.weight are not there"):
        DetectionEvaluation(opened, config, copy, None, CPU).evaluate(tmp_path, opened.classifier, SOFTMAX)
    (copy / "model.safetensors").write_bytes(b"none")
    assert_refused(run_cli("predict", copy, images), "the model in", "gol-decouple stage1")


def test_each_kind_is_restored_by_its_own(run: Path, retrained_run: Path) -> None:
    from gol_decouple.stages.restored import restore

    with pytest.raises(InputError, match=r"is of a detector"):
        restore(find_classifier(run))
    with pytest.raises(InputError, match=r"is of no detector"):
        restore_detector(find_classifier(retrained_run))


def test_folders_and_lists_are_taken(tmp_path: Path, run_cli: RunCli, run: Path, images: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{images / '4.png'}\n")
    rows = results(run_cli, run, images / "0.png", tmp_path / "list.txt", "--top-k", 1)
    assert [row["image_id"] for row in rows] == [0, 4]
    assert len(find_pictures([images])) == 5


# That its files belong together


def test_other_weights_are_refused(run: Path, images: Path, run_cli: RunCli, tmp_path: Path) -> None:
    copy = without_features(run, tmp_path)
    with safe_open(copy / runs.MODEL, "pt") as file:
        metadata = {name: value for name, value in file.metadata().items() if name != SEAL}
    tensors = load_file(copy / runs.MODEL)
    name = "backbone.body.conv1.weight"
    save_file(tensors | {name: tensors[name] * 1.001}, copy / runs.MODEL, metadata)
    for command in (("predict", copy, images), ("export", copy, "--out", tmp_path / "out")):
        outcome = run_cli(*command)
        assert outcome.code == 2
        assert f"{copy}/model.safetensors does not hold the weights that the features of {copy} are of" in outcome.err


def test_annotations_that_were_edited_are_refused(
    run: Path, annotated_root: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "runs" / run.name))
    root = Path(shutil.copytree(annotated_root, tmp_path / "annotated"))
    config = load_config(str(copy / runs.CONFIG), [f"data.path={root}"])
    (copy / runs.CONFIG).write_text(to_toml(config))
    text = (root / "train.json").read_text()

    def again(changed: Any) -> str:
        (root / "train.json").write_text(json.dumps(changed))
        outcome = run_cli("stage1", copy / runs.CONFIG, "--runs-dir", copy.parent)
        assert outcome.code == (0 if changed == json.loads(text) else 2)
        return outcome.err

    tree = json.loads(text)
    assert "is finished and kept as it is" in again(tree)
    tree["annotations"][0]["bbox"][2] -= 1
    assert "have changed since it was made: dataset.sha256: " in again(tree)
    tree = json.loads(text)
    tree["categories"][0]["name"] = "renamed"
    assert "class names: class 1 'seven' -> 'renamed'" in again(tree)
    tree = json.loads(text)
    before = tree["categories"][0]["frequency"]
    tree["categories"][0]["frequency"] = "c" if before != "c" else "f"
    assert f"frequency: class 1 '{before}' -> " in again(tree)
