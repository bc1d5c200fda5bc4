"""What holds for every method, sampler, classifier and correction; a new one is covered by being listed.

Elsewhere, also for all that is listed: methods for background are refused (test_methods), what is trained together is
what it is alone and what a state holds (stages/test_together), learning and seeds of methods that are trained
(stages/test_retrain), gradients of classifiers and dropping some (test_classifiers), folding a correction in
(test_posthoc).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import gol_decouple
from gol_decouple import classifiers, features, methods, posthoc, samplers
from gol_decouple.cli import main
from gol_decouple.runs import read_manifest
from gol_decouple.stages.jobs import Retrained
from tests.conftest import write_gaussians
from tests.stages.test_together import ROUNDING

METHODS = methods.select(["all"])
EVERY_METHOD = pytest.mark.parametrize("name", METHODS)
Make = Callable[[str], Retrained]


def short(name: str) -> methods.Method:
    return methods.apply_settings([methods.get(name)], {"epochs": 2})[0]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gaussians` without a Softmax classifier."""
    return write_gaussians(tmp_path_factory.mktemp("features") / "bare.h5", with_classifier=False)


@pytest.fixture(scope="module", params=["from a Softmax classifier", "without one"])
def file(request: pytest.FixtureRequest, gaussians: Path, bare: Path) -> Path:
    return bare if request.param == "without one" else gaussians


@pytest.fixture(scope="module")
def make(file: Path) -> Make:
    """Each method's classifier, made once."""
    made: dict[str, Retrained] = {}

    def retrained(name: str) -> Retrained:
        if name not in made:
            made[name] = gol_decouple.retrain(file, short(name), seed=1)
        return made[name]

    return retrained


@pytest.fixture(scope="module")
def made_together(tmp_path_factory: pytest.TempPathFactory, file: Path) -> list[dict[str, Path]]:
    """Twice, the folders of every method's classifier from one command."""
    found, handler = [], signal.getsignal(signal.SIGTERM)
    for name in ("first", "second"):
        runs_dir = tmp_path_factory.mktemp(name)
        arguments = ["--method", "all", "--seed", "1", "--set", "stage2.epochs=2", "--runs-dir", str(runs_dir)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["gol-decouple", "stage2", str(file), *arguments])
            assert main() == 0
        folders = {folder: read_manifest(folder) for folder in (runs_dir / file.stem / "stage2").iterdir()}
        # Of Softmax there is a second where the others needed one to start from.
        asked = [folder for folder, told in folders.items() if told["settings"].get("start") != "fresh"]
        asked += [folder for folder in folders if folder not in asked and folders[folder]["method"] != "softmax"]
        found.append({folders[folder]["method"]: folder for folder in asked})
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return found


# Methods


@EVERY_METHOD
def test_scores_are_finite_and_from_0_to_1_one_a_class(make: Make, file: Path, name: str) -> None:
    result, test = make(name), features.open(file)["test"]
    for x in (test.features[0], 100 * test.features[0], np.zeros((1, 8), np.float32)):
        scores = result.scores(x)
        assert scores.shape == (len(x), 3)
        assert scores.isfinite().all()
        assert scores.min() >= 0
        assert scores.max() <= 1
    predicted = result.loss.ranking(result.logits(test.features[0])).argmax(1).numpy()
    assert result.metrics["top1"] == pytest.approx(100 * np.mean(predicted == test.labels))
    assert result.metrics == gol_decouple.evaluate(result, file)


@EVERY_METHOD
def test_what_it_was_made_with_is_told(make: Make, name: str) -> None:
    result = make(name)
    assert result.method == short(name)
    assert result.epochs == (2 if result.method.is_trained else 0)
    assert (result.temperature, result.shuffled_rows) == (None, None)


