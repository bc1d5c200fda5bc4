"""Calibration errors and log-likelihood against sums written out."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import gol_decouple
from gol_decouple import features, losses
from gol_decouple.classifiers import as_tensors
from gol_decouple.stages.calibration import BINS, Calibration
from tests.conftest import RunCli


def by_hand(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """As the papers write them: the share of a bin times the gap between its accuracy and its mean score."""

    def error(confidence: np.ndarray, right: np.ndarray) -> float:
        total = 0.0
        for place in range(BINS):
            low, high = place / BINS, (place + 1) / BINS
            inside = (confidence >= low) & ((confidence < high) | (place == BINS - 1))
            if inside.any():
                total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        return 100.0 * total

    predicted = scores.argmax(1)
    of_label = scores[np.arange(len(labels)), labels]
    return {
        "ece": error(scores.max(1), predicted == labels),
        "classwise_ece": float(np.mean([error(scores[:, c], labels == c) for c in range(scores.shape[1])])),
        "nll": float(np.mean(-np.log(of_label / scores.sum(1)))),
    }


def measured(scores: torch.Tensor, labels: torch.Tensor, pieces: int = 1) -> dict[str, float]:
    calibration = Calibration(scores.shape[1], None)
    for part, of_part in zip(scores.chunk(pieces), labels.chunk(pieces), strict=True):
        calibration.add(part, part.log(), part.argmax(1), of_part)
    return calibration.metrics()


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "gumbel"])
def test_errors_are_those_of_the_papers(activation: str, pieces: int) -> None:
    draws = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(500, 6, generator=draws, dtype=torch.float64)
    labels = torch.randint(6, (500,), generator=draws)
    scores = losses.get("cross_entropy", activation=activation).scores(logits)
    assert measured(scores, labels, pieces) == pytest.approx(by_hand(scores.numpy(), labels.numpy()), rel=1e-9)


def test_a_case_small_enough_for_a_pocket_calculator() -> None:
    # Both predicted with 0.8, one of them right: accuracy 0.5, so 30 points off; each class is 0.8 and 0.2 once each.
    scores = torch.tensor([[0.8, 0.2], [0.2, 0.8]])
    found = measured(scores, torch.tensor([0, 0]))
    assert found["ece"] == pytest.approx(30.0, abs=1e-4)
    # Class 0: 0.8 and right (0.2 off), 0.2 and right (0.8 off): (0.2 + 0.8) / 2. Class 1 the same.
    assert found["classwise_ece"] == pytest.approx(50.0, abs=1e-4)
    assert found["nll"] == pytest.approx(-(math.log(0.8) + math.log(0.2)) / 2, abs=1e-6)


def test_certain_and_right_has_no_error_and_certain_and_wrong_has_all() -> None:
    certain = torch.eye(3)
    right = measured(certain.clamp(1e-30), torch.arange(3))
    assert right == pytest.approx({"ece": 0.0, "classwise_ece": 0.0, "nll": 0.0}, abs=1e-6)
    assert measured(certain.clamp(1e-30), torch.tensor([1, 2, 0]))["ece"] == pytest.approx(100.0)


@pytest.mark.parametrize("method", ["softmax", "balanced_sigmoid", "bags", "ldam_drw", "tau_norm"])
def test_every_method_is_measured(gaussians: Path, method: str) -> None:
    result = gol_decouple.retrain(gaussians, method)
    test = features.open(gaussians)["test"]
    scores = result.scores(test.features[0]).double().numpy()
    wanted = by_hand(scores, test.labels)
    found = {name: result.metrics[name] for name in wanted}
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_scores_that_underflow_have_a_finite_log_likelihood(gaussians: Path) -> None:
    weight, bias = as_tensors(features.open(gaussians).classifier)
    file = features.open(gaussians)
    from gol_decouple.stages.evaluation import predict

    found = predict((weight * 50, bias - 40), file, "test", losses.get("cross_entropy", activation="gumbel"))
    assert math.isfinite(found.calibration["nll"])


def test_the_report_has_them_and_older_results_have_none(run_cli: RunCli, gaussians: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(gaussians, tmp_path / "some.h5"))
    runs = tmp_path / "runs"
    assert run_cli("stage2", file, "--method", "tau_norm", "--method", "iif", "--runs-dir", runs).code == 0
    rows = json.loads(run_cli("report", runs, "--format", "json").out)
    assert all(0 < row["ece"] < 100 and 0 < row["classwise_ece"] < 100 and row["nll"] > 0 for row in rows)
    manifest = next(runs.rglob("iif*/manifest.json"))
    older = json.loads(manifest.read_text())
    for name in ("ece", "classwise_ece", "nll"):
        del older["metrics"][name]
    manifest.write_text(json.dumps(older))
    rows = json.loads(run_cli("report", runs, "--format", "json").out)
    assert [row["ece"] is None for row in rows] == [True, False]
