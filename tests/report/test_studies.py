"""Two studies compared: what is matched with what, what is said of it, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import RunCli

from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT
from gol_decouple.report import noise
from gol_decouple.report.rows import FIELDS
from gol_decouple.report.studies import Comparison, Move, compare
from gol_decouple.report.study_rows import read_study

Row = dict[str, Any]
ALL = ("top1", "top1_balanced", "top1_many", "top1_medium", "top1_few")


def row(top1: float = 40.0, **changes: Any) -> Row:
    """A row of stage two, whose accuracies are all the same unless changed."""
    told = dict.fromkeys(FIELDS) | {"run": "lt", "dataset": "cifar100", "imbalance_factor": 100.0, "stage": 2}
    told |= {"backbone": "resnet32", "method": "gumbel", "split": "test", "trained_on": "train", "features": "f" * 64}
    told |= {"start": "stage_one", "lr": 1e-5, "epochs": 30, "views": 1, "changed_settings": {}, "seed": 0}
    told |= {"num_many": 35, "num_medium": 35, "num_few": 30, "samples": 10_000, **dict.fromkeys(ALL, top1)}
    return told | changes


def stage_one(top1: float = 38.0, **changes: Any) -> Row:
    return row(top1, **({"stage": 1, "method": "softmax", "lr": 0.1, "epochs": 200, "start": None} | changes))


def seeds(*values: float, **changes: Any) -> list[Row]:
    return [row(value, seed=seed, **changes) for seed, value in enumerate(values)]


def moves(found: Comparison, method: str = "gumbel") -> dict[str, Move]:
    (pair,) = (pair for pair in found.pairs if pair.a.first["method"] == method and pair.a.first["stage"] == 2)
    return {move.metric: move for move in pair.moves}


def save(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_seeds_of_the_same_features_are_compared_by_welch() -> None:
    a, b = [40.0, 40.2, 40.4], [41.0, 41.3]
    found = compare(seeds(*a), seeds(*b))
    (pair,) = found.pairs
    move = moves(found)["top1"]
    assert move.interval == noise.of_seeds(a, b)
    assert (move.a, move.b, move.difference) == (pytest.approx(40.2), pytest.approx(41.15), pytest.approx(0.95))
    assert (move.deviation_a, move.deviation_b) == (pytest.approx(0.2), pytest.approx(0.15 * 2**0.5))
    assert pair.differs == []
    assert list(moves(found)) == ["top1", "top1_many", "top1_medium", "top1_few"]  # balanced is the same


def test_one_seed_leaves_the_test_samples() -> None:
    found = moves(compare(seeds(40.0), seeds(41.0, 41.2)))
    assert found["top1"].interval == noise.of_test_samples(40.0, 10_000, 41.1, 10_000)
    assert found["top1_few"].interval == noise.of_test_samples(40.0, 3_000, 41.1, 3_000)  # 30 of 100 classes
    assert found["top1"].deviation_a is None


def test_other_features_make_stage_two_seeds_one_training() -> None:
    # The seeds differ by next to nothing, but stage one was trained once on either side.
    found = compare(seeds(40.0, 40.001), seeds(40.5, 40.501, features="e" * 64))
    interval = moves(found)["top1"].interval
    assert interval is not None
    assert interval.noise == noise.TEST_SAMPLES
    assert moves(found)["top1"].is_more_than_noise is False
    assert found.pairs[0].differs == ["other features"]


def trainings(*values: float, of: str) -> list[Row]:
    """Stage one by several seeds, as runs of their own, and two seeds of stage two on each."""
    rows = []
    for seed, value in enumerate(values):
        own = {"run": f"{of}{seed}", "features": f"{of}{seed}"}
        rows += [
            stage_one(value - 2, seed=seed, **own),
            row(value - 0.1, seed=0, **own),
            row(value + 0.1, seed=1, **own),
        ]
    return rows


def test_runs_that_differ_in_the_seed_of_stage_one_are_seeds_and_count_once() -> None:
    found = compare(trainings(40.0, 41.0, 42.0, of="a"), trainings(44.0, 45.0, of="b"))
    assert [(pair.a.method, len(pair.a.rows), len(pair.b.rows)) for pair in found.pairs] == [
        ("stage one", 3, 2),
        ("gumbel", 6, 4),
    ]
    expected = noise.of_seeds([40.0, 41.0, 42.0], [44.0, 45.0])
    interval = moves(found)["top1"].interval
    assert interval is not None
    assert (interval.low, interval.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_runs_of_the_same_seed_are_no_seeds_of_one_study() -> None:
    # They differ in what a report does not say, such as mixup.
    def study(features: str) -> list[Row]:
        rows = [{"run": run, "features": f"{run}{features}"} for run in ("plain", "mixed")]
        return [made for own in rows for made in (stage_one(**own), row(**own))]

    found = compare(study("a"), study("b"))
    assert [(pair.a.family, len(pair.a.rows)) for pair in found.pairs] == [(("plain",), 1)] * 2 + [(("mixed",), 1)] * 2
    assert all(pair.a.family == pair.b.family for pair in found.pairs)


def test_runs_of_one_seed_and_another_recipe_are_told_apart_by_name_else_by_stage_one() -> None:
    def study(short: str, long: str, gain: float) -> list[Row]:
        rows = []
        for run, epochs, top1 in ((short, 60, 40.0), (long, 200, 50.0)):
            own = {"run": run, "features": f"{run}{gain}"}
            rows += [stage_one(top1, epochs=epochs, **own), row(top1 + gain, **own)]
        return rows

    for names in (("lt", "lt_long"), ("mine", "mine_long")):
        found = compare(study("lt", "lt_long", 1.0), study(*names, 2.0))
        assert (found.only_a, found.only_b) == ([], [])
        assert [pair.moves[0].difference for pair in found.pairs] == [0.0, 1.0, 0.0, 1.0]


def test_what_cannot_be_told_apart_is_not_compared() -> None:
    a = [*seeds(40.0), *seeds(50.0, run="other", features="o"), stage_one()]
    b = [*seeds(40.0, run="x", features="x"), stage_one()]
    found = compare(a, b)
    assert [pair.a.method for pair in found.pairs] == ["stage one"]
    assert [one.first["run"] for one in found.only_a] == ["lt", "other"]
    assert [one.first["run"] for one in found.only_b] == ["x"]


def test_settings_of_a_method_are_results_of_their_own() -> None:
    other = {"changed_settings": {"lr": 1e-4}, "lr": 1e-4}
    found = compare([*seeds(40.0), *seeds(45.0, **other)], [*seeds(45.0, **other), *seeds(40.0)])
    assert [pair.moves[0].difference for pair in found.pairs] == [0.0, 0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "cifar10"},
        {"imbalance_factor": 50.0},
        {"backbone": "resnet20"},
        {"split": "val"},
        {"changed_settings": {"lr": 1}},
        {"method": "sigmoid"},
    ],
)
def test_what_is_another_result_is_not_compared(changes: Row) -> None:
    found = compare([*seeds(40.0), stage_one()], [*seeds(40.0, **changes), stage_one()])
    assert [pair.a.method for pair in found.pairs] == ["stage one"]
    assert (len(found.only_a), len(found.only_b)) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lr": 0.1}, "lr 1e-05 and 0.1"),
        ({"epochs": 5}, "epochs 30 and 5"),
        ({"trained_on": "train+val"}, "trained_on train and train+val"),
        ({"sampler": "random"}, "sampler none and random"),
        ({"num_few": 28, "num_many": 37}, "many/medium/few classes 35/35/30 and 37/35/28"),
        ({"samples": 5000}, "test samples 10,000 and 5,000"),
        ({"features": "e"}, "other features"),
        ({"run": "theirs", "path": "elsewhere", "seed": 4}, None),
    ],
)
def test_what_differs_beside_is_said(changes: Row, told: str | None) -> None:
    (pair,) = compare(seeds(40.0), [row(**changes)]).pairs
    assert pair.differs == ([] if told is None else [told])


def test_empty_groups_unbalanced_tests_and_unknown_numbers_of_samples() -> None:
    found = moves(compare([row(top1_many=None, num_many=0)], [row(top1_many=None, num_many=0)]))
    assert "top1_many" not in found
    found = moves(compare([row(top1_few=None)], [row()]))
    assert (found["top1_few"].a, found["top1_few"].difference, found["top1_few"].interval) == (None, None, None)
    unbalanced = moves(compare([row(top1_balanced=30.0)], [row()]))
    assert "top1_balanced" in unbalanced
    assert unbalanced["top1"].interval is not None
    assert unbalanced["top1_few"].interval is None  # of how many test samples is not known
    assert all(move.interval is None for move in moves(compare([row(samples=None)], [row()])).values())


def detected(value: float, **changes: Any) -> Row:
    tested = {"score_threshold": 0.05, "nms_threshold": 0.5, "max_detections": 300, "images": 9, "annotations": "v"}
    names = ("ap", "ap50", "ap75", "ap_r", "ap_c", "ap_f")
    boxes = {f"{name}_box": value for name in names} | {"test_settings": tested | {"masks": False}}
    return row(**(dict.fromkeys(ALL) | boxes | changes))


def test_detections_have_ap_and_no_interval_of_one_seed() -> None:
    found = moves(compare([detected(20.0)], [detected(21.0)]))
    assert list(found) == ["ap_box", "ap_r_box", "ap_c_box", "ap_f_box"]
    assert found["ap_box"].difference == 1.0
    assert found["ap_box"].interval is None
    found = moves(compare([detected(20.0), detected(20.5, seed=1)], [detected(21.0), detected(22.0, seed=1)]))
    assert found["ap_r_box"].interval == noise.of_seeds([20.0, 20.5], [21.0, 22.0])


def test_the_difference_is_that_of_the_trainings_its_interval_is_of() -> None:
    """Three seeds on one stage one and a single one on the other are two trainings, of equal weight."""
    a = [*trainings(40.0, 50.0, of="a"), row(40.0, seed=2, run="a0", features="a0")]
    found = moves(compare(a, trainings(44.0, 46.0, of="b")))["top1"]
    assert found.interval is not None
    assert (found.a, found.b, found.difference) == (pytest.approx(45.0), pytest.approx(45.0), pytest.approx(0.0))
    assert (found.deviation_a, found.deviation_b) == (pytest.approx(50**0.5), pytest.approx(2**0.5))
    assert found.difference == pytest.approx((found.interval.low + found.interval.high) / 2)


def test_results_without_a_figure_have_no_table(tmp_path: Path, run_cli: RunCli) -> None:
    empty = dict.fromkeys(row_names())
    rows = [detected(20.0), detected(20.0, method="bare", **empty)]
    study = save(tmp_path / "a.json", rows)
    lines = run_cli("compare", study, study).out.splitlines()
    assert sum(line.startswith(" method") for line in lines) == 1
    assert "in both without a figure: cifar100 bare (lt)" in lines
    assert run_cli("compare", *[save(tmp_path / "b.json", rows[1:])] * 2).out.strip() == lines[-1]


def row_names() -> list[str]:
    return [f"{name}_box" for name in ("ap", "ap50", "ap75", "ap_r", "ap_c", "ap_f")]


def test_no_result_in_common_is_refused() -> None:
    with pytest.raises(InputError, match=r"no result in common; A: cifar100 .* gumbel; B: digits") as raised:
        compare(seeds(40.0), seeds(40.0, dataset="digits"))
    assert "matched by dataset" in str(raised.value.hint)


def test_a_report_of_another_version_is_read(tmp_path: Path) -> None:
    old = {name: value for name, value in row().items() if name not in ("views", "trained_on", "features", "samples")}
    new = row(41.0) | {"what_comes_later": [1, 2]}
    a, b = (read_study(save(tmp_path / name, [told]), tmp_path, SILENT) for name, told in (("a", old), ("b", new)))
    assert set(a[0]) == set(b[0]) == set(FIELDS)
    found = compare(a, b)
    assert found.pairs[0].differs == []
    assert moves(found)["top1"].difference == 1.0
    # Seeds of a report that does not say what features it is of may rest on one training of stage one.
    several = [one | {"features": ""} for one in seeds(40.0, 41.0)]
    interval = moves(compare(several, several))["top1"].interval
    assert interval is not None
    assert interval.noise == noise.TEST_SAMPLES


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "does not hold a list of rows"),
        ("[]", "a report without rows"),
        ("[3]", "row 1 is 3, expected an object"),
        ('[{"run": "lt"}]', "of row 1, dataset is None, expected text"),
        ("[", "is not readable JSON"),
        ("\xff\x00", "is not readable JSON"),
        ("[NaN]", "which is no number of JSON"),
        ("[" * 100 + "]" * 100, "objects in objects"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "study.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=told) as raised:
        read_study(path, tmp_path, SILENT)
    assert str(path) in raised.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"top1": "40"},
        {"top1_few": 150.0},
        {"top1": -0.1},
        {"changed_settings": []},
        {"samples": 0},
        {"lr": "x"},
        {"stage": 3},
        {"paper_top1": "x"},
        {"gain_top1": "1", "gain_top1_low": 0.0, "gain_top1_high": 2.0},
    ],
)
def test_values_of_another_kind_are_refused(tmp_path: Path, changes: Row) -> None:
    path = save(tmp_path / "study.json", [row(), row() | changes])
    with pytest.raises(InputError, match=f"of row 2, {next(iter(changes))} is"):
        read_study(path, tmp_path, SILENT)


def test_a_gain_without_its_interval_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "study.json", [row(gain_top1_few=1.0, gain_top1_few_low=0.5)])
    with pytest.raises(InputError, match="gain_top1_few has no interval"):
        read_study(path, tmp_path, SILENT)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a.json and b.json in the working folder: gumbel moved, softmax did not, crt and lws are in one of them."""
    monkeypatch.chdir(tmp_path)
    a = [stage_one(), *seeds(40.0, 40.1, 40.2), *seeds(39.0, method="softmax"), *seeds(43.0, method="crt")]
    b = [stage_one(), *seeds(42.0, 42.1, 42.2, lr=1e-4), *seeds(39.0, method="softmax"), *seeds(44.0, method="lws")]
    save(tmp_path / "a.json", a)
    save(tmp_path / "b.json", b)


