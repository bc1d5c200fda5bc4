"""The classifier engine against a plain loop, and what its results promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import gol_decouple
from gol_decouple import features, methods, runtime
from gol_decouple.errors import InputError
from gol_decouple.losses.cross_entropy import CrossEntropy
from gol_decouple.runs import read_manifest
from gol_decouple.stages.rows import InMemory, open_rows
from tests.conftest import TRAINED, RunCli

COUNTS = (120, 40, 15)
NUM_VIEWS = 3

# Of every epoch, one row a draw: the view, the sample and the label, as they met in the loss.
Draws = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="module")
def features_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three Gaussian classes of 120, 40 and 15 samples, with a Softmax classifier of no merit."""
    stream = np.random.default_rng(0)
    centres = stream.normal(0, 2.5, (3, 8))

    def draw(counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(3), counts)
        return (centres[labels] + stream.normal(size=(len(labels), 8))).astype(np.float32), labels

    path = tmp_path_factory.mktemp("features") / "gaussians.h5"
    classifier = (stream.normal(size=(3, 8)), stream.normal(size=3))
    return features.write(path, {"train": draw(COUNTS), "test": draw((50, 50, 50))}, classifier=classifier)


@pytest.fixture(scope="module")
def without_classifier(tmp_path_factory: pytest.TempPathFactory, features_file: Path) -> Path:
    file = features.open(features_file)
    splits = {name: (file[name].features[0], file[name].labels) for name in file.splits}
    return features.write(tmp_path_factory.mktemp("features") / "bare.h5", splits)


def plain_gumbel_loop(path: Path, lr: float, epochs: int, batch_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Momentum SGD on equation 9 in float64 NumPy, with the engine's order of samples."""
    file = features.open(path)
    x, labels = file["train"].features[0].astype(np.float64), file["train"].labels
    weight, bias = file.classifier.weight.astype(np.float64), file.classifier.bias.astype(np.float64)
    velocity = [np.zeros_like(weight), np.zeros_like(bias)]
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=runtime.generator(seed, 1, epoch)).numpy()
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            q = x[batch] @ weight.T + bias
            u = np.exp(-q)
            slope = u / np.expm1(np.minimum(u, 700.0))
            rows = np.arange(len(batch))
            slope[rows, labels[batch]] = -np.minimum(u, math.exp(4.0))[rows, labels[batch]]
            slope /= len(batch)
            for part, gradient in zip((weight, bias), (slope.T @ x[batch], slope.sum(0)), strict=True):
                index = 0 if part is weight else 1
                velocity[index] = 0.9 * velocity[index] + gradient
                part -= lr * velocity[index]
    return weight, bias