@EVERY_METHOD
def test_one_command_for_all_makes_what_each_is_alone(
    make: Make, made_together: list[dict[str, Path]], name: str
) -> None:
    folder, wanted = made_together[0][name], make(name)
    tensors = load_file(folder / "classifier.safetensors")
    assert tensors.keys() == wanted.classifier.tensors().keys()
    for part, tensor in wanted.classifier.tensors().items():
        torch.testing.assert_close(tensors[part], tensor, **ROUNDING)
    told = read_manifest(folder)
    assert told["metrics"].keys() == wanted.metrics.keys()
    for metric, value in wanted.metrics.items():
        assert told["metrics"][metric] == (value if value is None else pytest.approx(value, rel=1e-4, abs=1e-4))
    assert told["settings"] == wanted.method.settings
    assert [entry["loss"] for entry in told["history"]] == pytest.approx(
        [entry["loss"] for entry in wanted.history], rel=1e-5
    )


@EVERY_METHOD
def test_the_same_command_makes_the_same_again(made_together: list[dict[str, Path]], name: str) -> None:
    first, second = (made[name] for made in made_together)
    assert first.name == second.name
    for part in ("classifier.safetensors", "per_class.csv"):
        assert (first / part).read_bytes() == (second / part).read_bytes()
    with np.load(first / "predictions.npz") as one, np.load(second / "predictions.npz") as other:
        assert set(one.files) == {"id", "label", "classes", "scores"}
        assert all(np.array_equal(one[array], other[array]) for array in one.files)


# Samplers

LABELS = {
    "a long tail with gaps": [0] * 40 + [2] * 9 + [5] * 2 + [6],
    "one class": [3] * 8,
    "one of each": list(range(7)),
    "one sample": [2],
}


@pytest.mark.parametrize("sampler", samplers.names())
@pytest.mark.parametrize("kind", list(LABELS))
@pytest.mark.parametrize("share_done", [0.0, 0.5, 0.95])
def test_an_epoch_is_n_of_the_samples_there_are_and_follows_its_generator(
    sampler: str, kind: str, share_done: float
) -> None:
    labels = torch.tensor(LABELS[kind])[torch.randperm(len(LABELS[kind]), generator=torch.Generator().manual_seed(9))]

    def epoch(seed: int) -> torch.Tensor:
        return samplers.get(sampler)(labels, torch.Generator().manual_seed(seed), share_done)

    epochs = [epoch(seed) for seed in range(20)]
    for drawn in epochs:
        assert (drawn.shape, drawn.dtype) == (labels.shape, torch.int64)
        assert drawn.min() >= 0
        assert drawn.max() < len(labels)
        assert set(labels[drawn].tolist()) <= set(LABELS[kind])
    assert all(torch.equal(epoch(seed), epochs[seed]) for seed in range(20))
    assert len({tuple(drawn.tolist()) for drawn in epochs}) > 1 or len(labels) == 1


# Classifiers

# Those whose logits at their start are not what they start from; all others promise it.
OTHER_AT_THE_START = {"cosine"}
K, N, C, D = 3, 6, 4, 5


