"""A finished run found again by its command: kept if its data and checkpoint are what they were; and stage two's
settings, which change no feature.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome, RunCli
from PIL import Image
from safetensors.torch import load_file, save_file

from gol_decouple import runs
from gol_decouple.config import load_config, to_toml
from gol_decouple.features.extract import weights_sha256
from gol_decouple.files import read_json
from gol_decouple.stages.restored import load_model

AGAIN = "hint: choose another --name for a run of what is there now, or replace this one with --overwrite"
Stage1 = Callable[..., Outcome]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != runs.LOCK}


def refused(outcome: Outcome, message: str) -> None:
    assert outcome.code == 2
    assert outcome.out == ""
    error, hint = outcome.err.splitlines()[-2:]
    assert message in error
    assert hint == AGAIN


# Images in folders


@pytest.fixture
def root(tmp_path: Path, photos: Path) -> Path:
    for split in ("train", "test"):
        shutil.copytree(photos, tmp_path / "images" / split)
    return tmp_path / "images"


@pytest.fixture
def of_folder(root: Path, tmp_path: Path, small_config: Path, run_cli: RunCli) -> Stage1:
    """Stage one of the images, and a run of it that is finished: nothing is trained."""

    def stage1(*arguments: object) -> Outcome:
        given = ["data.kind=folder", "data.val_fraction=0", "stage1.epochs=0", "stage1.milestones=[]"]
        settings = [part for setting in given for part in ("--set", setting)]
        where = ("--data-root", root, "--runs-dir", tmp_path / "runs", "--name", "run", "--device", "cpu")
        return run_cli("stage1", small_config, *settings, *where, *arguments)

    assert stage1().code == 0
    return stage1


def first(root: Path) -> Path:
    return sorted((root / "train" / "red").iterdir())[0]


def rename(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "red").rename(root / split / "crimson")


def reorder(root: Path) -> None:
    """The same names, but what was red is blue."""
    for split in ("train", "test"):
        (root / split / "red").rename(root / split / "old")
        (root / split / "blue").rename(root / split / "red")
        (root / split / "old").rename(root / split / "blue")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda root: shutil.copy(first(root), first(root).with_name("new.png")), "images.train: 30 -> 31"),
        (lambda root: first(root).unlink(), "images.train: 30 -> 29"),
        (lambda root: Image.new("RGB", (16, 16)).save(first(root)), "dataset.sha256: "),
        (rename, "class names: class 1 'green' -> 'crimson'"),
        (reorder, "dataset.sha256: "),
    ],
    ids=["added", "removed", "replaced", "renamed", "reordered"],
)
def test_changed_images_are_refused_by_what_changed(
    of_folder: Stage1, root: Path, tmp_path: Path, change: Callable[[Path], object], field: str
) -> None:
    change(root)
    before = content(tmp_path)
    outcome = of_folder()
    refused(outcome, f"error: the data of {tmp_path}/runs/run have changed since it was made: ")
    assert field in outcome.err
    assert content(tmp_path) == before


def test_images_that_are_as_they_were_keep_the_run(of_folder: Stage1, root: Path, tmp_path: Path) -> None:
    before = content(tmp_path)
    outcome = of_folder()
    assert outcome.code == 0
    run = tmp_path / "runs" / "run"
    assert f"looking whether the data of {run} are what they were\n{run} is finished and kept" in outcome.err
    assert content(tmp_path) == before


@pytest.mark.parametrize("gone", ["", "train/red/0.png"], ids=["all", "pixels alone"])
def test_images_are_not_opened_to_look(of_folder: Stage1, root: Path, gone: str) -> None:
    """Where they are gone the run is kept, with a note; their pixels are not looked at."""
    if not gone:
        root.rename(root.with_name("elsewhere"))
        outcome = of_folder()
        assert f"note: {root} is not there, so nobody can see whether" in outcome.err
    else:
        length = (root / gone).stat().st_size
        (root / gone).write_bytes(b"\0" * length)
        outcome = of_folder()
    assert outcome.code == 0
    assert "is finished and kept as it is" in outcome.err


def test_overwrite_takes_what_is_there_now(of_folder: Stage1, root: Path, tmp_path: Path) -> None:
    first(root).unlink()
    assert of_folder("--overwrite").code == 0
    assert read_json(tmp_path / "runs" / "run" / runs.MANIFEST)["features"]["images"]["train"] == 29


# Lists


def test_lists_that_were_edited_are_refused(root: Path, tmp_path: Path, small_config: Path, run_cli: RunCli) -> None:
    names = ["red", "green", "blue"]
    for split in ("train", "test"):
        files = [(path.relative_to(root), names.index(path.parent.name)) for path in (root / split).rglob("*.png")]
        (root / f"{split}.txt").write_text("".join(f"{path} {label}\n" for path, label in sorted(files)))
    (root / "names.txt").write_text("\n".join(names))
    settings = ["kind=list", "lists.train=train.txt", "lists.test=test.txt", "class_names=names.txt", "val_fraction=0"]
    given = [part for setting in settings for part in ("--set", f"data.{setting}")]
    given += ["--set", "stage1.epochs=0", "--data-root", root, "--runs-dir", tmp_path / "runs", "--device", "cpu"]
    assert run_cli("stage1", small_config, *given).code == 0
    lines = (root / "train.txt").read_text().splitlines()

    (root / "names.txt").write_text("\n".join(["green", "red", "blue"]))
    refused(run_cli("stage1", small_config, *given), "class order: class 0 'red' -> 'green', and 1 more")
    (root / "names.txt").write_text("\n".join(names))

    (root / "train.txt").write_text("\n".join(lines[1:]))
    refused(run_cli("stage1", small_config, *given), "images.train: 30 -> 29")
    (root / "train.txt").write_text("\n".join(reversed(lines)))
    refused(run_cli("stage1", small_config, *given), "dataset.sha256: ")
    (root / "train.txt").write_text("\n".join(lines))

    (root / "train/red/0.png").rename(tmp_path / "0.png")
    refused(run_cli("stage1", small_config, *given), "dataset.missing_files: 0 -> 1")
    for split in ("train", "test"):
        shutil.rmtree(root / split)
    gone = run_cli("stage1", small_config, *given)
    assert gone.code == 0
    assert "note: the image files of" in gone.err

    (root / "test.txt").unlink()
    gone = run_cli("stage1", small_config, *given)
    assert gone.code == 0
    assert f"note: {root}/test.txt is not there" in gone.err


# A file of arrays


def test_arrays_that_were_edited_are_refused(
    finished_run: Path, images_npz: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "runs" / finished_run.name))
    path = Path(shutil.copy(images_npz, tmp_path / "colours.npz"))
    config = load_config(str(run / runs.CONFIG), [f"data.path={path}"])
    (run / runs.CONFIG).write_text(to_toml(config))
    command = ("stage1", run / runs.CONFIG, "--runs-dir", run.parent)
    assert run_cli(*command).code == 0
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {"class_names": np.array(["red", "blue", "green"])})
    before = content(tmp_path)
    refused(run_cli(*command), "class order: class 1 'green' -> 'blue', and 1 more")
    assert content(tmp_path) == before
    path.unlink()
    gone = run_cli(*command)
    assert gone.code == 0
    assert f"note: {path} is not there" in gone.err


# The checkpoint


def test_another_checkpoint_of_the_same_name_is_refused(
    finished_run: Path, small_config: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    path = Path(shutil.copy(finished_run / runs.MODEL, tmp_path / "my.safetensors"))
    command = ("stage1", small_config, "--checkpoint", path, "--runs-dir", tmp_path / "runs", "--device", "cpu")
    assert run_cli(*command).code == 0
    run = tmp_path / "runs" / small_config.stem
    assert "is finished and kept as it is" in run_cli(*command).err
    tensors = load_file(path)
    save_file(tensors | {"classifier.bias": tensors["classifier.bias"] + 1}, path)
    told = f"{path} is another checkpoint than {run} has loaded: sha256: "
    before = content(tmp_path)
    refused(run_cli(*command), told)
    assert content(tmp_path) == before

    (run / runs.MANIFEST).rename(tmp_path / runs.MANIFEST)
    before = content(tmp_path)
    refused(run_cli(*command), told)
    assert content(tmp_path) == before, "nor does an unfinished one go on with it"

    path.rename(tmp_path / "elsewhere")
    (tmp_path / runs.MANIFEST).rename(run / runs.MANIFEST)
    gone = run_cli(*command)
    assert gone.code == 0
    assert f"note: {path} is not there" in gone.err


# Settings of stage two


def test_new_settings_of_stage_two_keep_the_run_and_hold_from_now_on(
    finished_run: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "runs" / finished_run.name))
    config = load_config(str(run / runs.CONFIG), ["stage2.epochs=1", "stage2.lr=0.5"])
    mine = tmp_path / "mine.toml"
    mine.write_text(to_toml(config) + "\n[methods.gumbel]\nmomentum = 0.5\n")
    before = content(run)
    command = ("stage1", mine, "--runs-dir", run.parent, "--name", run.name)
    outcome = run_cli(*command)
    assert outcome.code == 0
    told = "methods.gumbel.momentum: None -> 0.5; stage2.epochs: None -> 1; stage2.lr: None -> 0.5"
    assert f"{run} takes new settings of stage two, which change no feature: {told}" in outcome.err
    assert "is finished and kept as it is" in outcome.err
    after = content(run)
    assert {path for path in after if after[path] != before.get(path)} == {str(run / runs.CONFIG)}
    assert load_config(str(run / runs.CONFIG)) == load_config(str(mine), name=run.name)
    assert "takes new settings" not in run_cli(*command).err

    assert run_cli("stage2", run, "--activation", "gumbel", "--device", "cpu").code == 0
    (folder,) = (run / runs.STAGE2).iterdir()
    settings = read_json(folder / runs.MANIFEST)["settings"]
    assert (settings["epochs"], settings["lr"], settings["momentum"]) == (1, 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [("[methods.gumble]\nlr = 0.1\n", "gumble"), ("[methods.gumbel]\ntau = 0.1\n", "tau")],
)
def test_settings_that_no_method_has_change_nothing(
    finished_run: Path, tmp_path: Path, run_cli: RunCli, text: str, message: str
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "runs" / finished_run.name))
    mine = tmp_path / "mine.toml"
    mine.write_text((run / runs.CONFIG).read_text() + text)
    before = content(run)
    outcome = run_cli("stage1", mine, "--runs-dir", run.parent, "--name", run.name)
    assert outcome.code == 2
    assert message in outcome.err
    assert content(run) == before


def test_a_manifest_tells_the_weights_of_the_model(finished_run: Path) -> None:
    told = read_json(finished_run / runs.MANIFEST)["features"]
    model = load_model(finished_run, load_config(str(finished_run / runs.CONFIG)), 3)
    assert told["backbone"]["sha256"] == weights_sha256(model)
    assert told["classes"] == ["red", "green", "blue"]
