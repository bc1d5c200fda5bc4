"""Every loss in stage two: what is trained, what chance does to it, what shares a stack, and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Outcome, RunCli
from safetensors.torch import load_file
from test_together import ROUNDING, alone, assert_as_alone

import gol_decouple
from gol_decouple import features, losses, methods
from gol_decouple.errors import InputError
from gol_decouple.losses.equalization import SoftmaxEQL
from gol_decouple.methods import Method
from gol_decouple.runs import read_manifest
from gol_decouple.stages import together
from gol_decouple.stages.jobs import Job
from gol_decouple.stages.rows import InMemory

# Of sizes that make three groups for bags, and a tail of three for the equalisation losses.
COUNTS, SIZE = (104, 20, 12, 8, 5), 8
COLUMNS = {"bags": 8}  # others have one a class


def write_five(path: Path, counts: tuple[int, ...] = COUNTS, with_classifier: bool = True) -> Path:
    """Five Gaussian classes in two views, 20 test samples of each, and a Softmax classifier of no merit."""
    stream = np.random.default_rng(1)
    centres = stream.normal(0, 2.0, (5, SIZE))

    def draw(sizes: tuple[int, ...], views: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(5), sizes)
        return (centres[labels] + stream.normal(size=(views, len(labels), SIZE))).astype(np.float32), labels

    test = draw((20,) * 5, 1)
    splits = {"train": draw(counts, 2), "test": (test[0][0], test[1])}
    classifier = (stream.normal(size=(5, SIZE)), stream.normal(size=5)) if with_classifier else None
    return features.write(path, splits, classifier=classifier, class_names=list("abcde"))


def rows_of(path: Path) -> InMemory:
    return InMemory(features.open(path), torch.device("cpu"), 2)


def own(
    activation: str, loss: str, epochs: int = 2, batch_size: int = 16, lr: float = 0.01, **params: object
) -> Method:
    """A method that is in no list, with an activation's recipe."""
    recipe = replace(methods.get(activation), name="own", epochs=epochs, batch_size=batch_size, lr=lr)
    return replace(recipe, loss=loss, loss_params=params, start="fresh")


# Those that draw, so that here it matters; and those that draw for background only.
DRAWING = {
    "softmax_eql": own("softmax", "softmax_eql", lambda_=0.2),
    "federated": own("sigmoid", "federated", batch_size=8, num_sampled=4),
    "bags": own("softmax", "bags", ratio=0.5),
}
DRAWING_FOR_BACKGROUND = {"acsl": own("sigmoid", "acsl", threshold=0.1), "drop": own("sigmoid", "drop", lambda_=0.2)}
RANDOM = DRAWING | DRAWING_FOR_BACKGROUND
# Those in which a sample's loss depends on the samples beside it or before it.
COUPLED = {
    "eqlv2": own("sigmoid", "eqlv2"),
    "seesaw": own("softmax", "seesaw"),
    **{name: RANDOM[name] for name in ("bags", "federated")},
}


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_five(tmp_path_factory.mktemp("features") / "five.h5")


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_five(tmp_path_factory.mktemp("features") / "four.h5", (104, 20, 0, 8, 5))


@pytest.fixture(scope="module")
def rows(five: Path) -> InMemory:
    return rows_of(five)


# Every loss


@pytest.mark.parametrize(("activation", "loss"), losses.pairs())
def test_every_loss_trains_a_classifier(five: Path, activation: str, loss: str) -> None:
    result = gol_decouple.retrain(five, replace(methods.get(activation), name="own", loss=loss), epochs=2, lr=0.01)
    columns = COLUMNS.get(loss, 5)
    assert result.loss.num_columns(5) == columns
    assert (result.weight.shape, result.bias.shape) == ((columns, SIZE), (columns,))
    assert result.weight.isfinite().all()
    assert result.bias.isfinite().all()
    assert [entry["epoch"] for entry in result.history] == [1, 2]
    assert all(np.isfinite(entry["loss"]) for entry in result.history)
    test = features.open(five)["test"]
    before = {name: tensor.clone() for name, tensor in result.loss.state_dict().items()}
    scores = result.scores(test.features[0])
    assert scores.shape == (100, 5)
    assert ((scores >= 0) & (scores <= 1)).all()
    top1 = 100 * np.mean(scores.argmax(1).numpy() == test.labels)
    assert result.metrics["top1"] == pytest.approx(top1, abs=1e-9)
    assert gol_decouple.evaluate(result, five) == result.metrics
    assert result.to_linear()(torch.from_numpy(test.features[0])).shape == (100, columns)
    for name, tensor in result.loss.state_dict().items():
        assert torch.equal(tensor, before[name]), "nothing is learnt from test samples"


@pytest.mark.parametrize(("activation", "loss"), losses.pairs())
def test_a_class_without_samples_does_no_harm(four: Path, activation: str, loss: str) -> None:
    result = gol_decouple.retrain(four, own(activation, loss, batch_size=64))
    assert result.weight.isfinite().all()
    assert np.isfinite(result.history[-1]["loss"])


