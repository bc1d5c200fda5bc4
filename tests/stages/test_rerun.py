"""Repeating a run from what it recorded, and what is said where it comes out otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotated import narrow_backbone
from conftest import CLASS_COUNTS, Interrupt, RunCli, colour_images, write_gaussians
from safetensors.torch import load_file, save_file

from gol_decouple import features, runs
from gol_decouple.backbones import mask_rcnn
from gol_decouple.config import load_config
from gol_decouple.settings import Stage2Config
from gol_decouple.stages.backbone import run_stage1
from gol_decouple.stages.classifier import run_stage2
from gol_decouple.stages.comparing import Compared
from gol_decouple.stages.rerun import RERUN, Outcome, _chance, rerun
from gol_decouple.stages.saved import CLASSIFIER, Saved
from gol_decouple.stages.training import Trainer
from gol_decouple.targets import find_target


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of every file below."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def edit(folder: Path, /, **changes: Any) -> None:
    """Change what a manifest says; None removes it."""
    path = folder / runs.MANIFEST
    manifest = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in manifest.items() if value is not None}))


def of_another_version(folder: Path) -> None:
    environment = json.loads((folder / runs.MANIFEST).read_text())["environment"]
    edit(folder, environment=environment | {"versions": environment["versions"] | {"numpy": "1.0.0"}})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_config: Path, images_npz: Path) -> Path:
    """A run with classifiers of gumbel and softmax, made by the command line."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(images_npz, folder / "colours.npz")
    changes = [f"data.path={folder / 'colours.npz'}", "stage1.epochs=2"]
    run = run_stage1(load_config(str(small_config), changes), folder / "runs")
    run_stage2(find_target(run, run.parent), ["gumbel", "softmax"], [0], [Stage2Config(epochs=2)], "cpu")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it, `runs/colours`, with its data in a file of its own."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    run = tmp_path / "runs" / "colours"
    text = (run / runs.CONFIG).read_text()
    (run / runs.CONFIG).write_text(text.replace(str(made), str(tmp_path)))
    return run


def classifier_of(run: Path, method: str) -> Path:
    (found,) = (run / runs.STAGE2).glob(f"{method}-*")
    return found


# The same again


def test_everything_comes_out_the_same(retrained_run: Path, tmp_path: Path, run_cli: RunCli) -> None:
    """Of plain classifiers, those with a temperature that was fitted, such as are not trained, and of several seeds."""
    before = snapshot(retrained_run)
    done = run_cli("rerun", retrained_run, "--out", tmp_path / "again")
    assert done.code == 0, done.err
    assert snapshot(retrained_run) == before
    told = json.loads((tmp_path / "again" / RERUN).read_text())
    assert told["of"] == str(retrained_run.resolve())
    assert told["equal"]
    assert told["environment"] == told["left_out"] == []
    count = len(list((retrained_run / runs.STAGE2).iterdir()))
    assert [one["what"] for one in told["compared"]][:2] == ["stage one", "features"]
    assert len(told["compared"]) == count + 2
    assert all(one["equal"] and one["difference"] == 0 for one in told["compared"])
    assert all(one["before"] == one["after"] is not None for one in told["compared"] if one["what"] != "features")
    assert done.out.count("equal") > count
    for folder in (retrained_run / runs.STAGE2).iterdir():
        for name in (CLASSIFIER, runs.PER_CLASS, runs.PREDICTIONS, runs.CHOICE):
            assert (folder / name).exists() == (tmp_path / "again" / runs.STAGE2 / folder.name / name).exists()
            if (folder / name).exists():
                again = tmp_path / "again" / runs.STAGE2 / folder.name / name
                assert again.read_bytes() == (folder / name).read_bytes(), again


