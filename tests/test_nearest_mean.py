"""Nearest class means against distances written out in float64, by the library and the command line."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import gol_decouple
from gol_decouple import classifiers, features, methods
from gol_decouple.errors import InputError
from gol_decouple.report.rows import collect_rows
from gol_decouple.runs import read_manifest
from gol_decouple.stages import closed_form
from tests.conftest import RunCli

COUNTS = (30, 12, 5, 1)
C, D = len(COUNTS), 6
STREAM = np.random.default_rng(0)
LABELS = STREAM.permutation(np.repeat(np.arange(C), COUNTS))
# Far from the origin, where centring matters; the second view is one that nothing should look at.
CLEAN = STREAM.normal(4.0, 1.0, (C, D))[LABELS] + STREAM.normal(0.0, 0.7, (len(LABELS), D))
VIEWS = np.stack([CLEAN, STREAM.normal(-50.0, 9.0, CLEAN.shape)])
TEST, TEST_LABELS = STREAM.normal(4.0, 1.5, (40, D)), np.arange(40) % C
EVERY_SPACE = pytest.mark.parametrize("space", classifiers.SPACES)


def write(path: Path, dtype: str, absent: int | None = None) -> Path:
    """A file of these; without the train samples of one class, if it is `absent`."""
    kept = np.flatnonzero(absent != LABELS)
    splits = {"train": (VIEWS[:, kept], LABELS[kept]), "test": (TEST, TEST_LABELS)}
    return features.write(path, splits, class_names=list("abcd"), dtype=dtype)


@pytest.fixture(scope="module", params=["float16", "float32"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("features") / "means.h5", request.param)


def by_hand(path: Path, space: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared lengths of features [N, D], and their distances to the class means [N, C], in float64."""
    train = features.open(path)["train"]
    samples = train.features[0].astype(np.float64)

    def seen(rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float64) - (samples.mean(0) if space == "centred_l2" else 0.0)
        return rows if space == "raw" else rows / np.sqrt((rows**2).sum(1, keepdims=True))

    own, means = seen(x), [seen(samples)[train.labels == c].mean(0) for c in range(C)]
    distances = np.stack([np.sqrt(((own - mean) ** 2).sum(1)) for mean in means], axis=1)
    return (own**2).sum(1, keepdims=True), distances


@EVERY_SPACE
@pytest.mark.parametrize("rows_at_once", [7, 4096])
def test_logits_fall_with_the_squared_distance_to_the_class_mean(
    file: Path, space: str, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed_form, "_ROWS_AT_ONCE", rows_at_once)
    x = features.open(file)["test"].features[0]
    squares, distances = by_hand(file, space, x)
    result = gol_decouple.retrain(file, "ncm", space=space)
    logits = result.logits(x)
    np.testing.assert_allclose(logits, squares - distances**2, rtol=1e-5, atol=2e-4)
    nearest = distances.argmin(1)
    np.testing.assert_array_equal(logits.argmax(1), nearest)
    assert result.metrics["top1"] == pytest.approx(100 * np.mean(nearest == TEST_LABELS))
    assert (result.epochs, result.history, result.num_views) == (0, [], 1)


def test_spaces_are_not_one_another(file: Path) -> None:
    """The last test could not tell them apart if these data did not."""
    x = features.open(file)["test"].features[0]
    nearest = {tuple(by_hand(file, space, x)[1].argmin(1)) for space in classifiers.SPACES}
    assert len(nearest) == len(classifiers.SPACES)


def test_a_mean_of_features_of_length_one_keeps_the_length_it_comes_to(file: Path) -> None:
    lengths = gol_decouple.retrain(file, "ncm", space="centred_l2").weight.norm(dim=1) / 2
    assert lengths[:3].max() < 0.99
    assert lengths[3] == pytest.approx(1.0, abs=1e-5)


