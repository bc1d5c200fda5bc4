"""Run folders: which are kept, which are refused, and what stage two finds in them."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gol_decouple import methods, runs
from gol_decouple.config import load_config
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.progress import SILENT, Progress
from gol_decouple.runs import classifier_key, create_run, open_run
from gol_decouple.settings import Config, Stage2Config
from gol_decouple.targets import Target, find_target, stage2_settings


@pytest.fixture
def config() -> Config:
    return load_config("digits_lt", name="run")


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def fill(folder: Path, config: Config, finished: bool = True) -> Path:
    """A folder as stage one leaves it, with stand-ins for what is large."""
    create_run(folder, config)
    (folder / "last.pt").write_bytes(b"weights")
    (folder / "stage2" / "gumbel").mkdir(parents=True)
    (folder / "stage2" / "gumbel" / "classifier.safetensors").write_bytes(b"classifier")
    if finished:
        (folder / runs.FEATURES).write_bytes(runs.HDF5_SIGNATURE + b"features")
        runs.write_manifest(folder, {"stage": 1})
    return folder


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of every file below."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# Opening a run


def test_a_new_run_is_opened_without_a_trace(config: Config, runs_dir: Path) -> None:
    assert open_run(config, runs_dir, False, SILENT) == (runs_dir / "run", False)
    assert not runs_dir.exists()


def test_a_run_is_created_with_its_config(config: Config, runs_dir: Path) -> None:
    create_run(runs_dir / "run", config)
    assert load_config(str(runs_dir / "run" / runs.CONFIG)) == config
    assert open_run(config, runs_dir, False, SILENT) == (runs_dir / "run", False)


@pytest.mark.parametrize("override", [[], ["device=cuda"], ["stage1.num_workers=5"], ["features.batch_size=9"]])
@pytest.mark.parametrize("finished", [True, False])
def test_the_same_config_finds_its_run(runs_dir: Path, config: Config, finished: bool, override: list[str]) -> None:
    folder = fill(runs_dir / "run", config, finished)
    before = content(folder)
    again = load_config("digits_lt", override, name="run")
    assert open_run(again, runs_dir, False, SILENT) == (folder, finished)
    assert content(folder) == before


def test_an_unfinished_run_continues_with_what_it_has(config: Config, runs_dir: Path) -> None:
    folder = fill(runs_dir / "run", config, finished=False)
    open_run(config, runs_dir, False, SILENT)
    create_run(folder, config)
    assert (folder / "last.pt").read_bytes() == b"weights"


def test_a_run_that_was_renamed_is_the_same_run(config: Config, runs_dir: Path) -> None:
    fill(runs_dir / "run", config)
    (runs_dir / "run").rename(runs_dir / "best")
    assert open_run(load_config("digits_lt", name="best"), runs_dir, False, SILENT) == (runs_dir / "best", True)


@pytest.mark.parametrize("finished", [True, False])
def test_another_config_is_refused_field_by_field(config: Config, runs_dir: Path, finished: bool) -> None:
    folder = fill(runs_dir / "run", config, finished)
    before = content(folder)
    other = load_config("digits_lt", ["stage1.lr=0.2", "data.imbalance_factor=10"], name="run", seed=3)
    with pytest.raises(InputError, match="exists with another config") as raised:
        open_run(other, runs_dir, False, SILENT)
    for difference in ("stage1.lr: 0.1 -> 0.2", "data.imbalance_factor: 20.0 -> 10.0", "seed: 0 -> 3"):
        assert difference in raised.value.message
    for offer in ("--name", "--runs-dir", "--overwrite"):
        assert offer in str(raised.value.hint)
    assert content(folder) == before


@pytest.mark.parametrize("text", ["x =", "x = 1"])
def test_a_damaged_config_is_refused_but_can_be_overwritten(config: Config, runs_dir: Path, text: str) -> None:
    folder = fill(runs_dir / "run", config)
    (folder / runs.CONFIG).write_text(text)
    with pytest.raises(InputError, match="run/config.toml") as raised:
        open_run(config, runs_dir, False, SILENT)
    assert "--overwrite" in str(raised.value.hint)
    open_run(config, runs_dir, True, SILENT)
    create_run(folder, config)
    assert load_config(str(folder / runs.CONFIG)) == config


def test_two_processes_do_not_work_on_one_run(tmp_path: Path) -> None:
    with (
        runs.working_on(tmp_path / "run"),
        pytest.raises(EnvironmentFailure, match="another process is working on") as error,
        runs.working_on(tmp_path / "run"),
    ):
        pass
    assert "--name" in (error.value.hint or "")
    with runs.working_on(tmp_path / "run"):
        pass


def test_what_killed_processes_left_goes_when_work_goes_on(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    left = tmp_path / "stage2" / "gumbel" / f"state.safetensors.tmp.{process.pid}"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    with runs.working_on(tmp_path):
        assert not left.exists()


def test_what_a_killed_start_leaves_does_not_block_the_next(config: Config, runs_dir: Path) -> None:
    folder = runs_dir / config.name
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("")
    (folder / "config.toml.tmp.17").write_text("half")
    assert open_run(config, runs_dir, False, SILENT) == (folder, False)


@pytest.mark.parametrize("make", [lambda path: path.write_text(""), lambda path: (path / "photos").mkdir(parents=True)])
@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_no_run_is_never_touched(config: Config, runs_dir: Path, make: Any, overwrite: bool) -> None:
    runs_dir.mkdir()
    make(runs_dir / "run")
    before = sorted(runs_dir.rglob("*"))
    with pytest.raises(InputError, match="run exists and is not a run") as raised:
        open_run(config, runs_dir, overwrite, SILENT)
    assert "--name" in str(raised.value.hint)
    assert sorted(runs_dir.rglob("*")) == before


def test_an_empty_folder_may_become_a_run(config: Config, runs_dir: Path) -> None:
    (runs_dir / "run").mkdir(parents=True)
    assert open_run(config, runs_dir, False, SILENT) == (runs_dir / "run", False)


def test_a_runs_dir_that_is_a_file_is_refused(config: Config, runs_dir: Path) -> None:
    runs_dir.write_text("")
    with pytest.raises(InputError, match="--runs-dir .*runs is not a folder"):
        open_run(config, runs_dir, False, SILENT)


def test_a_runs_dir_that_cannot_be_made_is_the_environments_failure(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="file/runs/run cannot be written: Not a directory"):
        create_run(tmp_path / "file" / "runs" / "run", config)


def test_a_runs_dir_that_may_not_be_written_is_the_environments_failure(
    config: Config, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(EnvironmentFailure, match="runs/run cannot be written: Permission denied") as raised:
        create_run(runs_dir / "run", config)
    assert raised.value.hint == "choose another place (--runs-dir for runs)"


def test_features_that_were_removed_are_made_again(
    config: Config, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(runs_dir / "run", config)
    (folder / runs.FEATURES).unlink()
    assert open_run(config, runs_dir, False, Progress(Console(soft_wrap=True))) == (folder, False)
    assert "has no features.h5 any more: making it again" in capsys.readouterr().out
    assert runs.is_finished(folder), "the data may be gone, and then its model is all there is"
    create_run(folder, config)
    assert not runs.is_finished(folder)
    assert (folder / "last.pt").exists()
    assert (folder / "stage2" / "gumbel" / "classifier.safetensors").exists()


# Overwriting a run


def test_a_finished_run_is_overwritten_only_when_the_new_one_begins(config: Config, runs_dir: Path) -> None:
    folder = fill(runs_dir / "run", config)
    before = content(folder)
    other = load_config("digits_lt", name="run", seed=3)
    assert open_run(other, runs_dir, True, SILENT) == (folder, False)
    assert content(folder) == before, "the new run may still fail, on data that is not there"
    create_run(folder, other, overwrite=True)
    assert [path.name for path in folder.iterdir()] == [runs.CONFIG]
    assert load_config(str(folder / runs.CONFIG)) == other


def test_an_unfinished_run_is_overwritten(config: Config, runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(runs_dir / "run", config, finished=False)
    assert open_run(config, runs_dir, True, Progress(Console(soft_wrap=True))) == (folder, False)
    assert f"replacing the run in {folder} (--overwrite)" in capsys.readouterr().out
    create_run(folder, config, overwrite=True)
    assert [path.name for path in folder.iterdir()] == [runs.CONFIG]


def test_overwriting_does_not_follow_links(config: Config, runs_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("kept")
    folder = fill(tmp_path / "disk", config)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    runs_dir.mkdir()
    (runs_dir / "run").symlink_to(folder)
    open_run(config, runs_dir, True, SILENT)
    create_run(runs_dir / "run", config, overwrite=True)
    assert [path.name for path in folder.iterdir()] == [runs.CONFIG]
    assert (tmp_path / "elsewhere" / "precious").read_text() == "kept"


def test_being_killed_while_overwriting_leaves_an_unfinished_run(
    config: Config, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(runs_dir / "run", config)
    open_run(config, runs_dir, True, SILENT)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            create_run(folder, config, overwrite=True)
    assert open_run(config, runs_dir, False, SILENT) == (folder, False)


# What stage two works on


def test_a_run_and_its_features_file_are_one_target(config: Config, runs_dir: Path) -> None:
    folder = fill(runs_dir / "run", config)
    target = find_target(folder, runs_dir)
    assert target == Target(folder / runs.FEATURES, folder, config)
    assert find_target(folder / runs.FEATURES, runs_dir) == target


@pytest.mark.parametrize("path", [".", "../run", "stage2/.."])
def test_a_run_from_inside_has_its_name(
    config: Config, runs_dir: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    folder = fill(runs_dir / "run", config)
    monkeypatch.chdir(folder)
    target = find_target(Path(path), runs_dir)
    assert target.folder.name == "run"
    assert target.folder.resolve() == folder.resolve()


def test_a_features_file_gets_a_folder_of_its_name(runs_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "dino.h5"
    path.write_bytes(runs.HDF5_SIGNATURE)
    assert find_target(path, runs_dir) == Target(path, runs_dir / "dino", None)


def test_a_features_file_named_as_a_run_does_not_mix_with_it(config: Config, runs_dir: Path, tmp_path: Path) -> None:
    fill(runs_dir / "run", config)
    path = tmp_path / "run.h5"
    path.write_bytes(runs.HDF5_SIGNATURE)
    with pytest.raises(InputError, match="results of .*run.h5 would go to .*runs/run, which is a run") as raised:
        find_target(path, runs_dir)
    assert "--runs-dir" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("nothing", "nothing is neither a run folder nor a features file", "runs in {runs}: {runs}/done, {runs}/half"),
        ("text.txt", "text.txt is neither a run folder nor a features file", "{runs}/done"),
        ("runs/done/config.toml", "config.toml is neither a run folder nor a features file", "{runs}/done"),
        ("runs", "runs is no run: it has no config.toml", "runs in {runs}: {runs}/done, {runs}/half"),
        ("empty", "empty is no run: it has no config.toml", "gol-decouple stage1 CONFIG makes a run"),
        ("runs/half", "stage one of {runs}/half is not finished", "stage1 {runs}/half/config.toml --runs-dir {runs}"),
        ("runs/half/features.h5", "stage one of {runs}/half is not finished", "--name half"),
    ],
)
def test_what_is_no_target_is_refused(
    config: Config, runs_dir: Path, tmp_path: Path, path: str, message: str, hint: str
) -> None:
    fill(runs_dir / "done", config)
    fill(runs_dir / "half", config, finished=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(InputError) as raised:
        find_target(tmp_path / path, runs_dir)
    assert message.format(runs=runs_dir) in raised.value.message
    assert hint.format(runs=runs_dir) in str(raised.value.hint)


@pytest.mark.parametrize("lost", [runs.MANIFEST, runs.FEATURES])
def test_a_run_that_lost_a_part_is_not_finished(config: Config, runs_dir: Path, lost: str) -> None:
    folder = fill(runs_dir / "run", config)
    (folder / lost).unlink()
    with pytest.raises(InputError, match="is not finished"):
        find_target(folder, runs_dir)


def test_a_damaged_manifest_is_found_before_the_training(config: Config, runs_dir: Path) -> None:
    folder = fill(runs_dir / "run", config)
    (folder / runs.MANIFEST).write_text('{"stage": ')
    with pytest.raises(InputError, match="run/manifest.json is not readable JSON") as raised:
        find_target(folder, runs_dir)
    assert f"remove {folder / runs.MANIFEST}" in str(raised.value.hint)


def test_stage_two_takes_the_settings_of_the_runs_config(tmp_path: Path) -> None:
    config = load_config("digits_lt", ["stage2.lr=0.5"])
    assert stage2_settings(Target(tmp_path, tmp_path, config)) == Stage2Config(lr=0.5)
    assert stage2_settings(Target(tmp_path, tmp_path, None)) == Stage2Config()


# Folders of retrained classifiers


def key(method: methods.Method, seed: int = 0, fingerprint: str = "abc", trained_on: str = "") -> str:
    return classifier_key(method, methods.changed_settings(method), seed, fingerprint, trained_on)


GUMBEL = methods.get("gumbel")
CHANGES: dict[str, Any] = {
    "start": "fresh",
    "lr": 0.5,
    "epochs": 3,
    "schedule": "cosine",
    "views": "clean",
    "batch_size": 7,
    "momentum": 0.5,
    "weight_decay": 0.1,
    "clip_norm": 5.0,
    "precision": "bfloat16",
    "temperature": "val",
    "q_min": -2.5,
}


def test_a_key_is_readable() -> None:
    assert key(GUMBEL, 3).startswith("gumbel-seed3-")
    changed = key(GUMBEL.with_settings(lr=1e-3, epochs=5, q_min=-2.0))
    assert changed.startswith("gumbel-epochs5-lr0.001-q_min-2-seed0-")
    assert len(changed.rpartition("-")[2]) == 8
    assert key(GUMBEL, 3, trained_on="train + val").startswith("gumbel-train+val-seed3-")


def test_every_setting_has_a_change_in_this_test() -> None:
    assert set(CHANGES) == set(GUMBEL.settings)


def test_keys_differ_by_every_setting_seed_features_and_method() -> None:
    keys = [
        key(GUMBEL),
        key(GUMBEL, seed=1),
        key(GUMBEL, fingerprint="abd"),
        key(GUMBEL, trained_on="train + val"),
        key(methods.get("gumbel_paper")),
    ]
    keys += [key(GUMBEL.with_settings(**{name: value})) for name, value in CHANGES.items()]
    # Values that read the same, such as 0.1 and a neighbour of it, must not share a folder.
    keys += [key(GUMBEL.with_settings(lr=0.1)), key(GUMBEL.with_settings(lr=0.1 + 1e-12))]
    assert len(set(keys)) == len(keys)


def test_a_key_is_the_same_every_time_and_a_default_given_is_no_change() -> None:
    assert key(GUMBEL) == key(methods.get("gumbel").with_settings(lr=GUMBEL.lr, q_min=-4.0))


def test_a_key_does_not_depend_on_how_the_paper_is_cited() -> None:
    assert key(dataclasses.replace(GUMBEL, paper="cited otherwise")) == key(GUMBEL)


def test_results_of_features_made_elsewhere_are_no_run(tmp_path: Path) -> None:
    (tmp_path / "mine" / runs.STAGE2).mkdir(parents=True)
    with pytest.raises(InputError, match="results of features that were made elsewhere") as error:
        find_target(tmp_path / "mine", tmp_path)
    assert error.value.hint == "name the features file instead, such as mine.h5"
