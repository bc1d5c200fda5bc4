"""What every class got: csv, json and tables, by hand, by the command, and of real runs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from gol_decouple.report import per_class_tables
from tests.conftest import RunCli
from tests.report.test_detection_tables import detected
from tests.report.test_gains import COUNTS, base, method
from tests.report.test_report import stage_one

NAMES = ["cat", "dog, big", "=cmd"]


def classes(folder: Path, values: list[float | None], names: list[str] = NAMES) -> Path:
    """The table of classes that stages write beside a manifest."""
    with (folder / "per_class.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("class", "name", "train_count", "group", "samples", "accuracy"))
        groups = ["many" if count > 100 else "medium" if count >= 20 else "few" for count in COUNTS]
        for label, (name, value) in enumerate(zip(names, values, strict=True)):
            table.writerow((label, name, COUNTS[label], groups[label], 6, "" if value is None else f"{value:.4f}"))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A stage one, gumbel with two seeds, and crt, whose last class no test sample is of."""
    classes(base(tmp_path), [50.0, 50.0, 0.0])
    classes(method(tmp_path, "gumbel", seed=0), [60.0, 50.0, 40.0])
    classes(method(tmp_path, "gumbel", seed=1), [70.0, 40.0, 60.0])
    classes(method(tmp_path, "crt"), [50.0, 100 / 3, None])
    return tmp_path


def records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_line_a_class_of_each_setting(run: Path, run_cli: RunCli) -> None:
    outcome = run_cli("report", run, "--per-class", "--format", "csv")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0] == (
        "run,method,settings,seeds,class,name,train_count,group,accuracy,baseline,change"
    )
    found = records(outcome.out)
    assert [row["method"] for row in found] == [*["stage_one"] * 3, *["crt"] * 3, *["gumbel"] * 3]
    assert found[0] == dict(
        zip(found[0], ["lt", "stage_one", "", "1", "0", "cat", "500", "many", "50.0", "", ""], strict=True)
    )
    told = [(row["name"], row["seeds"], row["accuracy"], row["baseline"], row["change"]) for row in found[3:]]
    assert told == [
        ("cat", "1", "50.0", "stage_one", "0.0"),
        ("dog, big", "1", "33.3333", "stage_one", "-16.6667"),
        ("=cmd", "1", "", "stage_one", ""),
        ("cat", "2", "65.0", "stage_one", "15.0"),
        ("dog, big", "2", "45.0", "stage_one", "-5.0"),
        ("=cmd", "2", "50.0", "stage_one", "50.0"),
    ]


def test_json_has_the_same(run: Path, run_cli: RunCli) -> None:
    found = json.loads(run_cli("report", run, "--per-class", "--format", "json", "--method", "crt").out)
    assert [(one["class"], one["accuracy"], one["change"]) for one in found] == [
        (0, 50.0, 0.0),
        (1, 33.3333, -16.6667),
        (2, None, None),
    ]
    assert all(one["baseline"] == "stage_one" for one in found), "it is there though its row was not asked for"


def test_another_baseline(run: Path, run_cli: RunCli) -> None:
    found = records(run_cli("report", run, "--per-class", "--format", "csv", "--baseline", "crt").out)
    changes = {(row["method"], row["class"]): (row["baseline"], row["change"]) for row in found}
    assert changes["gumbel", "0"] == ("crt", "15.0")
    assert changes["gumbel", "1"] == ("crt", "11.6667")
    assert changes["gumbel", "2"] == ("crt", "")
    assert changes["crt", "0"] == changes["stage_one", "0"] == ("", "")


def test_a_table_is_one_a_method_and_markdown_too(run: Path, run_cli: RunCli) -> None:
    shown = run_cli("report", run, "--per-class", "--method", "gumbel").out
    assert shown.splitlines()[0] == "lt: gumbel, accuracy (%) by class"
    assert shown.splitlines()[2].split() == ["class", "group", "images", "accuracy", "change"]
    assert " =cmd      few          5      50.0   +50.0" in shown.splitlines()
    assert "change: in points, to stage one" in shown
    text = run_cli("report", run, "--per-class", "--method", "gumbel", "--format", "markdown").out
    assert "| dog, big | medium | 50 | 45.0 | -5.0 |" in text.splitlines()


def many(count: int, changes: list[float]) -> Any:
    import numpy as np

    from gol_decouple.report.per_class import PerClass

    names, counts = [f"c{number}" for number in range(count)], np.full(count, 7)
    before = PerClass(names, counts, ["few"] * count, np.full(count, 50.0))
    after = PerClass(names, counts, ["few"] * count, 50.0 + np.array(changes))
    seeds = [{"run": "lt", "test_settings": None}]
    return per_class_tables.ClassesOf(seeds, "gumbel", after, ("stage_one", before))


def test_of_many_classes_the_greatest_gains_and_losses_are_shown() -> None:
    changes = [float(number) for number in range(-10, 11)]
    ((_, table),) = per_class_tables.tables([many(21, changes)], in_full=False)
    assert [cells[-1] for cells in table.cells] == [
        *["+10.0", "+9.0", "+8.0", "+7.0", "+6.0"],
        *["-6.0", "-7.0", "-8.0", "-9.0", "-10.0"],
    ]
    assert table.notes[-1] == "the greatest gains and losses of 21 classes; --format csv has all of them"
    ((_, table),) = per_class_tables.tables([many(21, changes)], in_full=True)
    assert len(table.cells) == 21


