"""Stage two on RoIs: what is drawn, what a step is, what classifiers start from, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from roi_files import BIAS, IMAGE_COUNTS, NUM_IMAGES, WEIGHT, C, D, Made, arguments, make, write
from torch.nn import functional as F

import gol_decouple
from gol_decouple import features, losses, methods
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile, layout
from gol_decouple.stages.feed import Feed, TrainRows
from gol_decouple.stages.jobs import Job, check
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.samples import TRAIN, Samples
from gol_decouple.stages.stack import Stack
from gol_decouple.stages.streamed import Streamed
from gol_decouple.stages.together import train_together

CPU = torch.device("cpu")
SOFTMAX = ("softmax", "cross_entropy")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("rois") / "rois.h5")


@pytest.fixture(scope="module")
def file(path: Path) -> FeaturesFile:
    return features.open(path)


def numbered(made: Made) -> Made:
    """Features that tell the row they are of; rows that are no RoI have them too."""
    x = np.zeros_like(made.x)
    x[:, 0] = np.arange(len(x))
    return replace(made, x=x)


@pytest.fixture(scope="module")
def with_val(tmp_path_factory: pytest.TempPathFactory) -> FeaturesFile:
    """Train and val of numbered rows, in blocks of four images."""
    train, val = numbered(make(30)), numbered(make(10, 3, 500))
    given = arguments(train)
    rois = {"train": train.rois, "val": val.rois}
    given |= {"splits": {"train": (train.x, train.labels), "val": (val.x + 1000, val.labels)}}
    given |= {"detection": replace(given["detection"], rois=rois)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCK_BYTES", 4 * 6 * D * 4)
        return features.open(features.write(tmp_path_factory.mktemp("val") / "rois.h5", **given))


def rows_of(kind: str, opened: FeaturesFile, samples: Samples = TRAIN) -> TrainRows:
    if kind == "in memory":
        return InMemory(opened, CPU, 1, samples)
    return Streamed(opened, CPU, 1, 6 * 24 * D * 4, samples)


@pytest.mark.parametrize("kind", ["in memory", "streamed"])
@pytest.mark.parametrize("val", [False, True])
def test_every_roi_comes_once_and_other_rows_never(with_val: FeaturesFile, kind: str, val: bool) -> None:
    rows = rows_of(kind, with_val, Samples(with_val=val))
    feed = Feed.of(methods.get("gumbel").with_settings(batch_size=16), (3,), rows.num_samples, C)
    met = [(batch.x[0].clone(), batch.labels[0].clone()) for batch in rows.batches([feed], 0)]
    numbers, labels = torch.cat([x[:, 0] for x, _ in met]).long(), torch.cat([label for _, label in met])
    wanted = {}
    for name, first in (("train", 0), ("val", 1000)) if val else (("train", 0),):
        of_split = with_val[name].labels
        wanted |= {first + row: int(label) for row, label in enumerate(of_split) if label >= 0}
    assert len(numbers) == len(wanted) == rows.num_samples
    assert dict(zip(numbers.tolist(), labels.tolist(), strict=True)) == wanted
    assert set(labels.tolist()) == {0, 1, 2, C}
    counts = np.bincount([label for label in wanted.values() if label < C], minlength=C)
    assert rows.class_counts.tolist() == counts.tolist()


def test_balanced_sampling_leaves_background_its_share(with_val: FeaturesFile) -> None:
    rows = rows_of("in memory", with_val)
    feed = Feed.of(methods.get("crt"), (0,), rows.num_samples, C)
    labels = torch.cat([batch.labels[0] for batch in rows.batches([feed], 0)])
    drawn, stored = torch.bincount(labels), torch.bincount(rows.labels)
    assert len(labels) == rows.num_samples
    assert drawn[C] == stored[C]
    assert drawn[:C].max() - drawn[:C].min() <= 1
    assert stored[:C].max() > 3 * stored[:C].min()


def test_stage_two_samples_so(file: FeaturesFile, monkeypatch: pytest.MonkeyPatch) -> None:
    met = []
    real = Stack.step

    def noted(self: Stack, x: torch.Tensor, labels: torch.Tensor, *more: Any) -> None:
        met.append(labels.clone())
        real(self, x, labels, *more)

    monkeypatch.setattr(Stack, "step", noted)
    gol_decouple.retrain(file, "crt", epochs=1)
    drawn = torch.bincount(torch.cat(met, dim=1)[0])
    assert drawn[C] == (file["train"].labels == C).sum()
    assert drawn[:C].max() - drawn[:C].min() <= 1


def one_step(path: Path, name: str, **settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What a step with all RoIs, lr 1 and no momentum adds to weight and bias."""
    common = {"epochs": 1, "schedule": "constant", "momentum": 0.0, "lr": 1.0, "batch_size": 10**6}
    common |= {"weight_decay": 0.0} | settings
    before = {"start": "stage_one"} | common
    small = gol_decouple.retrain(path, name, **(before | {"lr": 1e-9}))
    after = gol_decouple.retrain(path, name, **before)
    return after.weight - small.weight, after.bias - small.bias