def test_it_is_a_run_beside_the_first(run: Path, run_cli: RunCli) -> None:
    done = run_cli("rerun", run)
    assert done.code == 0, done.err
    again = run.with_name("colours.rerun")
    assert load_config(str(again / runs.CONFIG)).name == "colours.rerun"
    assert (again / runs.MODEL).read_bytes() == (run / runs.MODEL).read_bytes()
    assert (again / runs.FEATURES).read_bytes() == (run / runs.FEATURES).read_bytes()
    assert str(again) in done.err
    assert run_cli("report", run.parent).code == 0

    before = snapshot(again)
    done = run_cli("rerun", run)  # all that is there is kept
    assert done.code == 0
    after = snapshot(again)
    assert {path for path in after if after[path][1] != before[path][1]} <= {str(again / RERUN), str(again / ".lock")}


def test_one_classifier_is_repeated_on_the_runs_own_features(run: Path, run_cli: RunCli) -> None:
    before = snapshot(run)
    done = run_cli("rerun", classifier_of(run, "gumbel"))
    assert done.code == 0, done.err
    again = run.with_name("colours.rerun_stage2")
    assert [path.name for path in (again / runs.STAGE2).iterdir()] == [classifier_of(run, "gumbel").name]
    assert not (again / runs.MODEL).exists()
    assert snapshot(run) == before
    assert run_cli("rerun", classifier_of(run, "softmax")).code == 0  # into the same folder
    assert len(list((again / runs.STAGE2).iterdir())) == 2


def test_results_of_features_made_elsewhere(tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamed rows are streamed again, in the same order; Softmax, which others start from, is there once."""
    file = write_gaussians(tmp_path / "mine.h5", with_classifier=False)
    monkeypatch.chdir(tmp_path)
    given = ("--method", "gumbel", "--method", "crt", "--set", "stage2.epochs=2")
    assert run_cli("stage2", "mine.h5", *given).code == 0
    assert run_cli("stage2", "mine.h5", *given[:2], *given[4:], "--seed", 3, "--set", "stage2.memory_gb=4e-6").code == 0
    (streamed,) = (tmp_path / "runs" / "mine" / runs.STAGE2).glob("gumbel-*seed3*")
    assert json.loads((streamed / runs.MANIFEST).read_text())["shuffled_rows"] == 32
    edit(streamed, config={"stage2": {}})  # as where no memory was given
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = run_cli("rerun", "../runs/mine")
    assert done.code == 0, done.err
    assert "streamed" in done.err
    again = tmp_path / "runs" / "mine.rerun_stage2"
    assert len(json.loads((again / RERUN).read_text())["compared"]) == 5
    file.unlink()
    gone = run_cli("rerun", "../runs/mine")
    assert gone.code == 2
    assert f"the features {file}, on which the classifiers were trained, are not there any more" in gone.err


@pytest.mark.parametrize("refit", ["true", "false"])
@pytest.mark.parametrize("with_val", [True, False])
def test_what_was_chosen_is_repeated_as_it_was_chosen(
    tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, refit: str, with_val: bool
) -> None:
    stream = np.random.default_rng(0)
    sizes = {"train": 60, "test": 30} | ({"val": 30} if with_val else {})
    labels = {name: np.arange(size) % 3 for name, size in sizes.items()}
    splits = {
        name: ((stream.normal(size=(sizes[name], 4)) + own[:, None]).astype(np.float32), own)
        for name, own in labels.items()
    }
    monkeypatch.chdir(tmp_path)
    features.write("mine.h5", splits, classifier=(np.eye(3, 4), np.zeros(3)))
    given = ["--set", "stage2.lr=[0.01,0.1]", "--set", "stage2.temperature=val", "--set", f"stage2.refit={refit}"]
    assert run_cli("stage2", "mine.h5", "--method", "gumbel", "--set", "stage2.epochs=2", *given).code == 0
    (folder,) = Path("runs/mine/stage2").iterdir()
    trained_on = json.loads((folder / runs.MANIFEST).read_text())["trained_on"]
    wanted = {(True, "true"): "train + val", (False, "false"): "train without 12 samples"}
    assert trained_on == wanted.get((with_val, refit), "train")
    done = run_cli("rerun", "runs/mine")
    assert done.code == 0, done.err
    again = Path("runs/mine.rerun_stage2/stage2") / folder.name
    assert (again / runs.CHOICE).read_bytes() == (folder / runs.CHOICE).read_bytes()
    assert json.loads((again / runs.MANIFEST).read_text())["trained_on"] == trained_on


def test_a_run_is_repeated_from_any_folder(
    tmp_path: Path, images_npz: Path, small_config: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its relative paths start from where it was made."""
    (tmp_path / "made" / "data").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    shutil.copy(images_npz, tmp_path / "made" / "data" / "mine.npz")
    monkeypatch.chdir(tmp_path / "made")
    made = run_cli("stage1", small_config, "--data-root", "data/mine.npz", "--set", "stage1.epochs=0", "--name", "n")
    assert made.code == 0, made.err
    monkeypatch.chdir(tmp_path / "other")
    done = run_cli("rerun", "../made/runs/n")
    assert done.code == 0, done.err


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_rcnn, "resnet_fpn_backbone", narrow_backbone)