def test_the_table(two: None, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run_cli("compare", "a.json", "b.json")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = (line for line in lines if line.startswith(" gumbel"))
    assert line.split() == ["gumbel", "3,", "3", "top-1", "40.1±0.1", "42.1±0.1", "+2.0**", "[1.8,", "2.2]"]
    assert "differs: lr 1e-05 and 0.0001 (of gumbel)" in lines
    told = " ".join(outcome.out.split())
    assert "4 of 12 differences are beyond the noise (*), where 0.6 would be by chance; 4 even if all" in told
    assert "only in A: cifar100 crt (lt)" in told
    assert "only in B: cifar100 lws (lt)" in told
    assert "+0.0 [-1.4, 1.4]t" in told


def test_the_other_formats(two: None, run_cli: RunCli, tmp_path: Path) -> None:
    told = json.loads(run_cli("compare", "a.json", "b.json", "--format", "json").out)
    assert (told["a"], told["b"], told["moved"], told["tested"]) == ("a.json", "b.json", 4, 12)
    assert [one["method"] for one in told["only_a"]] == ["crt"]
    assert {one["method"] for one in told["compared"] if one["stage"] == 1} == {"stage_one"}
    (top1,) = (one for one in told["compared"] if (one["method"], one["metric"]) == ("gumbel", "top1"))
    assert (top1["seeds_a"], top1["noise"], top1["is_more_than_noise"]) == (3, "seeds", True)
    assert top1["differs"] == ["lr 1e-05 and 0.0001"]
    table = list(csv.DictReader(io.StringIO(run_cli("compare", "a.json", "b.json", "--format", "csv").out)))
    assert len(table) == 12 + 2
    assert {one["method"] for one in table if one["stage"] == "1"} == {"stage_one"}
    assert [(one["method"], one["metric"], one["seeds_a"], one["seeds_b"]) for one in table[-2:]] == [
        ("crt", "", "1", ""),
        ("lws", "", "", "1"),
    ]
    markdown = run_cli("compare", "a.json", "b.json", "--format", "markdown").out
    assert "| gumbel | 3, 3 | top-1 | 40.1±0.1 | 42.1±0.1 | +2.0** [1.8, 2.2] |" in markdown
    assert "\\[low, high\\]: 95 % interval by the seeds of both (Welch's t)" in markdown
    for kind, expected in (("markdown", markdown), ("table", "+2.0**")):
        assert run_cli("compare", "a.json", "b.json", "--format", kind, "-o", "out.txt").out == ""
        assert expected in (tmp_path / "out.txt").read_text()


def test_names_from_files_are_shown_as_they_can_be(two: None, run_cli: RunCli, tmp_path: Path) -> None:
    evil = {"method": "a|b\x1b[31m[bold]x", "run": "r\nr"}
    save(tmp_path / "c.json", [*seeds(40.0, **evil), *seeds(40.0, method="\x1b]0;x\x07", dataset="d\r")])
    save(tmp_path / "d.json", seeds(40.0, **evil))
    for kind in ("table", "markdown"):
        outcome = run_cli("compare", "c.json", "d.json", "--format", kind)
        assert outcome.code == 0, outcome.err
        assert not {"\x1b", "\r", "\x07"} & set(outcome.out)
        assert "[bold]x" in outcome.out.replace("\\", "")


def test_names_below_the_tables_are_no_markup(tmp_path: Path, run_cli: RunCli) -> None:
    a, b = seeds(40.0), [*seeds(40.0), *seeds(40.0, method="<img src=x>", dataset="[a](http://b)")]
    paths = [save(tmp_path / name, rows) for name, rows in (("a.json", a), ("b.json", b))]
    text = run_cli("compare", *paths, "--format", "markdown").out
    assert r"only in B: \[a\](http://b) &lt;img src=x> (lt)" in text.splitlines()


@pytest.mark.parametrize(("out", "told"), [("no/such/x.csv", "which is no folder"), (".", "is a folder")])
def test_where_nothing_can_be_written_is_told_before_anything_is_read(run_cli: RunCli, out: str, told: str) -> None:
    outcome = run_cli("compare", "nowhere", "nowhere", "-o", out)
    assert outcome.code == 2
    assert f"error: --out {out} " in outcome.err
    assert told in outcome.err


def test_fail_on_change(two: None, run_cli: RunCli) -> None:
    assert run_cli("compare", "a.json", "b.json", "--fail-on-change").code == 4
    outcome = run_cli("compare", "a.json", "a.json", "--fail-on-change")
    assert outcome.code == 0, outcome.err


def test_a_missing_study_is_the_users_mistake(two: None, run_cli: RunCli) -> None:
    outcome = run_cli("compare", "a.json", "nowhere")
    assert outcome.code == 2
    assert "error: nowhere does not exist" in outcome.err


def test_a_run_its_report_and_its_copy_are_one_study(
    retrained_run: Path, tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(retrained_run, tmp_path / "runs" / "theirs")
    assert run_cli("report", retrained_run, "--format", "json", "-o", "mine.json").code == 0
    rows = json.loads((tmp_path / "mine.json").read_text())
    assert {one["samples"] for one in rows} == {30}
    for b in ("runs/theirs", "runs"):
        outcome = run_cli("compare", "mine.json", b, "--format", "json", "--fail-on-change")
        assert outcome.code == 0, outcome.err
        told = json.loads(outcome.out)
        assert (told["only_a"], told["only_b"], told["moved"]) == ([], [], 0)
        assert {one["difference"] for one in told["compared"]} == {0.0}
        assert all(one["differs"] == [] for one in told["compared"])
