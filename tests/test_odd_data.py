"""Data of odd shapes through the commands: what can be worked with is, and the rest is refused before any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, RunCli, colour_images
from PIL import Image

import gol_decouple
from gol_decouple import features, methods
from gol_decouple.errors import InputError
from gol_decouple.runs import is_finished
from gol_decouple.stages.evaluation import evaluate

D = 5


def gaussians(labels: np.ndarray, seed: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    centres = np.random.default_rng(9).normal(0, 2.5, (10, D))
    noise = np.random.default_rng(seed).normal(size=(len(labels), D))
    return (scale * (centres[labels] + noise)).astype(np.float32), labels


def labels(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def write(
    path: Path, splits: dict[str, tuple[int, ...]], with_classifier: bool = True, scale: float = 1.0, **more: Any
) -> Path:
    """A features file of some samples of each class and split."""
    parts = {name: gaussians(labels(*counts), place, scale) for place, (name, counts) in enumerate(splits.items())}
    num_classes = max(map(len, splits.values()))
    names = [f"c{label}" for label in range(num_classes)]
    weights = (np.random.default_rng(1).normal(size=(num_classes, D)), np.zeros(num_classes))
    given = {"classifier": weights} if with_classifier else {}
    return features.write(path, parts, class_names=names, **(given | more))


def stage2(run_cli: RunCli, path: Path, *arguments: object, command: str = "stage2") -> Outcome:
    shorter = [] if command == "tune" else ["--set", "stage2.epochs=2"]
    return run_cli(command, path, *arguments, *shorter, "--device", "cpu", "--runs-dir", path.parent / "runs")


def rows_of(run_cli: RunCli, folder: Path) -> list[dict[str, Any]]:
    """The report as JSON, which has no NaN."""
    outcome = run_cli("report", folder, "--format", "json")
    assert outcome.code == 0, outcome.err
    assert run_cli("report", folder).code == 0

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in the report")

    found: list[dict[str, Any]] = json.loads(outcome.out, parse_constant=refuse)
    return found


# Samples of each class: train, test and val.
ODD: dict[str, dict[str, tuple[int, ...]]] = {
    "a class without train samples": {"train": (30, 0, 5), "test": (4, 4, 4)},
    "labels with gaps": {"train": (20, 0, 10, 0, 0, 5), "test": (4, 0, 4, 0, 0, 4)},
    "one class alone has train samples": {"train": (20, 0), "test": (4, 4)},
    "one sample a class": {"train": (1, 1, 1, 1), "test": (3, 3, 3, 3)},
    "two samples": {"train": (1, 1), "test": (1, 1)},
    "one sample": {"train": (0, 1, 0), "test": (0, 1, 0)},
    "a class without test samples": {"train": (20, 10, 5), "test": (4, 4, 0)},
    "test samples of one class": {"train": (20, 10, 5), "test": (0, 0, 4)},
    "val samples of one class": {"train": (20, 10, 5), "test": (4, 4, 4), "val": (0, 3, 0)},
    "val samples of a class that train lacks": {"train": (20, 10, 0), "test": (4, 4, 4), "val": (0, 0, 3)},
}


WITHOUT_CLASSIFIER = ["a class without train samples", "one class alone has train samples", "one sample"]


@pytest.mark.parametrize(
    ("name", "with_classifier"), [*((name, True) for name in ODD), *((name, False) for name in WITHOUT_CLASSIFIER)]
)
def test_every_method_works_on_odd_features(tmp_path: Path, run_cli: RunCli, name: str, with_classifier: bool) -> None:
    path = write(tmp_path / "odd.h5", ODD[name], with_classifier)
    outcome = stage2(run_cli, path, "--method", "all")
    assert outcome.code == 0, outcome.err
    counts = ODD[name]["train"]
    empty = [f"c{label}" for label, count in enumerate(counts) if not count]
    warned = f"warning: no train sample of {len(empty)} classes: {', '.join(empty)}\n" in outcome.err
    assert warned == bool(empty)
    rows = rows_of(run_cli, tmp_path / "runs" / "odd")
    assert {row["method"] for row in rows} == set(methods.fits(background=False))
    groups = {(row["num_many"], row["num_medium"], row["num_few"]) for row in rows}
    medium = sum(20 <= count <= 100 for count in counts)
    assert groups == {(0, medium, len(counts) - medium)}, "a class without samples is one of few"
    assert all(0 <= row["top1"] <= 100 for row in rows)


@pytest.mark.parametrize("name", [name for name in ODD if not name.startswith(("one sample", "two samples"))])
def test_choosing_and_tuning_work_on_odd_features(tmp_path: Path, run_cli: RunCli, name: str) -> None:
    path = write(tmp_path / "odd.h5", ODD[name])
    outcome = stage2(run_cli, path, "--method", "gumbel", "--set", "stage2.lr=[1e-5,1e-3]")
    assert outcome.code == 0, outcome.err
    asked = ("--method", "ncm", "--method", "tau_norm", "--method", "crt", "--minutes", "0.005")
    outcome = stage2(run_cli, path, *asked, command="tune")
    assert outcome.code == 0, outcome.err
    rows_of(run_cli, tmp_path / "runs" / "odd")


@pytest.mark.parametrize("name", ["one sample a class", "two samples", "one sample"])
def test_nothing_is_chosen_where_no_sample_can_be_held_out(tmp_path: Path, run_cli: RunCli, name: str) -> None:
    path = write(tmp_path / "odd.h5", ODD[name])
    for asked in (("--set", "stage2.lr=[1e-5,1e-3]"), ("--set", "stage2.temperature=val")):
        outcome = stage2(run_cli, path, "--method", "gumbel", *asked)
        assert (outcome.code, outcome.out) == (2, "")
        assert "has no val split, and no class with two train samples to hold one out" in outcome.err
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_val_without_some_classes_is_told(tmp_path: Path, run_cli: RunCli) -> None:
    path = write(tmp_path / "odd.h5", ODD["val samples of one class"])
    outcome = stage2(run_cli, path, "--method", "gumbel", "--set", "stage2.lr=[1e-5,1e-3]")
    assert "warning: val has no sample of 2 of 3 classes (c0, c2): choices take no account of them\n" in outcome.err


def test_no_temperature_is_fitted_to_classes_that_were_not_trained_on(tmp_path: Path, run_cli: RunCli) -> None:
    path = write(tmp_path / "odd.h5", ODD["val samples of a class that train lacks"])
    outcome = stage2(run_cli, path, "--method", "softmax", "--set", "stage2.temperature=val")
    assert (outcome.code, outcome.out) == (2, "")
    told = f"error: {path}: val has no sample of a class that train has, to fit a temperature on\n"
    assert outcome.err.endswith(f"{told}hint: stage2.temperature = 'none'\n")
    assert not list((tmp_path / "runs").rglob("*.safetensors"))
    with pytest.raises(InputError, match="to fit a temperature on"):
        gol_decouple.retrain(path, "softmax", temperature="val")


@pytest.mark.parametrize("with_classifier", [True, False], ids=["with a classifier", "without"])
def test_a_single_class_is_refused_before_anything(tmp_path: Path, run_cli: RunCli, with_classifier: bool) -> None:
    path = write(tmp_path / "one.h5", {"train": (20,), "test": (4,)}, with_classifier)
    told = "there is one class, 'c0': a classifier needs at least two"
    for arguments in (("--method", "all"), ("--method", "ncm"), ("--activation", "gumbel")):
        outcome = stage2(run_cli, path, *arguments)
        assert (outcome.code, outcome.out, outcome.err.splitlines()[-1]) == (2, "", f"error: {told}")
    assert stage2(run_cli, path, command="tune").err == f"error: {told}\n"
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InputError, match=told):
        gol_decouple.retrain(path, "gumbel")


def test_a_batch_larger_than_the_data_is_the_data(tmp_path: Path) -> None:
    path = write(tmp_path / "few.h5", {"train": (3, 2), "test": (1, 1)})
    wide, whole = (gol_decouple.retrain(path, "softmax", epochs=2, batch_size=size) for size in (1024, 5))
    assert wide.weight.equal(whole.weight)


# Numbers that get out of hand


def test_weights_that_a_correction_cannot_divide_name_the_class(tmp_path: Path, run_cli: RunCli) -> None:
    weights = np.random.default_rng(1).normal(size=(3, D))
    weights[1] = 0.0
    splits = {"train": (20, 10, 5), "test": (4, 4, 4)}
    path = write(tmp_path / "zero.h5", splits, classifier=(weights, np.zeros(3)))
    outcome = stage2(run_cli, path, "--method", "all")
    assert outcome.code == 2
    told = "tau_norm (tau 1.0) gives weights that are not finite: 1 of 3 classes, 'c1'"
    assert f"warning: {told}; the others go on\n" in outcome.err
    assert outcome.err.endswith(f"error: {told}\nhint: try other parameters\n")
    made = {row["method"] for row in rows_of(run_cli, tmp_path / "runs" / "zero")}
    assert made == set(methods.fits(background=False)) - {"tau_norm"}


def test_features_too_large_for_float32_stop_those_they_are_too_large_for(tmp_path: Path, run_cli: RunCli) -> None:
    """Squares of 1e30 are infinite; a classifier of lengths 1 has none."""
    path = write(tmp_path / "huge.h5", {"train": (20, 10, 5), "test": (4, 4, 4)}, scale=1e30)
    outcome = stage2(run_cli, path, "--method", "all", "--method", "ncm", "--set", "stage2.space=raw")
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert "ncm (space raw) gives weights that are not finite: 3 of 3 classes, 'c0', 'c1', 'c2'" in outcome.err
    assert "softmax (lr 0.1, seed 0) diverged in epoch " in outcome.err
    made = {row["method"] for row in rows_of(run_cli, tmp_path / "runs" / "huge")}
    assert made >= {"ldam_drw"}, "which has its weights and features at length 1"
    outcome = stage2(run_cli, path, "--method", "gumbel", "--method", "ncm", "--minutes", "0.01", command="tune")
    assert outcome.code in (0, 2)
    assert "Traceback" not in outcome.err


def test_a_classifier_whose_logits_overflow_on_test_is_no_result(tmp_path: Path, run_cli: RunCli) -> None:
    x, y = gaussians(labels(20, 10, 5), 0)
    far = np.full((3, D), 3e38, np.float32)
    weights = (4.0 * np.random.default_rng(1).normal(size=(3, D)), np.zeros(3))
    path = features.write(tmp_path / "far.h5", {"train": (x, y), "test": (far, np.arange(3))}, classifier=weights)
    outcome = stage2(run_cli, path, "--method", "softmax", "--method", "ldam_drw")
    assert outcome.code == 2
    told = "softmax (lr 0.1, seed 0): its logits of test samples are not finite"
    assert f"error: {told}\nhint: scale the features, or lower stage2.lr\n" in outcome.err
    assert f"warning: {told}; the others go on\n" in outcome.err
    assert [row["method"] for row in rows_of(run_cli, tmp_path / "runs" / "far")] == ["ldam_drw"]
    folders = list((tmp_path / "runs" / "far" / "stage2").iterdir())
    assert [is_finished(folder) for folder in folders] == [True], "what failed leaves no folder"
    with pytest.raises(InputError, match="logits of test samples are not finite"):
        evaluate(weights, path)


def test_a_label_without_any_score_leaves_no_infinite_figure(tmp_path: Path) -> None:
    x = np.array([[1.0], [1.0]], np.float32)
    path = features.write(tmp_path / "sure.h5", {"train": (x, np.arange(2)), "test": (x, np.arange(2))})
    found = evaluate((np.array([[3e38], [-3e38]]), np.zeros(2)), path)
    assert found["top1"] == 50.0
    assert found["nll"] is None


# Images


def write_images(folder: Path, kind: str, splits: dict[str, np.ndarray]) -> Path:
    """Images of labels 0 to 2, in an array or in files, and a config that trains on them for one epoch."""
    lines = [f'kind = "{kind}"', f'path = "{folder / "x.npz" if kind == "npz" else folder}"']
    arrays: dict[str, np.ndarray] = {}
    for name, of_split in splits.items():
        pixels, _ = colour_images((len(of_split), 0, 0), 0)
        arrays |= {f"{name}_images": pixels, f"{name}_labels": of_split}
        listed = []
        for number, (image, label) in enumerate(zip(pixels, of_split.tolist(), strict=True)):
            path = folder / name / f"c{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind != "npz":
                Image.fromarray(image).save(path)
            listed.append(f"{path.relative_to(folder)} {label}")
        (folder / f"{name}.txt").write_text("\n".join(listed))
        if kind == "list":
            lines.append(f'lists.{name} = "{name}.txt"')
    if kind == "npz":
        np.savez(folder / "x.npz", class_names=np.array(["c0", "c1", "c2"]), **arrays)
    stage1 = '[stage1]\nepochs = 1\nbatch_size = 16\nlr = 0.01\nprecision = "float32"\nnum_workers = 0\n'
    text = "\n".join(["[data]", *lines, '[backbone]\nname = "resnet32"', stage1])
    (folder / "odd.toml").write_text(text)
    return folder / "odd.toml"


@pytest.mark.parametrize("kind", ["npz", "folder", "list"])
def test_images_of_odd_classes_go_the_whole_road(tmp_path: Path, run_cli: RunCli, kind: str) -> None:
    """A class without train images; one without test images, of one train image."""
    splits = {"train": np.array([0] * 7 + [2]), "val": np.array([0]), "test": np.array([0, 1, 0])}
    config = write_images(tmp_path, kind, splits)
    outcome = run_cli("stage1", config, "--runs-dir", tmp_path / "runs", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    name = "class 1" if kind == "list" else "c1"
    assert f"warning: no train sample of 1 classes: {name}\n" in outcome.err
    run = tmp_path / "runs" / "odd"
    assert run_cli("stage2", run, "--method", "gumbel", "--method", "balanced_softmax").code == 0
    assert [row["num_few"] for row in rows_of(run_cli, run)] == [3, 3, 3]


@pytest.mark.parametrize("kind", ["folder", "list"])
def test_images_of_one_class_are_refused_before_training(tmp_path: Path, run_cli: RunCli, kind: str) -> None:
    config = write_images(tmp_path, kind, {"train": np.zeros(6, int), "test": np.zeros(2, int)})
    outcome = run_cli("stage1", config, "--runs-dir", tmp_path / "runs", "--device", "cpu")
    assert (outcome.code, outcome.out) == (2, "")
    assert "a classifier needs at least two\nhint: images of anything else can be a class of their own\n" in outcome.err
    assert not (tmp_path / "runs" / "odd").exists()


@pytest.mark.parametrize("kind", ["npz", "folder", "list"])
@pytest.mark.parametrize("split", ["test", "val"])
def test_a_split_that_one_image_a_class_cannot_give_is_told(
    tmp_path: Path, run_cli: RunCli, kind: str, split: str
) -> None:
    one_each = {"train": np.arange(3)} | ({"test": np.arange(3)} if split == "val" else {})
    config = write_images(tmp_path, kind, one_each)
    changes = ["--set", f"data.{split}_fraction=0.2", "--runs-dir", tmp_path / "runs", "--device", "cpu"]
    outcome = run_cli("stage1", config, *changes)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"the {split} split has no image\nhint: " in outcome.err
    assert "at least two" in outcome.err


def test_classes_that_an_imbalance_factor_empties_are_told(tmp_path: Path, run_cli: RunCli) -> None:
    splits = {"train": np.repeat(np.arange(3), 8), "test": np.arange(3)}
    config = write_images(tmp_path, "npz", splits)
    changes = ["--set", "data.imbalance_factor=100", "--runs-dir", tmp_path / "runs", "--device", "cpu"]
    outcome = run_cli("stage1", config, *changes)
    assert outcome.code == 0, outcome.err
    assert "warning: no train sample of 2 classes: c1, c2\n" in outcome.err or "of 1 classes: c2\n" in outcome.err
