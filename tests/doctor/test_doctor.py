"""`doctor`: what it says of runs in every state, of single files and of folders, for people and for programs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Outcome, RunCli, write_gaussians
from safetensors.torch import save_file

from gol_decouple import features
from gol_decouple.features.layout import Header, Samples, SplitLayout
from gol_decouple.features.shards import find_shards
from gol_decouple.features.writer import FeatureWriter


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / "colours", copy_function=os.link))


def said(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Of `--format json`, each finding by its path; of several of one path the last."""
    return {one["path"]: one for one in json.loads(outcome.out)["findings"]}


def begun(path: Path, blocks: int, shard: bool = False) -> Path:
    """What is left of a features file of which so many of 7 blocks were written."""
    labels = np.arange(70) % 3
    samples = SplitLayout(Samples(labels, np.arange(70)), 1, 10)
    header = Header(["a", "b", "c"], "float32", 4)
    with FeatureWriter(path, header, {"train": samples}, shard=shard) as writer:
        for block in writer.pending[:blocks]:
            writer.write(block, np.full((10, 4), block.index, np.float32))
    return find_shards(path)[0] if shard else path.with_name(f"{path.name}.partial")


def test_a_run_that_is_in_order(run_cli: RunCli, run: Path) -> None:
    outcome = run_cli("doctor", run)
    assert (outcome.code, outcome.err) == (0, "")
    *lines, summary = outcome.out.splitlines()
    assert summary == f"{len(lines)} in order"
    assert lines[0] == f"in order: {run}: run, stage one is finished"
    assert f"in order: {run / 'last.pt'}: checkpoint of stage one, after 3 epochs" in lines
    assert f"in order: {run / 'per_class.csv'}: table of classes, 3 classes" in lines
    told = "features file, train 67, test 30 samples, 3 classes, every block as written"
    assert f"in order: {run / 'features.h5'}: {told}" in lines
    assert {line.split(": ")[1].rpartition("/")[2] for line in lines[1:]} == {
        *("config.toml", "manifest.json", "sessions.json", "last.pt", "previous.pt", "log.csv", "model.safetensors"),
        *("per_class.csv", "predictions.npz", "features.h5"),
    }


def test_classifiers_of_every_kind_are_in_order(run_cli: RunCli, retrained_run: Path) -> None:
    outcome = run_cli("doctor", retrained_run, "--format", "json")
    assert outcome.code == 0, outcome.out
    found = said(outcome)
    finished = [str(path.parent) for path in retrained_run.glob("stage2/*/manifest.json")]
    assert len(finished) > 15
    assert {found[path]["kind"] for path in finished} == {"classifier"}
    assert all(one["state"] == "in order" for one in found.values())


def test_a_detector_is_in_order(run_cli: RunCli, retrained_detector: Path) -> None:
    outcome = run_cli("doctor", retrained_detector)
    assert outcome.code == 0, outcome.out
    assert " RoIs, " in outcome.out
    assert f"in order: {retrained_detector / 'per_class_ap.csv'}: table of classes" in outcome.out


def test_damage_of_several_kinds_is_told_at_once(run_cli: RunCli, run: Path) -> None:
    content = bytearray((run / "features.h5").read_bytes())
    row = features.open(run / "features.h5")["test"].features[0, 17].tobytes()
    content[content.index(row)] ^= 4
    for name, damaged in (("features.h5", content), ("previous.pt", b"none"), ("log.csv", b"epoch\n1\n")):
        (run / name).unlink()
        (run / name).write_bytes(damaged)
    outcome = run_cli("doctor", run, "--format", "json")
    assert outcome.code == 2
    assert outcome.err.splitlines()[0] == "error: 3 of 11 are damaged"
    counts = json.loads(outcome.out)["counts"]
    assert (counts["in order"], counts["damaged"]) == (8, 3)
    of = said(outcome)
    assert of[str(run / "features.h5")]["told"] == (
        f"{run / 'features.h5'} is damaged: test rows 0..29 of view 0 do not match their checksum"
    )
    assert f"gol-decouple stage1 {run / 'config.toml'}" in of[str(run / "features.h5")]["hint"]
    assert of[str(run / "previous.pt")]["hint"] == f"the run is finished and does not need it: rm {run / 'previous.pt'}"
    assert "it has no column" in of[str(run / "log.csv")]["told"]
    refused = run_cli("stage2", run, "--method", "gumbel")
    assert (refused.code, refused.out) == (2, "")
    assert f"error: {of[str(run / 'features.h5')]['told']}\n" in refused.err


