"""Of a list in --set the best on what is held out is chosen, and the test split is not read before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import gol_decouple
from gol_decouple import features, methods, runs
from gol_decouple.class_stats import held_out_indices
from gol_decouple.features import FeaturesFile
from gol_decouple.report.rows import collect_rows
from gol_decouple.runs import MANIFEST, read_manifest
from gol_decouple.stages import choosing, saved, states
from gol_decouple.stages.classifier_file import CLASSIFIER
from gol_decouple.stages.feed import TrainRows
from gol_decouple.stages.jobs import Job, State
from gol_decouple.stages.samples import Holdout
from tests.conftest import Outcome, RunCli

C, D = 4, 6
SIZES = {"train": (60, 30, 15, 8), "val": (9, 8, 7, 6), "test": (15,) * C}
LRS = (1e-4, 1e-2, 1.0)
LIST = ("--set", f"stage2.lr={json.dumps(LRS)}", "--set", "stage2.epochs=2")

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def drawn_splits() -> Splits:
    """Overlapping Gaussian classes with a long tail: learning rates end at different accuracies."""
    stream, splits = np.random.default_rng(0), {}
    centres = stream.normal(0, 1.0, (C, D))
    for name, counts in SIZES.items():
        labels = stream.permutation(np.repeat(np.arange(C), counts))
        splits[name] = ((centres[labels] + stream.normal(size=(len(labels), D))).astype(np.float32), labels)
    return splits


def write(path: Path, splits: Splits, with_classifier: bool = True) -> Path:
    stream = np.random.default_rng(1)
    classifier = (stream.normal(size=(C, D)), stream.normal(size=C)) if with_classifier else None
    return features.write(path, splits, classifier=classifier)


def without_val(splits: Splits) -> Splits:
    return {name: splits[name] for name in ("train", "test")}


def held_out_as_val(splits: Splits) -> Splits:
    """What is held out of train where there is no val split, as one."""
    x, labels = splits["train"]
    held = held_out_indices(labels, 0.2)
    rest = np.setdiff1d(np.arange(len(labels)), held)
    return splits | {"train": (x[rest], labels[rest]), "val": (x[held], labels[held])}


KINDS = ["val", "carved", "val, without a classifier", "carved, without a classifier"]
# Both of either, for what takes longer.
TWO_KINDS = pytest.mark.parametrize("kind", ["val", "carved, without a classifier"], indirect=True)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(tmp_path: Path, kind: str) -> Path:
    splits = drawn_splits() if kind.startswith("val") else without_val(drawn_splits())
    return write(tmp_path / "some.h5", splits, "without" not in kind)


@pytest.fixture
def as_chosen_by(tmp_path: Path, kind: str) -> Path:
    """A file whose train split is what is trained on to choose, and whose val split what is chosen by."""
    splits = drawn_splits() if kind.startswith("val") else held_out_as_val(drawn_splits())
    return write(tmp_path / "by.h5", splits, "without" not in kind)


@pytest.fixture
def with_val(tmp_path: Path) -> Path:
    return write(tmp_path / "some.h5", drawn_splits())


@pytest.fixture
def carved(tmp_path: Path) -> Path:
    return write(tmp_path / "some.h5", without_val(drawn_splits()))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainRows, list[str]]]:
    """The rows and the jobs of each go through the features."""
    calls: list[tuple[TrainRows, list[str]]] = []
    real = saved.train_together

    def watched(rows: TrainRows, jobs: Sequence[Job], *more: Any) -> Iterator[Any]:
        calls.append((rows, [str(job) for job in jobs]))
        return real(rows, jobs, *more)

    monkeypatch.setattr(saved, "train_together", watched)
    return calls


def folders(runs_dir: Path, section: str = "stage2") -> list[Path]:
    return sorted(path for path in runs_dir.rglob("*") if path.parent.name == section)


def asked_for(runs_dir: Path) -> list[Path]:
    """Final classifiers but those of Softmax that others started from."""
    return [folder for folder in folders(runs_dir) if "startfresh" not in folder.name]


def choice(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / runs.CHOICE).read_text()))


def stage2(run_cli: RunCli, file: Path, runs_dir: Path, *arguments: object, code: int = 0) -> Outcome:
    done = run_cli("stage2", file, "--runs-dir", runs_dir, *arguments)
    assert done.code == code, done.err
    return done


# What is chosen


def test_one_classifier_a_method_and_seed_the_best_on_what_is_held_out(
    tmp_path: Path, run_cli: RunCli, file: Path, as_chosen_by: Path, kind: str
) -> None:
    seeds, names = 2, ["softmax", "crt"]
    chosen = [argument for name in names for argument in ("--method", name)]
    done = stage2(run_cli, file, tmp_path / "runs", *chosen, *LIST, "--seeds", seeds)
    assert ("has no val split: choosing by" in done.err) == kind.startswith("carved")
    told = {(read_manifest(folder)["method"], read_manifest(folder)["seed"]): folder for folder in asked_for(tmp_path)}
    assert len(told) == len(asked_for(tmp_path)) == len(names) * seeds
    found = set()
    for name in names:
        # Each point by itself, with nothing of how choices are made.
        values = []
        for lr in LRS:
            made = [gol_decouple.retrain(as_chosen_by, name, lr=lr, epochs=2, seed=seed) for seed in range(seeds)]
            values.append(fmean(gol_decouple.evaluate(each, as_chosen_by, "val")["top1_balanced"] for each in made))
        best = LRS[values.index(max(values))]
        found.add(best)
        for seed in range(seeds):
            folder = told[name, seed]
            assert read_manifest(folder)["settings"]["lr"] == best
            how = choice(folder)
            assert (how["criterion"], how["value"]) == ("top1_balanced", pytest.approx(max(values)))
            assert how["held_out"] == ("val" if kind.startswith("val") else "23 train samples held out")
            changed = methods.get(name).lr
            assert [point["settings"] for point in how["tried"]] == [
                {"epochs": 2} | ({"lr": lr} if lr != changed else {}) for lr in LRS
            ]
            assert [point["value"] for point in how["tried"]] == pytest.approx(values)
            assert how.keys() == {"held_out", "criterion", "value", "tried"}
    assert found != {LRS[0]}, "one that does not look would take the first"


@pytest.mark.parametrize("tau", ["[1.0,0.0]", "[0.0,1.0]"])
def test_corrections_have_points_too(tmp_path: Path, run_cli: RunCli, with_val: Path, tau: str) -> None:
    stage2(run_cli, with_val, tmp_path / "runs", "--method", "tau_norm", "--set", f"stage2.tau={tau}", "--seeds", 2)
    values = {
        value: gol_decouple.evaluate(gol_decouple.retrain(with_val, "tau_norm", tau=value), with_val, "val")
        for value in json.loads(tau)
    }
    (folder,) = folders(tmp_path)
    best = max(values, key=lambda value: values[value]["top1_balanced"])
    assert len({each["top1_balanced"] for each in values.values()}) == 2
    assert read_manifest(folder)["settings"]["tau"] == best


@pytest.mark.parametrize("order", [(1e-9, 2e-9, 3e-9), (3e-9, 1e-9, 2e-9)])
def test_of_equals_the_first(tmp_path: Path, run_cli: RunCli, with_val: Path, order: tuple[float, ...]) -> None:
    """Steps that are too short to change a prediction."""
    stage2(run_cli, with_val, tmp_path / "runs", "--method", "softmax", "--set", f"stage2.lr={list(order)}")
    (folder,) = folders(tmp_path)
    assert len({point["value"] for point in choice(folder)["tried"]}) == 1
    assert read_manifest(folder)["settings"]["lr"] == order[0]


def test_what_has_one_point_is_not_chosen(tmp_path: Path, run_cli: RunCli, carved: Path) -> None:
    """Nor is anything held out for it; a list of what it has no setting for is one point."""
    done = stage2(run_cli, carved, tmp_path / "runs", "--method", "ncm", "--method", "tau_norm", *LIST)
    assert "no val split" not in done.err
    assert not folders(tmp_path, "candidates")
    assert [sorted(path.name for path in folder.glob("*.json")) for folder in folders(tmp_path)] == [[MANIFEST]] * 2


def test_keep_grid_reports_every_point(tmp_path: Path, run_cli: RunCli, carved: Path) -> None:
    done = stage2(run_cli, carved, tmp_path / "runs", "--method", "crt", "--method", "gumbel", *LIST, "--keep-grid")
    assert "no val split" not in done.err
    rows = collect_rows([tmp_path / "runs"], tmp_path / "runs")
    assert [(row["method"], row["lr"]) for row in rows] == [(name, lr) for name in ("crt", "gumbel") for lr in LRS]
    assert not folders(tmp_path, "candidates")
    assert not list(tmp_path.rglob(runs.CHOICE))


# Candidates


def test_candidates_lie_apart_are_not_reported_and_are_evaluated_on_what_is_held_out(
    tmp_path: Path, run_cli: RunCli, file: Path, kind: str
) -> None:
    done = stage2(run_cli, file, tmp_path / "runs", "--method", "crt", *LIST)
    candidates = folders(tmp_path, "candidates")
    assert [folder.name.split("-seed")[0].split("-train")[0] for folder in candidates] == [
        "crt-epochs2-lr0.0001",
        "crt-epochs2-lr0.01",
        "crt-epochs2-lr1",
    ]
    held = sum(SIZES["val"]) if kind.startswith("val") else 23
    for folder in candidates:
        manifest = read_manifest(folder)
        assert manifest["split"] == ("val" if kind.startswith("val") else "train")
        assert manifest["trained_on"] == ("train" if kind.startswith("val") else "train without 23 samples")
        with np.load(folder / "predictions.npz") as predictions:
            assert len(predictions["id"]) == held
            assert 100 * np.mean(predictions["classes"][:, 0] == predictions["label"]) == manifest["metrics"]["top1"]
    rows = collect_rows([tmp_path / "runs"], tmp_path / "runs")
    assert [row["path"] for row in rows] == [str(folder) for folder in folders(tmp_path)]
    assert [(row["method"], row["split"]) for row in rows] == [("crt", "test")]
    assert "candidates" not in done.out


@TWO_KINDS
def test_candidates_are_used_again(
    tmp_path: Path, run_cli: RunCli, file: Path, kind: str, trained: list[tuple[TrainRows, list[str]]]
) -> None:
    runs_dir = tmp_path / "runs"
    stage2(run_cli, file, runs_dir, "--method", "crt", *LIST)
    first = [[f"crt (lr {lr:g}, seed 0)" for lr in LRS]]
    best = read_manifest(asked_for(tmp_path)[0])["settings"]["lr"]
    finals = [[f"crt (lr {best:g}, seed 0)"]] if kind.startswith("carved") else []
    assert [jobs for _, jobs in trained] == first + finals
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}

    again = stage2(run_cli, file, runs_dir, "--method", "crt", *LIST)
    assert "3 of 3 candidates were trained before" in again.err
    assert len(trained) == len(first + finals), "nothing is trained"
    assert {path: path.read_bytes() for path in before} == before

    more = ("--set", f"stage2.lr={[*LRS, 2e-4]}", "--set", "stage2.epochs=2")
    done = stage2(run_cli, file, runs_dir, "--method", "crt", *more)
    assert "3 of 4 candidates were trained before" in done.err
    assert trained[len(first + finals)][1] == ["crt (lr 0.0002, seed 0)"]

    seeds = stage2(run_cli, file, runs_dir, "--method", "crt", *LIST, "--seeds", 2)
    assert "3 of 6 candidates were trained before" in seeds.err


def test_where_val_was_held_out_what_was_chosen_from_is_what_is_reported(
    tmp_path: Path, run_cli: RunCli, with_val: Path
) -> None:
    stage2(run_cli, with_val, tmp_path / "runs", "--method", "crt", *LIST)
    (final,) = folders(tmp_path)
    candidate = final.parents[1] / "candidates" / final.name
    assert (final / CLASSIFIER).read_bytes() == (candidate / CLASSIFIER).read_bytes()
    told, other = read_manifest(final), read_manifest(candidate)
    assert (told["split"], other["split"]) == ("test", "val")
    assert told["history"] == other["history"]
    own = load_file(final / CLASSIFIER)
    for manifest, split in ((told, "test"), (other, "val")):
        wanted = gol_decouple.evaluate((own["weight"], own["bias"]), with_val, split)
        assert manifest["metrics"]["top1_balanced"] == pytest.approx(wanted["top1_balanced"])


class Stopped(KeyboardInterrupt):
    pass


@TWO_KINDS
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_an_interrupted_choice_continues(
    tmp_path: Path, run_cli: RunCli, file: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    arguments = ("--method", "crt", "--method", "gumbel", "--set", "stage2.lr=[1e-4,1e-2]", "--set", "stage2.epochs=4")
    stage2(run_cli, file, tmp_path / "whole", *arguments)
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
    real = saved.Saved._save_states

    def save(self: saved.Saved, states: Iterable[tuple[Job, State]]) -> None:
        states = list(states)
        real(self, states)
        if any(job.method.name == "crt" and len(state.history) == stop_after for job, state in states):
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(saved.Saved, "_save_states", save)
        stage2(run_cli, file, tmp_path / "stopped", *arguments, code=130)
    assert not asked_for(tmp_path / "stopped")
    again = stage2(run_cli, file, tmp_path / "stopped", *arguments)
    assert again.err.count(f": continuing after epoch {stop_after}\n") == 4
    for section in ("candidates", "stage2"):
        one, other = (folders(tmp_path / name, section) for name in ("whole", "stopped"))
        assert [folder.name for folder in one] == [folder.name for folder in other]
        for whole, stopped in zip(one, other, strict=True):
            assert (whole / CLASSIFIER).read_bytes() == (stopped / CLASSIFIER).read_bytes()
            assert not (stopped / states.STATE).exists()
    for whole, stopped in zip(asked_for(tmp_path / "whole"), asked_for(tmp_path / "stopped"), strict=True):
        assert choice(whole) == choice(stopped)


def test_an_interrupted_training_of_what_was_chosen_continues(
    tmp_path: Path, run_cli: RunCli, carved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On all of train, where what it was chosen by was held out of it."""
    arguments = ("--method", "crt", "--set", "stage2.lr=[1e-4,1e-2]", "--set", "stage2.epochs=4")
    stage2(run_cli, carved, tmp_path / "whole", *arguments)
    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
    real = saved.Saved._save_states

    def save(self: saved.Saved, states: Iterable[tuple[Job, State]]) -> None:
        real(self, states)
        if self.samples.key == "":
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(saved.Saved, "_save_states", save)
        stage2(run_cli, carved, tmp_path / "stopped", *arguments, code=130)
    assert [path.name for path in folders(tmp_path / "stopped")[0].iterdir()] == [states.STATE]
    again = stage2(run_cli, carved, tmp_path / "stopped", *arguments)
    assert "2 of 2 candidates were trained before" in again.err
    assert again.err.count(": continuing after epoch 1\n") == 1
    (whole,), (stopped,) = (folders(tmp_path / name) for name in ("whole", "stopped"))
    assert whole.name == stopped.name
    assert (whole / CLASSIFIER).read_bytes() == (stopped / CLASSIFIER).read_bytes()
    assert choice(whole) == choice(stopped)


