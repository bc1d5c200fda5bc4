"""`gol-decouple export`: files that give, without this program, the scores that it gives."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NOT_LINEAR, PLAIN, TEMPERED, Outcome, RunCli
from safetensors.torch import load_file
from test_cli import snapshot

import gol_decouple
from gol_decouple import losses
from gol_decouple.backbones import build_model
from gol_decouple.classifiers import Classifier
from gol_decouple.errors import InputError
from gol_decouple.export import export_model
from gol_decouple.export.linear import linear_of
from gol_decouple.stages.finding import find_classifier
from gol_decouple.stages.restored import restore

DOCUMENT = Path(gol_decouple.__file__).parents[1] / "docs" / "using-a-model.md"
REFUSED = {
    "ldam_drw": "ldam_drw is no linear layer: it scales features to length 1 first",
    "ncm": "ncm is no linear layer: it scales features to length 1 first",
    "disalign": "disalign is no linear layer: what it adds to the logits differs from image to image",
    "bags": "bags has 2 columns beside those of the classes, and scores by all of them",
}


def documented(name: str) -> str:
    """The block of code below the comment of that name."""
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def program_of(library: str) -> str:
    """The code that loads an exported model: that of timm, with the lines that build another library's network."""
    code = documented("timm")
    if library == "timm":
        return code
    build = documented(library)
    code, changed = re.subn(r"^model = timm\.create_model.*$", build.strip(), code, flags=re.MULTILINE)
    assert changed == 1
    return code.replace("import timm\n", "")


@pytest.fixture
def run(retrained_run: Path) -> Path:
    return retrained_run


@pytest.fixture
def image(photos: Path) -> Path:
    return photos / "green" / "12.png"


def found_by(run_cli: RunCli, run: Path, image: Path, *arguments: object) -> list[tuple[str, float]]:
    """Names and scores that `predict` prints."""
    outcome = run_cli("predict", run, image, *arguments, "--format", "json")
    assert outcome.code == 0, outcome.err
    return [(each["name"], each["score"]) for each in json.loads(outcome.out)[0]["predictions"]]


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def assert_refused(outcome: Outcome, message: str, hint: str) -> None:
    assert (outcome.code, outcome.out) == (2, ""), outcome
    first, second = outcome.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert hint in second


# safetensors