def drawn(*sizes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", classifiers.names())
def test_a_classifier_starts_with_the_logits_of_what_it_starts_from(name: str) -> None:
    weight, bias, x = drawn(K, C, D), drawn(K, C, seed=1), drawn(K, N, D, seed=2)
    kind = classifiers.get(name)(weight, bias)
    assert (kind.initial.shape[0], kind.initial.dtype) == (K, torch.float32)
    logits = kind.logits(kind.initial, x, torch.empty(K, N, C))
    assert torch.equal(logits, torch.baddbmm(bias.unsqueeze(1), x, weight.mT)) == (name not in OTHER_AT_THE_START)
    for place in range(K):
        applied, start = kind.classifier(kind.initial, place), classifiers.Classifier(weight[place], bias[place])
        assert torch.equal(applied.logits(x[place]), start.logits(x[place])) == (name not in OTHER_AT_THE_START)
        same = classifiers.from_tensors(applied.tensors(), applied.normalise)
        assert torch.equal(same.logits(x[place]), applied.logits(x[place]))


@pytest.mark.parametrize("name", classifiers.names())
def test_a_method_with_a_classifier_starts_from_stage_one(gaussians: Path, name: str) -> None:
    """Through stage two, with steps of no length."""
    method = replace(methods.get("softmax"), classifier=name, lr=1e-12, epochs=1)
    result, x = gol_decouple.retrain(gaussians, method), drawn(50, 8)
    start = classifiers.of(features.open(gaussians).classifier).logits(x)
    assert torch.allclose(result.logits(x), start, rtol=1e-4, atol=1e-4) == (name not in OTHER_AT_THE_START)


@pytest.mark.parametrize("name", classifiers.names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_classifiers_gradient_has_its_shape_and_is_none_without_slopes(name: str, dtype: torch.dtype) -> None:
    kind, x = classifiers.get(name)(drawn(K, C, D), drawn(K, C, seed=1)), drawn(K, N, D, seed=2).to(dtype)
    kind.logits(kind.initial, x, torch.empty(K, N, C))
    gradient = kind.gradient(kind.initial, x, drawn(K, N, C, seed=3))
    assert (gradient.shape, gradient.dtype) == (kind.initial.shape, torch.float32)
    assert gradient.isfinite().all()
    assert gradient.any(1).all()
    kind.logits(kind.initial, x, torch.empty(K, N, C))
    assert not kind.gradient(kind.initial, x, torch.zeros(K, N, C)).any()


@pytest.mark.parametrize("name", classifiers.names())
def test_those_that_are_kept_go_on_as_they_would_have(name: str) -> None:
    weight, bias, x, slopes = drawn(K, C, D), drawn(K, C, seed=1), drawn(K, N, D, seed=2), drawn(K, N, C, seed=3)
    kind, kept = classifiers.get(name)(weight, bias), [2, 0]
    trained = kind.initial + 0.1 * drawn(*kind.initial.shape, seed=4)
    logits = kind.logits(trained, x, torch.empty(K, N, C)).clone()
    gradient = kind.gradient(trained, x, slopes)
    kind.keep(kept)
    torch.testing.assert_close(kind.logits(trained[kept], x[kept], torch.empty(2, N, C)), logits[kept])
    torch.testing.assert_close(kind.gradient(trained[kept], x[kept], slopes[kept]), gradient[kept])


# Corrections

NEUTRAL = {"tau_norm": {"tau": 0.0}, "logit_adjustment": {"tau": 0.0}, "norcal": {"gamma": 0.0}}
# Those without parameters at which they change nothing.
NEVER_NEUTRAL = {"iif"}
CAN_BE_NEUTRAL = pytest.mark.parametrize("name", [name for name in posthoc.names() if name not in NEVER_NEUTRAL])


@CAN_BE_NEUTRAL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_neutral_correction_gives_the_very_same_logits(name: str, dtype: torch.dtype) -> None:
    weight, bias, logits = drawn(C + 1, D), drawn(C + 1, seed=1), drawn(N, C + 1, seed=2).to(dtype)
    correction = posthoc.get(name, class_counts=np.array([90, 31, 7, 0]), weight=weight, **NEUTRAL[name])
    assert torch.equal(correction(logits), logits)
    for folded, given in zip(correction.fold(weight, bias), (weight, bias), strict=True):
        assert torch.equal(folded, given)


@pytest.mark.parametrize("name", posthoc.names())
def test_a_correction_with_its_own_parameters_does_something_and_leaves_background_alone(name: str) -> None:
    weight, logits = drawn(C + 1, D), drawn(N, C + 1, seed=2)
    correction = posthoc.get(name, class_counts=np.array([90, 31, 7, 2]), weight=weight)
    found = correction(logits)
    assert torch.equal(found[:, C], logits[:, C])
    assert (found[:, :C] != logits[:, :C]).any(0).all()


@CAN_BE_NEUTRAL
def test_a_neutral_correction_is_the_stage_one_classifier(gaussians: Path, name: str) -> None:
    """As a method, where background is not asked for."""
    method = replace(methods.get(name), posthoc_params=NEUTRAL[name], background=False)
    result, file = gol_decouple.retrain(gaussians, method), features.open(gaussians)
    x = file["test"].features[0]
    assert torch.equal(result.logits(x), classifiers.of(file.classifier).logits(torch.from_numpy(x)))
    assert result.metrics == gol_decouple.evaluate(file.classifier, gaussians)