# Points that diverge


@TWO_KINDS
def test_a_point_that_diverges_is_left_out(tmp_path: Path, run_cli: RunCli, file: Path) -> None:
    arguments = ("--method", "gumbel", "--set", "stage2.lr=[1e38,1e-4,1e-3]", "--set", "stage2.epochs=2")
    done = stage2(run_cli, file, tmp_path / "runs", *arguments)
    warnings = [line for line in done.err.splitlines() if "left out of the choice" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: left out of the choice: gumbel (lr 1e+38, seed 0) diverged in epoch 1")
    (folder,) = asked_for(tmp_path)
    values = [point["value"] for point in choice(folder)["tried"]]
    assert values[0] is None
    assert choice(folder)["value"] == max(values[1:])
    assert not any("lr1e+38" in folder.name for folder in folders(tmp_path, "candidates"))


def test_a_point_that_diverges_with_one_seed_is_left_out(
    tmp_path: Path, run_cli: RunCli, with_val: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its other seeds may well be the best of all."""
    from gol_decouple.errors import InputError

    stage2(run_cli, with_val, tmp_path / "all", "--method", "crt", *LIST, "--seeds", 2)
    best = choice(folders(tmp_path / "all")[0])
    best_lr = read_manifest(folders(tmp_path / "all")[0])["settings"]["lr"]
    real = saved.train_together

    def failing(rows: TrainRows, jobs: Sequence[Job], *more: Any) -> Iterator[Any]:
        for job, result in real(rows, jobs, *more):
            fails = job.seed == 1 and job.method.lr == best_lr
            yield job, InputError(f"{job} diverged", "lower it") if fails else result

    monkeypatch.setattr(saved, "train_together", failing)
    done = stage2(run_cli, with_val, tmp_path / "one", "--method", "crt", *LIST, "--seeds", 2)
    assert f"left out of the choice: crt (lr {best_lr:g}, seed 1) diverged" in done.err
    assert len(folders(tmp_path / "one")) == 2
    for folder in folders(tmp_path / "one"):
        found = choice(folder)
        left = [point["value"] for point in found["tried"] if point["value"] is not None]
        assert len(left) == len(LRS) - 1
        assert found["value"] == max(left) <= best["value"]
        assert read_manifest(folder)["settings"]["lr"] != best_lr


@TWO_KINDS
def test_where_all_points_diverge_the_other_methods_are_made(tmp_path: Path, run_cli: RunCli, file: Path) -> None:
    arguments = ("--set", "stage2.lr=[1e38,9e37]", "--set", "stage2.epochs=2", "--set", "stage2.tau=0.5")
    made = ("--method", "gumbel", "--method", "ncm", "--method", "tau_norm")
    done = stage2(run_cli, file, tmp_path / "runs", *made, *arguments, code=2)
    assert " ncm " in done.out, "what is finished is reported"
    error, hint = done.err.splitlines()[-2:]
    assert error.startswith("error: nothing to choose from: all of these failed: gumbel (lr 1e+38, seed 0)")
    assert "gumbel (lr 9e+37, seed 0)" in error
    assert hint == "hint: try a lower stage2.lr"
    assert sorted(read_manifest(folder)["method"] for folder in asked_for(tmp_path)) == ["ncm", "tau_norm"]


# Training on val too


def watched_counts(trained: list[tuple[TrainRows, list[str]]]) -> list[list[int]]:
    return [rows.class_counts.tolist() for rows, _ in trained]


@pytest.mark.parametrize("name", ["crt", "balanced_softmax"])
def test_refit_trains_on_train_and_val(
    tmp_path: Path, run_cli: RunCli, with_val: Path, trained: list[tuple[TrainRows, list[str]]], name: str
) -> None:
    done = stage2(run_cli, with_val, tmp_path / "runs", "--method", name, *LIST, "--set", "stage2.refit=true")
    assert "warning" not in done.err
    both = [a + b for a, b in zip(SIZES["train"], SIZES["val"], strict=True)]
    assert watched_counts(trained) == [list(SIZES["train"]), both]
    (final,) = folders(tmp_path)
    manifest = read_manifest(final)
    assert manifest["trained_on"] == "train + val"
    assert "-train+val-" in final.name
    # Without other views the order of samples is that of a file that has them all in its train split.
    splits = drawn_splits()
    joined = [np.concatenate(parts) for parts in zip(splits["train"], splits["val"], strict=True)]
    other = write(tmp_path / "joined.h5", {"train": tuple(joined), "test": splits["test"]})
    wanted = gol_decouple.retrain(other, name, lr=manifest["settings"]["lr"], epochs=2)
    found = load_file(final / CLASSIFIER)
    torch.testing.assert_close(found["weight"], wanted.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["bias"], wanted.bias, rtol=1e-5, atol=1e-6)
    apart = gol_decouple.retrain(with_val, name, lr=manifest["settings"]["lr"], epochs=2)
    assert not torch.allclose(found["weight"], apart.weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["ncm", "logit_adjustment"])
def test_refit_without_a_choice_is_on_train_and_val_too(
    tmp_path: Path, run_cli: RunCli, with_val: Path, name: str
) -> None:
    stage2(run_cli, with_val, tmp_path / "runs", "--method", name, "--set", "stage2.refit=true")
    (final,) = folders(tmp_path)
    splits = drawn_splits()
    joined = [np.concatenate(parts) for parts in zip(splits["train"], splits["val"], strict=True)]
    other = write(tmp_path / "joined.h5", {"train": tuple(joined), "test": splits["test"]})
    wanted, apart = (gol_decouple.retrain(path, name).classifier.tensors() for path in (other, with_val))
    found = load_file(final / CLASSIFIER)
    assert found.keys() == wanted.keys()
    for part, tensor in wanted.items():
        torch.testing.assert_close(found[part], tensor, rtol=1e-6, atol=1e-6)
    assert not torch.equal(found["bias"], apart["bias"])
    assert read_manifest(final)["trained_on"] == "train + val"
    assert not (final / runs.CHOICE).exists()


@pytest.mark.parametrize("spaces", ['["raw","l2","centred_l2"]'])
def test_a_closed_form_that_is_chosen_and_made_again_is_that_of_all_samples(
    tmp_path: Path, run_cli: RunCli, with_val: Path, spaces: str
) -> None:
    arguments = ("--method", "ncm", "--set", f"stage2.space={spaces}", "--set", "stage2.refit=true")
    stage2(run_cli, with_val, tmp_path / "runs", *arguments)
    (final,) = folders(tmp_path)
    values = {
        space: gol_decouple.evaluate(gol_decouple.retrain(with_val, "ncm", space=space), with_val, "val")
        for space in json.loads(spaces)
    }
    space = max(values, key=lambda name: values[name]["top1_balanced"])
    assert read_manifest(final)["settings"]["space"] == space
    assert choice(final)["value"] == pytest.approx(values[space]["top1_balanced"])


@pytest.mark.parametrize("refit", [None, True, False])
def test_where_train_was_carved_refit_says_whether_what_was_held_out_comes_back(
    tmp_path: Path, run_cli: RunCli, carved: Path, trained: list[tuple[TrainRows, list[str]]], refit: bool | None
) -> None:
    setting = () if refit is None else ("--set", f"stage2.refit={json.dumps(refit)}")
    stage2(run_cli, carved, tmp_path / "runs", "--method", "crt", *LIST, *setting)
    (final,) = folders(tmp_path)
    manifest = read_manifest(final)
    rest = np.bincount(held_out_as_val(drawn_splits())["train"][1]).tolist()
    assert rest == [48, 24, 12, 6]
    all_of_train = [] if refit is False else [list(SIZES["train"])]
    assert watched_counts(trained) == [rest, *all_of_train]
    assert manifest["trained_on"] == ("train without 23 samples" if refit is False else "train")
    splits = held_out_as_val(drawn_splits())
    source = write(tmp_path / "rest.h5", splits) if refit is False else carved
    wanted = gol_decouple.retrain(source, "crt", lr=manifest["settings"]["lr"], epochs=2)
    found = load_file(final / CLASSIFIER)
    torch.testing.assert_close(found["weight"], wanted.weight, rtol=1e-5, atol=1e-6)
    if refit is False:
        same = final.parents[1] / "candidates" / final.name
        assert (final / CLASSIFIER).read_bytes() == (same / CLASSIFIER).read_bytes()


def test_streamed_rows_are_chosen_from_and_trained_on_with_val(
    tmp_path: Path, run_cli: RunCli, with_val: Path, trained: list[tuple[TrainRows, list[str]]]
) -> None:
    streamed = ("--set", "stage2.memory_gb=1e-9", "--set", "stage2.refit=true")
    stage2(run_cli, with_val, tmp_path / "runs", "--method", "crt", *LIST, *streamed)
    both = [a + b for a, b in zip(SIZES["train"], SIZES["val"], strict=True)]
    assert watched_counts(trained) == [list(SIZES["train"]), both]
    assert [rows.shuffled_rows for rows, _ in trained] == [113, 113], "train and val are a block each"
    (final,) = folders(tmp_path)
    assert read_manifest(final)["trained_on"] == "train + val"
    # Train is one block, shuffled as in memory; so the choice is the same.
    stage2(run_cli, with_val, tmp_path / "memory", "--method", "crt", *LIST)
    assert choice(folders(tmp_path / "memory")[0]) == choice(final)


@pytest.mark.parametrize("refit", [None, False])
def test_where_there_is_val_it_is_not_trained_on_unless_asked_for(
    tmp_path: Path, run_cli: RunCli, with_val: Path, trained: list[tuple[TrainRows, list[str]]], refit: bool | None
) -> None:
    setting = () if refit is None else ("--set", f"stage2.refit={json.dumps(refit)}")
    stage2(run_cli, with_val, tmp_path / "runs", "--method", "crt", *LIST, *setting)
    assert watched_counts(trained) == [list(SIZES["train"])]
    assert read_manifest(folders(tmp_path)[0])["trained_on"] == "train"


def test_refit_takes_one_value(tmp_path: Path, run_cli: RunCli, with_val: Path) -> None:
    arguments = ("--method", "crt", "--set", "stage2.refit=[true,false]", "--set", "stage2.epochs=1")
    done = stage2(run_cli, with_val, tmp_path / "runs", *arguments, code=2)
    assert done.err.splitlines()[-1].startswith("error: stage2.refit takes one value")
    assert not folders(tmp_path)


# What is held out of train is told


def test_a_choice_by_samples_of_train_is_warned_of(tmp_path: Path, run_cli: RunCli, carved: Path) -> None:
    done = stage2(run_cli, carved, tmp_path / "runs", "--method", "crt", *LIST)
    (warning,) = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert warning.startswith(f"warning: {carved} has no val split: choosing by 23 train samples held out.")
    assert "accuracies on them are too high" in warning
    assert "data.val_fraction" in warning


def test_a_choice_by_val_is_not_warned_of(tmp_path: Path, run_cli: RunCli, with_val: Path) -> None:
    assert "warning" not in stage2(run_cli, with_val, tmp_path / "runs", "--method", "crt", *LIST).err


# The test split is read when all is chosen, and not before


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In their order: splits that are looked at, candidates that are done, choices that are made."""
    told: list[str] = []
    real_split, real_manifest, real_choice = FeaturesFile.__getitem__, runs.write_manifest, choosing.Candidates.choose

    def split(self: FeaturesFile, name: str) -> Any:
        told.append(f"look at {name}")
        return real_split(self, name)

    def manifest(folder: Path, content: dict[str, Any]) -> None:
        real_manifest(folder, content)
        told.append(f"{folder.parent.name} done")

    def choose(self: choosing.Candidates, *arguments: Any) -> Any:
        found = real_choice(self, *arguments)
        told.append("chosen")
        return found

    monkeypatch.setattr(FeaturesFile, "__getitem__", split)
    monkeypatch.setattr(runs, "write_manifest", manifest)
    monkeypatch.setattr(choosing.Candidates, "choose", choose)
    return told


def first_look(events: list[str]) -> int:
    """When the test split is looked at for the first time."""
    return events.index("look at test")


def all_chosen(events: list[str]) -> int:
    """When the last candidate is done and the last choice made."""
    return max(place for place, event in enumerate(events) if event in ("candidates done", "chosen"))


# What is asked for, and how many candidates and choices that makes; beside candidates, of a file without a classifier,
# there is one of Softmax a seed that others start from.
ASKED: dict[str, tuple[tuple[object, ...], int, int]] = {
    "a list": (("--method", "crt", *LIST), 3, 1),
    "methods and seeds": (("--method", "crt", "--method", "gumbel", *LIST, "--seeds", 2), 12, 2),
    "a method beside": (("--method", "ncm", "--method", "crt", *LIST), 3, 1),
    "closed forms": (("--method", "ncm", "--set", 'stage2.space=["raw","l2"]'), 2, 1),
    "temperature": (("--method", "crt", "--method", "ncm", "--set", "stage2.temperature=val"), 2, 2),
    "temperature of every point": (
        ("--method", "crt", *LIST, "--set", "stage2.temperature=val", "--keep-grid"),
        3,
        3,
    ),
    "both": (("--method", "crt", *LIST, "--set", "stage2.temperature=val", "--set", "stage2.refit=true"), 3, 1),
    "not refitted": (("--method", "crt", *LIST, "--set", "stage2.refit=false"), 3, 1),
    "one that diverges": (("--method", "gumbel", "--set", "stage2.lr=[1e38,1e-5,1e-4]"), 2, 1),
}


@TWO_KINDS
@pytest.mark.parametrize("asked", list(ASKED))
def test_test_is_looked_at_after_the_last_choice(
    tmp_path: Path, run_cli: RunCli, file: Path, events: list[str], asked: str
) -> None:
    arguments, candidates, choices = ASKED[asked]
    stage2(run_cli, file, tmp_path / "runs", *arguments)
    before = events[: first_look(events)]
    of_softmax = len([folder for folder in folders(tmp_path, "candidates") if "startfresh" in folder.name])
    assert before.count("candidates done") == candidates + of_softmax
    assert before.count("chosen") == choices
    assert first_look(events) > all_chosen(events)
    assert "stage2 done" in events[first_look(events) :]


@pytest.mark.parametrize("mistake", ["chooses by test", "evaluates on test", "peeks between two choices"])
def test_a_chooser_that_looks_at_test_would_be_found_out(
    tmp_path: Path,
    run_cli: RunCli,
    with_val: Path,
    events: list[str],
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
) -> None:
    if mistake == "chooses by test":
        monkeypatch.setattr(Holdout, "of", lambda features: Holdout("test"))
    elif mistake == "evaluates on test":
        real = choosing.finish
        monkeypatch.setattr(choosing, "finish", lambda *arguments: real(*arguments[:-2], "test"))
    else:
        real_value = choosing.Candidates.value

        def value(self: choosing.Candidates, *arguments: Any) -> float | None:
            len(self._work.features["test"])
            return real_value(self, *arguments)

        monkeypatch.setattr(choosing.Candidates, "value", value)
    stage2(run_cli, with_val, tmp_path / "runs", *ASKED["methods and seeds"][0])
    assert first_look(events) < all_chosen(events)


OTHER_TEST = {
    "other labels": lambda x, labels: (x, np.random.default_rng(5).permutation(labels)),
    "other features": lambda x, labels: (np.random.default_rng(5).normal(0, 9, x.shape).astype(np.float32), labels),
    "other and fewer of both": lambda x, labels: (-x[:7], labels[::-1][:7]),
}


def made(run_cli: RunCli, folder: Path, splits: Splits, kind: str, asked: str) -> dict[tuple[str, str], object]:
    """Every candidate and classifier: its weights, how it was chosen, and its temperature."""
    file = write(folder / "some.h5", splits, "without" not in kind)
    stage2(run_cli, file, folder / "runs", *ASKED[asked][0])
    return {
        # The hash at the end of a name is of all features.
        (section, path.name.rpartition("-")[0]): (
            (path / CLASSIFIER).read_bytes(),
            choice(path) if (path / runs.CHOICE).exists() else None,
            read_manifest(path)["temperature"],
        )
        for section in ("candidates", "stage2")
        for path in folders(folder, section)
    }


def told_choices(found: dict[tuple[str, str], Any]) -> list[dict[str, Any]]:
    return [told for _, told, _ in found.values() if told is not None]


@TWO_KINDS
@pytest.mark.parametrize("change", list(OTHER_TEST))
@pytest.mark.parametrize("asked", ["methods and seeds", "closed forms", "both"])
def test_what_is_chosen_does_not_depend_on_test(
    tmp_path: Path, run_cli: RunCli, kind: str, asked: str, change: str
) -> None:
    splits = drawn_splits() if kind.startswith("val") else without_val(drawn_splits())
    one = made(run_cli, tmp_path / "one", splits, kind, asked)
    splits["test"] = OTHER_TEST[change](*splits["test"])
    assert made(run_cli, tmp_path / "other", splits, kind, asked) == one
    assert told_choices(one)
    accuracies = [{row["top1"] for row in collect_rows([tmp_path / name], tmp_path)} for name in ("one", "other")]
    assert accuracies[0] != accuracies[1], "what is reported does"


@pytest.mark.parametrize("change", list(OTHER_TEST))
def test_one_that_chose_by_test_would_be_found_out(
    tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(Holdout, "of", lambda features: Holdout("test"))
    splits = drawn_splits()
    one = made(run_cli, tmp_path / "one", splits, "val", "methods and seeds")
    splits["test"] = OTHER_TEST[change](*splits["test"])
    other = made(run_cli, tmp_path / "other", splits, "val", "methods and seeds")
    assert other != one
    assert told_choices(other) != told_choices(one)
