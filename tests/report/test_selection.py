"""Which rows a report is of, and in which order, by hand and by the command."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gol_decouple.errors import InputError
from gol_decouple.report import selection
from gol_decouple.report.kinds import GAINS
from tests.conftest import RunCli
from tests.report.test_detection_tables import detected
from tests.report.test_gains import BASE, BEST, BETTER, base, method
from tests.report.test_report import collect, manifest, stage_one


def named(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [("stage_one" if row["stage"] == 1 else row["method"], row["seed"]) for row in rows]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs of two datasets, two of them with a gumbel."""
    for run, dataset in (("lt_if100", "cifar100"), ("lt_if50", "cifar100"), ("digits", "digits_lt")):
        stage_one(tmp_path / run, dataset=dataset)
    for run in ("lt_if100", "lt_if50"):
        manifest(tmp_path / run / "stage2" / "gumbel", run=run)
    manifest(tmp_path / "digits" / "stage2" / "crt", run="digits", dataset="digits_lt", method="crt")
    return tmp_path


# Paths


def test_a_quoted_pattern_is_of_folders(runs: Path, run_cli: RunCli) -> None:
    (runs / "notes_if100.txt").write_text("not of a run")
    outcome = run_cli("report", runs / "*if100*", "--format", "json")
    assert outcome.code == 0, outcome.err
    assert {row["run"] for row in json.loads(outcome.out)} == {"lt_if100"}


def test_a_run_whose_name_is_a_pattern_is_itself(tmp_path: Path) -> None:
    stage_one(tmp_path / "a[1]", run="a[1]")
    stage_one(tmp_path / "a1", run="a1")
    assert selection.expanded([tmp_path / "a[1]"]) == [tmp_path / "a[1]"]


@pytest.mark.parametrize(("pattern", "what"), [("*if7*", "nothing"), ("*.txt", "no folder and no features file")])
def test_a_pattern_that_matches_no_run_is_told(runs: Path, run_cli: RunCli, pattern: str, what: str) -> None:
    (runs / "notes.txt").write_text("not of a run")
    outcome = run_cli("report", runs / pattern)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{pattern} matches {what}" in outcome.err


def test_a_copy_of_a_run_has_no_further_seeds(tmp_path: Path, run_cli: RunCli) -> None:
    base(tmp_path)
    for seed in (0, 1):
        method(tmp_path, "gumbel", seed=seed)
    shutil.copytree(tmp_path / "lt", tmp_path / "theirs" / "lt")
    method(tmp_path / "theirs", "gumbel", seed=2)
    outcome = run_cli("report", tmp_path, "--method", "gumbel", "--format", "json")
    assert outcome.code == 0, outcome.err
    assert sorted(row["seed"] for row in json.loads(outcome.out)) == [0, 1, 2]
    kept, copy = tmp_path / "lt", tmp_path / "theirs" / "lt"
    assert f"warning: left out, since {kept} has the same of the same run, features and seed: " in outcome.err
    assert f" in {copy}\n" in outcome.err
    told = json.loads(run_cli("compare", tmp_path, tmp_path / "lt", "--format", "json").out)
    assert {(one["method"], one["seeds_a"], one["seeds_b"]) for one in told["compared"] if one["stage"] == 2} == {
        ("gumbel", 3, 2)
    }


def test_a_path_to_a_classifier_alone_keeps_the_baseline_of_its_run(tmp_path: Path, run_cli: RunCli) -> None:
    base(tmp_path)
    folder = method(tmp_path, "gumbel")
    outcome = run_cli("report", folder, "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    (row,) = json.loads(outcome.out)
    assert (row["method"], row["baseline"]) == ("gumbel", "stage_one")
    (tmp_path / "lt" / "manifest.json").write_text("{")
    outcome = run_cli("report", folder, "--format", "json")
    assert outcome.code == 2
    assert [row["baseline"] for row in json.loads(outcome.out)] == [None]
    assert "lt/manifest.json" in outcome.err


# Datasets and methods


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--dataset", "cifar100"], {("lt_if100", 1), ("lt_if100", 2), ("lt_if50", 1), ("lt_if50", 2)}),
        (["--dataset", "digits_lt", "--method", "crt"], {("digits", 2)}),
        (["--method", "gum*", "--method", "crt"], {("lt_if100", 2), ("lt_if50", 2), ("digits", 2)}),
        (["--method", "stage_one"], {("lt_if100", 1), ("lt_if50", 1), ("digits", 1)}),
    ],
)
def test_rows_are_chosen_by_their_names(runs: Path, run_cli: RunCli, options: list[str], wanted: set[Any]) -> None:
    outcome = run_cli("report", runs, *options, "--format", "csv")
    assert outcome.code == 0, outcome.err
    found = csv.DictReader(io.StringIO(outcome.out))
    assert {(row["run"], int(row["stage"])) for row in found} == wanted


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--method", "gumble"], ["unknown method 'gumble'", "did you mean 'gumbel'? choose from: crt, gumbel, stage"]),
        (["--dataset", "cifar"], ["unknown dataset 'cifar'", "cifar100, digits_lt"]),
        (["--dataset", "digits_lt", "--method", "gumbel"], ["unknown method 'gumbel'", "choose from: crt, stage_one"]),
        (["--sort", "top2"], ["unknown sort key 'top2'", "top1_few", "ap_r", "did you mean 'top1'"]),
    ],
)
def test_a_name_that_is_none_lists_what_there_is(runs: Path, run_cli: RunCli, options: list[str], told: Any) -> None:
    outcome = run_cli("report", runs, *options)
    assert (outcome.code, outcome.out) == (2, "")
    for text in told:
        assert text in outcome.err


