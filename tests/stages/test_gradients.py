"""The sums of gradients of every class in stage two: what they are, and that nothing else changes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roi_files
import torch
from conftest import RunCli

from gol_decouple import features, methods
from gol_decouple.config import load_config
from gol_decouple.errors import InputError
from gol_decouple.stages import saved
from gol_decouple.stages.classifier_file import CLASSIFIER
from gol_decouple.stages.gradients import GRADIENTS, GradientMass, read_gradients, write_gradients
from gol_decouple.stages.jobs import Job, Retrained, State, Weights
from gol_decouple.stages.rows import InMemory
from gol_decouple.stages.states import STATE
from gol_decouple.stages.together import train_together
from tests.conftest import TRAINED

ON = ("--set", "stage2.gradients=true")


def trained(rows: InMemory, job: Job, gradients: bool = True) -> Retrained:
    ((_, result),) = train_together(rows, [job], gradients=gradients)
    assert isinstance(result, Retrained)
    return result


def by_class(slopes: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The definition, a class at a time: [3, C]."""
    sums = np.zeros((3, num_classes))
    for j in range(num_classes):
        sizes = np.abs(slopes[:, j])
        sums[:, j] = [sizes[labels == j].sum(), sizes[(labels != j) & (labels < num_classes)].sum(), 0.0]
        sums[2, j] = sizes[labels == num_classes].sum()
    return sums


def test_two_samples_by_hand() -> None:
    mass = GradientMass(1, 2, torch.device("cpu"))
    slopes = torch.tensor([[[-3.0, 0.5, 9.0], [0.25, -2.0, 9.0], [1.0, 4.0, -9.0]]])
    before = slopes.clone()
    mass.add(slopes, torch.tensor([[0, 1, 2]]))
    assert torch.equal(slopes, before)
    assert mass.sums.tolist() == [[[3.0, 2.0], [0.25, 0.5], [1.0, 4.0]]]
    mass.add(slopes, torch.tensor([[2, 2, 2]]))
    assert mass.sums.tolist() == [[[3.0, 2.0], [0.25, 0.5], [5.25, 10.5]]]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "gumbel"])