def test_what_was_interrupted_is_not_damaged(run_cli: RunCli, run: Path) -> None:
    for name in ("manifest.json", "features.h5", "per_class.csv", "predictions.npz"):
        (run / name).unlink()
    begun(run / "features.h5", 3)
    outcome = run_cli("doctor", run)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    again = f"gol-decouple stage1 {run / 'config.toml'} --runs-dir {run.parent} --name colours"
    assert lines[:2] == [f"not finished: run: stage one of {run} is not finished", f"  hint: continue it: {again}"]
    partial = run / "features.h5.partial"
    at = lines.index(f"not finished: unfinished features file: {partial} has 3 of 7 blocks")
    assert lines[at + 1] == f"  hint: continue with: {again}"
    assert lines[-1] == "6 in order, 2 not finished"


def test_an_unfinished_run_goes_on_from_its_other_checkpoint(run_cli: RunCli, run: Path) -> None:
    (run / "manifest.json").unlink()
    (run / "last.pt").unlink()
    (run / "last.pt").write_bytes(b"")
    outcome = run_cli("doctor", run, "--format", "json")
    assert outcome.code == 2
    assert said(outcome)[str(run / "last.pt")]["hint"].startswith("stage one goes on from previous.pt, if that is in")


def test_a_partial_file_whose_blocks_changed_writes_them_again(run_cli: RunCli, tmp_path: Path) -> None:
    partial = begun(tmp_path / "f.h5", 5)
    content = partial.read_bytes()
    row = np.full(4, 3, np.float32).tobytes()
    partial.write_bytes(content[: content.index(row)] + b"\1" + content[content.index(row) + 1 :])
    outcome = run_cli("doctor", partial)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{partial} has 4 of 7 blocks; 1 more are not as they were written, and are written again" in outcome.out
    partial.write_bytes(content[:100])
    assert (outcome := run_cli("doctor", partial)).code == 0
    assert f"not finished: unfinished features file: {partial} was not begun to the end" in outcome.out


def test_shares_of_several_processes(run_cli: RunCli, run: Path) -> None:
    for name in ("manifest.json", "features.h5"):
        (run / name).unlink()
    shard = begun(run / "features.h5", 5, shard=True)
    outcome = run_cli("doctor", run)
    assert outcome.code == 0
    assert f"not finished: share of a features file: {shard} has 5 of 7 blocks\n" in outcome.out
    assert f"gol-decouple merge {run}" in outcome.out
    content = shard.read_bytes()
    at = content.index(np.full(4, 3, np.float32).tobytes())
    shard.write_bytes(content[:at] + b"\1" + content[at + 1 :])
    outcome = run_cli("doctor", run)
    assert outcome.code == 2, "merge refuses it"
    assert f"damaged: share of a features file: {shard} has 4 of 7 blocks; 1 more" in outcome.out


def test_temporary_files_are_named(run_cli: RunCli, run: Path) -> None:
    dead, alive = run / "last.pt.tmp.999999999", run / f"model.safetensors.tmp.{os.getpid()}"
    for path in (dead, alive):
        path.write_bytes(b"half")
    (run / "features.h5.partial.0.log").write_text("")
    outcome = run_cli("doctor", run)
    assert outcome.code == 0
    assert f"left over: temporary file: {dead} is of a process that was killed as it wrote it" in outcome.out
    assert f"  hint: remove it: rm {dead}\n" in outcome.out
    assert f"not finished: temporary file: {alive} is being written by process {os.getpid()}\n" in outcome.out
    assert "left over: log of an unfinished features file: " in outcome.out
    assert outcome.out.splitlines()[-1].endswith(" in order, 1 not finished, 2 left over")


def test_a_run_without_its_config(run_cli: RunCli, run: Path) -> None:
    (run / "config.toml").unlink()
    outcome = run_cli("doctor", run)
    assert outcome.code == 2
    assert outcome.out.startswith(f"damaged: run: {run} has no config.toml any more\n  hint: put a copy of it back")
    assert run_cli("stage2", run, "--method", "gumbel").code == 2


