"""Every figure is drawn and written, and what cannot be drawn is told."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunCli
from figure_runs import NAMES, SIZES, base, fill, method, study
from rich.console import Console
from test_report import collect

from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT, Progress
from gol_decouple.report.figures import style, write
from gol_decouple.report.figures.by_class import by_class
from gol_decouple.report.figures.confusion import confusion
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.files import save, to_svg
from gol_decouple.report.figures.labels import place_labels
from gol_decouple.report.figures.objects import distributions, divergences
from gol_decouple.report.figures.reliability import reliability
from gol_decouple.report.figures.studies import SHOWN, studies
from gol_decouple.report.figures.trade_off import trade_off
from gol_decouple.report.figures.training import training
from gol_decouple.report.figures.weight_norms import weight_norms
from gol_decouple.report.figures.write import figures, write_figures

ALL = ["by_class", "trade_off", "confusion", "reliability", "weight_norms", "training", "activations"]
KINDS = ("png", "svg", "pdf")
SOME = ("confusion", "training", "activations")  # in all of these; the others are written in the same way
RUN = 'x"><script>'
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


def of_study(found: list[Any], progress: Progress = SILENT, draws: Sequence[Any] = write._FIGURES) -> list[Drawn]:
    """Figures of the only study of some rows, without that of activations, which is of no run."""
    (of,) = studies(found)
    return [drawn for draw in draws if (drawn := draw(of, progress)) is not None]


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some figures in every format and the others as SVG, of the runs beside it."""
    root = tmp_path_factory.mktemp("figures")
    drawn = figures(collect(study(root / "runs", run=RUN)), SILENT)
    assert [one.name for one in drawn] == ALL
    some = [one for one in drawn if one.name in SOME]
    paths = write_figures(some, root / "figures", SILENT)
    assert [path.name for path in paths] == [f"{one.name}.{kind}" for one in some for kind in (*KINDS, "csv")]
    for one in drawn:
        save(one.figure, root / "figures" / f"{one.name}.svg", one.name)
    return root / "figures"


@pytest.fixture(scope="module")
def again(written: Path) -> list[Drawn]:
    """The same figures, drawn a second time."""
    return figures(collect(written.parent / "runs"), SILENT)


def test_figures_are_written_in_three_formats_with_their_numbers(written: Path) -> None:
    heads = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF-"}
    assert all(path.read_bytes().startswith(heads.get(path.suffix, b"")) for path in written.iterdir())
    (many, *_) = [row for row in rows_of(written / "confusion.csv") if row["method"] == "stage one"]
    assert (many["of"], many["taken_for"]) == ("many", "many")
    assert {row["activation"] for row in rows_of(written / "activations.csv")} == {"softmax", "gumbel"}
    training = rows_of(written / "training.csv")
    assert training[0] == {"method": "stage one", "epoch": "1", "lr": "0.1", "train_loss": "2", "accuracy": ""}


def test_figures_drawn_again_are_the_same_files(written: Path, again: list[Drawn], tmp_path: Path) -> None:
    for one in again:
        for kind in KINDS if one.name in SOME else ("svg",):
            path = tmp_path / f"{one.name}.{kind}"
            save(one.figure, path, one.name)
            assert path.read_bytes() == (written / path.name).read_bytes(), path.name


def few_figures(monkeypatch: pytest.MonkeyPatch, *few: Any) -> None:
    """Only how the report's parts come together is looked at."""
    monkeypatch.setattr(write, "_FIGURES", few)
    monkeypatch.setattr(write, "activation_curves", lambda found: None)


def test_the_command_draws_them(tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    few_figures(monkeypatch, training)
    study(tmp_path / "runs")
    outcome = run_cli("report", tmp_path / "runs", "--figures", tmp_path / "figures")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "figures" / "training.pdf").is_file()
    assert f"4 files of figures are in {tmp_path / 'figures'}" in outcome.err
    refused = run_cli("report", tmp_path / "runs", "--figures", tmp_path / "runs" / "lt")
    assert refused.code == 2
    assert "is a run" in refused.err


