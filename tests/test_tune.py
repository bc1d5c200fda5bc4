"""`tune` by the command line: what it tries, what it decides and by what, and what it leaves."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, RunCli

from gol_decouple import features, methods
from gol_decouple.cli import main
from gol_decouple.runs import is_finished, read_manifest
from gol_decouple.stages import saved, search, tuning
from gol_decouple.stages.feed import TrainRows
from gol_decouple.stages.jobs import Job

NUM_CLASSES, SIZE = 3, 8
FOUR = ("crt", "gumbel", "tau_norm", "ncm")
SETTINGS = {"crt": 5, "gumbel": 5, "tau_norm": 8, "ncm": 3}
BRIEF = ("--set", "stage2.epochs=2")
COUNTS = (60, 25, 10)


def write(
    path: Path, classifier: str | None = "random", val: bool = True, spread: float = 0.7, test_seed: int = 1
) -> Path:
    """Three classes around centres that lie `spread` apart, with a classifier that knows nothing, or their centres."""
    stream = np.random.default_rng(3)
    centres = stream.normal(0, spread, (NUM_CLASSES, SIZE))
    known = {
        "random": (stream.normal(size=centres.shape), stream.normal(size=NUM_CLASSES)),
        "perfect": (centres, -0.5 * (centres**2).sum(1)),
        "good": (centres + stream.normal(0, 0.3, centres.shape), -0.5 * (centres**2).sum(1)),
    }

    def split(counts: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
        own, labels = np.random.default_rng(seed), np.repeat(np.arange(NUM_CLASSES), counts)
        return (centres[labels] + own.normal(size=(len(labels), SIZE))).astype(np.float32), labels

    splits = {"train": split(COUNTS, 10), "val": split((50, 40, 30), 11), "test": split((30, 30, 30), test_seed)}
    if not val:
        del splits["val"]
    path.parent.mkdir(parents=True, exist_ok=True)
    return features.write(path, splits, classifier=known.get(classifier or ""))


def named(*names: str) -> list[str]:
    return [text for name in names for text in ("--method", name)]


class Tuned:
    """`tune` on features files of a test, and what is there then."""

    def __init__(self, root: Path, run_cli: RunCli) -> None:
        self.root, self._run_cli = root, run_cli

    def __call__(self, file: Path, *arguments: object, names: Sequence[str] = FOUR, runs: str = "runs") -> Outcome:
        return self._run_cli("tune", file, *named(*names), *BRIEF, *arguments, "--runs-dir", self.root / runs)

    def folder(self, file: Path, runs: str = "runs") -> Path:
        return self.root / runs / file.stem

    def told(self, file: Path, runs: str = "runs") -> dict[str, Any]:
        return json.loads((self.folder(file, runs) / "tuning.json").read_text())


@pytest.fixture
def tuned(tmp_path: Path, run_cli: RunCli) -> Tuned:
    return Tuned(tmp_path, run_cli)


def watch_training(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is trained, in the order of the calls, each of which is one go through the features."""
    calls: list[list[str]] = []
    real = saved.train_together

    def watched(rows: TrainRows, jobs: Sequence[Job], *more: Any) -> Iterator[Any]:
        calls.append([str(job) for job in jobs])
        return real(rows, jobs, *more)

    monkeypatch.setattr(saved, "train_together", watched)
    return calls


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    return watch_training(monkeypatch)


def balanced(folder: Path) -> float:
    """The mean over classes of a candidate's accuracy, in percent, from its predictions."""
    with np.load(folder / "predictions.npz") as predictions:
        label, right = predictions["label"], predictions["classes"][:, 0] == predictions["label"]
    return float(100 * np.mean([right[label == one].mean() for one in np.unique(label)]))


def candidates(run: Path) -> dict[str, dict[str, list[Path]]]:
    """Folders of all candidates by method and by settings, one a seed."""
    found: dict[str, dict[str, list[Path]]] = {}
    for folder in sorted((run / "candidates").iterdir()):
        manifest = read_manifest(folder)
        settings = json.dumps(manifest["changed_settings"], sort_keys=True)
        found.setdefault(manifest["method"], {}).setdefault(settings, []).append(folder)
    return found