def test_a_classifier_that_was_stopped(run_cli: RunCli, gaussians: Path, tmp_path: Path) -> None:
    from gol_decouple.stages.jobs import State
    from gol_decouple.stages.states import STATE, write_state

    done = run_cli("stage2", gaussians, "--method", "gumbel", "--set", "stage2.epochs=1", "--runs-dir", tmp_path)
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "gaussians" / "stage2").iterdir()
    write_state(folder, State(torch.zeros(2), torch.zeros(2), [0.5, 0.25], {}, None), None)
    outcome = run_cli("doctor", tmp_path / "gaussians")
    assert outcome.code == 0
    told = f"{folder} is finished, and was being trained anew (--overwrite) when that was stopped after 2 epochs"
    assert f"not finished: classifier: {told}\n" in outcome.out
    (folder / "manifest.json").unlink()
    outcome = run_cli("doctor", folder)
    assert outcome.code == 0
    assert f"not finished: classifier: the training of {folder} was stopped after 2 epochs\n" in outcome.out
    (folder / STATE).write_bytes(b"none")
    outcome = run_cli("doctor", folder)
    assert outcome.code == 2
    assert f"remove {folder / STATE}: the classifier is then trained from its start" in outcome.out


def test_a_classifier_of_other_classes_or_without_weights(run_cli: RunCli, retrained_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(retrained_run, tmp_path / "colours", copy_function=os.link))
    softmax, gumbel = (next(run.glob(f"stage2/{name}-*")) for name in ("softmax", "gumbel"))
    (softmax / "classifier.safetensors").unlink()
    path = gumbel / "classifier.safetensors"
    path.unlink()
    save_file({"weight": torch.zeros(2, 64), "bias": torch.zeros(2)}, path)
    outcome = run_cli("doctor", run, "--format", "json")
    assert outcome.code == 2
    wrong = [one["told"] for one in json.loads(outcome.out)["findings"] if one["state"] == "damaged"]
    assert len(wrong) == 2
    assert f"the classifier in {gumbel} is [2, 64], not [3, 64]" in wrong
    assert f"{softmax} has no classifier.safetensors any more" in wrong


def test_checkpoints_of_strangers(run_cli: RunCli, tmp_path: Path) -> None:
    whole, code = tmp_path / "whole.pth", tmp_path / "code.pth"
    torch.save({"state_dict": {"fc.weight": torch.zeros(3, 2), "fc.bias": torch.zeros(3)}}, whole)
    torch.save({"state_dict": {"a": torch.zeros(2)}, "hook": os.system}, code)
    outcome = run_cli("doctor", whole, code)
    assert outcome.code == 2
    assert outcome.out.splitlines()[0] == f"in order: {whole}: checkpoint, 2 tensors, 9 values"
    assert f"damaged: checkpoint: checkpoint {code} needs code to be read, which is refused: " in outcome.out


def test_folders_of_runs_and_of_features_files(run_cli: RunCli, run: Path) -> None:
    write_gaussians(run.parent / "more" / "mine.h5")
    (run.parent / "notes.txt").write_text("mine")
    outcome = run_cli("doctor", run.parent)
    assert outcome.code == 0, outcome.out
    assert outcome.out.splitlines()[-1] == "12 in order"
    assert "3 x 95, test 95 samples" in outcome.out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "there is nothing to examine in"),
        (lambda path: path.write_text("x"), "1 of 1 is damaged"),
    ],
    ids=["nothing", "an empty folder", "something else"],
)
def test_what_is_nothing_to_examine(run_cli: RunCli, tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "thing")
    outcome = run_cli("doctor", tmp_path / "thing")
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert message in outcome.err
    assert (message != "1 of 1 is damaged") or "thing is nothing that doctor knows" in outcome.out


def test_the_machines_failures_are_not_taken_for_damage(
    run_cli: RunCli, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch, "load", fail)
    outcome = run_cli("doctor", run)
    assert outcome.code == 3
    assert outcome.out.splitlines()[-1] == "9 in order, 2 not examined"
    told = f"{run / 'last.pt'} could not be examined: out of memory"
    assert f"not examined: checkpoint of stage one: {told}\n" in outcome.out


def test_no_code_of_a_file_is_run(run_cli: RunCli, tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "done"),)

    (tmp_path / "config.toml").write_text("")
    for name in ("last.pt", "model.pth", "model.pkl", "old.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Bad(), protocol=2))
        assert run_cli("doctor", tmp_path / name).code == 2
    np.savez(tmp_path / "predictions.npz", id=np.array([Bad()], dtype=object))
    assert run_cli("doctor", tmp_path / "predictions.npz").code == 2
    assert not (tmp_path / "done").exists()