def test_gumbel_equals_a_plain_float64_loop(features_file: Path) -> None:
    result = gol_decouple.retrain(features_file, "gumbel", lr=1e-3, epochs=4, batch_size=32, seed=3)
    weight, bias = plain_gumbel_loop(features_file, lr=1e-3, epochs=4, batch_size=32, seed=3)
    np.testing.assert_allclose(result.weight, weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.bias, bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", TRAINED)
class TestEveryMethod:
    """What holds for every named method; a new one is covered by being listed."""

    def test_result_has_the_public_attributes(self, features_file: Path, method: str) -> None:
        result = gol_decouple.retrain(features_file, method, epochs=2)
        columns = result.loss.num_columns(3)
        assert result.weight.shape == (columns, 8)
        assert result.bias.shape == (columns,)
        assert result.epochs == 2
        assert [entry["epoch"] for entry in result.history] == [1, 2]
        test = features.open(features_file)["test"]
        assert result.scores(test.features[0]).shape == (150, 3)
        logits = result.logits(test.features[0])
        predicted = result.loss.ranking(logits).argmax(1).numpy()
        assert result.metrics["top1"] == pytest.approx(100 * np.mean(predicted == test.labels), abs=1e-9)
        assert gol_decouple.evaluate(result, features_file) == result.metrics
        if method == "disalign":
            with pytest.raises(InputError, match="this classifier is no linear layer"):
                result.to_linear()
        elif columns == 3:
            x = torch.from_numpy(test.features[0])
            x = torch.nn.functional.normalize(x, dim=1) if result.normalise else x
            torch.testing.assert_close(result.to_linear()(x), logits)
            plain = gol_decouple.evaluate(result.to_linear(), features_file)
            assert {name: plain[name] for name in plain if name.startswith("top1")} == {
                name: value for name, value in result.metrics.items() if name.startswith("top1")
            }

    def test_equal_seeds_give_equal_bits_and_others_do_not(self, features_file: Path, method: str) -> None:
        first, same, other = (gol_decouple.retrain(features_file, method, epochs=2, seed=seed) for seed in (4, 4, 5))
        tensors = [result.classifier.tensors() for result in (first, same, other)]
        assert all(torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items())
        assert not all(torch.equal(tensor, tensors[2][name]) for name, tensor in tensors[0].items())

    def test_learns_from_a_fresh_start(self, features_file: Path, method: str) -> None:
        if "start" not in methods.get(method).settings:
            with pytest.raises(InputError, match="unknown setting of method .* 'start'"):
                gol_decouple.retrain(features_file, method, start="fresh")
            with pytest.raises(InputError, match="a fresh start leaves .* nothing to change"):
                gol_decouple.retrain(features_file, replace(methods.get(method), start="fresh"))
            return
        result = gol_decouple.retrain(features_file, method, start="fresh", lr=0.01, epochs=20)
        assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
        assert result.metrics["top1"] > 85

    def test_loss_ends_lower_with_its_own_recipe(self, features_file: Path, method: str) -> None:
        history = gol_decouple.retrain(features_file, method).history
        assert history[-1]["loss"] < history[0]["loss"]

    def test_settings_are_the_ones_of_the_config(self, method: str) -> None:
        from gol_decouple.settings import Stage2Config

        assert set(methods.get(method).settings) <= set(Stage2Config.model_fields)


def test_every_activation_is_a_method_of_its_name() -> None:
    for name in gol_decouple.activations.names():
        method = methods.get(name)
        assert (method.activation, method.loss, method.sampler) == (name, "cross_entropy", "random")


def test_q_min_acts_and_is_the_activations_own_default(features_file: Path) -> None:
    assert methods.get("gumbel").activation_params == {"q_min": gol_decouple.activations.Q_MIN}
    default, same, other = (
        gol_decouple.retrain(features_file, "gumbel", epochs=2, lr=1e-3, q_min=q_min) for q_min in (None, -4.0, -1.0)
    )
    assert torch.equal(default.weight, same.weight)
    assert not torch.equal(default.weight, other.weight)


def test_fresh_start_is_small_weights_at_the_prior_point(features_file: Path) -> None:
    result = gol_decouple.retrain(features_file, "gumbel", start="fresh", lr=1e-12, epochs=1)
    assert result.weight.abs().max() < 0.006
    assert result.weight.std() == pytest.approx(0.001, rel=0.5)
    np.testing.assert_allclose(result.bias, -math.log(math.log(3)), rtol=1e-5)


def test_stage_one_start_is_its_classifier(features_file: Path) -> None:
    result = gol_decouple.retrain(features_file, "gumbel", lr=1e-12, epochs=1)
    np.testing.assert_allclose(result.weight, features.open(features_file).classifier.weight, rtol=1e-5)


def test_without_a_stage_one_classifier_a_softmax_one_is_trained_first(without_classifier: Path) -> None:
    softmax = gol_decouple.retrain(without_classifier, "softmax", start="fresh", seed=2)
    gumbel = gol_decouple.retrain(without_classifier, "gumbel", lr=1e-12, epochs=1, seed=2)
    torch.testing.assert_close(gumbel.weight, softmax.weight, rtol=1e-5, atol=1e-6)


def test_cosine_and_constant_schedules(features_file: Path) -> None:
    cosine = gol_decouple.retrain(features_file, "softmax", epochs=4, lr=0.2).history
    constant = gol_decouple.retrain(features_file, "softmax", epochs=4, lr=0.2, schedule="constant").history
    wanted = [0.1 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    np.testing.assert_allclose([entry["lr"] for entry in cosine], wanted)
    assert [entry["lr"] for entry in constant] == [0.2] * 4


def test_one_step_of_weight_decay_and_of_clipping(features_file: Path) -> None:
    """A single full batch: decay takes lr x decay of the start away, clipping bounds the step at lr x clip_norm."""
    one = {"method": "gumbel", "epochs": 1, "batch_size": sum(COUNTS)}
    start = torch.from_numpy(features.open(features_file).classifier.weight)
    plain = gol_decouple.retrain(features_file, lr=0.01, **one)
    decayed = gol_decouple.retrain(features_file, lr=0.01, weight_decay=0.1, **one)
    torch.testing.assert_close(plain.weight - decayed.weight, 0.001 * start, rtol=1e-3, atol=1e-6)

    clipped = gol_decouple.retrain(features_file, lr=1.0, clip_norm=0.5, **one)
    bias = torch.from_numpy(features.open(features_file).classifier.bias)
    step = torch.cat([(clipped.weight - start).flatten(), clipped.bias - bias])
    assert step.norm().item() == pytest.approx(0.5, rel=1e-3)


def test_a_batch_is_no_larger_than_the_data(features_file: Path) -> None:
    whole, larger = (gol_decouple.retrain(features_file, batch_size=size) for size in (sum(COUNTS), 2**31 - 1))
    assert torch.equal(whole.weight, larger.weight)


def test_evaluate_false_leaves_metrics_out(features_file: Path) -> None:
    assert gol_decouple.retrain(features_file, epochs=1, evaluate=False).metrics is None


def test_training_leaves_the_global_stream_alone(features_file: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    gol_decouple.retrain(features_file, "gumbel", start="fresh", epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "gumbell"}, "unknown method 'gumbell'"),
        ({"method": "softmax", "q_min": -4.0}, "unknown setting of method 'softmax' 'q_min'"),
        ({"learning_rate": 1.0}, "unknown setting of method 'gumbel' 'learning_rate'"),
        ({"lr": -1.0}, "lr = -1.0: Input should be greater than 0"),
        ({"lr": "fast"}, "lr = 'fast': Input should be a valid number"),
        ({"epochs": 0}, "epochs = 0: Input should be greater than 0"),
        ({"epochs": 1.5}, "epochs = 1.5: Input should be a valid integer"),
        ({"views": "other"}, "views = 'other': Input should be 'clean' or 'random'"),
        ({"start": "warm"}, "start = 'warm': Input should be 'fresh', 'stage_one' or 'paper'"),
        ({"q_min": 1.0}, "q_min = 1.0: Input should be less than 0"),
        ({"device": "tpu9"}, "device 'tpu9' cannot be used"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"lr": 1e38, "epochs": 3}, r"gumbel \(lr 1e\+38, seed 0\) diverged in epoch \d: the loss is (nan|inf)"),
    ],
)
def test_mistakes_are_named(features_file: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gol_decouple.retrain(features_file, **arguments)


def test_a_classifier_for_other_features_is_refused(features_file: Path) -> None:
    with pytest.raises(InputError, match=r"the classifier is \[3, 9\], but .* has 3 classes and features of size 8"):
        gol_decouple.evaluate((np.zeros((3, 9)), np.zeros(3)), features_file)


# Views


@pytest.fixture(scope="module")
def with_views(tmp_path_factory: pytest.TempPathFactory, features_file: Path) -> Path:
    """`features_file` with two more views of its train split, each the clean one with noise."""
    file = features.open(features_file)
    clean, noise = file["train"].features[0], np.random.default_rng(1).normal(size=(NUM_VIEWS - 1, 175, 8))
    views = np.concatenate([clean[None], (clean + noise).astype(np.float32)])
    splits = {"train": (views, file["train"].labels), "test": (file["test"].features[0], file["test"].labels)}
    classifier = (file.classifier.weight, file.classifier.bias)
    return features.write(tmp_path_factory.mktemp("features") / "views.h5", splits, classifier=classifier)


@pytest.fixture
def draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draws:
    """Trains on features that tell their view, sample and label, with a classifier that hands them on as logits."""
    labels = np.repeat(np.arange(3), COUNTS)[np.random.default_rng(0).permutation(sum(COUNTS))]
    view, sample = np.meshgrid(np.arange(NUM_VIEWS), np.arange(len(labels)), indexing="ij")
    told = np.stack([view, sample, np.broadcast_to(labels, view.shape)], axis=-1).astype(np.float32)
    path = features.write(tmp_path / "told.h5", {"train": (told, labels)}, classifier=(np.eye(3), np.zeros(3)))
    real_loss = CrossEntropy.per_sample_

    def train(method: str = "softmax", epochs: int = 2, **settings: object) -> list[np.ndarray]:
        seen: list[np.ndarray] = []

        def loss(self: CrossEntropy, logits: torch.Tensor, labels: torch.Tensor, generator: None) -> torch.Tensor:
            # The last batch of an epoch is filled up with rows that do not count (see `lanes`).
            rows = min(len(labels), sum(COUNTS) - sum(map(len, seen)) % sum(COUNTS))
            view, sample, label = logits[:rows].detach().round().long().T
            assert torch.equal(label, labels[:rows])
            seen.append(torch.stack([view, sample, label], dim=1).cpu().numpy())
            return real_loss(self, logits, labels)

        with monkeypatch.context() as patch:
            patch.setattr(CrossEntropy, "per_sample_", loss)
            gol_decouple.retrain(path, method, epochs=epochs, start="stage_one", lr=1e-12, evaluate=False, **settings)
        return np.split(np.concatenate(seen), epochs)

    return train


@pytest.mark.parametrize("method", ["softmax", "crt"])
def test_random_views_are_drawn_equally_often_with_their_labels(draws: Draws, method: str) -> None:
    epochs = draws(method, epochs=12, views="random")
    for view, _, label in (epoch.T for epoch in epochs):
        assert len(label) == sum(COUNTS)
        assert set(view) == {0, 1, 2}
    view, _, label = np.concatenate(epochs).T
    for drawn in (view, view[label == 2]):
        share = 1 / NUM_VIEWS
        error = math.sqrt(share * (1 - share) / len(drawn))
        np.testing.assert_allclose(np.bincount(drawn) / len(drawn), share, atol=4 * error)


def test_a_samples_view_changes_from_epoch_to_epoch(draws: Draws) -> None:
    epochs = draws(epochs=4, views="random")
    by_place = [epoch[:, 0] for epoch in epochs]
    by_sample = [epoch[np.argsort(epoch[:, 1]), 0] for epoch in epochs]
    for views in (by_place, by_sample):
        for first, second in pairwise(views):
            assert 0.2 < np.mean(first == second) < 0.46
        for first in views:
            assert 0.2 < np.mean(first[1:] == first[:-1]) < 0.46


def test_clean_views_are_the_first(draws: Draws) -> None:
    for epoch in draws(views="clean"):
        assert set(epoch[:, 0]) == {0}
        assert sorted(epoch[:, 1]) == list(range(sum(COUNTS)))


@pytest.mark.parametrize("method", ["softmax", "crt"])
def test_views_leave_the_order_of_samples_as_it_is(draws: Draws, method: str) -> None:
    clean, random = draws(method, views="clean", seed=3), draws(method, views="random", seed=3)
    for first, second in zip(clean, random, strict=True):
        np.testing.assert_array_equal(first[:, 1:], second[:, 1:])


def test_equal_seeds_draw_equal_views_and_others_do_not(draws: Draws, with_views: Path) -> None:
    first, same, other = (np.concatenate(draws(views="random", seed=seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first[:, 0], other[:, 0])
    trained = [gol_decouple.retrain(with_views, "softmax", epochs=2, views="random", seed=seed) for seed in (4, 4, 5)]
    assert torch.equal(trained[0].weight, trained[1].weight)
    assert not torch.equal(trained[0].weight, trained[2].weight)


def test_class_balanced_sampling_draws_a_view_for_each_draw(draws: Draws) -> None:
    (epoch,) = draws("crt", epochs=1, views="random")
    assert sorted(np.bincount(epoch[:, 2])) == [58, 58, 59]
    rare = epoch[epoch[:, 2] == 2]
    views_of = {sample: set(rare[rare[:, 1] == sample, 0]) for sample in np.unique(rare[:, 1])}
    assert len(views_of) == 15
    # Each is drawn about four times: all of one view, it would be one of 27.
    assert sum(len(views) > 1 for views in views_of.values()) >= 12


@pytest.mark.parametrize("method", ["softmax", "gumbel", "crt"])
def test_clean_views_are_those_of_a_file_without_others(features_file: Path, with_views: Path, method: str) -> None:
    alone = gol_decouple.retrain(features_file, method, epochs=2)
    clean, random = (gol_decouple.retrain(with_views, method, epochs=2, views=views) for views in ("clean", "random"))
    assert torch.equal(clean.weight, alone.weight)
    assert torch.equal(clean.bias, alone.bias)
    assert not torch.equal(random.weight, alone.weight)
    assert clean.metrics == alone.metrics


@pytest.mark.parametrize("method", TRAINED)
def test_random_views_of_one_view_are_the_clean_ones(features_file: Path, method: str) -> None:
    clean, random = (
        gol_decouple.retrain(features_file, method, epochs=2, views=views) for views in ("clean", "random")
    )
    assert torch.equal(clean.weight, random.weight)
    assert torch.equal(clean.bias, random.bias)
    assert clean.history == random.history


def test_a_result_tells_how_many_views_it_was_trained_on(features_file: Path, with_views: Path) -> None:
    trained = [(with_views, "random", NUM_VIEWS), (with_views, "clean", 1), (features_file, "random", 1)]
    for path, views, wanted in trained:
        assert gol_decouple.retrain(path, epochs=1, views=views).num_views == wanted


def test_only_the_views_that_are_trained_on_are_read(with_views: Path) -> None:
    file, random = features.open(with_views), methods.get("gumbel")
    clean = random.with_settings(views="clean")
    for chosen, wanted in (([clean], 1), ([clean, random], 3), ([random], 3)):
        rows = open_rows(file, torch.device("cpu"), chosen, None)
        assert isinstance(rows, InMemory)
        assert rows.num_views == wanted
        np.testing.assert_array_equal(rows.labels, file["train"].labels)


def test_the_softmax_classifier_to_start_from_is_trained_on_all_views_too(tmp_path: Path, with_views: Path) -> None:
    train = features.open(with_views)["train"]
    bare = features.write(tmp_path / "bare.h5", {"train": (train.features[:], train.labels)})
    softmax = gol_decouple.retrain(bare, "softmax", start="fresh", seed=2)
    gumbel = gol_decouple.retrain(bare, "gumbel", views="clean", lr=1e-12, epochs=1, seed=2)
    torch.testing.assert_close(gumbel.weight, softmax.weight, rtol=1e-5, atol=1e-6)


class TestCommandLine:
    """`views` through the program, its warning, and what it writes."""

    SETTINGS = ("--seed", 3, "--device", "cpu", "--set", "stage2.epochs=2", "--set", "stage2.views=random")

    def test_random_views_are_trained_on_and_written_down(
        self, run_cli: RunCli, tmp_path: Path, with_views: Path
    ) -> None:
        outcome = run_cli("stage2", with_views, "--activation", "gumbel", *self.SETTINGS, "--runs-dir", tmp_path)
        assert outcome.code == 0, outcome.err
        assert "clean view only" not in outcome.err
        (folder,) = (tmp_path / "views" / "stage2").iterdir()
        assert folder.name.startswith("gumbel-epochs2-seed3-")
        manifest = read_manifest(folder)
        assert (manifest["settings"]["views"], manifest["views"]) == ("random", NUM_VIEWS)
        assert manifest["changed_settings"] == {"epochs": 2}
        wanted = gol_decouple.retrain(with_views, "gumbel", epochs=2, views="random", seed=3, device="cpu")
        assert torch.equal(load_file(folder / "classifier.safetensors")["weight"], wanted.weight)

    def test_a_file_with_the_clean_view_only_is_warned_of(
        self, run_cli: RunCli, tmp_path: Path, features_file: Path
    ) -> None:
        outcome = run_cli("stage2", features_file, "--activation", "gumbel", *self.SETTINGS, "--runs-dir", tmp_path)
        assert outcome.code == 0, outcome.err
        warning = f"warning: {features_file} has the clean view only: stage2.views = 'random' changes nothing"
        assert outcome.err.count(warning) == 1

    @pytest.mark.parametrize("views", ["clean", None])
    def test_what_nobody_asked_for_is_not_warned_of(
        self, run_cli: RunCli, tmp_path: Path, features_file: Path, views: str | None
    ) -> None:
        settings = ("--set", f"stage2.views={views}") if views else ()
        outcome = run_cli("stage2", features_file, "--method", "softmax", *settings, "--runs-dir", tmp_path)
        assert outcome.code == 0, outcome.err
        assert "clean view only" not in outcome.err
        (folder,) = (tmp_path / "gaussians" / "stage2").iterdir()
        manifest = read_manifest(folder)
        assert (manifest["settings"]["views"], manifest["views"]) == (views or "random", 1)
        assert manifest["changed_settings"] == ({"views": views} if views else {})

    def test_other_views_are_refused(self, run_cli: RunCli, tmp_path: Path, with_views: Path) -> None:
        outcome = run_cli(
            "stage2", with_views, "--method", "gumbel", "--set", "stage2.views=other", "--runs-dir", tmp_path
        )
        assert outcome.code == 2
        assert "--set stage2.views=other: input should be 'clean' or 'random'" in outcome.err
        assert list(tmp_path.iterdir()) == []
