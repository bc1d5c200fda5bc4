"""Corrections of logits against their formulas, and as methods that train nothing."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch

import gol_decouple
from gol_decouple import features, methods, posthoc
from gol_decouple.classifiers import as_tensors
from gol_decouple.errors import InputError
from gol_decouple.report.rows import collect_rows
from tests.conftest import RunCli

COUNTS = np.array([60, 25, 10, 5])
SHARES = [0.6, 0.25, 0.1, 0.05]
WEIGHT = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0], [0.6, 0.8]])  # of lengths 5, 2, 1, 1
BIAS = torch.tensor([1.0, -1.0, 0.5, 0.0])
LOGITS = torch.tensor([[1.0, 2.0, -3.0, 0.5], [0.0, -1.0, 4.0, 2.0]], dtype=torch.float64)
AS_IT_WAS = [("logit_adjustment", {"tau": 0.0}), ("tau_norm", {"tau": 0.0}), ("norcal", {"gamma": 0.0})]
POSTHOC = [name for name, method in methods.METHODS.items() if method.posthoc]


def corrected(name: str, logits: torch.Tensor = LOGITS, **params: object) -> torch.Tensor:
    return posthoc.get(name, class_counts=COUNTS, weight=WEIGHT, **params)(logits)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_takes_tau_times_the_log_prior_away(tau: float) -> None:
    wanted = LOGITS - tau * torch.tensor([math.log(share) for share in SHARES], dtype=torch.float64)
    torch.testing.assert_close(corrected("logit_adjustment", tau=tau), wanted)


def test_logit_adjustment_makes_up_for_balanced_softmax_training() -> None:
    """Scores of adjusted logits are those of softmax divided by the prior, normalised."""
    adjusted = corrected("logit_adjustment").softmax(1)
    divided = LOGITS.softmax(1) / torch.tensor(SHARES, dtype=torch.float64)
    torch.testing.assert_close(adjusted, divided / divided.sum(1, keepdim=True))


def test_tau_norm_divides_each_logit_by_the_length_of_its_weight() -> None:
    lengths = torch.tensor([5.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(corrected("tau_norm", tau=1.0), LOGITS / lengths)
    torch.testing.assert_close(corrected("tau_norm", tau=0.5), LOGITS / lengths.sqrt())


def test_norcal_leaves_background_alone_and_divides_the_others() -> None:
    logits = torch.cat([LOGITS, torch.tensor([[1.5], [-0.5]], dtype=torch.float64)], dim=1)
    scores = corrected("norcal", logits, gamma=0.6).softmax(1)
    terms = torch.tensor([*(count**-0.6 for count in COUNTS), 1.0], dtype=torch.float64) * logits.exp()
    torch.testing.assert_close(scores, terms / terms.sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("variant", "formula"),
    [
        ("raw", lambda pi, n: mpmath.log(1 / pi)),
        ("smooth", lambda pi, n: mpmath.log((n + 1) / (pi * n + 1)) + 1),
        ("rel", lambda pi, n: mpmath.log((n - pi * n) / (pi * n))),
        ("normit", lambda pi, n: -mpmath.sqrt(2) * mpmath.erfinv(2 * pi - 1)),
        ("gombit", lambda pi, n: -mpmath.log(-mpmath.log(1 - pi))),
        ("base2", lambda pi, n: mpmath.log(1 / pi, 2)),
        ("base10", lambda pi, n: mpmath.log10(1 / pi)),
    ],
)
def test_iif_multiplies_by_its_variant(variant: str, formula: object) -> None:
    factors = [float(formula(mpmath.mpf(share), 100)) for share in SHARES]
    torch.testing.assert_close(corrected("iif", variant=variant), LOGITS * torch.tensor(factors, dtype=torch.float64))


@pytest.mark.parametrize(("name", "params"), AS_IT_WAS)
def test_limit_case_changes_nothing(name: str, params: dict[str, float]) -> None:
    torch.testing.assert_close(corrected(name, **params), LOGITS)


def test_equal_counts_change_no_ranking() -> None:
    for name in ("logit_adjustment", "norcal", "iif"):
        correction = posthoc.get(name, class_counts=np.full(4, 25))
        assert torch.equal(correction(LOGITS).argsort(1), LOGITS.argsort(1)), name


@pytest.mark.parametrize("name", posthoc.names())
def test_folded_into_the_classifier_it_is_the_same(name: str) -> None:
    correction = posthoc.get(name, class_counts=COUNTS, weight=WEIGHT)
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    weight, bias = correction.fold(WEIGHT, BIAS)
    torch.testing.assert_close(torch.addmm(bias, x, weight.t()), correction(torch.addmm(BIAS, x, WEIGHT.t())))


@pytest.mark.parametrize("name", posthoc.names())
def test_contract(name: str) -> None:
    before = LOGITS.clone()
    assert corrected(name).isfinite().all()
    assert torch.equal(LOGITS, before)
    assert corrected(name, LOGITS.half()).dtype is torch.float16
    assert posthoc.get(name, class_counts=np.array([9, 3, 0, 1]), weight=WEIGHT)(LOGITS).isfinite().all()


def test_what_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(InputError, match="unknown correction 'tau_nrm'"):
        posthoc.get("tau_nrm", class_counts=COUNTS)
    with pytest.raises(InputError, match="correction 'iif' has no parameter 'tau'") as error:
        posthoc.get("iif", class_counts=COUNTS, tau=1.0)
    assert error.value.hint == "it takes: variant"
    with pytest.raises(InputError, match="unknown variant of iif 'rare'"):
        posthoc.get("iif", class_counts=COUNTS, variant="rare")
    with pytest.raises(InputError, match="'tau_norm' needs the weight"):
        posthoc.get("tau_norm", class_counts=COUNTS)


# As methods of stage two


@pytest.mark.parametrize(("name", "params"), AS_IT_WAS[:2])
def test_a_method_that_changes_nothing_is_the_stage_one_classifier(
    gaussians: Path, name: str, params: dict[str, float]
) -> None:
    result = gol_decouple.retrain(gaussians, name, **params)
    for found, wanted in zip(
        (result.weight, result.bias), as_tensors(features.open(gaussians).classifier), strict=True
    ):
        torch.testing.assert_close(found, wanted)
    assert result.epochs == 0
    assert result.history == []


def test_a_method_folds_its_correction_in(gaussians: Path) -> None:
    file = features.open(gaussians)
    weight, bias = as_tensors(file.classifier)
    result = gol_decouple.retrain(gaussians, "logit_adjustment", tau=0.7)
    share = torch.from_numpy(file.classes.train_counts / file.classes.train_counts.sum())
    torch.testing.assert_close(result.weight, weight)
    torch.testing.assert_close(result.bias, (bias - 0.7 * share.log()).float())
    assert result.metrics == gol_decouple.evaluate((result.weight, result.bias), gaussians)


def test_on_the_command_line_one_row_whatever_the_seeds(run_cli: RunCli, gaussians: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(gaussians, tmp_path / "some.h5"))
    arguments = ["stage2", file, "--runs-dir", tmp_path / "runs", "--seeds", 3]
    done = run_cli(*arguments, "--method", "tau_norm", "--method", "iif", "--method", "crt", "--set", "stage2.epochs=1")
    assert done.code == 0
    rows = collect_rows([tmp_path / "runs"], tmp_path / "runs")
    assert [(row["method"], row["epochs"], row["lr"]) for row in rows] == [
        *[("crt", 1, 0.1)] * 3,
        ("iif", 0, None),
        ("tau_norm", 0, None),
    ]
    assert "from stage one, not trained" in done.out
    grid = run_cli(*arguments, "--method", "tau_norm", "--set", "stage2.tau=[0.5,1.0]")
    assert grid.code == 0
    assert "from stage one, not trained, tau 0.5" in grid.out
    again = run_cli(*arguments, "--method", "tau_norm", "--set", "stage2.tau=0.5")
    assert "is finished and kept as it is" in again.err


def test_on_features_without_a_classifier_one_is_trained_first(run_cli: RunCli, tmp_path: Path) -> None:
    from tests.conftest import write_gaussians

    file = write_gaussians(tmp_path / "bare.h5", with_classifier=False)
    done = run_cli("stage2", file, "--runs-dir", tmp_path / "runs", "--method", "logit_adjustment", "--seeds", 2)
    assert done.code == 0
    assert "has no Softmax classifier: training one first" in done.err
    methods_of = [row["method"] for row in collect_rows([tmp_path / "runs"], tmp_path / "runs")]
    assert methods_of == ["logit_adjustment"] * 2 + ["softmax"] * 2


@pytest.mark.filterwarnings("error")
def test_a_correction_that_is_not_finite_is_an_error_and_the_others_are_done(
    run_cli: RunCli, gaussians: Path, tmp_path: Path
) -> None:
    arguments = ["stage2", gaussians, "--runs-dir", tmp_path, "--method", "tau_norm", "--method", "crt"]
    done = run_cli(*arguments, "--set", "stage2.tau=-1000", "--set", "stage2.epochs=1")
    assert done.code == 2
    assert "error: tau_norm (tau -1000.0) gives weights that are not finite" in done.err
    assert [row["method"] for row in collect_rows([tmp_path], tmp_path)] == ["crt"]
    with pytest.raises(InputError, match="not finite"):
        gol_decouple.retrain(gaussians, "tau_norm", tau=-1000.0)


def test_a_variant_that_is_not_there_is_found_before_anything_is_done(
    run_cli: RunCli, gaussians: Path, tmp_path: Path
) -> None:
    done = run_cli("stage2", gaussians, "--runs-dir", tmp_path, "--method", "iif", "--set", "stage2.variant=rare")
    assert done.code == 2
    assert "error: --set stage2.variant=rare: input should be 'raw', 'smooth'" in done.err
    assert not list(tmp_path.iterdir())
    method = replace(methods.get("iif"), posthoc_params={"variant": "raw", "rare": 1})
    with pytest.raises(InputError, match="correction 'iif' has no parameter 'rare'"):
        gol_decouple.retrain(gaussians, method)