def test_for_a_page_and_a_folder_they_are_drawn_and_told_of_once(
    tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_figures(monkeypatch, trade_off, training)
    (study(tmp_path / "runs") / "lt" / "log.csv").unlink()
    drawing = ("--format", "html", "-o", tmp_path / "page.html", "--figures", tmp_path / "figures")
    outcome = run_cli("report", tmp_path / "runs", *drawing)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("no log.csv of stage one") == 1
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(one in page for one in ('data-download="trade_off.svg"', 'data-download="training.svg"'))
    assert (tmp_path / "figures" / "trade_off.svg").is_file()


def test_inline_svg_of_several_figures_fits_one_page(again: list[Drawn]) -> None:
    ids: list[str] = []
    for one in again:
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


def test_the_page_colours_what_is_ink_and_changes_no_name(tmp_path: Path) -> None:
    base(tmp_path)
    name = "a 'fill=\"#000000\"' #000000"
    method(tmp_path, name)
    (of,) = studies(collect(tmp_path))
    one = trade_off(of, SILENT)
    assert one is not None
    root = ET.fromstring(to_svg(replace(one, alt="say \"fill='#000000' #000000\"")))
    assert root.get("aria-label") == "say \"fill='#000000' #000000\""
    assert root.get("fill") == "currentColor"
    assert "#000000" in "".join(text for element in root.iter(f"{SVG}text") for text in element.itertext())
    looks = [element.get(kind, "") for element in root.iter() for kind in ("style", "fill", "stroke")]
    assert not [look for look in looks if "#000000" in look]
    assert [look for look in looks if "stroke: currentColor" in look]


def test_texts_of_any_characters_are_valid_xml(tmp_path: Path) -> None:
    name = "".join(map(chr, [*range(1, 32), 0x7F, 0x85, 0xD800, 0xFFFE, 0xFFFF]))
    base(tmp_path)
    method(tmp_path, "gumbel")
    found = collect(tmp_path)
    for row in found:
        row["method"] = name if row["stage"] == 2 else row["method"]
    one = trade_off(studies(found)[0], SILENT)
    assert one is not None
    root = ET.fromstring(to_svg(replace(one, alt=f"so {name}")))
    assert (root.get("aria-label") or "").startswith("so \\x01\\x02")
    save(one.figure, tmp_path / "one.svg")
    ET.parse(tmp_path / "one.svg")


def test_names_of_any_kind_are_drawn_as_they_are_and_many_methods_stay_small(tmp_path: Path) -> None:
    base(tmp_path)
    for name in HOSTILE:
        fill(method(tmp_path, "gumbel", metrics=SIZES | {"top1_balanced": 99.0}), names=[name, *NAMES[1:]])
    for place in range(20):
        method(tmp_path, f"m{place}")
    found = collect(tmp_path)
    for row, name in zip([row for row in found if row["method"] == "gumbel"], HOSTILE, strict=True):
        row["method"] = name
    for row in found:
        row["run"] = "".join(HOSTILE)
    drawn = of_study(found)
    assert [one.name for one in drawn] == ALL[:-1]
    for one in drawn:
        text = to_svg(one)
        assert len(text) < 300_000, one.name
        root = ET.fromstring(text)
        texts = "".join(text for element in root.iter(f"{SVG}text") for text in element.itertext())
        assert "<script>" in texts
        assert "$\\frac{1}{0$" in texts
        assert "\\x1b[31m" in texts
        assert "日本語" in texts
        assert "x" * 61 not in texts


def test_runs_of_older_versions_have_the_other_figures(tmp_path: Path) -> None:
    root = tmp_path / "my runs"
    for folder in (base(root), method(root, "gumbel")):
        fill(folder, norms=False)
        (folder / "log.csv").unlink()
        with np.load(folder / "predictions.npz") as arrays:
            kept = {name: arrays[name] for name in ("id", "label", "classes")}
        np.savez(folder / "predictions.npz", **kept)
    drawn: list[Any] = []
    said = told(lambda progress: drawn.extend(of_study(collect(root), progress)))
    assert [one.name for one in drawn] == ["by_class", "trade_off", "confusion"]
    assert "no table of classes has weight_norm" in said
    assert "no log.csv of stage one, gumbel" in said
    assert said.count(f"; gol-decouple stage2 '{tmp_path / 'my runs' / 'lt'}' --method NAME --overwrite") == 2


def test_a_damaged_log_is_not_missing_and_no_method_makes_that_of_stage_one(tmp_path: Path) -> None:
    (base(tmp_path) / "log.csv").unlink()
    (method(tmp_path, "gumbel") / "log.csv").write_bytes(DAMAGES["log.csv"])
    (of,) = studies(collect(tmp_path))
    said = told(lambda progress: training(of, progress))
    assert said.splitlines()[-1] == "lt: no log.csv of stage one, so how they were trained is not drawn"
    assert said.count("warning: left out of figures: ") == 1


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
READERS: dict[str, Sequence[Any]] = {
    "per_class.csv": (by_class, weight_norms),
    "predictions.npz": (confusion, reliability),
    "log.csv": (training,),
}


@pytest.mark.parametrize("name", list(DAMAGES))
def test_damaged_files_are_told_once_and_leave_the_others(tmp_path: Path, name: str) -> None:
    base(tmp_path)
    damaged = method(tmp_path, "gumbel") / name
    found = collect(tmp_path)
    damaged.write_bytes(DAMAGES[name])
    drawn: list[Any] = []
    said = told(lambda progress: drawn.extend(of_study(found, progress, READERS[name])))
    assert len(drawn) == len(READERS[name])
    assert said.count(str(damaged)) == 1
    assert "warning: left out of figures: " in said


def test_classes_out_of_range_are_damage(tmp_path: Path) -> None:
    base(tmp_path)
    path = method(tmp_path, "gumbel") / "predictions.npz"
    np.savez(path, id=[0], label=[0], classes=[[99, 1]], scores=np.array([[0.5, 0.1]]))
    (of,) = studies(collect(tmp_path))
    assert "its classes are not of 6 classes" in told(lambda progress: confusion(of, progress))


def test_one_frequency_for_all_classes_is_no_failure(tmp_path: Path) -> None:
    same = {"train_counts": [50] * 6, "metrics": {"num_many": 0, "num_few": 0, "top1_many": None, "top1_few": None}}
    base(tmp_path, **same)
    method(tmp_path, "gumbel", **same)
    drawn = of_study(collect(tmp_path))
    assert [one.name for one in drawn] == [name for name in ALL[:-1] if name != "trade_off"]
    assert "–" in next(one.alt for one in drawn if one.name == "weight_norms")


def test_without_stage_one_nothing_is_said_of_it(tmp_path: Path) -> None:
    base(tmp_path)
    for place in range(SHOWN + 1):
        method(tmp_path, f"m{place}")
    found = collect(tmp_path)
    for rows, has_it in ((found, True), (found[1:], False)):
        (of,) = studies(rows)
        one = by_class(of, SILENT)
        assert one is not None
        assert ("stage one" in one.caption) is has_it
        assert f"the {SHOWN} methods of the best mean accuracy over classes" in one.caption
        assert one.caption.count("above that of stage one") == has_it == len(one.figure.axes) - 1


def test_names_in_a_crowd_have_lines_to_their_points() -> None:
    with style.style():
        figure = style.new_figure(4, 3)
        axes = figure.subplots()
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        style.settled(figure)
        place_labels(figure, axes, [(0.5, 0.5 + 0.01 * place) for place in range(12)], ["a name"] * 12)
    away = [(max(map(abs, text.xyann)), text.arrow_patch is not None) for text in axes.texts]  # type: ignore[attr-defined]
    assert {has_line for distance, has_line in away if distance <= 5.0} == {False}
    assert {has_line for distance, has_line in away if distance > 5.0} == {True}
    assert any(5.0 < distance <= 12.0 for distance, _ in away)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        write_figures([], tmp_path / "file", SILENT)


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
    (of,) = studies(detector(tmp_path / "my runs", {}))
    wanted = f"drawn after gol-decouple analyze '{tmp_path / 'my runs' / 'lt'}' --what objects"
    assert wanted in told(lambda progress: divergences(of, progress))


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
