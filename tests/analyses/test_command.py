"""`gol-decouple analyze`: files, tables, defaults, and what a user gets wrong."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import roi_files
from conftest import RunCli
from PIL import Image
from safetensors.numpy import load_file

from gol_decouple import features
from gol_decouple.analyses.command import WHAT
from gol_decouple.analyses.outputs import Outputs
from gol_decouple.cli.analyze import What
from gol_decouple.targets import find_target

FAST = ("--set", "stage2.epochs=2", "--set", "stage2.gradients=true")


@pytest.fixture(scope="module")
def rois(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A features file of RoIs with two retrained classifiers in `runs` beside it; not to be written into."""
    from gol_decouple.settings import Stage2Config
    from gol_decouple.stages.classifier import run_stage2

    folder = tmp_path_factory.mktemp("analyze")
    path = roi_files.write(folder / "rois.h5", num_train=60, num_test=10)
    target, grid = find_target(path, folder / "runs"), [Stage2Config(epochs=2, batch_size=50, gradients=True)]
    run_stage2(target, ["softmax", "gumbel"], [0], grid, "cpu", annotations=folder / "val.json")
    return path


def arguments_of(rois: Path, out: Path) -> tuple[object, ...]:
    return ("analyze", rois, "--runs-dir", rois.parent / "runs", "--annotations", rois.parent / "val.json", "-o", out)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def listed(out: str) -> list[Path]:
    return [Path(line.strip()) for line in out.split("written:\n")[1].splitlines()]


def test_everything_a_run_of_rois_has(run_cli: RunCli, rois: Path, tmp_path: Path) -> None:
    done = run_cli(*arguments_of(rois, tmp_path / "out"), "--grid", 4)
    assert done.code == 0, done.err
    names = [path.name for path in listed(done.out)]
    assert names == [
        *("objects.csv", "objects_kl.csv", "objects_kl_by_category.csv", "objects.json"),
        *("objects_0_cat.png", "objects_1_dog.png", "objects_2_fox.png", "objects_kl.png"),
        *("norms.csv", "norms.png", "curves.csv", "curves.png", "gradients.csv", "gradients.png"),
    ]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "out").iterdir())
    for path in listed(done.out):
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert "rois: KL divergence of P(y, u)" in done.out
    assert "rois: weight norms" in done.out
    assert "rois: positive over negative gradient" in done.out

    cells = rows_of(tmp_path / "out" / "objects.csv")
    assert len(cells) == 4 * 3 * 16
    assert list(cells[0]) == ["method", "category", "row", "column", "objects", "p_obj", "p_y_given_obj", "p_y"]
    for method in ("ground_truth", "stage_one", "softmax-batch_size50-epochs2", "gumbel-batch_size50-epochs2"):
        own = [row for row in cells if row["method"] == method]
        assert sum(float(row["p_y"]) for row in own) == pytest.approx(1.0, abs=1e-4)
        assert sum(float(row["p_obj"]) for row in own) == pytest.approx(3.0, abs=1e-4)  # told with each category
        for row in own:
            if row["p_y_given_obj"]:
                assert float(row["p_y_given_obj"]) * float(row["p_obj"]) == pytest.approx(float(row["p_y"]), abs=1e-5)
    told = json.loads((tmp_path / "out" / "objects.json").read_text())
    assert (told["annotations"], told["images"], told["grid"], told["unit"]) == ("val.json", 10, 4, "nats")
    assert told["settings"]["max_detections"] == 300
    groups = rows_of(tmp_path / "out" / "objects_kl.csv")
    assert [row["group"] for row in groups[:4]] == ["all", "frequent", "common", "rare"]
    assert float(groups[0]["kl_joint"]) == pytest.approx(told["kl"]["stage_one"]["joint"]["all"], rel=1e-5)
    each = rows_of(tmp_path / "out" / "objects_kl_by_category.csv")
    assert [(row["class"], row["category_id"], row["name"]) for row in each[:3]] == [
        *(("0", "1", "cat"), ("1", "2", "dog"), ("2", "3", "fox")),
    ]