def rows_below(out: str, heading: str) -> list[list[str]]:
    """The lines of the table whose columns begin so, each as its words."""
    lines = [line.split() for line in out.splitlines()]
    (start,) = [place for place, words in enumerate(lines) if " ".join(words).startswith(heading)]
    rows = []
    for words in lines[start + 2 :]:
        if not words:
            break
        rows.append(words)
    return rows


# What is told


@pytest.fixture(scope="module", params=[(True, 1), (True, 2), (False, 1)], ids=["val", "two seeds", "without val"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome, int]:
    """The folder, the outcome and the seeds of a tuning. Tests must not write into it."""
    val, seeds = request.param
    root = tmp_path_factory.mktemp("tuned")
    file = write(root / "some.h5", val=val)
    arguments = ["tune", file, *named(*FOUR), *BRIEF, "--seeds", seeds, "--runs-dir", root / "runs"]
    handler, out, err = signal.getsignal(signal.SIGTERM), io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["gol-decouple", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        code = main()
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert code == 0, err.getvalue()
    return root / "runs" / "some", Outcome(code, out.getvalue(), err.getvalue()), seeds


def test_values_and_ranking_are_those_of_the_candidates(made: tuple[Path, Outcome, int]) -> None:
    run, outcome, seeds = made
    told = json.loads((run / "tuning.json").read_text())
    found = candidates(run)
    assert {name: len(settings) for name, settings in found.items()} == SETTINGS
    best = {}
    for row in told["methods"]:
        name = row["method"]
        tried = {json.dumps(one["settings"], sort_keys=True): one["value"] for one in row["tried"]}
        assert tried.keys() == found[name].keys()
        assert (len(row["tried"]), row["left"]) == (SETTINGS[name], 0)
        for settings, folders in found[name].items():
            assert len(folders) == (seeds if methods.get(name).is_trained else 1)
            assert tried[settings] == pytest.approx(np.mean([balanced(folder) for folder in folders]))
            assert {read_manifest(folder)["split"] for folder in folders} == {
                "val" if told["held_out"] == "val" else "train"
            }
        assert row["value"] == max(tried.values())
        assert tried[json.dumps(row["settings"], sort_keys=True)] == row["value"]
        firsts = [one["settings"] for one in row["tried"] if one["value"] == row["value"]]
        assert row["settings"] == firsts[0], "of equals the first"
        best[name] = row["value"]
    assert list(best) == sorted(best, key=lambda name: -best[name])
    assert told["seeds"] == list(range(seeds))
    assert (told["criterion"], told["untried"]) == ("top1_balanced", [])
    held_out = {True: ("val", 120), False: ("19 train samples held out", 19)}[told["held_out"] == "val"]
    assert (told["held_out"], told["samples"]) == held_out
    assert ("warning: " in outcome.err) == (told["held_out"] != "val")


def hits(folders: Iterable[Path]) -> np.ndarray:
    right = []
    for folder in folders:
        with np.load(folder / "predictions.npz") as predictions:
            right.append(predictions["classes"][:, 0] == predictions["label"])
    return np.stack(right)


def interval(own: np.ndarray, other: np.ndarray, labels: np.ndarray) -> list[float]:
    """Mean and 95 % interval of the difference of two balanced accuracies, [S, N] each, a draw at a time."""
    stream, paired, differences = np.random.default_rng(99), len(own) == len(other), []
    for _ in range(400):
        drawn = stream.integers(len(labels), size=len(labels))
        seeds = stream.integers(len(own), size=len(own))
        others = seeds if paired else stream.integers(len(other), size=len(other))
        parts = [drawn[labels[drawn] == one] for one in np.unique(labels[drawn])]
        differences.append(
            np.mean([own[np.ix_(seeds, part)].mean() - other[np.ix_(others, part)].mean() for part in parts])
        )
    parts = [np.flatnonzero(labels == one) for one in np.unique(labels)]
    mean = np.mean([own[:, part].mean() - other[:, part].mean() for part in parts])
    return [100 * float(value) for value in (mean, *np.quantile(differences, [0.025, 0.975]))]


def test_gains_equals_and_what_to_ship(made: tuple[Path, Outcome, int]) -> None:
    """Methods gain a lot over a classifier that knows nothing; by another bootstrap, one method at a time."""
    run, _, _ = made
    told = json.loads((run / "tuning.json").read_text())
    found = candidates(run)
    file = features.open(run.parent.parent / "some.h5")
    chosen = {
        row["method"]: found[row["method"]][json.dumps(row["settings"], sort_keys=True)] for row in told["methods"]
    }
    with np.load(next(iter(chosen.values()))[0] / "predictions.npz") as predictions:
        labels, ids = predictions["label"], predictions["id"]
    held_out = file["val" if told["held_out"] == "val" else "train"]
    x = held_out.features[0][np.isin(held_out.ids, ids)]
    assert file.classifier is not None
    stage_one = (np.argmax(x @ file.classifier.weight.T + file.classifier.bias, axis=1) == labels)[None]
    classes = [labels == one for one in range(NUM_CLASSES)]
    assert told["stage_one"] == pytest.approx(100 * np.mean([stage_one[0, one].mean() for one in classes]))
    best, *others = told["methods"]
    assert told["ship"] == best["method"]
    assert best["over_best"] is None
    wide = 3.0 if len(labels) > 100 else 12.0
    assert best["gain"] == pytest.approx(interval(hits(chosen[best["method"]]), stage_one, labels), abs=wide)
    assert best["gain"][1] > 0
    means = {}
    for row in told["methods"]:
        own = hits(chosen[row["method"]])
        means[row["method"]] = 100 * np.mean([own[:, one].mean() for one in classes])
        assert row["gain"][0] == pytest.approx(means[row["method"]] - told["stage_one"])
    for row in others:
        assert row["over_best"][0] == pytest.approx(means[row["method"]] - means[best["method"]])
    wanted = interval(hits(chosen[others[0]["method"]]), hits(chosen[best["method"]]), labels)
    assert others[0]["over_best"] == pytest.approx(wanted, abs=wide)
    equals = [row["method"] for row in others if row["over_best"][1] <= 0 <= row["over_best"][2]]
    assert told["equals"] == equals
    assert 0 < len(equals) < len(others), "some are worse by more than chance, some are not"


def test_the_classifiers_to_ship_are_there_as_they_were_chosen(made: tuple[Path, Outcome, int]) -> None:
    run, _, seeds = made
    told = json.loads((run / "tuning.json").read_text())
    best = told["methods"][0]
    assert len(told["classifiers"]) == (seeds if methods.get(best["method"]).is_trained else 1)
    for folder in map(Path, told["classifiers"]):
        assert folder.parent == run / "stage2"
        assert (folder / "classifier.safetensors").is_file()
        manifest = read_manifest(folder)
        assert (manifest["method"], manifest["changed_settings"]) == (best["method"], best["settings"])
        assert (manifest["split"], manifest["trained_on"]) == ("test", "train")
        choice = json.loads((folder / "choice.json").read_text())
        assert {name: choice[name] for name in ("value", "tried")} == {name: best[name] for name in ("value", "tried")}
        assert (choice["held_out"], choice["criterion"]) == (told["held_out"], "top1_balanced")
        if told["held_out"] == "val":
            (same,) = (run / "candidates").glob(folder.name)
            assert (same / "classifier.safetensors").read_bytes() == (folder / "classifier.safetensors").read_bytes()
    assert len(list((run / "stage2").iterdir())) == sum(
        seeds if methods.get(name).is_trained else 1 for name in SETTINGS
    )


def test_what_is_printed_is_what_was_told(made: tuple[Path, Outcome, int]) -> None:
    run, outcome, _ = made
    told = json.loads((run / "tuning.json").read_text())
    title = f"what was tried on {told['held_out']}, {told['samples']} samples, mean over classes (%)"
    assert title in " ".join(outcome.out.split())
    rows = rows_below(outcome.out, "method recipe tried top-1 gain to the best")
    assert [words[0] for words in rows] == [row["method"] for row in told["methods"]]
    for words, row in zip(rows, told["methods"], strict=True):
        text, count = " ".join(words), SETTINGS[row["method"]]
        assert f" {count} of {count} {row['value']:.1f} " in text
        for name in ("gain", "over_best"):
            if row[name] is not None:
                mean, low, high = row[name]
                assert f"{mean:+.1f} [{low:.1f}, {high:.1f}]" in text
    best = told["methods"][0]
    decision = f"Ship {told['ship']}: it has the best mean over classes, {best['value']:.1f}, "
    assert decision in outcome.out
    assert f" over stage one's {told['stage_one']:.1f}. Not worse by more than chance: " in outcome.out
    assert f"Not worse by more than chance: {', '.join(told['equals'])}." in outcome.out
    assert f"\nIn {', '.join(told['classifiers'])}\n" in outcome.out


def test_then_the_report_is_printed_with_the_final_rows(made: tuple[Path, Outcome, int], run_cli: RunCli) -> None:
    run, outcome, seeds = made
    told = json.loads((run / "tuning.json").read_text())
    assert outcome.out.endswith("\n\n" + run_cli("report", run).out)
    rows = json.loads(run_cli("report", run, "--format", "json").out)
    wanted = {row["method"]: row for row in told["methods"]}
    assert {(row["method"], row["seed"]) for row in rows} == {
        (name, seed) for name in wanted for seed in range(seeds if methods.get(name).is_trained else 1)
    }
    for row in rows:
        assert (row["split"], row["chosen_on"]) == ("test", told["held_out"])
        assert row["tried"] == wanted[row["method"]]["tried"]
        assert row["changed_settings"] == wanted[row["method"]]["settings"]
        assert row["top1"] == pytest.approx(balanced(Path(row["path"]))), "test has as many of each class"


@pytest.mark.parametrize("width", [60, 80])
def test_what_was_tried_is_whole_in_a_narrow_terminal(
    tmp_path: Path, tuned: Tuned, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    file = write(tmp_path / "some.h5")
    outcome = tuned(file, names=["crt", "tau_norm", "ncm"])
    assert outcome.code == 0, outcome.err
    table = outcome.out[: outcome.out.index("\nIn ")]
    assert all(len(line) <= width for line in table.splitlines())
    assert "…" not in table
    told = tuned.told(file)
    mean, low, high = told["methods"][0]["gain"]
    assert {f"{mean:+.1f}", f"[{low:.1f},", f"{high:.1f}]"} <= set(table.split())
    assert f"\nIn {told['classifiers'][0]}\n" in outcome.out, "a path is never broken"


# What to ship


def test_a_classifier_that_cannot_be_improved_is_kept(tmp_path: Path, tuned: Tuned) -> None:
    file = write(tmp_path / "some.h5", "perfect", spread=3.0)
    outcome = tuned(file)
    told = tuned.told(file)
    assert (outcome.code, told["ship"], told["stage_one"]) == (0, "stage_one", 100.0)
    assert told["methods"][0]["gain"] == [0.0, 0.0, 0.0]
    assert told["classifiers"] == [str(tuned.folder(file))]
    best = told["methods"][0]["method"]
    assert (
        f"Keep the stage-one classifier (100.0): the best method, {best} (100.0), gains no more than chance.\n"
        f"In {tuned.folder(file)}\n"
    ) in outcome.out
    assert "Ship" not in outcome.out
    assert {read_manifest(one)["method"] for one in (tuned.folder(file) / "stage2").iterdir()} == set(FOUR)


def test_the_best_is_kept_back_where_its_gain_may_be_chance(tmp_path: Path, tuned: Tuned) -> None:
    """Some method is better on val than nearly the best there can be, by less than the interval is wide."""
    file = write(tmp_path / "some.h5", "good")
    assert tuned(file).code == 0
    told = tuned.told(file)
    mean, low, high = told["methods"][0]["gain"]
    assert low <= 0 < mean < high
    assert told["ship"] == "stage_one"


def test_methods_that_are_worse_are_not_shipped(tmp_path: Path, tuned: Tuned) -> None:
    file = write(tmp_path / "some.h5", "perfect")
    assert tuned(file, "--set", "stage2.lr=1e-9", names=["crt"]).code == 0
    told = tuned.told(file)
    assert told["methods"][0]["gain"][2] < 0, "fresh weights that hardly move"
    assert (told["ship"], told["classifiers"]) == ("stage_one", [str(tuned.folder(file))])


def test_without_a_classifier_of_stage_one_the_best_is_shipped(
    tmp_path: Path, tuned: Tuned, trained: list[list[str]]
) -> None:
    file = write(tmp_path / "bare.h5", None)
    outcome = tuned(file)
    assert outcome.code == 0, outcome.err
    told = tuned.told(file)
    assert told["stage_one"] is None
    assert {row["gain"] for row in told["methods"]} == {None}
    assert told["ship"] == told["methods"][0]["method"]
    assert all(is_finished(Path(folder)) for folder in told["classifiers"])
    rows = rows_below(outcome.out, "method recipe tried top-1 to the best")
    assert [words[0] for words in rows] == [row["method"] for row in told["methods"]]
    assert f"Ship {told['ship']}: it has the best mean over classes, {told['methods'][0]['value']:.1f}. " in outcome.out
    assert trained.count(["softmax (lr 0.1, seed 0)"]) == 1, "what the others start from, for candidates and finals"


def test_the_settings_of_the_runs_config_are_settled_and_its_stage_one_is_reported(
    tmp_path: Path, tuned: Tuned, run_cli: RunCli, finished_run: Path
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "colours"))
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("[stage2]\n", "[stage2]\nlr = 1e-3\n"))
    outcome = run_cli("tune", run, *named("gumbel", "tau_norm"), *BRIEF)
    assert outcome.code == 0, outcome.err
    told = json.loads((run / "tuning.json").read_text())
    tried = {row["method"]: [one["settings"] for one in row["tried"]] for row in told["methods"]}
    assert tried["gumbel"] == [{"lr": 1e-3, "epochs": 2}]
    assert len(tried["tau_norm"]) == SETTINGS["tau_norm"]
    assert told["held_out"] == "13 train samples held out"
    assert "softmax" in [words[0] for words in rows_below(outcome.out, "method recipe seeds")]
    assert "gain over stage one, points" in outcome.out


def test_seeds_are_compared_in_pairs(tmp_path: Path, tuned: Tuned) -> None:
    """Of two methods that are one, where seeds differ: there is no chance in the difference."""
    file = write(tmp_path / "some.h5")
    same = ("--set", "stage2.start=fresh", "--set", "stage2.tau=0", "--set", "stage2.lr=1e-9")
    assert tuned(file, "--seeds", 3, *same, names=["softmax", "logit_adjusted"]).code == 0
    first, second = tuned.told(file)["methods"]
    folders = candidates(tuned.folder(file))[first["method"]].values()
    assert len({balanced(folder) for some in folders for folder in some}) == 3
    assert (first["value"], first["over_best"], second["over_best"]) == (second["value"], None, [0.0, 0.0, 0.0])


# What --set and --method say


@pytest.mark.parametrize("values", [[0.05], [0.05, 0.5, 0.1]])
def test_settings_that_are_set_are_not_searched_and_lists_are_more_settings(
    tmp_path: Path, tuned: Tuned, values: list[float]
) -> None:
    file = write(tmp_path / "some.h5")
    text = json.dumps(values) if len(values) > 1 else values[0]
    assert tuned(file, "--set", f"stage2.lr={text}", names=["crt", "tau_norm"]).code == 0
    found = candidates(tuned.folder(file))
    assert len(found["tau_norm"]) == 8, "it has no learning rate"
    manifests = [read_manifest(folder) for folders in found["crt"].values() for folder in folders]
    assert sorted(manifest["settings"]["lr"] for manifest in manifests) == sorted(values)
    assert {manifest["settings"]["epochs"] for manifest in manifests} == {2}
    (row,) = [row for row in tuned.told(file)["methods"] if row["method"] == "crt"]
    assert [one["settings"].get("lr", 0.1) for one in row["tried"]] == values


def test_around_every_value_of_a_list_the_rest_is_searched(tmp_path: Path, tuned: Tuned) -> None:
    file = write(tmp_path / "some.h5")
    assert tuned(file, "--set", "stage2.momentum=[0.5,0.9]", "--set", "stage2.tau=0.4", names=FOUR[:3]).code == 0
    found = {
        name: sorted((one["settings"].get("lr", 0.1), one["settings"].get("momentum", 0.9)) for one in row["tried"])
        for row in tuned.told(file)["methods"]
        for name in [row["method"]]
    }
    assert found["crt"] == [(lr, momentum) for lr in (0.01, 0.033, 0.1, 0.3, 1.0) for momentum in (0.5, 0.9)]
    assert len(found["gumbel"]) == 10
    assert found["tau_norm"] == [(0.1, 0.9)]


def test_what_is_chosen_can_be_trained_on_val_too(tmp_path: Path, tuned: Tuned, trained: list[list[str]]) -> None:
    file = write(tmp_path / "some.h5")
    outcome = tuned(file, "--set", "stage2.refit=true", names=["crt", "ncm"])
    assert outcome.code == 0, outcome.err
    told, run = tuned.told(file), tuned.folder(file)
    finals = [read_manifest(folder) for folder in (run / "stage2").iterdir()]
    assert sorted((one["method"], one["trained_on"]) for one in finals) == [
        ("crt", "train + val"),
        ("ncm", "train + val"),
    ]
    folders = candidates(run)
    assert {read_manifest(one)["trained_on"] for some in folders["crt"].values() for (one,) in [some]} == {"train"}
    assert all(read_manifest(Path(folder))["trained_on"] == "train + val" for folder in told["classifiers"])
    assert " ".join(outcome.out.split()).count("trained on train + val") == 2
    assert [len(jobs) for jobs in trained] == [1] * 6


def test_seeds_are_counted_up_from_the_first(tmp_path: Path, tuned: Tuned) -> None:
    file = write(tmp_path / "some.h5")
    assert tuned(file, "--seed", 3, "--seeds", 2, "--set", "stage2.lr=0.1", names=["crt"]).code == 0
    told = tuned.told(file)
    assert told["seeds"] == [3, 4]
    assert [read_manifest(Path(folder))["seed"] for folder in told["classifiers"]] == [3, 4]
    (folders,) = candidates(tuned.folder(file))["crt"].values()
    assert [read_manifest(folder)["seed"] for folder in folders] == [3, 4]


@pytest.mark.parametrize(("refit", "trained_on"), [("true", "train"), ("false", "train without 19 samples")])
def test_what_was_held_out_of_train_is_trained_on_again_or_not(
    tmp_path: Path, tuned: Tuned, refit: str, trained_on: str
) -> None:
    file = write(tmp_path / "some.h5", val=False)
    assert tuned(file, "--set", f"stage2.refit={refit}", names=["ncm"]).code == 0
    (folder,) = tuned.told(file)["classifiers"]
    assert read_manifest(Path(folder))["trained_on"] == trained_on


def test_all_methods_are_tuned_unless_some_are_named(
    tmp_path: Path, tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those for background; an hour passes with what is tried first."""
    file = write(tmp_path / "some.h5")
    first = time.monotonic()
    done: list[int] = []
    real = tuning.Candidates.run

    def run(self: tuning.Candidates, *arguments: Any) -> Any:
        done.append(1)
        return real(self, *arguments)

    monkeypatch.setattr(tuning.Candidates, "run", run)
    monkeypatch.setattr(search, "time", SimpleNamespace(monotonic=lambda: first + 3600.0 * len(done)))
    outcome = tuned(file, names=[])
    assert outcome.code == 0, outcome.err
    told = tuned.told(file)
    (row,) = told["methods"]
    everything = [name for name, method in methods.METHODS.items() if not method.background]
    assert told["untried"] == [name for name in everything if name != row["method"]]
    assert not methods.get(row["method"]).is_trained, "which is the cheapest"
    assert (row["left"], len(row["tried"]), len(done)) == (len(methods.search(methods.get(row["method"]))) - 1, 1, 1)
    assert "no time for, or failed: softmax, crt, sigmoid, " in " ".join(outcome.out.split())
