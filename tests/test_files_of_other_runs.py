"""Features, models and classifiers of another run in a run's place: refused, by the field that differs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import RunCli
from safetensors.torch import load_file, save_file

from gol_decouple import runs
from gol_decouple.config import load_config
from gol_decouple.data import load_data
from gol_decouple.features.extract import extract
from gol_decouple.files import read_json, write_json
from gol_decouple.stages.restored import load_model

FAST = ("--set", "stage2.epochs=1", "--device", "cpu")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != runs.LOCK}


def features_of(run: Path, path: Path, *settings: str, weights: float = 1.0, names: list[str] | None = None) -> Path:
    """The features that a run would have with other settings, weights or class names."""
    config = load_config(str(run / runs.CONFIG), settings)
    model = load_model(run, config, 3)
    dataset = load_data(config.data)
    if names is not None:
        dataset = dataclasses.replace(dataset, class_names=names)
    if weights != 1.0:
        with torch.no_grad():
            model.classifier.weight.mul_(weights)
    extract(model, dataset, config, path)
    return path


@pytest.fixture
def copy(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / finished_run.name))


@pytest.fixture
def own(retrained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(retrained_run, tmp_path / "runs" / retrained_run.name))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda run, path: features_of(run, path, weights=2.0), "backbone.sha256: "),
        (lambda run, path: features_of(run, path, "data.imbalance_factor=6"), "dataset.imbalance_factor: 6.66666"),
        (lambda run, path: features_of(run, path, "data.imbalance_factor=6"), "images.train: 67 -> "),
        (lambda run, path: features_of(run, path, "transform.crop_padding=2"), "transform.crop_padding: 1 -> 2"),
        (lambda run, path: features_of(run, path, names=["green", "red", "blue"]), "class order: class 0 'red'"),
        (lambda run, path: features_of(run, path, "features.views=2"), "views: 1 -> 2"),
        (lambda run, path: features_of(run, path, "features.dtype=float32"), "dtype: float16 -> float32"),
        (lambda run, path: features_of(run, path, "features.seed=3"), "row_order_seed: 0 -> 3"),
        (lambda run, path: features_of(run, path, "stage1.precision=bfloat16"), "precision: float32 -> bfloat16"),
        (lambda _, path: path, "backbone: resnet32 -> not told"),
    ],
    ids=["weights", "data", "images", "transform", "order", "views", "dtype", "seed", "precision", "elsewhere"],
)
def test_features_of_another_run_are_refused_by_name(
    copy: Path, run_cli: RunCli, gaussians: Path, make: Callable[[Path, Path], Path], field: str
) -> None:
    path = make(copy, copy / "other.h5")
    (path if path.exists() else Path(shutil.copy(gaussians, path))).replace(copy / runs.FEATURES)
    before = content(copy)
    outcome = run_cli("stage2", copy, "--activation", "gumbel", *FAST)
    assert outcome.code == 2
    assert outcome.out == ""
    error, hint = outcome.err.splitlines()
    assert error.startswith(f"error: {copy}/features.h5 is not the features file that stage one of {copy} wrote: ")
    assert field in error
    command = f"gol-decouple stage1 {copy}/config.toml --runs-dir {copy.parent} --name {copy.name}"
    assert hint == f"hint: remove {copy}/features.h5 and run: {command}"
    assert content(copy) == before


def test_no_command_takes_features_of_another_run(copy: Path, run_cli: RunCli) -> None:
    features_of(copy, copy / "other.h5", weights=2.0).replace(copy / runs.FEATURES)
    before = content(copy)
    commands = (
        ("tune", copy, "--method", "gumbel", "--minutes", "0.01", "--device", "cpu"),
        ("analyze", copy, "--what", "norms"),
        ("report", copy / runs.FEATURES),
        ("stage1", copy / runs.CONFIG, "--runs-dir", copy.parent),
    )
    for command in commands:
        outcome = run_cli(*command)
        assert outcome.code == 2, command
        assert "is not the features file that stage one of" in outcome.err
        assert "backbone.sha256: " in outcome.err
    assert content(copy) == before
    assert run_cli("report", copy).code == 0, "what manifests tell is true all the same"


def test_merge_takes_no_features_of_other_weights(copy: Path, run_cli: RunCli) -> None:
    features_of(copy, copy / "other.h5", weights=2.0).replace(copy / runs.FEATURES)
    (copy / runs.MANIFEST).unlink()
    before = content(copy)
    outcome = run_cli("merge", copy, "--device", "cpu")
    assert outcome.code == 2
    assert "model.safetensors does not hold the weights that the features of" in outcome.err
    assert content(copy) == before


def test_stage_one_that_goes_on_takes_no_features_of_another_transform(copy: Path, run_cli: RunCli) -> None:
    features_of(copy, copy / "other.h5", "transform.flip=false").replace(copy / runs.FEATURES)
    (copy / runs.MANIFEST).unlink()
    features = (copy / runs.FEATURES).read_bytes()
    outcome = run_cli("stage1", copy / runs.CONFIG, "--runs-dir", copy.parent, "--device", "cpu")
    assert outcome.code == 2
    assert "features.h5 is of other features than those to be written: transform.flip: False -> True" in outcome.err
    assert (copy / runs.FEATURES).read_bytes() == features
    assert not (copy / runs.MANIFEST).exists()


def test_what_rebuilds_does(copy: Path, run_cli: RunCli) -> None:
    features = (copy / runs.FEATURES).read_bytes()
    features_of(copy, copy / "other.h5", weights=2.0).replace(copy / runs.FEATURES)
    hint = run_cli("stage2", copy, "--activation", "gumbel", *FAST).err.splitlines()[1]
    (copy / runs.FEATURES).unlink()
    assert run_cli(*hint.split(": ")[2].split()[1:], "--device", "cpu").code == 0
    assert (copy / runs.FEATURES).read_bytes() == features
    assert run_cli("stage2", copy, "--activation", "gumbel", *FAST).code == 0


def test_features_that_are_extracted_otherwise_are_told_by_their_fingerprint(copy: Path, run_cli: RunCli) -> None:
    manifest = read_json(copy / runs.MANIFEST)
    manifest["features"]["fingerprint"] = "f" * 64
    write_json(copy / runs.MANIFEST, manifest)
    outcome = run_cli("stage2", copy, "--activation", "gumbel", *FAST)
    assert outcome.code == 2
    assert "fingerprint: ffffffffffff -> " in outcome.err


def test_a_run_of_an_older_version_tells_nothing_and_is_taken(copy: Path, run_cli: RunCli, photos: Path) -> None:
    manifest = read_json(copy / runs.MANIFEST)
    manifest["features"] = {name: manifest["features"][name] for name in ("fingerprint", "size", "checked")}
    write_json(copy / runs.MANIFEST, manifest)
    assert run_cli("stage2", copy, "--activation", "gumbel", *FAST).code == 0
    assert run_cli("predict", copy, photos / "red").code == 0


# The model


def test_a_model_with_other_weights_is_refused(own: Path, run_cli: RunCli, photos: Path, tmp_path: Path) -> None:
    tensors = load_file(own / runs.MODEL)
    name = next(name for name in tensors if name.endswith("running_var"))
    save_file(tensors | {name: tensors[name] * 1.001}, own / runs.MODEL)
    before = content(own)
    commands = (
        ("predict", own, photos / "red"),
        ("predict", own, photos / "red", "--method", "sigmoid"),
        ("export", own, "--out", tmp_path / "out"),
        ("export", own, "--method", "sigmoid", "--out", tmp_path / "out"),
    )
    for command in commands:
        outcome = run_cli(*command)
        assert outcome.code == 2, command
        error, hint = outcome.err.splitlines()
        told = f"error: {own}/model.safetensors does not hold the weights that the features of {own} are of: "
        assert error.startswith(f"{told}backbone.sha256: ")
        assert hint.startswith(f"hint: remove {own}/manifest.json and run: gol-decouple stage1 {own}/config.toml")
    assert content(own) == before
    assert not (tmp_path / "out").exists()


# Classifiers


def make_foreign(run: Path, method: str) -> Path:
    """A run's classifier of a method, as if copied from a run of another backbone."""
    (folder,) = (run / runs.STAGE2).glob(f"{method}-*")
    manifest = read_json(folder / runs.MANIFEST)
    manifest["features"] |= {"fingerprint": "f" * 64, "backbone": {"name": "timm:resnet18"}}
    write_json(folder / runs.MANIFEST, manifest)
    return folder