@pytest.mark.usefixtures("_narrow")
def test_a_classifier_of_a_detector(retrained_detector: Path, tmp_path: Path, run_cli: RunCli) -> None:
    """Its masks need the run's own detector."""
    before = snapshot(retrained_detector)
    done = run_cli("rerun", classifier_of(retrained_detector, "gol"), "--out", tmp_path / "one")
    assert done.code == 0, done.err
    assert snapshot(retrained_detector) == before
    (told,) = json.loads((tmp_path / "one" / RERUN).read_text())["compared"]
    assert told["before"] == told["after"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("_narrow")
def test_a_detector(retrained_detector: Path, tmp_path: Path, run_cli: RunCli) -> None:
    before = snapshot(retrained_detector)
    done = run_cli("rerun", retrained_detector, "--out", tmp_path / "again")
    assert done.code == 0, done.err
    assert snapshot(retrained_detector) == before
    told = json.loads((tmp_path / "again" / RERUN).read_text())
    assert len(told["compared"]) == 2 + len(list((retrained_detector / runs.STAGE2).iterdir()))
    assert told["compared"][0]["before"] > 0


def test_a_run_of_a_former_version(run: Path, run_cli: RunCli) -> None:
    """Its manifests say nothing of inputs and environment; what can be repeated is."""
    for folder in (run, *(run / runs.STAGE2).iterdir()):
        names = ("inputs", "environment", "command", "folder", "config", "classifier_sha256")
        edit(folder, **dict.fromkeys(names))
    assert run_cli("report", run).code == 0
    done = run_cli("rerun", run)
    assert done.code == 0, done.err
    assert "what made the run is not known: a former version did" in done.err


def test_classifiers_are_trained_beside_the_same_others_again(run: Path, run_cli: RunCli) -> None:
    """How last bits are rounded depends on what was trained as one stack: in which portions, and in which grids."""
    given = ["--method", "crt", "--set", "stage2.epochs=2"]
    chosen = ["--set", "stage2.lr=[0.03,0.1,0.2]", "--set", "stage2.refit=false", "--set", "stage2.epochs=2"]
    assert run_cli("stage2", run, *given, "--seed", 1).code == 0
    assert run_cli("stage2", run, *given, "--seeds", 4).code == 0  # without the seed 1, which is there
    assert run_cli("stage2", run, "--method", "focal", *chosen, "--seeds", 2).code == 0
    stacks = {}
    for folder in (run / runs.STAGE2).iterdir():
        manifest = json.loads((folder / runs.MANIFEST).read_text())
        stacks[manifest["method"], manifest["seed"]] = [(one["seed"], one["lr"]) for one in manifest["stack"]]
    assert stacks["crt", 1] == [(1, 0.1)]
    assert stacks["crt", 3] == [(0, 0.1), (2, 0.1), (3, 0.1)]
    assert stacks["focal", 1] == [(1, 0.03), (1, 0.1), (1, 0.2)]
    done = run_cli("rerun", run)
    assert done.code == 0, done.err
    again = run.with_name("colours.rerun")
    assert {path.name for path in (again / runs.STAGE2).iterdir()} == {
        path.name for path in (run / runs.STAGE2).iterdir()
    }
    assert run_cli("rerun", run).code == 0

    # One that is ahead of the others it was trained with, as where a process was killed, is not trained on alone.
    one = next((again / runs.STAGE2).glob("crt*seed3*"))
    shutil.rmtree(one)
    done = run_cli("rerun", run)
    assert done.code == 0, done.err
    assert (
        json.loads((one / runs.MANIFEST).read_text())["stack"]
        == json.loads((run / runs.STAGE2 / one.name / runs.MANIFEST).read_text())["stack"]
    )


# Interrupted


def test_an_interrupted_rerun_continues(
    run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, interrupt: Interrupt
) -> None:
    before = snapshot(run)
    real_epoch, real_save = Trainer._epoch, Saved._save

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def first_epoch_alone(self: Trainer[Any], epoch: int, *rest: Any) -> Any:
        return real_epoch(self, epoch, *rest) if epoch == 0 else stop()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", first_epoch_alone)
        done = run_cli("rerun", run)
        assert done.code == 130
        assert "it continues where it was" in done.err
    saved: list[Path] = []

    def first_alone(self: Saved, job: Any, result: Any) -> None:
        if saved:
            stop()
        saved.append(self.folder(job))
        real_save(self, job, result)

    with monkeypatch.context() as patch:
        patch.setattr(Saved, "_save", first_alone)
        done = run_cli("rerun", run)
        assert done.code == 130
        assert "continuing stage one after epoch 1 of 2" in done.err
    done = run_cli("rerun", run)
    assert done.code == 0, done.err
    assert f"{saved[0]} is finished and kept" in done.err
    assert snapshot(run) == before


# What was made otherwise


def test_another_version_is_told_before_anything_is_trained(
    run: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (run, *(run / runs.STAGE2).iterdir()):
        of_another_version(folder)
    told = f"warning: numpy: 1.0.0 -> {np.__version__}"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", stop)
        assert told in run_cli("rerun", run).err
    done = run_cli("rerun", run)
    assert done.code == 0, done.err  # it made no difference
    assert told in done.err
    assert f"numpy: 1.0.0 -> {np.__version__}" in done.out


def test_another_version_in_a_former_session_of_the_training_is_told(run: Path, run_cli: RunCli) -> None:
    (last,) = json.loads((run / runs.MANIFEST).read_text())["sessions"]
    environment = last["environment"]
    former = last | {"environment": environment | {"versions": environment["versions"] | {"numpy": "1.0.0"}}}
    edit(run, sessions=[former, last | {"epochs_done": 1}])
    done = run_cli("rerun", run)
    assert done.code == 0, done.err
    told = f"numpy: 1.0.0 -> {np.__version__}"
    assert done.err.count(f"warning: {told}") == 1
    assert json.loads((run.with_name("colours.rerun") / RERUN).read_text())["environment"] == [told]


@pytest.mark.parametrize("version", [True, False])
def test_results_that_differ(run: Path, run_cli: RunCli, version: bool) -> None:
    """A classifier whose manifest tells other settings than made it."""
    folder = classifier_of(run, "softmax")
    settings = json.loads((folder / runs.MANIFEST).read_text())["settings"]
    edit(folder, settings=settings | {"lr": 0.3})
    if version:
        of_another_version(folder)
    done = run_cli("rerun", run)
    assert done.code == (3 if version else 1)
    assert f"error: 1 of 4 results of {run} differ" in done.err
    assert "Traceback" not in done.err
    if version:
        assert f"of the environment: numpy: 1.0.0 -> {np.__version__}" in done.err
    else:
        assert "though inputs, settings and environment are the same" in done.err
        assert "report it" in done.err
    told = json.loads((run.with_name("colours.rerun") / RERUN).read_text())
    assert not told["equal"]
    assert [one["what"] for one in told["compared"] if not one["equal"]] == ["softmax"]
    (apart,) = (one["difference"] for one in told["compared"] if not one["equal"])
    assert apart > 0
    assert f"{apart:.2g} apart" in done.out


def test_on_a_gpu_differences_are_expected_unless_it_is_deterministic(tmp_path: Path) -> None:
    assert _chance(torch.device("cpu")) is None
    by_chance = _chance(torch.device("cuda"))
    assert by_chance == "on cuda without --deterministic"
    outcome = Outcome(tmp_path, tmp_path, [Compared("features", False, 0.1)], [], by_chance, [])
    failure = outcome.failure()
    assert failure is not None
    assert failure.exit_code == 3
    assert "which is expected on cuda without --deterministic" in failure.message


def test_a_classifier_that_cannot_be_trained_again(run: Path, run_cli: RunCli) -> None:
    folder = classifier_of(run, "gumbel")
    settings = json.loads((folder / runs.MANIFEST).read_text())["settings"]
    edit(folder, settings=settings | {"lr": 1e38})
    done = run_cli("rerun", run)
    assert done.code == 1
    assert "warning: gumbel (lr 1e+38, seed 0) diverged in epoch 1" in done.err
    assert "1 of 4 results" in done.err


# Inputs that changed


@pytest.fixture
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(Trainer, "run", fail)
    monkeypatch.setattr(Saved, "run", fail)


@pytest.mark.usefixtures("nothing_is_trained")
def test_a_changed_dataset_is_refused(run: Path, run_cli: RunCli) -> None:
    path = run.parents[1] / "colours.npz"
    arrays = dict(np.load(path))
    arrays["train_images"], _ = colour_images(CLASS_COUNTS, 7)
    np.savez(path, **arrays)
    done = run_cli("rerun", run)
    assert done.code == 2
    assert f"{run} cannot be repeated: the dataset colours in {path} has changed since" in done.err
    assert not run.with_name("colours.rerun").exists()
    path.unlink()
    assert run_cli("rerun", run).code == 2


@pytest.mark.usefixtures("nothing_is_trained")
@pytest.mark.parametrize("name", ["model", "classifier"])
def test_changed_weights_are_refused(run: Path, run_cli: RunCli, name: str) -> None:
    path = run / runs.MODEL if name == "model" else classifier_of(run, "gumbel") / CLASSIFIER
    tensors = load_file(path)
    tensors[min(tensors)].view(-1)[0] += 1
    save_file(tensors, path)
    done = run_cli("rerun", run)
    assert done.code == 2
    assert (str(path) if name == "model" else str(path.parent)) in done.err
    assert not run.with_name("colours.rerun").exists()


def test_a_changed_checkpoint_is_refused(
    run: Path, small_config: Path, tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(run / runs.MODEL, "trained.safetensors")
    made = run_cli("stage1", small_config, "--checkpoint", "trained.safetensors", "--name", "loaded")
    assert made.code == 0, made.err
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    loaded = tmp_path / "runs" / "loaded"
    assert run_cli("rerun", loaded).code == 0
    assert run_cli("rerun", loaded).code == 0
    tensors = load_file(tmp_path / "trained.safetensors")
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, tmp_path / "trained.safetensors")
    done = run_cli("rerun", loaded, "--out", tmp_path / "again")
    assert done.code == 2
    assert f"the checkpoint {tmp_path / 'trained.safetensors'} has changed since" in done.err
    (tmp_path / "trained.safetensors").unlink()
    done = run_cli("rerun", loaded, "--out", tmp_path / "again")
    assert done.code == 2
    assert "is not there any more" in done.err


@pytest.mark.usefixtures("nothing_is_trained")
def test_features_that_are_not_those_of_the_classifier(run: Path, run_cli: RunCli) -> None:
    folder = classifier_of(run, "gumbel")
    edit(folder, features={"fingerprint": "another"})
    done = run_cli("rerun", folder)
    assert done.code == 2
    assert f"are not those that {folder} was trained on" in done.err
    (run / runs.FEATURES).unlink()
    done = run_cli("rerun", folder)
    assert done.code == 2
    assert "are not there any more" in done.err
    assert "gol-decouple rerun of the run makes them again" in done.err


def test_a_run_whose_features_were_removed_is_repeated(run: Path, run_cli: RunCli) -> None:
    (run / runs.FEATURES).unlink()
    done = run_cli("rerun", run)
    assert done.code == 0, done.err


# What it is given


@pytest.mark.usefixtures("nothing_is_trained")
def test_what_is_no_run(run: Path, tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "empty").mkdir()
    for path, told in (
        (tmp_path / "empty", "is no run: it has no config.toml"),
        (tmp_path / "missing", "is no run: it has no config.toml"),
        (tmp_path / "colours.npz", "is no folder"),
        (run / runs.STAGE2 / "missing", "does not exist"),
        (run / runs.CANDIDATES / "gumbel-seed0", "is a candidate"),
    ):
        done = run_cli("rerun", path)
        assert (done.code, told in done.err) == (2, True), done.err
    (run / runs.MANIFEST).unlink()
    done = run_cli("rerun", run)
    assert done.code == 2
    assert "is not finished" in done.err


@pytest.mark.usefixtures("nothing_is_trained")
def test_where_it_must_not_write(run: Path, tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    before = snapshot(tmp_path)
    for out, told in (
        (run, "would write into"),
        (run / "inner", "would write into"),
        (run.parent, "would write into"),
        (tmp_path / "full", "exists and is no rerun of"),
        (tmp_path / "full" / "file", "exists and is no rerun of"),
    ):
        done = run_cli("rerun", run, "--out", out)
        assert (done.code, told in done.err) == (2, True), done.err
    assert snapshot(tmp_path) == before
    (tmp_path / "full" / RERUN).write_text(json.dumps({"of": "/another"}))
    done = run_cli("rerun", run, "--out", tmp_path / "full")
    assert "is a rerun of something else" in done.err


@pytest.mark.usefixtures("nothing_is_trained")
def test_a_run_that_was_replaced_is_not_taken_for_the_repeated_one(run: Path, run_cli: RunCli) -> None:
    again = run.with_name("colours.rerun")
    again.mkdir()
    (again / RERUN).write_text(json.dumps({"of": str(run.resolve())}))
    text = (run / runs.CONFIG).read_text()
    (again / runs.CONFIG).write_text(text.replace("momentum = 0.9", "momentum = 0.8"))
    done = run_cli("rerun", run)
    assert done.code == 2
    assert "with another config: stage1.momentum: 0.8 -> 0.9" in done.err


def test_what_cannot_be_repeated_is_left_out_and_told(run: Path, run_cli: RunCli) -> None:
    mean = run / runs.STAGE2 / "mean"
    shutil.copytree(classifier_of(run, "gumbel"), mean)
    edit(mean, cascade=[])
    unknown = run / runs.STAGE2 / "unknown"
    shutil.copytree(classifier_of(run, "softmax"), unknown)
    edit(unknown, method="softmax2")
    (run / runs.STAGE2 / "unfinished").mkdir()
    done = run_cli("rerun", run)
    assert done.code == 0, done.err
    for told in ("mean is the mean of a cascade's stages", "unknown: unknown method 'softmax2'"):
        assert f"warning: {told}" in done.err
    assert "unfinished is not finished" in done.out.replace("\n", " ")
    done = run_cli("rerun", mean)
    assert done.code == 2
    assert "nothing in" in done.err


def test_a_program_can_repeat_a_run(run: Path, tmp_path: Path) -> None:
    outcome = rerun(run, tmp_path / "again")
    assert outcome.is_equal
    assert outcome.failure() is None
    assert json.loads((tmp_path / "again" / runs.MANIFEST).read_text())["command"] is None