def test_the_tables_fit_eighty_columns(
    run_cli: RunCli, rois: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(Outputs, "png", lambda *_: None)
    done = run_cli(*arguments_of(rois, tmp_path / "out"))
    tables = done.out.split("written:")[0].splitlines()
    assert max(map(len, tables)) <= 80
    assert not any("…" in line for line in tables)


def test_norms_are_those_of_the_weights(run_cli: RunCli, rois: Path, tmp_path: Path) -> None:
    done = run_cli(*arguments_of(rois, tmp_path / "out"), "--what", "norms")
    assert done.code == 0, done.err
    assert [path.name for path in listed(done.out)] == ["norms.csv", "norms.png"]
    (folder,) = (rois.parent / "runs" / "rois" / "stage2").glob("gumbel-*")
    weight = load_file(folder / "classifier.safetensors")["weight"].astype(np.float64)
    own = [row for row in rows_of(tmp_path / "out" / "norms.csv") if row["method"].startswith("gumbel")]
    assert [(row["class"], row["name"], row["count"], row["group"]) for row in own] == [
        *(("0", "cat", "150", "frequent"), ("1", "dog", "40", "common"), ("2", "fox", "8", "rare")),
    ]
    np.testing.assert_allclose([float(row["norm"]) for row in own], np.sqrt((weight**2).sum(1)), rtol=1e-5)


def test_gradients_are_summed_over_epochs(run_cli: RunCli, rois: Path, tmp_path: Path) -> None:
    done = run_cli(*arguments_of(rois, tmp_path / "out"), "--what", "gradients", "--method", "gumbel")
    assert done.code == 0, done.err
    (folder,) = (rois.parent / "runs" / "rois" / "stage2").glob("gumbel-*")
    epochs = rows_of(folder / "gradients.csv")
    assert len(epochs) == 2 * 3
    for row in rows_of(tmp_path / "out" / "gradients.csv"):
        own = [epoch for epoch in epochs if epoch["class"] == row["class"]]
        sums = {name: sum(float(epoch[name]) for epoch in own) for name in ("positive", "negative", "background")}
        for name, value in sums.items():
            assert float(row[name]) == pytest.approx(value, rel=1e-5)
        ratio = sums["positive"] / (sums["negative"] + sums["background"])
        assert float(row["ratio"]) == pytest.approx(ratio, rel=1e-5)


def test_the_same_files_every_time(run_cli: RunCli, rois: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        some = ("--what", "objects", "--category", "fox", "--what", "gradients")
        assert run_cli(*arguments_of(rois, tmp_path / name), *some).code == 0
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "objects_2_fox.png" in files
    assert "objects_0_cat.png" not in files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_run_of_images_beside_its_classifiers(run_cli: RunCli, finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "colours"))
    assert run_cli("stage2", run, "--activation", "sigmoid", "--seeds", 2, *FAST).code == 0
    done = run_cli("analyze", run)
    assert done.code == 0, done.err
    assert "no objects: colours has no RoIs: its features are of images" in done.err
    assert {path.parent for path in listed(done.out)} == {run / "analyses"}
    assert "means over seeds" in done.out
    rows = rows_of(run / "analyses" / "gradients.csv")
    assert {row["method"] for row in rows} == {"sigmoid-epochs2-seed0", "sigmoid-epochs2-seed1"}
    assert {row["background"] for row in rows} == {""}
    assert run_cli("report", run).code == 0  # is not disturbed
    assert run_cli("stage2", run, "--activation", "sigmoid", *FAST).err.count("kept as it is") == 1


def test_several_runs_have_folders_of_their_own(
    run_cli: RunCli, finished_run: Path, rois: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(finished_run, tmp_path / "other"))
    out = tmp_path / "out"
    done = run_cli("analyze", finished_run, other, "--what", "norms", "-o", out)
    assert done.code == 0, done.err
    assert listed(done.out)[0] == out / finished_run.name / "norms.csv"
    assert listed(done.out)[-1] == out / "other" / "norms.png"
    again = Path(shutil.copytree(finished_run, tmp_path / "more" / "other"))
    refused = run_cli("analyze", other, again, "--what", "norms", "-o", out)
    assert refused.code == 2
    assert "error: several of the runs have one name: other, other" in refused.err


def test_curves_need_no_run(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("analyze", "--what", "curves", "--out", tmp_path / "curves")
    assert done.code == 0, done.err
    rows = rows_of(tmp_path / "curves" / "curves.csv")
    assert len(rows) == 4 * 241
    assert list(rows[0]) == ["activation", "q", "eta", "gradient_positive", "gradient_negative"]
    at_zero = next(row for row in rows if row["activation"] == "gumbel" and float(row["q"]) == 0.0)
    assert float(at_zero["eta"]) == pytest.approx(np.exp(-1), rel=1e-5)
    for arguments, told in (
        ((), "there is no run to analyse"),
        (("--what", "norms", "-o", tmp_path), "there is no run to analyse"),
        (("--what", "curves"), "there is no run to write the curves into"),
    ):
        refused = run_cli("analyze", *arguments)
        assert refused.code == 2
        assert f"error: {told}" in refused.err


def test_what_a_run_does_not_have_is_an_error_where_it_is_asked_for(
    run_cli: RunCli, finished_run: Path, rois: Path, tmp_path: Path
) -> None:
    runs = rois.parent / "runs"
    cases = (
        ((finished_run, "--what", "objects"), "has no RoIs: its features are of images", "--what norms"),
        ((finished_run, "--what", "gradients"), "no classifier of", "--set stage2.gradients=true --overwrite"),
        ((rois, "--runs-dir", runs, "--what", "objects"), "belongs to no run that would say", "--annotations"),
        ((*arguments_of(rois, tmp_path / "a")[1:], "--category", "foz"), "unknown category 'foz'", "did you mean fox?"),
        ((finished_run, "--method", "gumbl"), "unknown classifier of", "choose from: stage_one"),
        ((tmp_path / "none", "--runs-dir", tmp_path), "is neither a run folder nor a features file", "stage1 CONFIG"),
        ((rois, "--runs-dir", runs, "--what", "norms", "-o", rois), "is not a folder", "name a folder"),
        ((finished_run, "--what", "norms", "-o", finished_run), "is a run", "name a folder outside of it"),
    )
    for arguments, told, hint in cases:
        done = run_cli("analyze", *arguments)
        assert done.code == 2, arguments
        assert told in done.err.split("hint:")[0]
        assert hint in done.err.split("hint:")[1]
    assert not (tmp_path / "a").exists()
    assert not (finished_run / "analyses").exists()
    left = run_cli("analyze", rois, "--runs-dir", runs, "-o", tmp_path / "left")
    assert left.code == 0, left.err
    assert "no objects: " in left.err


def test_a_run_that_is_not_finished(run_cli: RunCli, finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "colours"))
    (run / "manifest.json").unlink()
    done = run_cli("analyze", run)
    assert done.code == 2
    assert f"error: stage one of {run} is not finished" in done.err


def test_names_of_any_script_and_formulas(run_cli: RunCli, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    arguments = roi_files.arguments(roi_files.make(20), roi_files.make(6, 1, 1000))
    names = ["a$b$^/c", "猫", "x" * 100]
    path = features.write(tmp_path / "rois.h5", **(arguments | {"class_names": names}))
    roi_files.annotate(tmp_path / "val.json", roi_files.make(6, 1, 1000))
    tree = json.loads((tmp_path / "val.json").read_text())
    for row, name in zip(tree["categories"], names, strict=True):
        row["name"] = name
    (tmp_path / "val.json").write_text(json.dumps(tree))
    done = run_cli(*arguments_of(path, tmp_path / "out"), "--what", "objects", "--grid", 2)
    assert done.code == 0, done.err
    assert [path.name for path in listed(done.out)][4:7] == [
        *("objects_0_a_b_c.png", "objects_1_猫.png", f"objects_2_{'x' * 60}.png"),
    ]
    assert not recwarn.list


def test_the_choices_are_the_analyses() -> None:
    assert [one.value for one in What] == [*WHAT, "all"]


def test_help_waits_for_neither_torch_nor_matplotlib() -> None:
    program = (
        "import sys\nfrom gol_decouple.cli import main\nsys.argv = ['gol-decouple', 'analyze', '--help']\n"
        "main()\nassert not {'torch', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
