"""`gol-decouple export --format checkpoint`: back into the layout of what stage one loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RunCli
from safetensors.torch import load_file
from test_export import assert_refused, config_of

from gol_decouple.stages.finding import find_classifier


def layout(run: Path, kind: str, shape: str) -> dict[str, Any]:
    """What a run says of a checkpoint: our tensors under other names, in `shape` ("{}" or {"state_dict": {}})."""
    before = [] if shape == "{}" else ["state_dict"]
    names = [name for name in load_file(run / "model.safetensors") if not name.endswith("num_batches_tracked")]
    renamed = {name: name.replace("backbone.", "module.").replace("classifier.", "module.fc.") for name in names}
    suffix = "safetensors" if kind == "safetensors" else "pth"
    return {
        "path": f"/somewhere/their.model.{suffix}",
        "format": kind,
        "tensors": {name: [*before, theirs] for name, theirs in renamed.items()},
        "unused": ["module.projector.weight"],
    }


@pytest.fixture
def loaded(tmp_path: Path, retrained_run: Path) -> Path:
    """A copy of the run, to which a test can say that it came from a checkpoint."""
    return Path(shutil.copytree(retrained_run, tmp_path / "runs" / "colours"))


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
@pytest.mark.parametrize("shape", ["{}", "state_dict"])
def test_a_checkpoint_has_the_keys_it_had_and_the_tensors_of_the_run(
    tmp_path: Path, run_cli: RunCli, loaded: Path, kind: str, shape: str
) -> None:
    told = layout(loaded, kind, shape)
    (loaded / "checkpoint.json").write_text(json.dumps(told))
    outcome = run_cli("export", loaded, "--method", "crt", "--out", tmp_path / "out", "--format", "checkpoint")
    assert (outcome.code, outcome.err) == (0, "")
    name = Path(told["path"]).name
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", name]
    assert outcome.out.splitlines()[2:] == [
        f"left out: 1 tensors of {name} that the model has no place for (module.projector.weight)"
    ]
    path = tmp_path / "out" / name
    tree = load_file(path) if kind == "safetensors" else torch.load(path, weights_only=True)
    if (kind, shape) == ("safetensors", "state_dict"):
        tree = {name.removeprefix("state_dict."): tensor for name, tensor in tree.items()}
    elif shape == "state_dict":
        assert list(tree) == ["state_dict"]
        tree = tree["state_dict"]
    assert type(tree) is dict
    assert tree.keys() == {where[-1] for where in told["tensors"].values()}
    wanted = load_file(loaded / "model.safetensors")
    wanted |= {
        f"classifier.{part}": tensor
        for part, tensor in load_file(find_classifier(loaded, "crt").folder / "classifier.safetensors").items()
    }
    for own, where in told["tensors"].items():
        assert torch.equal(tree[where[-1]], wanted[own])
    assert config_of(tmp_path / "out")["file"] == name


def test_a_checkpoint_comes_back_as_it_was_loaded(
    tmp_path: Path, run_cli: RunCli, small_config: Path, loaded: Path
) -> None:
    told = layout(loaded, "torch", "state_dict")
    (loaded / "checkpoint.json").write_text(json.dumps(told))
    assert run_cli("export", loaded, "--out", tmp_path / "out", "--format", "checkpoint").code == 0
    path = tmp_path / "out" / "their.model.pth"
    assert run_cli("stage1", small_config, "--checkpoint", path, "--runs-dir", tmp_path / "again").code == 0
    first, again = (load_file(folder / "model.safetensors") for folder in (loaded, tmp_path / "again" / "colours"))
    assert all(torch.equal(first[name], again[name]) for name in first if not name.endswith("num_batches_tracked"))


def test_a_bias_that_the_original_lacked_is_added_and_said(tmp_path: Path, run_cli: RunCli, loaded: Path) -> None:
    told = layout(loaded, "torch", "state_dict")
    del told["tensors"]["classifier.bias"], told["unused"]
    (loaded / "checkpoint.json").write_text(json.dumps(told))
    outcome = run_cli("export", loaded, "--out", tmp_path / "out", "--format", "checkpoint")
    assert outcome.out.splitlines()[2:] == ["added: state_dict.module.fc.bias, which their.model.pth did not have"]
    tree = torch.load(tmp_path / "out" / "their.model.pth", weights_only=True)["state_dict"]
    assert torch.equal(tree["module.fc.bias"], load_file(loaded / "model.safetensors")["classifier.bias"])


def test_without_a_layout_to_go_back_to_there_is_no_checkpoint(tmp_path: Path, run_cli: RunCli, loaded: Path) -> None:
    arguments = ("--out", tmp_path / "out", "--format", "checkpoint")
    assert_refused(run_cli("export", loaded, *arguments), "was trained here, and not loaded", "--format safetensors")
    told = layout(loaded, "torch", "{}")
    for part in ("weight", "bias"):
        del told["tensors"][f"classifier.{part}"]
    (loaded / "checkpoint.json").write_text(json.dumps(told))
    assert_refused(run_cli("export", loaded, *arguments), "had no classifier that could be replaced", "safetensors")
    for text in ("{", "[]", "{}", json.dumps(told | {"tensors": {"backbone.x": ["x"]}})):
        (loaded / "checkpoint.json").write_text(text)
        assert_refused(run_cli("export", loaded, *arguments), str(loaded / "checkpoint.json"), "--format safetensors")
    assert not (tmp_path / "out").exists()


def test_what_is_no_linear_layer_is_refused(tmp_path: Path, run_cli: RunCli, loaded: Path) -> None:
    (loaded / "checkpoint.json").write_text(json.dumps(layout(loaded, "torch", "{}")))
    outcome = run_cli("export", loaded, "--method", "bags", "--out", tmp_path / "out", "--format", "checkpoint")
    assert_refused(outcome, "bags has 2 columns beside those of the classes", "--format onnx writes it as it is")
    assert not (tmp_path / "out").exists()


def test_a_real_checkpoint_of_other_classes_goes_back_into_its_layout(
    tmp_path: Path, run_cli: RunCli, small_config: Path, real_data: Path
) -> None:
    original = real_data / "weights" / "akamaster_cifar10_resnet32-d509ac18.th"
    run = tmp_path / "runs" / "colours"
    arguments = ("--checkpoint", original, "--runs-dir", run.parent)
    assert run_cli("stage1", small_config, *arguments).code == 0
    assert run_cli("stage2", run, "--method", "crt", "--set", "stage2.epochs=1").code == 0
    outcome = run_cli("export", run, "--method", "crt", "--out", tmp_path / "out", "--format", "checkpoint")
    assert (outcome.code, outcome.err) == (0, "")
    before = torch.load(original, map_location="cpu", weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "out" / original.name, weights_only=True)["state_dict"]
    assert after.keys() == {name for name in before if not name.endswith("num_batches_tracked")}
    assert after["module.linear.weight"].shape == (3, 64)
    assert before["module.linear.weight"].shape == (10, 64)
    assert all(torch.equal(after[name], before[name]) for name in after if "linear" not in name)
