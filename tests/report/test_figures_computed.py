"""The numbers that figures show, against values found by hand or by other parts of the program."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from figure_runs import base, method, study
from test_report import collect

from gol_decouple import predictions
from gol_decouple.analyses.curves import SOFTMAX, curves
from gol_decouple.report.figures.activations import ACTIVATIONS, HIGHEST, LOWEST, STEPS
from gol_decouple.report.figures.by_class import BANDWIDTH, smoothed
from gol_decouple.report.figures.confusion import confusion_of
from gol_decouple.report.figures.reliability import reliability_of
from gol_decouple.report.figures.studies import SHOWN, studies
from gol_decouple.report.figures.trade_off import on_front
from gol_decouple.report.figures.training import mean_log
from gol_decouple.report.figures.weight_norms import norms_of
from gol_decouple.stages.calibration import Calibration


class TestSmoothed:
    def test_weights_of_a_gaussian(self) -> None:
        counts, values = np.array([10, 1_000_000]), np.array([50.0, 0.0])
        assert smoothed(counts, values, np.array([10.0])) == pytest.approx([50.0])
        counts = np.array([100, round(100 * 10 ** (2 * BANDWIDTH))])
        apart = math.log10(counts[1] / 100) / BANDWIDTH
        weight = math.exp(-(apart**2) / 2)
        assert smoothed(counts, np.array([10.0, 40.0]), np.array([100.0])) == pytest.approx(
            [(10.0 + weight * 40.0) / (1.0 + weight)]
        )
        middle = math.sqrt(float(counts[0]) * counts[1])
        assert smoothed(counts, np.array([10.0, 40.0]), np.array([middle])) == pytest.approx([25.0])

    def test_classes_that_were_not_measured_are_left_out_and_none_counts_as_one(self) -> None:
        counts, values = np.array([0, 1, 5]), np.array([10.0, 30.0, np.nan])
        assert smoothed(counts, values, np.array([1.0])) == pytest.approx([20.0])

    def test_far_from_every_class_the_nearest_decides(self) -> None:
        found = smoothed(np.array([1, 2]), np.array([10.0, 30.0]), np.array([1e9]))
        assert found == pytest.approx([30.0])


class TestReliability:
    def test_bins_by_hand(self) -> None:
        scores = np.array([0.0, 0.05, 0.5, 0.52, 1.0, 1.0], np.float32)
        found = reliability_of(scores, np.array([0, 1, 1, 0, 1, 1], bool))
        assert found.samples.tolist() == [2, *[0] * 6, 2, *[0] * 6, 2]
        assert found.confidence[[0, 7, 14]] == pytest.approx([0.025, 0.51, 1.0])
        assert found.accuracy[[0, 7, 14]] == pytest.approx([0.5, 0.5, 1.0])
        assert found.ece == pytest.approx(100 * (2 * 0.475 + 2 * 0.01 + 0) / 6)

    def test_its_error_is_that_of_manifests(self) -> None:
        stream = torch.Generator().manual_seed(0)
        scores = torch.rand(500, 4, generator=stream)
        labels = torch.randint(0, 4, (500,), generator=stream)
        predicted = scores.argmax(1)
        calibration = Calibration(4, None)
        calibration.add(scores, scores.log(), predicted, labels)
        found = reliability_of(scores.amax(1).numpy(), (predicted == labels).numpy())
        assert found.ece == pytest.approx(calibration.metrics()["ece"], abs=1e-9)


def test_confusion_by_hand() -> None:
    counts = np.array([500, 200, 50, 5])
    labels, predicted = np.array([0, 0, 1, 2, 2, 3]), np.array([0, 1, 2, 2, 3, 0])
    found = confusion_of(labels, predicted, counts)
    assert found.samples.tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert found.shares[1].tolist() == [0.0, 50.0, 50.0]
    assert found.accuracies == pytest.approx([100 / 3, 50.0, 0.0])
    assert found.present == [0, 1, 2]
    assert confusion_of(labels[:3], predicted[:3], counts).present == [0]


def test_the_front_has_what_nothing_betters() -> None:
    values = np.array([[1.0, 5.0], [3.0, 3.0], [2.0, 3.0], [3.0, 3.0], [0.0, 5.0], [4.0, 0.0]])
    assert on_front(values).tolist() == [True, True, False, True, False, True]


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_closed_forms_are_those_of_training(name: str) -> None:
    (wanted,) = (curve for curve in curves() if curve.name == (SOFTMAX if name == "softmax" else name))
    q = np.linspace(LOWEST, HIGHEST, STEPS).round(12)
    assert np.array_equal(q, wanted.q)
    found = ACTIVATIONS[name](q)
    for own, other in ((found.eta, wanted.eta), (found.positive, wanted.positive), (found.negative, wanted.negative)):
        np.testing.assert_allclose(own, other, rtol=1e-12, atol=1e-15)


def test_logs_of_seeds_are_averaged_where_they_are_of_one_length() -> None:
    logs = [{"epoch": [1.0, 2.0], "train_loss": [4.0, 2.0]}, {"epoch": [1.0, 2.0], "train_loss": [2.0, 1.0]}]
    assert mean_log(logs)["train_loss"].tolist() == [3.0, 1.5]
    assert mean_log([*logs, {"epoch": [1.0], "train_loss": [9.0]}])["train_loss"].tolist() == [3.0, 1.5]


def test_norms_are_means_over_seeds(tmp_path: Path) -> None:
    (found,) = studies(collect(study(tmp_path, ["gumbel"])))
    norms = norms_of(found.settings[1])
    assert norms is not None
    assert norms.norms == pytest.approx([3.5 - label / 4 for label in range(6)])
    assert norms.counts.tolist() == [400, 200, 80, 40, 10, 5]
    assert norms.correlation == pytest.approx(1.0)


class TestStudies:
    def test_the_best_methods_are_shown_beside_stage_one(self, tmp_path: Path) -> None:
        base(tmp_path, metrics={"num_many": 2, "top1_balanced": 1.0})
        for place in range(SHOWN + 2):
            method(tmp_path, f"method{place}", metrics={"top1_balanced": float(place)})
        (found,) = studies(collect(tmp_path))
        assert [one.name for one in found.shown] == ["stage one", *(f"method{place}" for place in range(2, SHOWN + 2))]
        assert found.left_out.endswith("not method0, method1.")
        looks = [found.look(one) for one in found.shown]
        assert len({one.colour for one in looks}) == len({one.marker for one in looks}) == SHOWN + 1

    def test_runs_are_apart_and_their_files_have_names_of_their_own(self, tmp_path: Path) -> None:
        for run in ("a b", "a?b", "../x"):
            base(tmp_path / run.strip("./"), "lt")
        found = collect(tmp_path)
        for row, name in zip(found, ("a b", "a?b", "日本"), strict=True):
            row["run"] = name
        told = studies(found)
        assert [one.suffix for one in told] == ["a-b", "a-b-2", "run"]
        assert told[0].title("Training") == "a b: Training"
        assert studies(found[:1])[0].name("training") == "training"


def test_errors_are_those_of_the_rows_of_a_real_run(retrained_run: Path) -> None:
    compared = 0
    for row in collect(retrained_run):
        if row["ece"] is None or not (path := Path(row["path"]) / "predictions.npz").is_file():
            continue
        found = predictions.read(path)
        assert found.scores is not None
        assert reliability_of(found.scores[:, 0], found.hits).ece == pytest.approx(row["ece"], abs=1e-4)
        compared += 1
    assert compared > 10
