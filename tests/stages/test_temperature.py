"""Temperatures: the best one against a fine grid, what one changes and what it leaves, and where it is fitted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import RunCli

import gol_decouple
from gol_decouple import features, losses, methods
from gol_decouple.errors import InputError
from gol_decouple.losses import Loss
from gol_decouple.runs import read_manifest
from gol_decouple.stages.calibration import COLDEST, HOTTEST, best_temperature, tempered
from gol_decouple.stages.samples import Holdout

COUNTS = np.array([120, 60, 30, 12, 6])
C = len(COUNTS)
PLAIN = [(activation, "cross_entropy") for activation in ("softmax", "sigmoid", "gumbel", "gumbel_published")]
# Losses with scores of their own, with columns beside the classes' or with a state.
PAIRS = [*PLAIN, ("softmax", "seesaw"), ("softmax", "bags"), ("sigmoid", "eqlv2")]
GRID = np.geomspace(COLDEST, HOTTEST, 1001)  # a step is 0.9 %
EVERY_PAIR = pytest.mark.parametrize(("activation", "name"), PAIRS)


def make(activation: str, name: str) -> Loss:
    return losses.get(name, activation=activation, class_counts=COUNTS).eval()


def some_logits(loss: Loss, count: int = 300, seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(count, loss.num_columns(C), generator=draws, dtype=torch.float64)


def cost(loss: Loss, logits: torch.Tensor, labels: np.ndarray, temperature: float) -> float:
    """The negative log-likelihood of labels under the scores of logits / T, or of BAGS scores^(1/T), normalised."""
    divided = loss.log_scores(logits.double()) / temperature if loss.name == "bags" else None
    log_scores = (loss.log_scores(logits.double() / temperature) if divided is None else divided).numpy()
    log_scores = log_scores - log_scores.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(log_scores).sum(1)) - log_scores[np.arange(len(labels)), labels]))


# The best temperature


@EVERY_PAIR
@pytest.mark.parametrize("seed", range(3))
def test_no_temperature_is_better_than_the_best(activation: str, name: str, seed: int) -> None:
    loss = make(activation, name)
    logits = some_logits(loss, seed=seed)
    log_scores = loss.log_scores(logits / 2.5)
    noise = np.random.default_rng(seed).gumbel(size=log_scores.shape)
    labels = (log_scores.numpy() + noise).argmax(1)
    found = best_temperature(loss, logits, torch.from_numpy(labels))
    costs = [cost(loss, logits, labels, value) for value in GRID]
    assert found == pytest.approx(GRID[int(np.argmin(costs))], rel=0.01)
    assert cost(loss, logits, labels, found) <= min(costs) + 1e-6
    assert cost(loss, logits, labels, found) <= cost(loss, logits, labels, 1.0) + 1e-6


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 2.5, 20.0])
def test_logits_that_are_too_large_by_a_factor_give_that_factor(temperature: float) -> None:
    draws = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(40_000, C, generator=draws, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=draws).squeeze(1)
    found = best_temperature(make("softmax", "cross_entropy"), temperature * logits, labels)
    assert found == pytest.approx(temperature, rel=0.03)


def test_it_ends_at_the_bounds_where_there_is_no_best() -> None:
    loss = make("softmax", "cross_entropy")
    logits, labels = torch.tensor([[2.0, 1.9], [1.9, 2.0]]), torch.tensor([0, 1])
    assert best_temperature(loss, logits, labels) == pytest.approx(COLDEST, rel=2e-3)
    assert best_temperature(loss, logits, 1 - labels) == pytest.approx(HOTTEST, rel=2e-3)


def test_a_case_by_hand() -> None:
    """Three of four right, at a difference of 1: sigma(1 / T) = 3 / 4, so T = 1 / log 3."""
    logits, labels = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    found = best_temperature(make("softmax", "cross_entropy"), logits, labels)
    assert found == pytest.approx(1 / math.log(3), rel=1e-3)


# What one changes


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
def test_of_softmax_it_divides_the_logits(temperature: float) -> None:
    loss = make("softmax", "cross_entropy")
    logits = some_logits(loss)
    scores, log_scores = tempered(loss, logits, temperature)
    torch.testing.assert_close(scores, (logits / temperature).softmax(1))
    torch.testing.assert_close(log_scores, (logits / temperature).log_softmax(1))


@EVERY_PAIR
@pytest.mark.parametrize("temperature", [0.2, 1.0, 7.0])
def test_scores_are_those_of_divided_logits_and_sum_to_one(activation: str, name: str, temperature: float) -> None:
    loss = make(activation, name)
    logits = some_logits(loss)
    scores, log_scores = tempered(loss, logits, temperature)
    torch.testing.assert_close(scores.sum(1), torch.ones(len(scores), dtype=torch.float64))
    torch.testing.assert_close(log_scores.exp(), scores)
    plain = loss.scores(logits) ** (1 / temperature) if name == "bags" else loss.scores(logits / temperature)
    plain = plain.double()
    torch.testing.assert_close(scores, plain / plain.sum(1, keepdim=True), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("activation", "name"), [pair for pair in PAIRS if pair[0] != "gumbel_published"])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 7.0])
def test_ranks_stay(activation: str, name: str, temperature: float) -> None:
    loss = make(activation, name)
    logits = some_logits(loss)
    _, log_scores = tempered(loss, logits, temperature)
    assert torch.equal(log_scores.argsort(1), loss.ranking(logits).argsort(1))


@EVERY_PAIR
def test_none_leaves_scores_as_they_are(activation: str, name: str) -> None:
    loss = make(activation, name)
    scores, log_scores = tempered(loss, some_logits(loss), None)
    assert torch.equal(scores, loss.scores(some_logits(loss)))
    assert torch.equal(log_scores, loss.log_scores(some_logits(loss)))


# In stage two

METHODS = [
    "softmax",
    "gumbel",
    "balanced_sigmoid",
    "seesaw",
    "bags",
    "eqlv2",
    "ldam_drw",
    "disalign",
    "ncm",
    "tau_norm",
]
SOME = ["softmax", "balanced_sigmoid", "bags", "disalign", "ncm", "tau_norm"]
# What depends on how sure a classifier is.
OF_SCORES = {"ece", "classwise_ece", "nll"}
OF_CHOICE = {"path", "seconds", "temperature", "chosen_on", "tried", "baseline"}


def write(path: Path, parts: tuple[str, ...] = ("train", "val", "test"), with_classifier: bool = True) -> Path:
    """Four overlapping Gaussian classes, with a long tail in train and val."""
    stream = np.random.default_rng(0)
    centres, sizes = stream.normal(0, 1.2, (4, 6)), {"train": (60, 30, 15, 8), "val": (20, 10, 6, 4), "test": (15,) * 4}
    splits = {}
    for name, counts in sizes.items():
        labels = np.repeat(np.arange(4), counts)
        splits[name] = ((centres[labels] + stream.normal(size=(len(labels), 6))).astype(np.float32), labels)
    classifier = (0.7 * stream.normal(size=(4, 6)), stream.normal(size=4)) if with_classifier else None
    return features.write(path, {name: splits[name] for name in parts}, classifier=classifier)


def as_val(path: Path, other: Path) -> Path:
    """The same, with what would be held out of train as a val split."""
    file = features.open(path)
    holdout = Holdout.of(file)
    x, labels, kept = file["train"].features[0], file["train"].labels, holdout.rest.kept(file)
    splits = {"train": (x[kept], labels[kept]), "val": (x[holdout.positions], labels[holdout.positions])}
    splits["test"] = (file["test"].features[0], file["test"].labels)
    classifier = None if file.classifier is None else (file.classifier.weight, file.classifier.bias)
    return features.write(other, splits, classifier=classifier)


def folder_of(runs_dir: Path, name: str, section: str = "stage2") -> Path:
    (folder,) = runs_dir.glob(f"*/{section}/{name}-*")
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_a_program_fits_it_on_val(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "some.h5")
    plain, result = (gol_decouple.retrain(file, name, temperature=value) for value in ("none", "val"))
    assert plain.temperature is None
    assert all(torch.equal(part, result.classifier.tensors()[key]) for key, part in plain.classifier.tensors().items())
    val = features.open(file)["val"]
    logits = result.logits(val.features[0])
    costs = [cost(result.loss, logits, val.labels, value) for value in GRID]
    assert cost(result.loss, logits, val.labels, result.temperature) <= min(costs) + 1e-5
    on_val = [gol_decouple.evaluate(each, file, "val") for each in (result, plain)]
    assert on_val[0]["nll"] == pytest.approx(cost(result.loss, logits, val.labels, result.temperature), rel=1e-4)
    assert on_val[0]["nll"] <= on_val[1]["nll"] + 1e-6
    for found, other in ((result.metrics, plain.metrics), on_val):
        assert {key: found[key] for key in found.keys() - OF_SCORES} == {
            key: other[key] for key in other.keys() - OF_SCORES
        }
    assert result.metrics == gol_decouple.evaluate(result, file)
    x = features.open(file)["test"].features[0]
    assert torch.equal(result.scores(x), tempered(result.loss, result.logits(x), result.temperature)[0])


@pytest.mark.parametrize("with_classifier", [True, False])
def test_a_program_needs_a_val_split_for_it(tmp_path: Path, with_classifier: bool) -> None:
    file = write(tmp_path / "some.h5", ("train", "test"), with_classifier)
    with pytest.raises(InputError, match=r"some\.h5 has no val split to fit a temperature on") as error:
        gol_decouple.retrain(file, "softmax", temperature="val")
    assert error.value.hint == "temperature='none'"
    with pytest.raises(InputError, match="temperature = 'test': Input should be 'none' or 'val'"):
        gol_decouple.retrain(file, "softmax", temperature="test")


def report(run_cli: RunCli, runs_dir: Path) -> dict[str, dict[str, Any]]:
    rows = json.loads(run_cli("report", runs_dir, "--format", "json").out)
    return {row["method"]: row for row in rows if row["method"] != "softmax" or row["start"] != "fresh"}


@pytest.mark.parametrize("with_classifier", [True, False], ids=["", "without a Softmax classifier"])
@pytest.mark.parametrize("parts", [("train", "val", "test"), ("train", "test")], ids=["val", "carved"])
def test_the_command_line_fits_it_on_what_is_held_out(
    tmp_path: Path, run_cli: RunCli, parts: tuple[str, ...], with_classifier: bool
) -> None:
    file = write(tmp_path / "some.h5", parts, with_classifier)
    fitted_on = file if "val" in parts else as_val(file, tmp_path / "other.h5")
    chosen = [argument for name in SOME for argument in ("--method", name)]
    rows = {}
    for value in ("none", "val"):
        arguments = ("--set", f"stage2.temperature={value}", "--set", "stage2.epochs=3", "--runs-dir", tmp_path / value)
        done = run_cli("stage2", file, *chosen, *arguments)
        assert done.code == 0, done.err
        rows[value] = report(run_cli, tmp_path / value)
    assert not list((tmp_path / "none").glob("*/candidates"))
    assert rows["none"].keys() == rows["val"].keys() == set(SOME)
    for name in SOME:
        plain, other = (
            {key: value for key, value in rows[value][name].items() if key not in OF_SCORES | OF_CHOICE}
            for value in ("none", "val")
        )
        assert other.pop("changed_settings") == plain.pop("changed_settings") | {"temperature": "val"}
        assert other == plain

        folder = Path(rows["val"][name]["path"])
        assert "-temperatureval-seed0-" in folder.name
        manifest = read_manifest(folder)
        assert (manifest["trained_on"], manifest["split"]) == ("train", "test")
        assert read_manifest(Path(rows["none"][name]["path"]))["temperature"] is None
        (method,) = methods.apply_settings([methods.get(name)], {"epochs": 3, "temperature": "val"})
        wanted = gol_decouple.retrain(fitted_on, method).temperature
        assert manifest["temperature"] == pytest.approx(wanted, rel=5e-3)
        assert rows["val"][name]["nll"] != rows["none"][name]["nll"]


def test_each_seed_has_its_own(tmp_path: Path, run_cli: RunCli) -> None:
    file = write(tmp_path / "some.h5")
    arguments = ("--set", "stage2.temperature=val", "--set", "stage2.lr=1.0", "--set", "stage2.epochs=2")
    assert run_cli("stage2", file, "--method", "crt", *arguments, "--seeds", 3, "--runs-dir", tmp_path / "r").code == 0
    found = {seed: read_manifest(folder_of(tmp_path / "r", f"crt-*-seed{seed}"))["temperature"] for seed in range(3)}
    wanted = {
        seed: gol_decouple.retrain(file, "crt", lr=1.0, epochs=2, seed=seed, temperature="val").temperature
        for seed in range(3)
    }
    assert found == pytest.approx(wanted, rel=5e-3)
    assert len(set(found.values())) == 3


def test_a_classifier_that_was_chosen_keeps_the_temperature_that_was_fitted_with_it(
    tmp_path: Path, run_cli: RunCli
) -> None:
    """Trained once more with val, whose samples can then tell nothing of how sure it should be."""
    file = write(tmp_path / "some.h5")
    arguments = ("--set", "stage2.temperature=val", "--set", "stage2.lr=[1e-3,1.0]", "--set", "stage2.refit=true")
    assert run_cli("stage2", file, "--method", "crt", *arguments, "--runs-dir", tmp_path / "r").code == 0
    manifest = read_manifest(folder_of(tmp_path / "r", "crt"))
    lr = manifest["settings"]["lr"]
    wanted = gol_decouple.retrain(file, "crt", lr=lr, temperature="val").temperature
    assert manifest["trained_on"] == "train + val"
    assert manifest["temperature"] == pytest.approx(wanted, rel=5e-3)


def test_of_both_the_first_is_chosen_for_they_rank_alike(tmp_path: Path, run_cli: RunCli) -> None:
    file = write(tmp_path / "some.h5")
    for values in (["none", "val"], ["val", "none"]):
        runs_dir = tmp_path / values[0]
        setting = ("--set", f"stage2.temperature={json.dumps(values)}", "--runs-dir", runs_dir)
        assert run_cli("stage2", file, "--method", "ncm", *setting).code == 0
        manifest = read_manifest(folder_of(runs_dir, "ncm"))
        assert manifest["settings"]["temperature"] == values[0]
        assert (manifest["temperature"] is None) == (values[0] == "none")