def test_a_classifier_of_other_features_is_refused_by_name(
    own: Path, run_cli: RunCli, photos: Path, tmp_path: Path
) -> None:
    folder = make_foreign(own, "sigmoid")
    before = content(own)
    commands = (
        ("predict", own, photos / "red", "--method", "sigmoid"),
        ("predict", folder, photos / "red"),
        ("export", own, "--method", "sigmoid", "--out", tmp_path / "out"),
        ("export", folder, "--out", tmp_path / "out"),
    )
    for command in commands:
        outcome = run_cli(*command)
        assert outcome.code == 2, command
        error, hint = outcome.err.splitlines()
        assert error.startswith(f"error: {folder} was trained on other features than those of {own}: ")
        assert "backbone.name: resnet32 -> timm:resnet18" in error
        assert hint == (
            f"hint: remove {folder}; gol-decouple stage2 {own} --method sigmoid trains one on the run's own"
        )
    assert content(own) == before


def test_a_foreign_classifier_does_not_hide_the_runs_own(own: Path, run_cli: RunCli, photos: Path) -> None:
    (folder,) = (own / runs.STAGE2).glob("sigmoid-*")
    shutil.copytree(folder, own / "kept")
    make_foreign(own, "sigmoid").rename(own / runs.STAGE2 / "sigmoid-of-another-run")
    (own / "kept").rename(folder)
    assert run_cli("predict", own, photos / "red", "--method", "sigmoid").code == 0


def test_reports_leave_foreign_classifiers_out_and_tell(own: Path, run_cli: RunCli) -> None:
    everything = run_cli("report", own, "--format", "csv").out.splitlines()
    folder = make_foreign(own, "sigmoid")
    outcome = run_cli("report", own, "--format", "csv")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == len(everything) - 1
    assert not any(",sigmoid,sigmoid," in line for line in outcome.out.splitlines())
    told = f"warning: left out, since they are of other features than {own} has now: {folder.name} ("
    assert outcome.err.startswith(told)
    assert "backbone.name: timm:resnet18 -> resnet32" in outcome.err
