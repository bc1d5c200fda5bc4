"""The arithmetic of the studies in benchmarks/ whose figures stand in docs/reproduction.md."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import ablation, batchnorm, combinations
from gol_decouple import methods

PARTS = {"activation": "softmax", "loss": "balanced", "sampler": "random", "classifier": "linear", "start": "fresh"}

ENVIRONMENT = {"device_name": "a machine", "threads": 1, "versions": {"torch": "2.15.0"}, "checkout": None}
OF_MODEL = {
    "environment": ENVIRONMENT,
    "seconds": 60,
    "images": {"train": 10847},
    "config": {"stage1": {"epochs": 200}},
}


def of_study(seconds: float, *words: str) -> dict[str, object]:
    study = {
        "command": ["python", "-m", "benchmarks", *words],
        "what": "9 classifiers",
        "environment": ENVIRONMENT,
        "seconds": seconds,
    }
    return {"run": "mixup", "stage1": OF_MODEL, "study": study}


def judged(lr: float, seed: int, accuracy: float | None, **parts: str) -> dict[str, object]:
    measured = {} if accuracy is None else dict.fromkeys(combinations.SHOWN, accuracy)
    return PARTS | parts | {"lr": lr, "seed": seed} | measured


UNTRAINED = judged(0.0, 0, 41.0, **dict.fromkeys(PARTS, "–")) | {"lr": "–", "loss": "tau_norm, tau 1"}


def test_combinations_are_ranked_by_their_means_and_those_that_diverged_left_out() -> None:
    rows = [
        *(judged(0.1, 0, 40.0), judged(0.1, 1, 42.0), judged(0.3, 0, 42.0), judged(0.3, 1, 41.0)),
        *(judged(0.01, 0, 50.0), judged(0.01, 1, None)),
    ]
    found = combinations.ranked(rows)
    assert [(row["lr"], row["top1_balanced"], row["seeds"]) for row in found] == [(0.3, 41.5, 2), (0.1, 41.0, 2)]
    assert found[1]["deviation"] == pytest.approx(math.sqrt(2))


def test_what_goes_to_test_is_chosen_by_val_and_told_in_its_order() -> None:
    told = {
        "stage_one": dict.fromkeys(combinations.SHOWN, 40.0),
        "samples": 10,
        "features": {"dataset": {"name": "cifar100", "imbalance_factor": 100.0}},
        "first": [judged(0.1, 0, 47.0), judged(0.3, 0, 45.0), judged(0.001, 0, 44.0, activation="gumbel"), UNTRAINED],
        "finals": [judged(0.1, 0, 46.0), judged(0.3, 0, 46.5)],
        "made": of_study(3.0, "combinations", "search"),
    }
    assert [(row["activation"], row["lr"]) for row in combinations.chosen(told)] == [
        ("softmax", 0.3),
        ("gumbel", 0.001),
        ("–", "–"),
    ]
    # On test the other way round, which changes no order.
    rows = [judged(0.3, 0, 41.0), judged(0.001, 0, 43.0, activation="gumbel")]
    told["tests"] = [told | {"rows": rows, "made": of_study(4.0, "combinations", "test")}]
    _, of_test, what = combinations.tables([told])
    assert [line[0] for line in of_test.cells] == ["stage one", "softmax", "gumbel"]
    assert [(line[1], line[3]) for line in what.cells] == [
        ("stage one", "0:01:00"),
        ("combinations search", "0:00:03"),
        ("combinations test", "0:00:04"),
    ]


def test_the_grid_has_as_many_combinations_as_the_document_says_and_each_is_told_apart() -> None:
    grid = list(combinations.grid())
    page = (Path(__file__).parents[1] / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert f"trains {sum(method.is_trained for method in grid):,} combinations" in " ".join(page.split())
    rows = [combinations._parts(method) for method in grid]
    assert len({tuple(row.values()) for row in rows}) == len(grid) == 1305
    assert rows[0] == dict.fromkeys(combinations.PARTS, "–") | {"loss": "tau_norm, tau 1"}
    assert [combinations._method(row) for row in (rows[0], rows[-1])] == [grid[0], grid[-1]]


def test_what_was_tested_is_not_searched_again(tmp_path: Path) -> None:
    out = tmp_path / "combinations.json"
    out.write_text('{"tests": []}')
    with pytest.raises(SystemExit, match="has what was found on test images: keep it"):
        combinations.search(tmp_path / "features.h5", out)
    assert out.read_text() == '{"tests": []}'


def test_biases_are_moved_until_the_mean_score_is_that_of_chance() -> None:
    """Logits that are all 3: exp(-exp(-(3 + b))) = 1/4."""
    weight, bias = torch.zeros(4, 2), torch.full((4,), 3.0)
    moved = ablation.shift_to_prior(weight, bias, torch.zeros(5, 2))
    assert moved == pytest.approx(-math.log(math.log(4.0)) - 3.0)


@pytest.mark.parametrize("name", ablation.BASES)
def test_a_variation_changes_its_part_alone(name: str) -> None:
    base = methods.get(name)
    first, *others = ablation.variations(base)
    assert (first.method, first.biases) == (base, "kept")
    for one in others:
        differs = [part for part, value in vars(one.method).items() if value != getattr(base, part)]
        if one.part == "bias start":
            assert (differs, one.biases != "kept") == ([], True)
        elif "," in one.part:
            assert differs == ["start", "lr", "schedule"]
        else:
            assert len([part for part in differs if not part.endswith("_params")]) <= 1
            assert differs


def test_what_train_mode_changes_stands_below_the_modes() -> None:
    row = {"batchnorm": "train", "seed": 0, "statistics_moved": 0.25} | dict.fromkeys(batchnorm.SHOWN, 40.0)
    over = {"top1_balanced": [-1.0, -2.0, 0.5]}
    told = {"method": "gumbel_paper", "val_samples": 9, "rows": [row], "train_over_eval": over}
    table, _ = batchnorm.tables(told | {"made": of_study(5.0, "batchnorm", "compare")})
    assert table.cells == [
        ["train", "0", "40.0", "40.0", "40.0", "40.0", "0.250"],
        ["train over eval", "–", "-1.0 [-2.0, 0.5]", "–", "–", "–", "–"],
    ]


def test_statistics_move_by_running_deviations() -> None:
    before = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(1))
    after = deepcopy(before)
    after[0].running_mean += torch.tensor([0.5, -1.5])  # of deviation 1: 0.5 and 1.5, on average 1
    assert batchnorm._moved(after, before) == pytest.approx(0.5, abs=1e-4)