def used(opened: FeaturesFile) -> tuple[torch.Tensor, torch.Tensor]:
    labels = opened["train"].labels
    kept = np.flatnonzero(labels >= 0)
    return torch.from_numpy(opened["train"].features[0, kept]).double(), torch.from_numpy(labels[kept])


def test_a_softmax_step_is_pytorchs_over_all_rois_and_columns(path: Path, file: FeaturesFile) -> None:
    x, labels = used(file)
    weight, bias = (torch.from_numpy(part).double().requires_grad_() for part in (WEIGHT, BIAS))
    F.cross_entropy(x @ weight.T + bias, labels).backward()
    steps = one_step(path, "softmax")
    assert steps[0].shape == (C + 1, D)
    for step, leaf in zip(steps, (weight, bias), strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(step.double(), -leaf.grad, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["sigmoid", "eql"])
def test_one_vs_all_has_a_column_a_class_and_background_rows_of_zeros(
    path: Path, file: FeaturesFile, name: str
) -> None:
    """EQL leaves out, on foreground rows, negatives of classes in at most 100 images: those of 40 and 8."""
    x, labels = used(file)
    weight, bias = (torch.from_numpy(part[:C]).double().requires_grad_() for part in (WEIGHT, BIAS))
    one_hot = F.one_hot(labels, C + 1)[:, :C].double()
    weights = torch.ones_like(one_hot)
    if name == "eql":
        tail = torch.tensor(IMAGE_COUNTS) <= 100
        weights = 1.0 - (labels < C).double()[:, None] * tail.double() * (1.0 - one_hot)
    costs = F.binary_cross_entropy_with_logits(x @ weight.T + bias, one_hot, weights, reduction="none")
    costs.sum(1).mean().backward()
    steps = one_step(path, name)
    assert steps[0].shape == (C, D)
    for step, leaf in zip(steps, (weight, bias), strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(step.double(), -leaf.grad, atol=2e-5, rtol=1e-3)


def test_losses_are_told_of_images(file: FeaturesFile) -> None:
    facts = TRAIN.facts(file)
    assert facts.background
    assert facts.num_images == NUM_IMAGES
    assert facts.image_frequency is not None
    np.testing.assert_allclose(facts.image_frequency, np.array(IMAGE_COUNTS) / NUM_IMAGES)


COLUMNS = {"softmax": C + 1, "gumbel": C, "gol": C, "federated": C, "eqlv2": C + 1, "seesaw": C + 2, "bags": C + 4}


@pytest.mark.parametrize(("name", "columns"), COLUMNS.items())
def test_what_of_stage_one_a_classifier_starts_from(path: Path, name: str, columns: int) -> None:
    """Its classes; background's column only where that is a class among the others."""
    started = gol_decouple.retrain(path, name, epochs=1, lr=1e-12, start="stage_one")
    shared = C + 1 if name == "softmax" else C
    assert started.weight.shape == (columns, D)
    np.testing.assert_allclose(started.weight[:shared], WEIGHT[:shared], atol=1e-6)
    np.testing.assert_allclose(started.bias[:shared], BIAS[:shared], atol=1e-6)
    assert float(started.weight[shared:].abs().max() if columns > shared else 0.0) < 0.01


def test_fresh_starts(path: Path) -> None:
    fresh = gol_decouple.retrain(path, "gumbel", epochs=1, lr=1e-12, start="fresh")
    assert 0 < float(fresh.weight.abs().max()) < 0.01
    np.testing.assert_allclose(fresh.bias, np.full(C, -np.log(np.log(C))), rtol=1e-5)
    of_paper = gol_decouple.retrain(path, "gumbel", epochs=1, lr=1e-12, start="paper")
    np.testing.assert_allclose(of_paper.weight, np.full((C, D), 0.001), rtol=1e-5)
    np.testing.assert_allclose(of_paper.bias, np.full(C, -2.0), rtol=1e-5)


@pytest.mark.parametrize("name", methods.fits(background=True))
def test_every_method_for_rois_makes_scores_of_the_classes(path: Path, file: FeaturesFile, name: str) -> None:
    method = methods.default(name, background=True)
    made = gol_decouple.retrain(path, name, **({"epochs": 1} if method.is_trained else {}))
    scores = made.scores(file["test"].features[0, :50])
    assert scores.shape == (50, C)
    assert bool(scores.isfinite().all())
    assert made.metrics is None
    assert bool(made.loss.background)


def test_the_default_batch_is_that_of_detectors(path: Path) -> None:
    assert gol_decouple.retrain(path, "gumbel", epochs=1).method.batch_size == 8192
    assert gol_decouple.retrain(path, "gumbel", epochs=1, batch_size=64).method.batch_size == 64
    assert gol_decouple.retrain(path, "gol", epochs=1).method.batch_size == 8192
    assert methods.default("gumbel", background=False).batch_size == 64


def test_norcal_corrects_by_images_and_leaves_background_alone(path: Path) -> None:
    made = gol_decouple.retrain(path, "norcal", gamma=0.5)
    np.testing.assert_allclose(made.weight, WEIGHT)
    np.testing.assert_allclose(made.bias[:C], BIAS[:C] - 0.5 * np.log(IMAGE_COUNTS), rtol=1e-5)
    assert float(made.bias[C]) == BIAS[C]


def test_streamed_and_in_memory_see_the_same_rois(file: FeaturesFile) -> None:
    method = methods.default("softmax", background=True).with_settings(epochs=2, batch_size=10**6)
    start = (torch.from_numpy(WEIGHT), torch.from_numpy(BIAS))
    made = []
    for rows in (InMemory(file, CPU, 1), Streamed(file, CPU, 1, 10**6)):
        ((_, result),) = train_together(rows, [Job(method, 0, start)])
        assert not isinstance(result, InputError)
        made.append(result.weight)
    torch.testing.assert_close(made[0], made[1])


def test_a_file_without_a_classifier_has_one_trained_with_background(tmp_path: Path) -> None:
    given = arguments(make(40)) | {"classifier": None}
    made = gol_decouple.retrain(features.write(tmp_path / "f.h5", **given), "lws", epochs=1)
    assert made.weight.shape == (C + 1, D)


def test_which_methods_fit_is_what_losses_say() -> None:
    fitting = set(methods.fits(background=True))
    for name, method in methods.METHODS.items():
        if method.is_trained:
            assert (name in fitting) == ((method.activation, method.loss) in losses.background_pairs()), name
        else:
            assert (name in fitting) == method.background, name


@pytest.mark.parametrize("name", sorted(set(methods.METHODS) - set(methods.fits(background=True))))
def test_methods_for_one_label_an_image_are_refused(path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"method {name} makes no sense with background samples") as caught:
        gol_decouple.retrain(path, name)
    assert caught.value.hint is not None
    assert "gol" in caught.value.hint
    assert name not in caught.value.hint.removeprefix("methods for RoIs: ").split(", ")


def test_a_temperature_is_refused(file: FeaturesFile) -> None:
    method = methods.get("gumbel").with_settings(temperature="val")
    with pytest.raises(InputError, match="a temperature is fitted to samples of one class each"):
        check(method, file.classes)


def test_rois_of_background_alone_are_refused(tmp_path: Path) -> None:
    made = make(3)
    made = replace(made, labels=np.where(made.labels >= 0, C, -1))
    path = features.write(tmp_path / "f.h5", **arguments(made))
    with pytest.raises(InputError, match="train has no RoI of any class"):
        gol_decouple.retrain(path, "gumbel")


def test_the_accuracy_of_rois_is_no_result(path: Path) -> None:
    with pytest.raises(InputError, match="holds RoIs, whose accuracy is no result"):
        gol_decouple.evaluate((WEIGHT, BIAS), path)