@pytest.mark.parametrize(
    ("activation", "loss", "params", "columns"),
    [
        ("sigmoid", "federated", {"num_sampled": 2, "power": 1.0}, 5),
        ("sigmoid", "drop", {"form": "paper"}, 5),
        ("sigmoid", "beql", {"base": 2.0}, 5),
        ("softmax", "ldam", {"max_margin": 0.2, "scale": 1.0}, 5),
        ("softmax", "label_aware_smoothing", {"head": 0.2, "tail": 0.0}, 5),
        ("softmax", "bags", {"edges": (10,)}, 7),
    ],
)
def test_a_record_may_set_any_parameter_its_loss_takes(
    five: Path, activation: str, loss: str, params: dict[str, object], columns: int
) -> None:
    """Those too that no named method, and so no config, has a setting for."""
    result = gol_decouple.retrain(five, own(activation, loss, **params))
    assert result.weight.shape == (columns, SIZE)
    assert result.method.loss_params == params


def test_a_value_that_a_loss_refuses(five: Path) -> None:
    with pytest.raises(InputError, match=r"loss 'seesaw': eps = 2\.0: must be above 0, and at most 1"):
        gol_decouple.retrain(five, "seesaw", eps=2.0)


# Losses that draw


@pytest.mark.parametrize("name", list(RANDOM))
def test_a_seed_gives_equal_bits_and_another_does_not(rows: InMemory, name: str) -> None:
    first, same, other = (alone(rows, Job(RANDOM[name], seed)) for seed in (4, 4, 5))
    assert torch.equal(first.weight, same.weight)
    assert torch.equal(first.bias, same.bias)
    assert first.history == same.history
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize("name", list(RANDOM))
def test_draws_matter_where_there_are_some(rows: InMemory, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The same start and order of samples, with other draws."""
    before = alone(rows, Job(RANDOM[name], 4))
    monkeypatch.setattr(together, "_LOSS_STREAM", 99)
    after = alone(rows, Job(RANDOM[name], 4))
    assert torch.equal(before.weight, after.weight) == (name in DRAWING_FOR_BACKGROUND)


def test_every_step_has_its_own_draws(rows: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: dict[int, list[int]] = {}
    real: Callable[..., torch.Tensor] = SoftmaxEQL.per_sample_

    def watched(
        self: SoftmaxEQL, logits: torch.Tensor, labels: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        assert generator is not None
        seeds.setdefault(id(self), []).append(generator.initial_seed())
        return real(self, logits, labels, generator)

    monkeypatch.setattr(SoftmaxEQL, "per_sample_", watched)
    method = DRAWING["softmax_eql"]
    jobs = [Job(method, 0), Job(method.with_settings(lr=0.1), 0), Job(method, 1)]
    list(together.train_together(rows, jobs))
    first, same, other = seeds.values()
    assert len(set(first)) == len(first) == 2 * 10
    assert first == same, "draws go by the seed, not by what else is trained"
    assert set(first).isdisjoint(other)


def test_methods_that_draw_and_others_in_one_pass(rows: InMemory) -> None:
    plain = [own(name, "cross_entropy", lr=lr) for name in ("softmax", "sigmoid") for lr in (0.01, 0.02)]
    chosen = [*RANDOM.values(), *plain, *COUPLED.values(), own("softmax", "class_balanced", deferred=0.5)]
    jobs = [Job(method, seed) for seed in (3, 0) for method in chosen]
    results = list(together.train_together(rows, jobs))
    assert len(results) == len(jobs)
    for job, result in results:
        assert_as_alone(rows, job, result)


# What may not share a stack


@pytest.mark.parametrize(("activation", "loss"), losses.pairs())
def test_only_losses_of_one_sample_each_are_stacked(rows: InMemory, activation: str, loss: str) -> None:
    method = own(activation, loss)
    made = losses.get(loss, activation=activation, class_counts=rows.class_counts)
    is_alone = made.random or not made.independent
    assert is_alone or not made.state_dict(), "a state that several share would be of all of them"
    assert is_alone or loss not in COUPLED
    by_lr = [Job(method.with_settings(lr=lr), 0) for lr in (0.01, 0.02)]
    by_seed = [Job(method, seed) for seed in (0, 1)]
    for jobs in (by_lr, by_seed):
        assert [len(stack) for stack in together.stackable(rows, jobs)] == ([1, 1] if is_alone else [2])


@pytest.mark.parametrize("name", list(COUPLED))
def test_learning_rates_and_seeds_of_a_coupled_loss_are_each_what_they_are_alone(rows: InMemory, name: str) -> None:
    jobs = [Job(COUPLED[name].with_settings(lr=lr), seed) for lr, seed in ((0.01, 0), (0.1, 0), (0.01, 1))]
    for job, result in together.train_together(rows, jobs):
        wanted = alone(rows, job)
        torch.testing.assert_close(result.weight, wanted.weight, **ROUNDING)
        torch.testing.assert_close(dict(result.loss.state_dict()), dict(wanted.loss.state_dict()), **ROUNDING)


# By the command line


@pytest.fixture
def stage2(run_cli: RunCli, five: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Two epochs of some methods, with some settings, into a folder of `tmp_path` with the file's name."""

    def run(*names: str, path: Path = five, **settings: object) -> Outcome:
        arguments: list[object] = [part for name in names for part in ("--method", name)]
        for name, value in ({"epochs": 2} | settings).items():
            arguments += ["--set", f"stage2.{name}={value}"]
        return run_cli("stage2", path, "--keep-grid", *arguments, "--device", "cpu", "--runs-dir", tmp_path)

    return run


def folders(runs_dir: Path) -> dict[str, Path]:
    """Each by its name without the hash."""
    return {path.name.rpartition("-")[0]: path for path in (runs_dir / "five" / "stage2").iterdir()}


def test_a_grid_of_a_losss_parameter(tmp_path: Path, stage2: Callable[..., Outcome]) -> None:
    outcome = stage2("focal", "softmax", gamma="[0,2]")
    assert outcome.code == 0, outcome.err
    assert "no effect" not in outcome.err
    found = folders(tmp_path)
    assert sorted(found) == ["focal-epochs2-gamma0-seed0", "focal-epochs2-seed0", "softmax-epochs2-seed0"]
    plain, focal, softmax = (read_manifest(found[name]) for name in sorted(found))
    assert (plain["settings"]["gamma"], focal["settings"]["gamma"]) == (0.0, 2.0)
    assert (plain["loss"], softmax["loss"]) == ("focal", "cross_entropy")
    assert plain["metrics"] == softmax["metrics"]
    assert focal["history"] != softmax["history"]


def test_parameters_go_to_the_methods_that_have_them(tmp_path: Path, stage2: Callable[..., Outcome]) -> None:
    outcome = stage2("eql", "softmax", lambda_=0.5, mu=0.3)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("warning: stage2.mu has no effect on eql, softmax\n") == 1
    assert "stage2.lambda_ has no effect" not in outcome.err
    assert sorted(folders(tmp_path)) == ["eql-epochs2-lambda_0.5-seed0", "softmax-epochs2-seed0"]
    manifest = read_manifest(folders(tmp_path)["eql-epochs2-lambda_0.5-seed0"])
    assert manifest["settings"]["lambda_"] == 0.5
    assert manifest["changed_settings"] == {"epochs": 2, "lambda_": 0.5}


@pytest.mark.parametrize(
    ("names", "setting", "message"),
    [
        (("acsl",), {"threshold": 1.5}, "--set stage2.threshold=1.5: input should be less than 1"),
        (("softmax", "seesaw"), {"eps": 2}, "loss 'seesaw': eps = 2.0: must be above 0, and at most 1"),
        (("focal", "softmax_eql"), {"gamma": "[0.5,2]"}, "loss 'softmax_eql': gamma = 2.0: must be from 0 to 1"),
        (("class_balanced",), {"deferred": 2}, "--set stage2.deferred=2: input should be less than or equal to 1"),
    ],
)
def test_values_that_are_refused_are_refused_before_any_training(
    tmp_path: Path, stage2: Callable[..., Outcome], names: tuple[str, ...], setting: dict[str, object], message: str
) -> None:
    """Of a Softmax classifier that the others would start from, too."""
    outcome = stage2(*names, path=write_five(tmp_path / "bare.h5", with_classifier=False), **setting)
    assert (outcome.code, outcome.out) == (2, "")
    assert [line for line in outcome.err.splitlines() if not line.startswith("hint: ")] == [f"error: {message}"]
    assert [path.name for path in tmp_path.iterdir()] == ["bare.h5"]


def test_predictions_are_of_classes_only_and_the_report_has_every_method(
    tmp_path: Path, five: Path, run_cli: RunCli, stage2: Callable[..., Outcome]
) -> None:
    names = ["bags", "seesaw", "eqlv2", "balanced_gumbel"]
    outcome = stage2(*names)
    assert outcome.code == 0, outcome.err
    folder = folders(tmp_path)["bags-epochs2-seed0"]
    assert load_file(folder / "classifier.safetensors")["weight"].shape == (8, SIZE)
    with np.load(folder / "predictions.npz") as predictions:
        classes, scores = predictions["classes"], predictions["scores"]
    np.testing.assert_array_equal(np.sort(classes, 1), np.tile(np.arange(5), (100, 1)))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    wanted = gol_decouple.retrain(five, "bags", epochs=2, device="cpu")
    assert read_manifest(folder)["metrics"] == wanted.metrics
    told = json.loads(run_cli("report", tmp_path / "five", "--format", "json").out)
    assert sorted(row["method"] for row in told) == sorted(names)
    table = run_cli("report", tmp_path / "five", "--format", "markdown").out
    assert all(f"| {name} |" in table for name in names)
