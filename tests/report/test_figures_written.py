"""Every figure is drawn and written, and what cannot be drawn is told."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunCli
from figure_runs import NAMES, base, fill, method, study
from rich.console import Console
from test_report import collect

from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT, Progress
from gol_decouple.report.figures.files import save, to_svg
from gol_decouple.report.figures.objects import distributions, divergences
from gol_decouple.report.figures.studies import studies
from gol_decouple.report.figures.write import figures, write_figures

ALL = ["by_class", "trade_off", "confusion", "reliability", "weight_norms", "training", "activations"]
HOSTILE = [
    "<script>alert(1)</script>",
    "$\\frac{1}{0$",
    "a_b & %s {}",
    "\x1b[31m\x00red",
    "日本語 🙂 \u202e",
    "x" * 500,
]
SVG = "{http://www.w3.org/2000/svg}"


def told(draw: Callable[[Progress], Any]) -> str:
    console = Console(file=io.StringIO(), width=10_000)
    draw(Progress(console))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_every_figure_is_written_in_three_formats_with_its_numbers_and_the_same_twice(tmp_path: Path) -> None:
    found = collect(study(tmp_path / "runs"))
    first = write_figures(found, tmp_path / "one", SILENT)
    second = write_figures(found, tmp_path / "two", SILENT)
    assert [path.name for path in first] == [f"{name}.{kind}" for name in ALL for kind in ("png", "svg", "pdf", "csv")]
    for path, again in zip(first, second, strict=True):
        assert path.read_bytes() == again.read_bytes(), path.name
    heads = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF-"}
    assert all(path.read_bytes().startswith(heads.get(path.suffix, b"")) for path in first)
    (many, *_) = [row for row in rows_of(tmp_path / "one" / "confusion.csv") if row["method"] == "stage one"]
    assert (many["of"], many["taken_for"]) == ("many", "many")
    assert {row["activation"] for row in rows_of(tmp_path / "one" / "activations.csv")} == {"softmax", "gumbel"}
    training = rows_of(tmp_path / "one" / "training.csv")
    assert training[0] == {"method": "stage one", "epoch": "1", "lr": "0.1", "train_loss": "2", "accuracy": ""}


def test_the_command_draws_them(tmp_path: Path, run_cli: RunCli) -> None:
    study(tmp_path / "runs")
    outcome = run_cli("report", tmp_path / "runs", "--figures", tmp_path / "figures")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "figures" / "by_class.pdf").is_file()
    assert f"28 files of figures are in {tmp_path / 'figures'}" in outcome.err
    refused = run_cli("report", tmp_path / "runs", "--figures", tmp_path / "runs" / "lt")
    assert refused.code == 2
    assert "is a run" in refused.err


def test_inline_svg_of_several_figures_fits_one_page(tmp_path: Path) -> None:
    drawn = figures(collect(study(tmp_path, run='x"><script>')), SILENT)
    ids: list[str] = []
    for one in drawn:
        text = to_svg(one)
        root = ET.fromstring(text)
        assert root.tag == f"{SVG}svg"
        assert root.get("viewBox")
        assert root.get("width") is None
        assert root.get("aria-label") == one.alt
        assert not {f"{SVG}metadata", f"{SVG}style"} & {element.tag for element in root.iter()}
        own = re.findall(r' id="([^"]*)"', text)
        used = re.findall(r'(?:href="|url\()#([^")]*)', text)
        assert set(used) == set(own)
        ids += own
    assert len(ids) == len(set(ids)) > 10


def test_names_of_any_kind_are_drawn_as_they_are(tmp_path: Path) -> None:
    base(tmp_path)
    for name in HOSTILE:
        fill(method(tmp_path, "gumbel"), names=[name, *NAMES[1:]])
    found = collect(tmp_path)
    for row, name in zip([row for row in found if row["stage"] == 2], HOSTILE, strict=True):
        row["method"] = name
    for row in found:
        row["run"] = "".join(HOSTILE)
    drawn = figures(found, SILENT)
    assert [one.name for one in drawn] == ALL
    for one in drawn:
        root = ET.fromstring(to_svg(one))
        texts = "".join(text for element in root.iter(f"{SVG}text") for text in element.itertext())
        if one.name in ("by_class", "trade_off", "confusion", "reliability", "weight_norms", "training"):
            assert "<script>" in texts
            assert "$\\frac{1}{0$" in texts
            assert "\\x1b[31m" in texts
            assert "日本語" in texts
            assert "x" * 61 not in texts
        save(one.figure, tmp_path / f"{one.name}.png")


def test_runs_of_older_versions_have_the_other_figures(tmp_path: Path) -> None:
    for folder in (base(tmp_path), method(tmp_path, "gumbel")):
        fill(folder, norms=False)
        (folder / "log.csv").unlink()
        with np.load(folder / "predictions.npz") as arrays:
            kept = {name: arrays[name] for name in ("id", "label", "classes")}
        np.savez(folder / "predictions.npz", **kept)
    drawn: list[Any] = []
    said = told(lambda progress: drawn.extend(figures(collect(tmp_path), progress)))
    assert [one.name for one in drawn] == ["by_class", "trade_off", "confusion", "activations"]
    assert "no table of classes has weight_norm" in said
    assert "no log.csv of stage one, gumbel" in said
    assert said.count("--overwrite") == 2


def test_predictions_may_be_gone(tmp_path: Path) -> None:
    for folder in (base(tmp_path), method(tmp_path, "gumbel")):
        for name in ("predictions.npz", "per_class.csv", "log.csv"):
            (folder / name).unlink()
    assert [one.name for one in figures(collect(tmp_path), SILENT)] == ["trade_off", "activations"]


DAMAGES: dict[str, bytes] = {
    "per_class.csv": b"class,name\n1,\xff",
    "predictions.npz": b"no predictions",
    "log.csv": b"epoch,lr,train_loss\n7,x,1\n",
}


@pytest.mark.parametrize("name", list(DAMAGES))
def test_damaged_files_are_told_once_and_leave_the_others(tmp_path: Path, name: str) -> None:
    base(tmp_path)
    damaged = method(tmp_path, "gumbel") / name
    found = collect(tmp_path)
    damaged.write_bytes(DAMAGES[name])
    drawn: list[Any] = []
    said = told(lambda progress: drawn.extend(figures(found, progress)))
    assert [one.name for one in drawn] == ALL
    assert said.count(str(damaged)) == 1
    assert "warning: left out of figures: " in said


def test_classes_out_of_range_are_damage(tmp_path: Path) -> None:
    base(tmp_path)
    path = method(tmp_path, "gumbel") / "predictions.npz"
    np.savez(path, id=[0], label=[0], classes=[[99, 1]], scores=np.array([[0.5, 0.1]]))
    said = told(lambda progress: figures(collect(tmp_path), progress))
    assert "its classes are not of 6 classes" in said


def test_one_frequency_for_all_classes_is_no_failure(tmp_path: Path) -> None:
    same = {"train_counts": [50] * 6, "metrics": {"num_many": 0, "num_few": 0, "top1_many": None, "top1_few": None}}
    base(tmp_path, **same)
    method(tmp_path, "gumbel", **same)
    drawn = figures(collect(tmp_path), SILENT)
    assert [one.name for one in drawn] == [name for name in ALL if name != "trade_off"]
    assert "–" in next(one.alt for one in drawn if one.name == "weight_norms")


def test_many_classes_and_methods_stay_small(tmp_path: Path) -> None:
    base(tmp_path)
    for place in range(25):
        method(tmp_path, f"m{place}")
    found = collect(tmp_path)
    for one in figures(found, SILENT):
        assert len(to_svg(one)) < 300_000, one.name


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    found = collect(study(tmp_path / "runs"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        write_figures(found, tmp_path / "file", SILENT)


KL = "method,group,categories,kl_obj,kl_joint,kl_mean\n"
CELLS = "method,category,row,column,objects,p_obj,p_y_given_obj,p_y\n"


def detector(root: Path, analyses: dict[str, str]) -> list[Any]:
    """Rows of a detector with what `analyze` wrote."""
    points = dict.fromkeys(("ap", "ap50", "ap75", "ap_r", "ap_c", "ap_f"), 10.0)
    settings = {"score_threshold": 1e-4, "nms_threshold": 0.5, "max_detections": 300}
    numbers = {"num_r": 2, "num_c": 2, "num_f": 2}
    of = {"settings": settings, "annotations": "val.json", "images": 5, **numbers, "boxes": points, "masks": None}
    images = {"image_counts": [200, 120, 50, 20, 5, 2], "detection": of}
    table = "class,category_id,name,frequency,ap,ap_box,weight_norm\n"
    table += "".join(
        f"{label},{label},class {label},{'ffccrr'[label]},,{20 - label},{9 - label}\n" for label in range(6)
    )
    for folder in (base(root, **images), method(root, "gumbel", **images)):
        (folder / "predictions.npz").unlink()
        (folder / "per_class.csv").unlink()
        (folder / "per_class_ap.csv").write_text(table)
    (root / "lt" / "analyses").mkdir()
    for name, text in analyses.items():
        (root / "lt" / "analyses" / name).write_text(text)
    return collect(root)


def test_figures_of_a_detector(tmp_path: Path) -> None:
    kl = KL + "stage_one,all,6,1.0,2.5,3\ngumbel-seed0,all,6,,1.0,\ngumbel-seed1,all,6,,2.0,\n"
    cells = CELLS + "".join(
        f"{name},cat,{place // 2},{place % 2},1,0.25,{'' if place else 0.5},0.125\n"
        for name in ("ground_truth", "gumbel-seed0", "gumbel-seed1")
        for place in range(4)
    )
    drawn = figures(detector(tmp_path, {"objects_kl.csv": kl, "objects.csv": cells}), SILENT)
    names = ["by_class", "trade_off", "weight_norms", "training", "objects_kl", "objects", "activations"]
    assert [one.name for one in drawn] == names
    of = dict(zip(names, drawn, strict=True))
    assert "Smoothed, at 2 and at 200 train images" in of["by_class"].alt
    assert "gumbel 1.500" in of["objects_kl"].alt
    assert "ground_truth 0.12; gumbel 0.12" in of["objects"].alt
    assert "gumbel +1.00" in of["weight_norms"].alt


def test_a_detector_without_analyses_says_how_to_make_them(tmp_path: Path) -> None:
    found = detector(tmp_path, {})
    assert f"gol-decouple analyze {tmp_path / 'lt'} --what objects" in told(lambda progress: figures(found, progress))


@pytest.mark.parametrize(
    "analyses",
    [
        {"objects_kl.csv": "method,group\nx,y\n"},
        {"objects_kl.csv": KL + "a,all,1,1,x,1\n"},
        {"objects_kl.csv": KL},
        {"objects.csv": CELLS + "a,cat,7,1,1,1,1,1\n"},
        {"objects.csv": CELLS + "a,cat,x,1,1,1,1,1\n"},
    ],
)
def test_damaged_analyses_are_told(tmp_path: Path, analyses: dict[str, str]) -> None:
    (of,) = studies(detector(tmp_path, analyses))
    drawn: list[Any] = []
    said = told(lambda progress: drawn.extend([divergences(of, progress), distributions(of, progress)]))
    assert "warning: left out of figures: " in said
    assert next(iter(analyses)) in said
    assert drawn == [None, None]


def test_drawing_needs_no_torch() -> None:
    lines = "import sys, gol_decouple.report.figures.write; assert not {'torch', 'h5py'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", lines], check=True)
