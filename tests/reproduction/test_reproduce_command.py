"""`gol-decouple reproduce`: a table's column from images to files, kept, continued, and printed from its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunCli, colour_images

from gol_decouple import sealed_tensors
from gol_decouple.errors import SomeFailed
from gol_decouple.progress import SILENT
from gol_decouple.reproduction import results, running
from gol_decouple.reproduction.plan import METHODS, Wanted, columns_of

TINY = (
    *("--set", "data.kind=npz", "--set", "data.name=tiny", "--set", "stage1.epochs=1", "--set", "stage1.num_workers=0"),
    *("--set", "stage1.precision=float32", "--set", "features.views=2", "--device", "cpu", "--seeds", "2"),
)
COMMAND = ("reproduce", "table4", "--dataset", "cifar100_lt", "--only", "if100", *TINY)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, of which imbalance factor 100 leaves 100, 10 and 1 train images."""
    path = tmp_path_factory.mktemp("images") / "tiny.npz"
    (train, labels), (test, test_labels) = colour_images((100, 12, 3), 0), colour_images((8, 8, 8), 1)
    np.savez(path, train_images=train, train_labels=labels, test_images=test, test_labels=test_labels)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A folder with runs/ and results/ of one column; tests copy it."""
    folder = tmp_path_factory.mktemp("made")
    given = ("--data-root", images, "--runs-dir", folder / "runs", "--out", folder / "results")
    command = [sys.executable, "-m", "gol_decouple", *COMMAND, *given]
    wide = os.environ | {"COLUMNS": "200"}
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=wide).stdout
    (folder / "told.txt").write_text(told)
    return folder


def rows_in(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(path.read_text())
    return found


def test_a_column_has_stage_one_and_every_method_with_its_seeds(made: Path) -> None:
    rows = rows_in(made / "results" / "table4_cifar100_lt_if100.json")
    assert {row["run"] for row in rows} == {"table4_cifar100_lt_if100_seed0"}
    assert {row["method"] for row in rows if row["stage"] == 2} == set(METHODS)
    assert sorted(row["seed"] for row in rows if row["method"] == "gumbel_paper") == [0, 1]
    assert all(row["gain_top1"] is not None for row in rows if row["stage"] == 2)
    record = json.loads((made / "results" / "table4_cifar100_lt_if100_runs.json").read_text())
    (run,) = record["runs"]
    assert run["stage1"]["command"][:3] == ["gol-decouple", "reproduce", "table4"]
    assert run["stage1"]["images"] == {"train": 111, "test": 24}
    assert [line["epoch"] for line in run["stage1"]["log"]] == [1]
    assert sum(one["classifiers"] for one in run["stage2"]) == len(rows) - 1
    assert set(record["gains_over"]) == {"softmax", "crt"}
    assert set(record["gains_over"]["crt"][run["run"]]) == set(METHODS) - {"crt"}


def test_the_model_in_bfloat16_goes_on(run_cli: RunCli, made: Path, images: Path, tmp_path: Path) -> None:
    model = made / "results" / "table4_cifar100_lt_if100_seed0.safetensors"
    whole = made / "runs" / "table4_cifar100_lt_if100_seed0" / "model.safetensors"
    halved, tensors = sealed_tensors.load(model).tensors, sealed_tensors.load(whole).tensors
    assert halved.keys() == tensors.keys()
    for name, tensor in tensors.items():
        wanted = tensor.bfloat16() if tensor.is_floating_point() else tensor
        assert torch.equal(halved[name], wanted)
    given = ("--checkpoint", model, "--data-root", images, "--runs-dir", tmp_path, "--name", "again")
    outcome = run_cli("stage1", "cifar100_lt", *TINY[:4], *given, "--set", "stage1.num_workers=0", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert "loaded" in outcome.err


def test_other_class_sizes_have_no_figures_of_the_papers_beside_them(made: Path) -> None:
    told = (made / "told.txt").read_text()
    first = told.split("where the gain comes from")[0]
    assert "42.4" not in first
    assert "50.3" not in first
    said = " ".join(told.split())
    assert "its figures say nothing of these" in said
    assert "stage one: 1 model, 1 epoch, where the paper's has 240; stage two: 2 seeds on each" in said
    differs = "features.views: 10 -> 2, stage1.precision: auto -> float32"
    assert f"other than in the config of cifar100_lt: {differs} " in said


def test_what_is_finished_is_kept_and_printed_again(run_cli: RunCli, made: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "made")
    given = ("--data-root", images, "--runs-dir", tmp_path / "made" / "runs")
    outcome = run_cli(*COMMAND, *given)
    assert outcome.code == 0, outcome.err
    assert outcome.out == (made / "told.txt").read_text()
    assert "epoch 1/1" not in outcome.err


def test_more_seeds_are_added_and_what_else_is_in_a_run_left_out(
    run_cli: RunCli, made: Path, images: Path, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(made / "runs", tmp_path / "runs"))
    run = runs / "table4_cifar100_lt_if100_seed0"
    assert run_cli("stage2", run, "--method", "gumbel", "--set", "stage2.lr=0.001", "--runs-dir", runs).code == 0
    given = ("--data-root", images, "--runs-dir", runs, "--out", tmp_path / "results", "--stage1-seeds", 2)
    outcome = run_cli(*COMMAND, *given)
    assert outcome.code == 0, outcome.err
    rows = rows_in(tmp_path / "results" / "table4_cifar100_lt_if100.json")
    assert sum(row["stage"] == 1 for row in rows) == 2
    assert sum(row["method"] == "gumbel" for row in rows) == 4
    assert "stage one: 2 models, 1 epoch," in " ".join(outcome.out.split())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_models_whose_runs_are_elsewhere_stay_in_the_files(
    run_cli: RunCli, made: Path, images: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(made / "results", tmp_path / "results"))
    before, known = contents(out), rows_in(out / "table4_cifar100_lt_if100.json")
    moved = shutil.copy(images, tmp_path / "moved.npz")
    given = ("--data-root", moved, "--runs-dir", tmp_path / "runs", "--out", out)
    outcome = run_cli(*COMMAND, *given)
    assert outcome.code == 0, outcome.err
    assert f"table4_cifar100_lt_if100_seed0: its results in {out} stay, it is not trained here" in outcome.err
    assert outcome.out == (made / "told.txt").read_text()
    assert contents(out) == before
    assert not list(tmp_path.glob("runs/*"))
    outcome = run_cli(*COMMAND, *given, "--stage1-seeds", 2)
    assert outcome.code == 0, outcome.err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["table4_cifar100_lt_if100_seed1"]
    rows = rows_in(out / "table4_cifar100_lt_if100.json")
    assert rows[: len(known)] == known
    assert {row["run"] for row in rows[len(known) :]} == {"table4_cifar100_lt_if100_seed1"}
    assert "stage one: 2 models, 1 epoch," in " ".join(outcome.out.split())
    after = contents(out)
    assert after["table4_cifar100_lt_if100_seed0.safetensors"] == before["table4_cifar100_lt_if100_seed0.safetensors"]
    assert "table4_cifar100_lt_if100_seed1.safetensors" in after
    record = json.loads(after["table4_cifar100_lt_if100_runs.json"])
    assert [run["seed"] for run in record["runs"]] == [0, 1]
    assert [len(of_runs) for of_runs in record["gains_over"].values()] == [2, 2]
    printed = run_cli("reproduce", "table4", "--dataset", "cifar100_lt", "--from", out)
    assert printed.out == outcome.out, "the files say the same"
    # Killed after it wrote one of the two files: what is here is told by the other, but not the model elsewhere.
    (out / "table4_cifar100_lt_if100.json").write_bytes(before["table4_cifar100_lt_if100.json"])
    assert run_cli(*COMMAND, *given, "--stage1-seeds", 2).code == 0
    assert contents(out) == after


def test_results_of_another_config_are_not_replaced(run_cli: RunCli, made: Path, images: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(made / "results", tmp_path / "results"))
    given = ("--data-root", images, "--runs-dir", tmp_path / "runs", "--out", out)
    outcome = run_cli(*COMMAND, *given, "--set", "stage1.lr=0.2")
    assert outcome.code == 2
    told = "has results of table4_cifar100_lt_if100_seed0 of another config: stage1.lr: 0.1 -> 0.2"
    assert told in " ".join(outcome.err.split())
    assert "hint: choose another --out" in outcome.err
    assert contents(out) == contents(made / "results")
    assert not (tmp_path / "runs").exists()


def test_results_of_a_config_of_another_version_are_not_replaced(
    run_cli: RunCli, made: Path, images: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(made / "results", tmp_path / "results"))
    record = out / "table4_cifar100_lt_if100_runs.json"
    told = json.loads(record.read_text())
    told["runs"][0]["stage1"]["config"]["stage1"]["later"] = 1
    record.write_text(json.dumps(told))
    outcome = run_cli(*COMMAND, "--data-root", images, "--runs-dir", tmp_path / "runs", "--out", out)
    assert outcome.code == 2
    assert "of another config: stage1.later: " in " ".join(outcome.err.split())
    assert not (tmp_path / "runs").exists()


def test_models_of_other_images_are_not_put_together(run_cli: RunCli, made: Path, images: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(made / "results", tmp_path / "results"))
    arrays = dict(np.load(images))
    np.savez(tmp_path / "others.npz", **arrays | {"train_images": arrays["train_images"] // 2})
    given = ("--data-root", tmp_path / "others.npz", "--runs-dir", tmp_path / "runs", "--stage1-seeds", 2)
    outcome = run_cli(*COMMAND, *given, "--out", out)
    assert outcome.code == 2
    told = "has results of table4_cifar100_lt_if100_seed0, which is of other images"
    assert told in " ".join(outcome.err.split())
    assert not (tmp_path / "runs").exists(), "before anything is trained"
    # One that was trained already, as by stage1, is seen too.
    config = ("--set", "data.imbalance_factor=100", "--seed", 1, "--name", "table4_cifar100_lt_if100_seed1")
    assert run_cli("stage1", "cifar100_lt", *TINY[:-2], *config, *given[:4]).code == 0
    outcome = run_cli(*COMMAND, *given, "--out", out)
    assert outcome.code == 2
    told = "table4_cifar100_lt_if100_seed0 and table4_cifar100_lt_if100_seed1 are not of the same images"
    assert told in " ".join(outcome.err.split())
    assert contents(out) == contents(made / "results")


def rows_but_paths(folder: Path) -> list[dict[str, object]]:
    return [row | {"path": ""} for row in rows_in(folder / "table4_cifar100_lt_if100.json")]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, made: Path, images: Path) -> Path:
    """The same of two models."""
    folder = tmp_path_factory.mktemp("two") / "made"
    shutil.copytree(made, folder)
    given = ("--data-root", images, "--runs-dir", folder / "runs", "--out", folder / "results", "--stage1-seeds", "2")
    subprocess.run([sys.executable, "-m", "gol_decouple", *COMMAND, *given], check=True, capture_output=True)
    return folder


def test_models_that_are_not_asked_for_stay_in_the_files(
    run_cli: RunCli, two: Path, images: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(two / "results", tmp_path / "results"))
    outcome = run_cli(*COMMAND, "--data-root", images, "--runs-dir", two / "runs", "--out", out)
    assert outcome.code == 0, outcome.err
    assert "stage one: 2 models, 1 epoch," in " ".join(outcome.out.split())
    assert contents(out) == contents(two / "results")


def test_fewer_seeds_of_stage_two_do_not_replace_more(
    run_cli: RunCli, made: Path, images: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(made / "results", tmp_path / "results"))
    given = ("--data-root", images, "--runs-dir", made / "runs", "--out", out)
    outcome = run_cli(*COMMAND, *given, "--seeds", 1)
    assert outcome.code == 2
    told = "has results of table4_cifar100_lt_if100_seed0 with seed 1 of stage two, which fewer seeds would replace"
    assert told in " ".join(outcome.err.split())
    assert "hint: --seeds 2, or another --out" in outcome.err
    assert contents(out) == contents(made / "results")


def test_results_stay_in_the_files_where_the_run_here_cannot_be_taken(
    run_cli: RunCli, two: Path, images: Path, tmp_path: Path
) -> None:
    """The run with the name of the first model is another; that of the second goes into the files."""
    wanted = rows_but_paths(two / "results")
    out = Path(shutil.copytree(two / "results", tmp_path / "results"))
    other = ("--set", "data.imbalance_factor=100", "--set", "features.views=1", "--data-root", images)
    for seed in (0, 1):
        runs = tmp_path / f"runs{seed}"
        named = ("--seed", seed, "--name", f"table4_cifar100_lt_if100_seed{seed}", "--runs-dir", runs)
        assert run_cli("stage1", "cifar100_lt", *TINY[:-2], *other, *named).code == 0
        if seed == 0:
            shutil.copytree(two / "runs" / "table4_cifar100_lt_if100_seed1", runs / "table4_cifar100_lt_if100_seed1")
        given = ("--data-root", images, "--runs-dir", runs, "--out", out, "--stage1-seeds", 2)
        outcome = run_cli(*COMMAND, *given)
        assert outcome.code == 2
        told = " ".join(outcome.err.split())
        assert f"seed{seed} is not in the table: it has another config: features.views: 1 -> 2" in told
        assert f"warning: table4_cifar100_lt_if100_seed{seed}: its results in the files stay" in told
        assert "stage one: 2 models, 1 epoch," in " ".join(outcome.out.split())
        assert rows_but_paths(out) == wanted


def test_gains_are_of_the_seeds_that_are_asked_for(run_cli: RunCli, made: Path, images: Path, tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(made / "runs", tmp_path / name / "runs")) for name in ("two", "one")]
    for folder in runs[1].glob("*/stage2/*-seed1-*"):
        shutil.rmtree(folder)
    found = []
    for folder in runs:
        given = ("--data-root", images, "--runs-dir", folder, "--out", folder.parent, "--seeds", 1)
        assert run_cli(*COMMAND, *given).code == 0
        over_crt = json.loads((folder.parent / "table4_cifar100_lt_if100_runs.json").read_text())["gains_over"]["crt"]
        rows = rows_in(folder.parent / "table4_cifar100_lt_if100.json")
        of_rows = {(row["method"], row["seed"]): [row["top1"], row["gain_top1"], row["gain_top1_low"]] for row in rows}
        found.append((of_rows, over_crt))
    assert found[0] == found[1]


def test_a_column_that_cannot_be_made_leaves_the_others(
    run_cli: RunCli, made: Path, images: Path, tmp_path: Path
) -> None:
    """Imbalance factor 50 needs 14 images of the second class, and there are 12."""
    runs = Path(shutil.copytree(made / "runs", tmp_path / "runs"))
    outcome = run_cli(*COMMAND, "--only", "if50", "--data-root", images, "--runs-dir", runs)
    assert outcome.code == 2
    assert "imbalance factor 100, ResNet-32: top-1 (%)" in outcome.out
    assert "warning: CIFAR100-LT, imbalance factor 50, ResNet-32: " in outcome.err
    assert "error: " in outcome.err


def test_all_columns_have_a_model_before_one_has_two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun = []
    monkeypatch.setattr(running, "_run", lambda config, *_: begun.append(config.name))
    wanted = Wanted("table4_cifar100_lt", columns_of("table4", "cifar100_lt", ["if50", "if200"]), stage1_seeds=2)
    assert [column.name for column in running.reproduce(wanted, tmp_path, SILENT)] == ["if50", "if200"] * 2
    assert begun == [f"table4_cifar100_lt_{name}_seed{seed}" for seed in (0, 1) for name in ("if50", "if200")]


def test_a_run_of_another_config_is_refused_with_what_this_command_has(
    run_cli: RunCli, made: Path, images: Path, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(made / "runs", tmp_path / "runs"))
    outcome = run_cli(*COMMAND, "--data-root", images, "--runs-dir", runs, "--set", "stage1.lr=0.2")
    assert outcome.code == 2
    assert "exists with another config: stage1.lr: 0.1 -> 0.2" in outcome.err
    assert f"hint: choose another --runs-dir, or remove {runs / 'table4_cifar100_lt_if100_seed0'}" in outcome.err


def test_a_run_of_another_config_is_not_in_the_table(run_cli: RunCli, made: Path, images: Path, tmp_path: Path) -> None:
    runs = Path(shutil.copytree(made / "runs", tmp_path / "runs"))
    other = ("--set", "stage1.epochs=2", "--set", "data.imbalance_factor=100", "--seed", 1, "--data-root", images)
    named = ("--name", "table4_cifar100_lt_if100_seed1", "--runs-dir", runs)
    assert run_cli("stage1", "cifar100_lt", *TINY[:4], *TINY[6:-2], *other, *named).code == 0
    given = ("--data-root", images, "--runs-dir", runs, "--out", tmp_path / "results", "--stage1-seeds", 2)
    outcome = run_cli(*COMMAND, *given)
    assert outcome.code == 2
    assert "seed1 is not in the table: it has another config: stage1.epochs: 2 -> 1" in outcome.err
    assert "stage one: 1 model, 1 epoch," in " ".join(outcome.out.split())
    assert {row["run"][-1] for row in rows_in(tmp_path / "results" / "table4_cifar100_lt_if100.json")} == {"0"}


def test_a_method_whose_default_was_chosen_on_validation_data_stays_in_the_table(
    run_cli: RunCli, made: Path, images: Path, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(made / "runs", tmp_path / "runs"))
    folder = next(runs.glob("*/stage2/gumbel_paper-seed0-*"))
    (folder / "choice.json").write_text(
        json.dumps({"held_out": "val", "criterion": "top1_balanced", "tried": [{"settings": {}, "value": 40.0}]})
    )
    outcome = run_cli(*COMMAND, "--data-root", images, "--runs-dir", runs)
    assert outcome.code == 0, outcome.err
    assert "gumbel, paper's setting  " in outcome.out


def test_a_damaged_result_of_a_column_leaves_the_others(
    run_cli: RunCli, made: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Path(shutil.copytree(made / "runs", tmp_path / "runs"))
    next(runs.glob("*/stage2/crt-seed0-*/predictions.npz")).write_bytes(b"PK")
    collected = []
    collect = results.collect_results
    monkeypatch.setattr(results, "collect_results", lambda *given: collected.append(given[1].name) or collect(*given))
    monkeypatch.setattr(running, "_run", lambda *given: None)
    given = ("--only", "if200", "--data-root", images, "--runs-dir", runs, "--out", tmp_path / "results")
    outcome = run_cli(*COMMAND, *given)
    assert outcome.code == 2
    assert collected == ["if100", "if200"]
    assert "warning: CIFAR100-LT, imbalance factor 100, ResNet-32: " in outcome.err
    assert "predictions.npz" in outcome.err


def test_where_nothing_can_be_written_nothing_is_trained(run_cli: RunCli, images: Path, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    given = ("--data-root", images, "--runs-dir", tmp_path / "runs", "--out", tmp_path / "results")
    outcome = run_cli(*COMMAND, *given)
    assert outcome.code in (2, 3)
    assert str(tmp_path / "results") in outcome.err
    assert not (tmp_path / "runs").exists()


def test_what_changes_nothing_of_files_is_refused_with_them(run_cli: RunCli, made: Path, tmp_path: Path) -> None:
    outcome = run_cli(*COMMAND, "--from", made / "results", "--out", tmp_path)
    assert outcome.code == 2
    assert "--from runs nothing that --out, --set, --device, --seeds could change" in outcome.err


def test_the_files_say_the_same_without_runs(run_cli: RunCli, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "results", tmp_path / "results")
    asked = ("reproduce", "table4", "--dataset", "cifar100_lt", "--from", tmp_path / "results")
    outcome = run_cli(*asked)
    assert outcome.code == 0, outcome.err
    assert outcome.out == (made / "told.txt").read_text()
    assert outcome.err.count("is not there") == 2, "of imbalance factors 50 and 200"
    as_markdown = run_cli(*asked, "--format", "markdown", "--quiet").out
    assert as_markdown.startswith("#### CIFAR100-LT, imbalance factor 100, ResNet-32: top-1 (%)\n\n| method | top-1 |")
    (column,) = json.loads(run_cli(*asked, "--json").out)
    assert len(column["rows"]) == len(rows_in(made / "results" / "table4_cifar100_lt_if100.json"))


def test_what_is_finished_is_printed_where_a_classifier_failed(
    run_cli: RunCli, made: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: object, **named: object) -> None:
        raise SomeFailed("crt (lr 0.1, seed 1) diverged", "--set stage2.lr=0.01")

    runs = Path(shutil.copytree(made / "runs", tmp_path / "runs"))
    shutil.rmtree(next(runs.glob("*/stage2/crt-seed1-*")))
    monkeypatch.setattr(running, "run_stage2", failing)
    outcome = run_cli(*COMMAND, "--data-root", images, "--runs-dir", runs, "--out", tmp_path / "results")
    assert outcome.code == 2
    assert "error: crt (lr 0.1, seed 1) diverged" in outcome.err
    assert "top-1 (%)" in outcome.out
    rows = rows_in(tmp_path / "results" / "table4_cifar100_lt_if100.json")
    assert [row["seed"] for row in rows if row["method"] == "crt"] == [0]
    assert "crt (1 of 2 seeds)" in outcome.out
    assert "gumbel_crt (" not in outcome.out
    assert "tau_norm (" not in outcome.out, "which is not trained, and has one"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--set", "data.imbalance_factor=10"), "the imbalance factor and the backbone are the column's"),
        (("--set", "backbone.name=timm:resnet10t"), "the imbalance factor and the backbone are the column's"),
        (("--set", "stage2.lr=0.1"), "settings of stage two and of methods are the table's"),
        (("--set", "methods.gumbel.lr=0.1"), "settings of stage two and of methods are the table's"),
        (("--set", "stage2.refit=true"), "settings of stage two and of methods are the table's"),
        (("--set", "seed=7"), "--set seed is the table's own"),
        (("--set", "name=mine"), "--set name is the table's own"),
        (("--only", "if10"), "unknown column 'if10'"),
    ],
)
def test_what_is_not_of_the_table_is_refused_before_anything_is_trained(
    run_cli: RunCli, images: Path, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    given = ("--data-root", images, "--runs-dir", tmp_path / "runs")
    outcome = run_cli(*COMMAND, *given, *options)
    assert outcome.code == 2
    assert told in outcome.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("table", "dataset"), [("table5", "cifar100_lt"), ("table4", "lvis")])
def test_tables_and_datasets_that_are_not_there(run_cli: RunCli, table: str, dataset: str) -> None:
    outcome = run_cli("reproduce", table, "--dataset", dataset)
    assert outcome.code == 2
    assert "choose from: " in outcome.err


def test_files_that_are_none_of_a_reproduction(run_cli: RunCli, made: Path, tmp_path: Path) -> None:
    asked = ("reproduce", "table4", "--dataset", "cifar100_lt", "--only", "if100", "--from", tmp_path)
    outcome = run_cli(*asked)
    assert outcome.code == 2
    assert f"no results of this table in {tmp_path}" in outcome.err
    for path in (made / "results").iterdir():
        shutil.copy(path, tmp_path)
    record = tmp_path / "table4_cifar100_lt_if100_runs.json"
    record.write_text(json.dumps({"runs": [{"run": "a"}]}))
    outcome = run_cli(*asked)
    assert outcome.code == 2
    assert f"{record} does not tell what was run: 'stage1' is missing" in outcome.err
    known = json.loads((made / "results" / record.name).read_text())
    gains = known["gains_over"] | {"crt": {"another": {"gumbel": [9.0, 8.0, 10.0]}}}
    for damaged in ({"column": "if50"}, {"gains_over": gains}, {"runs": [known["runs"][0] | {"stage2": []}]}):
        record.write_text(json.dumps(known | damaged))
        outcome = run_cli(*asked)
        assert outcome.code == 2, damaged
        assert "are not of the same runs" in outcome.err
    for name, place in (("seed", known["runs"][0]), ("dataset_sha256", known["runs"][0]["stage1"])):
        value = place.pop(name)
        record.write_text(json.dumps(known))
        outcome = run_cli(*asked)
        assert outcome.code == 2
        assert f"{record} does not tell what was run: '{name}' is missing" in outcome.err
        place[name] = value
    record.write_text(json.dumps(known))
    report = tmp_path / "table4_cifar100_lt_if100.json"
    report.write_text(json.dumps([row for row in rows_in(report) if row["stage"] == 2]))
    outcome = run_cli(*asked)
    assert outcome.code == 2
    assert f"{report} and {record} are not of the same runs, each with its stage one" in outcome.err