@EVERY_SPACE
@pytest.mark.parametrize("absent", [0, 3])
def test_a_class_without_samples_is_never_predicted_and_all_is_finite(
    tmp_path: Path, space: str, absent: int, run_cli: RunCli
) -> None:
    path = write(tmp_path / "gap.h5", "float16", absent)
    result = gol_decouple.retrain(path, "ncm", space=space)
    logits = result.logits(1e3 * np.random.default_rng(1).normal(size=(500, D)))
    assert logits.isfinite().all()
    assert absent not in logits.argmax(1)
    scores = result.scores(TEST)
    assert scores.isfinite().all()
    assert not scores[:, absent].any()
    assert all(math.isfinite(value) for value in result.metrics.values() if value is not None)
    done = run_cli("stage2", path, "--method", "ncm", "--set", f"stage2.space={space}", "--runs-dir", tmp_path)
    assert done.code == 0, done.err
    (row,) = collect_rows([tmp_path / "gap"], tmp_path)
    assert {name: row[name] for name in ("top1", "ece", "nll")} == pytest.approx(
        {name: result.metrics[name] for name in ("top1", "ece", "nll")}
    )


@EVERY_SPACE
def test_a_program_and_the_command_line_make_the_same_in_memory_and_streamed(
    file: Path, tmp_path: Path, run_cli: RunCli, space: str
) -> None:
    wanted = gol_decouple.retrain(file, "ncm", space=space, memory_gb=1e-9)
    again = gol_decouple.retrain(file, "ncm", space=space, seed=7)
    for memory_gb in (1e-9, 1.0):
        runs_dir = tmp_path / f"{memory_gb}"
        arguments = ("--set", f"stage2.space={space}", "--set", f"stage2.memory_gb={memory_gb}", "--seeds", 3)
        done = run_cli("stage2", file, "--method", "ncm", *arguments, "--runs-dir", runs_dir)
        assert done.code == 0, done.err
        (folder,) = (runs_dir / "means" / "stage2").iterdir()
        manifest, tensors = read_manifest(folder), load_file(folder / "classifier.safetensors")
        assert manifest["metrics"]["top1"] == wanted.metrics["top1"]
        assert (manifest["classifier"], manifest["started_from"]) == ("ncm", "fresh")
        for own in (wanted, again):
            assert tensors.keys() == own.classifier.tensors().keys()
            assert all(torch.equal(tensors[name], tensor) for name, tensor in own.classifier.tensors().items())


def test_it_is_found_by_its_default_space(file: Path, tmp_path: Path, run_cli: RunCli) -> None:
    assert run_cli("stage2", file, "--method", "ncm", "--runs-dir", tmp_path).code == 0
    (folder,) = (tmp_path / "means" / "stage2").iterdir()
    assert read_manifest(folder)["settings"] == {"temperature": "none", "space": "centred_l2"}
    assert folder.name.startswith("ncm-seed0-")


def test_a_space_that_is_not_there_is_named(file: Path, tmp_path: Path, run_cli: RunCli) -> None:
    with pytest.raises(InputError, match="unknown space of ncm 'cosine'") as error:
        classifiers.nearest_mean(list, C, D, "cosine")
    assert all(space in (error.value.hint or "") for space in classifiers.SPACES)
    with pytest.raises(InputError, match="space = 'cosine'"):
        gol_decouple.retrain(file, "ncm", space="cosine")
    with pytest.raises(InputError, match="'cosine'"):
        gol_decouple.retrain(file, replace(methods.get("ncm"), classifier_params={"space": "cosine"}))
    done = run_cli("stage2", file, "--method", "ncm", "--set", "stage2.space=cosine", "--runs-dir", tmp_path / "runs")
    assert (done.code, done.out) == (2, "")
    assert "error: --set stage2.space=cosine: input should be 'raw', 'l2' or 'centred_l2'" in done.err
    assert not (tmp_path / "runs").exists()


def test_only_raw_means_are_a_linear_layer_on_features_as_they_are(file: Path) -> None:
    x = torch.from_numpy(features.open(file)["test"].features[0]).float()
    raw, of_length, centred = (gol_decouple.retrain(file, "ncm", space=space) for space in classifiers.SPACES)
    torch.testing.assert_close(raw.to_linear()(x), raw.logits(x))
    torch.testing.assert_close(of_length.to_linear()(torch.nn.functional.normalize(x)), of_length.logits(x))
    with pytest.raises(InputError, match="no linear layer"):
        centred.to_linear()