def test_gains_are_over_a_baseline_that_is_not_shown(tmp_path: Path, run_cli: RunCli) -> None:
    base(tmp_path)
    method(tmp_path, "gumbel")
    method(tmp_path, "crt", BEST)
    rows = {row["method"]: row for row in json.loads(run_cli("report", tmp_path, "--format", "json").out)}
    outcome = run_cli("report", tmp_path, "--method", "gumbel", "--format", "json")
    (row,) = json.loads(outcome.out)
    assert row["baseline"] == "stage_one"
    assert row["gain_top1"] is not None
    assert [row[name] for name in GAINS] == [rows["gumbel"][name] for name in GAINS]
    (row,) = json.loads(run_cli("report", tmp_path, "--method", "gumbel", "--baseline", "crt", "--format", "json").out)
    assert (row["baseline"], row["gain_top1"]) == ("crt", pytest.approx(100 * (10 - 18) / 18))


# Order


def test_settings_are_ordered_by_the_mean_over_their_seeds(tmp_path: Path) -> None:
    tops = {"low": (10.0, 60.0), "high": (40.0, 41.0), "none": (None, None), "also": (35.0, 35.0)}
    for name, values in tops.items():
        for seed, few in enumerate(values):
            manifest(tmp_path / f"{name}{seed}", method=name, seed=seed, metrics={"top1_few": few})
    rows = collect(tmp_path)
    wanted = [("high", 0), ("high", 1), ("also", 0), ("also", 1), ("low", 0), ("low", 1), ("none", 0), ("none", 1)]
    assert named(selection.in_order(rows, "few")) == named(selection.in_order(rows, "top1_few")) == wanted
    assert selection.in_order(rows, None) == rows


def test_what_is_better_low_and_texts_begin_with_the_lowest(tmp_path: Path) -> None:
    for name, ece in (("b", 3.0), ("a", 9.0), ("c", 1.0)):
        manifest(tmp_path / name, method=name, metrics={"ece": ece, "classwise_ece": 1.0, "nll": 1.0})
    rows = collect(tmp_path)
    assert [row["method"] for row in selection.in_order(rows, "ece")] == ["c", "b", "a"]
    assert [row["method"] for row in selection.in_order(list(reversed(rows)), "method")] == ["a", "b", "c"]


def test_ap_is_of_boxes_where_there_are_no_masks(tmp_path: Path) -> None:
    detected(tmp_path / "a", masks=None, boxes=12.0, method="a")
    detected(tmp_path / "b", masks=None, boxes=30.0, method="b")
    manifest(tmp_path / "c", method="c")
    assert [row["method"] for row in selection.in_order(collect(tmp_path), "ap_r")] == ["b", "a", "c"]


def test_gains_order_rows_too(tmp_path: Path, run_cli: RunCli) -> None:
    base(tmp_path)
    for name, right in (("worse", (0, 0, 0)), ("best", BEST), ("better", BETTER), ("same", BASE)):
        method(tmp_path, name, right)
    for key in ("gain", "gain_top1", "gain_few"):
        rows = json.loads(run_cli("report", tmp_path, "--sort", key, "--format", "json").out)
        assert [row["method"] for row in rows] == ["best", "better", "same", "worse", "softmax"], key


def test_every_short_name_stands_for_a_key() -> None:
    for key in ("many", "medium", "few", "balanced", "gain", "gain_few", "gain_balanced", *selection.SORT_KEYS):
        selection.check_sort(key)
    with pytest.raises(InputError, match="unknown sort key 'features'"):
        selection.check_sort("features")