def test_ap_of_detections_and_its_change(tmp_path: Path, run_cli: RunCli) -> None:
    groups = (1, 1, 1)
    for folder, changes, values in (
        (tmp_path / "lt", {"stage": 1}, [10.0, 2.0, None]),
        (tmp_path / "lt" / "stage2" / "gol", {"method": "gol"}, [9.0, 4.5, 1.0]),
    ):
        of = detected(folder, groups=groups, train_counts=[900, 90, 9], image_counts=[300, 30, 3], **changes)
        lines = [f"{label},{label},{name},{letter},{'' if ap is None else ap},7" for label, (name, letter, ap) in
                 enumerate(zip(NAMES_OF_OBJECTS, "fcr", values, strict=True))]  # fmt: skip
        (of / "per_class_ap.csv").write_text("\n".join(["class,category_id,name,frequency,ap,ap_box", *lines, ""]))
    outcome = run_cli("report", tmp_path, "--per-class", "--format", "csv", "--method", "gol")
    assert outcome.code == 0, outcome.err
    found = records(outcome.out)
    assert "accuracy" not in found[0]
    assert [(row["name"], row["train_count"], row["group"], row["ap"], row["change"]) for row in found] == [
        ("chair", "300", "frequent", "9.0", "-1.0"),
        ("harp", "30", "common", "4.5", "2.5"),
        ("yak", "3", "rare", "1.0", ""),
    ]
    assert "gol, AP by class" in run_cli("report", tmp_path, "--per-class").out
    named = run_cli("report", tmp_path, "--per-class", "--baseline", "gol", "--format", "json")
    assert named.code == 0, named.err


NAMES_OF_OBJECTS = ["chair", "harp", "yak"]


def test_ap_of_other_test_settings_is_neither_averaged_nor_compared(tmp_path: Path, run_cli: RunCli) -> None:
    for folder, changes, value, threshold in (
        (tmp_path / "lt", {"stage": 1}, 10.0, 0.05),
        (tmp_path / "lt" / "stage2" / "a", {"method": "gol", "seed": 0}, 20.0, 0.05),
        (tmp_path / "lt" / "stage2" / "b", {"method": "gol", "seed": 1}, 40.0, 0.0001),
    ):
        of = detected(folder, groups=(1, 0, 0), tested={"score_threshold": threshold}, train_counts=[9], **changes)
        (of / "per_class_ap.csv").write_text(f"class,category_id,name,frequency,ap,ap_box\n0,0,cat,f,{value},7\n")
    found = records(run_cli("report", tmp_path, "--per-class", "--format", "csv", "--method", "gol").out)
    assert [(row["seeds"], row["ap"], row["change"]) for row in found] == [("1", "20.0", "10.0"), ("1", "40.0", "")]


def test_a_method_without_a_table_of_classes_is_left_out_and_told(run: Path, run_cli: RunCli) -> None:
    for path in run.glob("lt/stage2/crt*/per_class.csv"):
        path.unlink()
    outcome = run_cli("report", run, "--per-class", "--format", "csv")
    assert outcome.code == 0
    assert {row["method"] for row in records(outcome.out)} == {"stage_one", "gumbel"}
    assert "has no table of its classes: crt" in outcome.err


@pytest.mark.parametrize("which", ["lt", "lt/stage2/crt*"])
def test_a_damaged_table_of_classes_is_left_out_and_named_once(run: Path, run_cli: RunCli, which: str) -> None:
    (folder,) = run.glob(which)
    (folder / "per_class.csv").write_text("class,name\n0,cat\n")
    outcome = run_cli("report", run, "--per-class", "--format", "csv")
    assert outcome.code == 2
    left = {"stage_one", "crt", "gumbel"} - {"stage_one" if which == "lt" else "crt"}
    assert {row["method"] for row in records(outcome.out)} == left
    assert {row["change"] for row in records(outcome.out) if row["method"] == "gumbel"} == (
        {""} if which == "lt" else {"15.0", "-5.0", "50.0"}
    )
    assert outcome.err.count("per_class.csv is not a readable table of classes") == 1
    assert "has no table of its classes" not in outcome.err
    assert "error: 1 result is damaged and left out\nhint: " in outcome.err


def test_the_page_has_them_already(tmp_path: Path, run_cli: RunCli) -> None:
    stage_one(tmp_path / "lt")
    outcome = run_cli("report", tmp_path, "--per-class", "--format", "html")
    assert outcome.code == 2
    assert "--per-class is no part of --format html" in outcome.err


def test_of_a_real_run(retrained_run: Path, run_cli: RunCli) -> None:
    outcome = run_cli("report", retrained_run, "--per-class", "--format", "csv")
    assert outcome.code == 0, outcome.err
    found = records(outcome.out)
    rows = json.loads(run_cli("report", retrained_run, "--format", "json").out)
    assert {row["method"] for row in found} == {"stage_one"} | {row["method"] for row in rows if row["stage"] == 2}
    (first,) = (row for row in rows if row["stage"] == 1)
    own = [float(row["accuracy"]) for row in found if row["method"] == "stage_one"]
    assert sum(own) / len(own) == pytest.approx(first["top1_balanced"], abs=1e-3)
    assert {row["name"] for row in found} == {"red", "green", "blue"}