def test_of_images_they_are_the_gradients_of_autograd(
    gaussian_rows: InMemory, gaussians: Path, stage_one: Weights, activation: str
) -> None:
    """A step on all samples at once is taken at stage one's weights."""
    method = methods.get(activation).with_settings(epochs=1, batch_size=1000, views="clean", start="stage_one")
    result = trained(gaussian_rows, Job(method, 0, stage_one))
    assert result.gradients is not None
    train = features.open(gaussians)["train"]
    logits = train.features[0].astype(np.float64) @ stage_one[0].double().numpy().T + stage_one[1].double().numpy()
    labels, q = train.labels, torch.tensor(logits, requires_grad=True)
    wanted = torch.nn.functional.one_hot(torch.from_numpy(labels), 3).double()
    if activation == "softmax":
        loss = -(q.log_softmax(1) * wanted).sum()
    elif activation == "sigmoid":
        loss = torch.nn.functional.binary_cross_entropy_with_logits(q, wanted, reduction="sum")
    else:
        eta = torch.exp(-torch.exp(-q.clamp(min=-4.0)))
        tangent = torch.exp(torch.tensor(4.0)).double() * (q - -4.0 - 1.0)
        positive = torch.where(q < -4.0, tangent, -torch.exp(-q.clamp(min=-4.0)))
        loss = -(positive * wanted + torch.log1p(-eta) * (1.0 - wanted)).sum()
    (slopes,) = torch.autograd.grad(loss, q)
    np.testing.assert_allclose(result.gradients[0], by_class(slopes.numpy(), labels, 3), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_of_rois_background_is_apart(tmp_path: Path, name: str) -> None:
    opened = features.open(roi_files.write(tmp_path / "rois.h5", 60, 4))
    rows = InMemory(opened, torch.device("cpu"), 1)
    method = methods.default(name, background=True).with_settings(epochs=1, batch_size=1000, start="fresh")
    job = Job(replace(method, lr=1e-30), 0)
    first = trained(rows, job)
    used = opened["train"].labels >= 0
    x, labels = opened["train"].features[0][used].astype(np.float64), opened["train"].labels[used]
    q = x @ first.weight.double().numpy().T + first.bias.double().numpy()  # it has not moved
    scores = np.exp(q) / np.exp(q).sum(1, keepdims=True) if name == "softmax" else 1.0 / (1.0 + np.exp(-q))
    slopes = scores - np.eye(scores.shape[1] + 1)[labels][:, : scores.shape[1]]
    assert first.gradients is not None
    np.testing.assert_allclose(first.gradients[0], by_class(slopes, labels, 3), rtol=2e-5, atol=1e-6)
    assert (first.gradients[0] > 0).all()


@pytest.mark.parametrize("name", TRAINED)
def test_training_is_the_same_to_the_last_bit(gaussian_rows: InMemory, stage_one: Weights, name: str) -> None:
    method = methods.get(name).with_settings(epochs=2, batch_size=16)
    job = Job(method, 3, stage_one)
    without, with_them = (trained(gaussian_rows, job, asked) for asked in (False, True))
    assert without.gradients is None
    assert with_them.gradients is not None
    assert with_them.gradients.shape == (2, 3, 3)
    assert with_them.history == without.history
    for part, other in zip(with_them.classifier.tensors().values(), without.classifier.tensors().values(), strict=True):
        assert torch.equal(part, other)


def test_each_of_a_stack_has_its_own(gaussian_rows: InMemory, stage_one: Weights, stacked: bool) -> None:
    jobs = [Job(methods.get("sigmoid").with_settings(epochs=3, lr=lr), 0, stage_one) for lr in (1e-4, 1e38, 1e-2)]
    together = dict(train_together(gaussian_rows, jobs, gradients=True))
    assert isinstance(together[jobs[1]], InputError)  # leaves the others alone
    for job in (jobs[0], jobs[2]):
        result = together[job]
        assert isinstance(result, Retrained)
        np.testing.assert_allclose(result.gradients, trained(gaussian_rows, job).gradients, rtol=1e-5)


def test_the_file(tmp_path: Path) -> None:
    sums = torch.rand(2, 3, 4, dtype=torch.float64)
    write_gradients(tmp_path, sums, background=True)
    assert torch.equal(read_gradients(tmp_path, 4), sums)
    rows = list(csv.DictReader((tmp_path / GRADIENTS).read_text().splitlines()))
    assert list(rows[0]) == ["epoch", "class", "positive", "negative", "background"]
    assert (rows[5]["epoch"], rows[5]["class"]) == ("2", "1")
    assert float(rows[5]["negative"]) == sums[1, 1, 1]
    write_gradients(tmp_path, sums, background=False)
    rows = list(csv.DictReader((tmp_path / GRADIENTS).read_text().splitlines()))
    assert {row["background"] for row in rows} == {""}
    assert not read_gradients(tmp_path, 4)[:, 2].any()


@pytest.mark.parametrize(
    "text", [None, "", "epoch,class\n1,0\n", "epoch,class,positive,negative,background\n1,1,2,3,\n"]
)
def test_a_damaged_file(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / GRADIENTS).write_text(text)
    with pytest.raises(InputError, match=f"the gradients in .*{GRADIENTS} cannot be read") as caught:
        read_gradients(tmp_path, 1)
    assert caught.value.hint is not None
    assert "stage2.gradients=true --overwrite" in caught.value.hint


def test_the_setting_is_of_the_execution(finished_run: Path) -> None:
    from gol_decouple.config import differing_fields

    config = load_config(str(finished_run / "config.toml"))
    other = load_config(str(finished_run / "config.toml"), ["stage2.gradients=true"])
    assert other.stage2.gradients
    assert not differing_fields(config, other)


class TestProgram:
    """`stage2.gradients` on the command line."""

    @pytest.fixture
    def run(self, gaussians: Path, tmp_path: Path) -> Path:
        return Path(shutil.copy(gaussians, tmp_path / "g.h5"))

    def stage2(self, run_cli: RunCli, run: Path, *more: object) -> str:
        fast = ("--set", "stage2.epochs=3", "--runs-dir", run.parent / "runs")
        done = run_cli("stage2", run, "--activation", "gumbel", *fast, *more)
        assert done.code == 0, done.err
        return done.err

    def folder(self, run: Path) -> Path:
        (folder,) = (run.parent / "runs" / "g" / "stage2").iterdir()
        return folder

    def test_it_is_written_only_where_asked_for_and_finished_ones_stay(self, run_cli: RunCli, run: Path) -> None:
        self.stage2(run_cli, run)
        folder = self.folder(run)
        assert not (folder / GRADIENTS).exists()
        weights = (folder / CLASSIFIER).read_bytes()
        manifest = json.loads((folder / "manifest.json").read_text())
        said = self.stage2(run_cli, run, *ON)
        assert "is finished and kept as it is (--overwrite trains it again)" in said
        assert "warning: it was trained without stage2.gradients, and has no gradients.csv" in said
        assert not (folder / GRADIENTS).exists()
        self.stage2(run_cli, run, *ON, "--overwrite")
        assert self.folder(run) == folder  # of the same name
        assert (folder / CLASSIFIER).read_bytes() == weights
        now = json.loads((folder / "manifest.json").read_text())
        told = {"seconds": 0, "command": [], "config": {}}  # how it was asked for
        assert now | told == manifest | told
        assert read_gradients(folder, 3).shape == (3, 3, 3)
        assert "without stage2.gradients" not in self.stage2(run_cli, run, *ON)
        self.stage2(run_cli, run, "--overwrite")
        assert not (folder / GRADIENTS).exists()  # what is there is of this training

    def test_what_is_chosen_keeps_its_own(self, run_cli: RunCli, run: Path) -> None:
        grid = ("--set", "stage2.lr=[1e-5,1e-4]", "--set", "stage2.refit=false")
        self.stage2(run_cli, run, *grid)
        assert not (self.folder(run) / GRADIENTS).exists()
        self.stage2(run_cli, run, *grid, *ON, "--overwrite")
        candidates = {folder.name: folder for folder in (run.parent / "runs" / "g" / "candidates").iterdir()}
        chosen = self.folder(run)
        assert torch.equal(read_gradients(chosen, 3), read_gradients(candidates[chosen.name], 3))

    def test_what_was_chosen_from_candidates_without_them_is_trained_for_them(self, run_cli: RunCli, run: Path) -> None:
        grid = ("--set", "stage2.lr=[1e-5,1e-4]", "--set", "stage2.refit=false")
        self.stage2(run_cli, run, *grid)
        chosen = self.folder(run)
        weights = (chosen / CLASSIFIER).read_bytes()
        shutil.rmtree(chosen)
        self.stage2(run_cli, run, *grid, *ON)
        assert self.folder(run) == chosen
        assert (chosen / CLASSIFIER).read_bytes() == weights
        assert read_gradients(chosen, 3).any()

    @pytest.mark.parametrize("before", [True, False], ids=["with them", "without them"])
    def test_after_an_interruption(
        self, run_cli: RunCli, run: Path, monkeypatch: pytest.MonkeyPatch, before: bool
    ) -> None:
        monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
        real = saved.Saved._save_states

        def stop(self: saved.Saved, states: Iterable[tuple[Job, State]]) -> None:
            real(self, states)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(saved.Saved, "_save_states", stop)
            arguments = ("stage2", run, "--activation", "gumbel", "--set", "stage2.epochs=3")
            assert run_cli(*arguments, "--runs-dir", run.parent / "runs", *(ON if before else ())).code == 130
        assert (self.folder(run) / STATE).exists()
        said = self.stage2(run_cli, run, *ON)
        assert ("continuing after epoch 1" in said) == before
        assert ("is trained from its start: its first epochs were trained without" in said) != before
        found = read_gradients(self.folder(run), 3)
        shutil.rmtree(run.parent / "runs")
        self.stage2(run_cli, run, *ON)
        assert torch.equal(found, read_gradients(self.folder(run), 3))
