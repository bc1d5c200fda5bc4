"""What is saved of a classifier is all of it: read back, it gives the same logits to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RunCli

from gol_decouple import classifiers, features, methods, runs
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT
from gol_decouple.stages.classifier_file import CLASSIFIER
from gol_decouple.stages.jobs import Job, Retrained
from gol_decouple.stages.samples import TRAIN
from gol_decouple.stages.saved import Saved, Work
from gol_decouple.targets import find_target

# Every kind of classifier there is, by a method that has it.
KINDS = ["softmax", "lws", "ldam_drw", "disalign", "ncm", "tau_norm", "bags"]


def reader(path: Path, runs_dir: Path) -> Saved:
    work = Work(find_target(path, runs_dir), features.open(path), torch.device("cpu"), None, None, SILENT)

    def finish(*_: Any) -> None:
        raise AssertionError("nothing is made here")

    return Saved(work, runs.STAGE2, TRAIN, finish)


def test_every_kind_of_classifier_is_among_them() -> None:
    assert {methods.get(name).classifier for name in KINDS} == {*classifiers.names(), "ncm"}


@pytest.mark.parametrize("space", classifiers.SPACES)
def test_a_saved_classifier_is_read_back_with_equal_logits(
    run_cli: RunCli, gaussians: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: str
) -> None:
    made: list[tuple[Job, Retrained]] = []
    real = Saved._save

    def save(self: Saved, job: Job, result: Retrained) -> None:
        made.append((job, result))
        real(self, job, result)

    monkeypatch.setattr(Saved, "_save", save)
    chosen = [argument for name in KINDS for argument in ("--method", name)]
    arguments = ("--set", "stage2.epochs=2", "--set", f"stage2.space={space}", "--runs-dir", tmp_path)
    assert run_cli("stage2", gaussians, *chosen, *arguments).code == 0
    assert sorted(job.method.name for job, _ in made) == sorted(KINDS)
    saved, x = reader(gaussians, tmp_path), torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    for job, result in made:
        found = saved.load(Job(job.method, job.seed))
        assert torch.equal(found.logits(x), result.logits(x)), job
        assert torch.equal(found.scores(x), result.scores(x)), job
        assert found.classifier.tensors().keys() == result.classifier.tensors().keys()
        assert (found.normalise, found.history, found.num_views) == (result.normalise, result.history, result.num_views)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"no tensors")], ids=["gone", "damaged"])
def test_one_that_cannot_be_read_back_is_named(run_cli: RunCli, gaussians: Path, tmp_path: Path, spoil: Any) -> None:
    assert run_cli("stage2", gaussians, "--method", "ncm", "--runs-dir", tmp_path).code == 0
    saved, job = reader(gaussians, tmp_path), Job(methods.get("ncm"), 0)
    spoil(saved.folder(job) / CLASSIFIER)
    with pytest.raises(InputError, match=r"the classifier in .*ncm-seed0-\w+ cannot be read") as error:
        saved.load(job)
    assert error.value.hint == f"remove {saved.folder(job)} and repeat the command that made it"