@pytest.mark.parametrize("method", [None, *PLAIN, *TEMPERED, "ncm"])
def test_the_documented_program_gives_the_scores_of_predict(
    tmp_path: Path,
    run_cli: RunCli,
    run: Path,
    image: Path,
    method: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = [] if method is None else ["--method", method, "--seed", int(method == "ncm")]
    outcome = run_cli("export", run, *chosen, "--out", tmp_path / "exported")
    assert (outcome.code, outcome.err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "exported").iterdir()) == ["config.json", "model.safetensors"]
    found = found_by(run_cli, run, image, *chosen)
    shutil.copy(image, tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    exec(program_of("gol_decouple"), {})
    printed = [line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _ in printed] == [name for name, _ in found]
    assert [float(score) for _, score in printed] == pytest.approx([score for _, score in found], rel=1e-4, abs=1e-6)
    config = config_of(tmp_path / "exported")
    assert (sum(float(score) for _, score in printed) == pytest.approx(1.0, abs=1e-4)) == config["scores"]["sum_to_one"]


def test_it_says_what_the_model_is(tmp_path: Path, run_cli: RunCli, run: Path) -> None:
    outcome = run_cli("export", run, "--method", "gumbel_paper", "--out", tmp_path / "a" / "b")
    folder = tmp_path / "a" / "b"
    assert outcome.out.splitlines() == [
        f"{folder / 'model.safetensors'}: {run}, gumbel_paper (epochs 2, temperature val, seed 0) (resnet32, "
        "3 classes)",
        f"{folder / 'config.json'}: input, classes and scores",
    ]
    config, manifest = config_of(folder), find_classifier(run, "gumbel_paper").manifest
    scores, method = config.pop("scores"), config.pop("method")
    assert config == {
        "format_version": 1,
        "gol_decouple": gol_decouple.__version__,
        "file": "model.safetensors",
        "backbone": {"library": "gol_decouple", "name": "resnet32", "arguments": {}},
        "classifier": "classifier",
        "feature_size": 64,
        "num_classes": 3,
        "class_names": ["red", "green", "blue"],
        "train_counts": [40, 21, 6],
        "dataset": "colours",
        "input": {
            "resize": [8, 8],
            "size": [8, 8],
            "interpolation": "bilinear",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
    }
    assert scores == {
        "activation": "gumbel",
        "temperature": manifest["temperature"],
        "normalise": True,
        "sum_to_one": True,
        "formula": f"exp(-exp(-q / T)), T = {manifest['temperature']:g}, divided by their sum over the classes; "
        "q: the logits",
    }
    assert method == {
        "name": "gumbel_paper",
        "activation": "gumbel",
        "loss": "cross_entropy",
        "stage": 2,
        "seed": 0,
        "settings": manifest["settings"],
    }
    assert run_cli("export", run, "--out", tmp_path / "c").code == 0
    assert config_of(tmp_path / "c")["method"]["stage"] == 1
    assert config_of(tmp_path / "c")["scores"]["formula"] == "softmax(q); q: the logits"


def test_resizing_is_told(tmp_path: Path, run_cli: RunCli, small_config: Path) -> None:
    for settings, resize in ((["transform.size=6", "transform.resize=9"], 9), (["transform.size=6"], [6, 6])):
        overrides = [text for setting in [*settings, "stage1.epochs=1"] for text in ("--set", setting)]
        runs_dir = tmp_path / str(resize)
        assert run_cli("stage1", small_config, *overrides, "--runs-dir", runs_dir).code == 0
        assert run_cli("export", runs_dir / "colours", "--out", runs_dir / "out").code == 0
        given = config_of(runs_dir / "out")["input"]
        assert (given["resize"], given["size"]) == (resize, [6, 6])


def test_the_file_holds_the_runs_backbone_and_the_retrained_classifier(
    tmp_path: Path, run_cli: RunCli, run: Path
) -> None:
    assert run_cli("export", run, "--method", "crt", "--out", tmp_path / "out").code == 0
    exported, stage_one = load_file(tmp_path / "out" / "model.safetensors"), load_file(run / "model.safetensors")
    retrained = load_file(find_classifier(run, "crt").folder / "classifier.safetensors")
    assert exported.keys() == stage_one.keys()
    for name, tensor in exported.items():
        part = name.removeprefix("classifier.")
        assert torch.equal(tensor, stage_one[name] if part == name else retrained[part])


@pytest.mark.parametrize("method", NOT_LINEAR)
def test_what_is_no_linear_layer_is_refused(tmp_path: Path, run_cli: RunCli, run: Path, method: str) -> None:
    outcome = run_cli("export", run, "--method", method, "--seed", 0, "--out", tmp_path / "out")
    assert_refused(outcome, REFUSED[method], "--format onnx writes it as it is")
    assert not (tmp_path / "out").exists()


def test_scores_that_the_activation_does_not_tell_are_refused(run: Path) -> None:
    """A program can train LDAM on a linear layer; its scores are softmax of 30 times the logits."""
    from dataclasses import replace

    model = restore(find_classifier(run, "softmax"))
    counts = np.array([40, 21, 6])
    ldam = losses.get("ldam", activation="softmax", class_counts=counts, scale=30.0)
    with pytest.raises(InputError, match="the scores of softmax are not the softmax of its logits"):
        linear_of(replace(model, loss=ldam))
    plain = losses.get("ldam", activation="softmax", class_counts=counts, scale=1.0)
    assert torch.equal(linear_of(replace(model, loss=plain))[0], model.classifier.weight)
    centred = replace(model.classifier, centre=torch.ones(64))
    weight, bias = linear_of(replace(model, classifier=centred))
    x = torch.randn(5, 64)
    torch.testing.assert_close(x @ weight.T + bias, centred.logits(x))
    assert isinstance(centred, Classifier)


# The folder


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path: Path, run_cli: RunCli, run: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert run_cli("export", run, "--out", out).code == 0, "an empty one is fine"
    (out / "notes.md").write_text("mine")
    before = snapshot(out)
    assert_refused(run_cli("export", run, "--method", "crt", "--out", out), f"--out {out} is not empty", "--overwrite")
    assert snapshot(out) == before
    assert run_cli("export", run, "--method", "crt", "--out", out, "--overwrite").code == 0
    assert config_of(out)["method"]["name"] == "crt"
    assert (out / "notes.md").read_text() == "mine"
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors", "notes.md"]


def test_runs_are_never_written_into(tmp_path: Path, run_cli: RunCli, run: Path) -> None:
    before = snapshot(run)
    for folder in (run, find_classifier(run, "crt").folder):
        refused = run_cli("export", run, "--out", folder, "--overwrite")
        assert_refused(refused, f"--out {folder} is a run", "name a folder outside of it")
    (tmp_path / "file").write_text("")
    assert_refused(run_cli("export", run, "--out", tmp_path / "file"), "is not a folder", "name a folder")
    assert snapshot(run) == before


def test_a_disk_that_refuses_leaves_no_config_of_other_weights(
    tmp_path: Path, run_cli: RunCli, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run_cli("export", run, "--out", out).code == 0

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gol_decouple.sealed_tensors.save_bytes", full)
    outcome = run_cli("export", run, "--method", "crt", "--out", out, "--overwrite")
    assert (outcome.code, outcome.out) == (3, "")
    assert "error: the disk is full" in outcome.err
    assert "hint: free some space, or choose another --out" in outcome.err
    assert [path.name for path in out.iterdir()] == ["model.safetensors"], "the former one, and no config of it"


def test_what_is_missing_is_found_before_anything_is_written(tmp_path: Path, run_cli: RunCli, run: Path) -> None:
    out = tmp_path / "out"
    assert_refused(run_cli("export", run, "--method", "iif", "--out", out), "no finished classifier of iif", "stage2")
    outcome = run_cli("export", run)
    assert (outcome.code, outcome.out) == (2, "")
    assert "missing option '--out'" in outcome.err.lower()
    other = Path(shutil.copytree(run, tmp_path / "colours"))
    manifest = json.loads((other / "manifest.json").read_text())
    manifest.pop("image_size")
    (other / "manifest.json").write_text(json.dumps(manifest))
    for format_ in ("safetensors", "onnx"):
        refused = run_cli("export", other, "--out", out, "--format", format_)
        assert_refused(refused, f"{other} does not tell the size of its images", "repeat stage one")
    assert not out.exists()


def test_a_program_can_do_it_too(tmp_path: Path, run: Path) -> None:
    lines = export_model(find_classifier(run, "crt"), tmp_path / "out")
    assert len(lines) == 2
    model = build_model("resnet32", 3, seed=0)
    model.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
