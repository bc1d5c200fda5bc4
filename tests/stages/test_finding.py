"""Which classifier a command means, and what it says of one that is not there or cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import RunCli
from safetensors.torch import load_file, save_file
from test_prediction import assert_refused, predict


@pytest.fixture
def run(retrained_run: Path) -> Path:
    return retrained_run


def test_a_classifier_is_named_by_its_folder_or_its_method(run_cli: RunCli, run: Path, photos: Path) -> None:
    image = photos / "red" / "0.png"
    (folder,) = (run / "stage2").glob("gumbel-seed1-*")
    by_folder = predict(run_cli, folder, image)
    assert by_folder == predict(run_cli, run, image, "--method", "gumbel", "--seed", 1)
    assert by_folder != predict(run_cli, run, image, "--method", "gumbel", "--seed", 0)
    assert predict(run_cli, run / "features.h5", image) == predict(run_cli, run, image)


def test_paths_may_begin_anywhere(run_cli: RunCli, run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photos / "red" / "0.png"
    (folder,) = (run / "stage2").glob("gumbel-seed1-*")
    wanted = predict(run_cli, folder, image)
    for where, path in ((run.parent, f"{run.name}/stage2/{folder.name}"), (run, f"stage2/{folder.name}")):
        monkeypatch.chdir(where)
        assert predict(run_cli, path, image) == wanted
    for where, path in ((run / "stage2", folder.name), (folder, ".")):
        monkeypatch.chdir(where)
        assert predict(run_cli, path, image) == wanted
    monkeypatch.chdir(run)
    assert predict(run_cli, ".", image) == predict(run_cli, run, image)


def test_several_classifiers_of_a_method_are_listed(run_cli: RunCli, run: Path, photos: Path) -> None:
    folders = {
        name: sorted(path.name for path in (run / "stage2").glob(f"{name}-*")) for name in ("gumbel", "logit_adjusted")
    }
    seeds = run_cli("predict", run, photos, "--method", "gumbel")
    assert_refused(seeds, f"has 2 classifiers of gumbel: {', '.join(folders['gumbel'])}", "choose one with --seed, or")
    settings = run_cli("predict", run, photos, "--method", "logit_adjusted")
    assert_refused(
        settings,
        f"2 classifiers of logit_adjusted: {', '.join(folders['logit_adjusted'])}",
        "name its folder instead of the run",
    )
    assert "--seed" not in settings.err


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["RUN", "--method", "gumbell"], "unknown method 'gumbell'", "did you mean 'gumbel'?"),
        (["RUN", "--method", "iif"], "has no finished classifier of iif", "it has bags"),
        (
            ["RUN", "--method", "gumbel", "--seed", 7],
            "no finished classifier of gumbel with seed 7",
            "it has seed 0, 1",
        ),
        (["RUN", "--seed", 1], "--seed 1 chooses among the retrained classifiers", "--method"),
        (["FOLDER", "--method", "gumbel"], "is one classifier already", "leave --method"),
        (["nowhere"], "nowhere does not exist", "stage1"),
        (["nowhere/stage2/x"], "nowhere does not exist", "stage1"),
        (["RUN/stage2/x"], "stage2/x does not exist", "there are bags-"),
        (["RUN/stage2"], "stage2 is no run: it has no config.toml", "stage1"),
        (["RUN/config.toml"], "config.toml is no run folder", "stage1"),
    ],
)
def test_a_classifier_that_is_not_there(
    run_cli: RunCli, run: Path, photos: Path, arguments: list[object], message: str, hint: str
) -> None:
    (folder,) = (run / "stage2").glob("gumbel-seed1-*")
    where, *options = arguments
    path = {"RUN": run, "FOLDER": folder}.get(str(where), Path(str(where).replace("RUN", str(run))))
    assert_refused(run_cli("predict", path, photos, *options), message, hint)


def test_what_is_not_finished_or_damaged_is_refused(tmp_path: Path, run_cli: RunCli, run: Path, photos: Path) -> None:
    def spoiled(name: str) -> Path:
        return Path(shutil.copytree(run, tmp_path / name / "colours"))

    other = spoiled("a")
    (folder,) = (other / "stage2").glob("ncm-seed0-*")
    (folder / "manifest.json").unlink()
    assert_refused(run_cli("predict", folder, photos), "is not finished", "repeat the command")
    assert_refused(
        run_cli("predict", other, photos, "--method", "ncm", "--seed", 0),
        "no finished classifier of ncm with seed 0",
        "it has seed 1",
    )
    (folder,) = (other / "stage2").glob("bags-*")
    (folder / "classifier.safetensors").write_bytes(b"none")
    assert_refused(run_cli("predict", folder, photos), "cannot be read", f"remove {folder}")
    (folder,) = (other / "stage2").glob("softmax-*")
    save_file(
        {name: tensor[:2].clone() for name, tensor in load_file(folder / "classifier.safetensors").items()},
        folder / "classifier.safetensors",
    )
    assert_refused(run_cli("predict", folder, photos), "is [2, 64], not [3, 64]", "--overwrite")
    (folder,) = (other / "stage2").glob("tau_norm-*")
    (folder / "manifest.json").write_text("{}")
    assert_refused(run_cli("predict", folder, photos), "is not a manifest of a run: 'stage' is missing", "remove")
    (folder,) = (other / "stage2").glob("lws-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    for settings in ([], {"tua": 1}):
        (folder / "manifest.json").write_text(json.dumps(manifest | {"settings": settings}))
        refused = run_cli("predict", folder, photos)
        assert_refused(refused, "does not tell the classifier's settings", f"remove {folder} and repeat")
    (folder,) = (other / "stage2").glob("disalign-*")
    (folder / "per_class.csv").unlink()
    assert_refused(run_cli("predict", folder, photos), "which names the classes, cannot be read", "repeat")
    (other / "model.safetensors").write_bytes(b"none")
    assert_refused(run_cli("predict", other, photos), "model.safetensors cannot be read", "gol-decouple stage1")
    (other / "model.safetensors").unlink()
    assert_refused(run_cli("predict", other, photos), "has no model.safetensors any more", "repeat stage one")
    (other / "manifest.json").unlink()
    assert_refused(run_cli("predict", other, photos), f"stage one of {other} is not finished", "gol-decouple stage1")


def test_features_made_elsewhere_have_no_backbone(
    tmp_path: Path, run_cli: RunCli, gaussians: Path, photos: Path
) -> None:
    assert run_cli("stage2", gaussians, "--method", "ncm", "--runs-dir", tmp_path).code == 0
    (folder,) = tmp_path.glob("*/stage2/*")
    for path in (folder, folder.parents[1], gaussians):
        assert_refused(
            run_cli("predict", path, photos, *([] if path == folder else ["--method", "ncm"])),
            "has no backbone",
            "in a program",
        )


def test_a_run_of_a_backbone_alone_has_no_classifier_of_its_own(
    tmp_path: Path, run_cli: RunCli, small_config: Path, finished_run: Path, photos: Path
) -> None:
    tensors = load_file(finished_run / "model.safetensors")
    save_file({name: one for name, one in tensors.items() if "classifier" not in name}, tmp_path / "some.safetensors")
    arguments = ("--checkpoint", tmp_path / "some.safetensors", "--runs-dir", tmp_path / "runs")
    assert run_cli("stage1", small_config, *arguments).code == 0
    run = tmp_path / "runs" / "colours"
    assert_refused(run_cli("predict", run, photos), "only a backbone was loaded", "--method")
    assert run_cli("stage2", run, "--method", "ncm").code == 0
    assert len(predict(run_cli, run, photos, "--method", "ncm")) == 30
