"""The study of stage two's defaults on validation data (docs/defaults.md).

python -m benchmarks defaults prepare cifar100_if50.npz cifar100_if100_val.npz
gol-decouple stage1 cifar100_lt ... --set features.views=10       (docs/defaults.md has the whole command)
python -m benchmarks defaults search runs/NAME/features.h5 docs/defaults.csv --jobs 2
python -m benchmarks defaults show docs/defaults.csv
"""

from __future__ import annotations

import csv
import itertools
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from gol_decouple import evaluate, features, losses, methods, retrain
from gol_decouple.class_stats import class_counts, group_masks, long_tail_indices
from gol_decouple.errors import InputError
from gol_decouple.progress import to_stderr
from gol_decouple.stages.evaluation import predict

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

# With random sampling, and everything in question; then class-balanced ones, of which rate and views are tried.
ACTIVATIONS = ("softmax", "sigmoid", "gumbel")
BALANCED = {
    "crt": (10, (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
    "gumbel_crt": (15, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
}
METHODS = (*ACTIVATIONS, *BALANCED)
# What a classifier that starts from stage one takes is far smaller than what a fresh one does.
RATES = {
    "stage_one": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1e-1),
    "fresh": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
}
EPOCHS = (5, 15, 30)
SCHEDULES = ("constant", "cosine")
VIEWS = ("clean", "random")
Q_MINS = (-2.0, -3.0, -6.0, -8.0)
FINALISTS, SEEDS = 10, 5
SETTING = ("method", "start", "views", "schedule", "epochs", "lr", "q_min")
METRICS = ("top1_balanced", "top1_many", "top1_medium", "top1_few")
FIELDS = (*SETTING, "seed", *METRICS)

Setting = dict[str, Any]


@app.command()
def prepare(images: Path, out: Path, imbalance_factor: float = 100) -> None:
    """CIFAR100-LT with a larger imbalance factor out of that with 50; the train images it leaves out become val."""
    with np.load(images, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    labels, names = arrays["train_labels"], [str(name) for name in arrays["class_names"]]
    train = long_tail_indices(labels, names, imbalance_factor)
    val = np.setdiff1d(np.arange(len(labels)), train)
    for name, chosen in (("val", val), ("train", train)):
        for part in ("images", "labels"):
            arrays[f"{name}_{part}"] = arrays[f"train_{part}"][chosen]
    np.savez(out, **arrays)
    print(f"{len(train):,} train and {len(val):,} val images in {out}")


@app.command()
def baseline(features_file: Path) -> None:
    """Print the val accuracies of the Softmax model of stage one, and the standard error of a mean over classes.

    Binomial in each class, its accuracy drawn in by one hit and one miss.
    """
    opened = features.open(features_file)
    metrics = evaluate(opened.classifier, opened, "val")
    print(", ".join(f"{name} {metrics[name]:.1f}" for name in METRICS))
    val = predict(opened.classifier, opened, "val", loss=losses.get("cross_entropy", activation="softmax"))
    num_classes = len(opened.classes)
    samples = class_counts(val.labels, num_classes)
    hits = class_counts(val.labels[val.classes[:, 0] == val.labels], num_classes)
    share = (hits + 1) / (samples + 2)
    variance = share * (1 - share) / np.maximum(samples, 1)
    for name, mask in (("all", samples > 0), ("few", (samples > 0) & group_masks(opened.classes.train_counts)["few"])):
        print(f"standard error, {name}: {100 * np.sqrt(variance[mask].sum()) / mask.sum():.1f}")


@app.command()
def search(
    features_file: Path,
    results: Path,
    jobs: int = 1,
    method: Annotated[list[str] | None, typer.Option(help="Of these methods alone.")] = None,
) -> None:
    """Train the grid with one seed, the finalists of each method with five; rows done before are not done again.

    The finalists are the ten settings with the best val accuracy of seed 0; the best of gumbel's is also tried with
    other `q_min`.
    """
    chosen = method or METHODS
    _run(features_file, results, [(setting, 0) for setting in grid() if setting["method"] in chosen], jobs)
    finals = [setting for name in chosen for setting in ranking(results, name)[:FINALISTS]]
    _run(features_file, results, [(setting, seed) for setting in finals for seed in range(SEEDS)], jobs)
    if "gumbel" not in chosen:
        return
    best = next(setting for setting in ranking(results, "gumbel", SEEDS) if setting["q_min"] == _q_min("gumbel"))
    others = [best | {"q_min": q_min} for q_min in Q_MINS]
    _run(features_file, results, [(setting, seed) for setting in others for seed in range(SEEDS)], jobs)


@app.command()
def show(results: Path) -> None:
    """Print two markdown tables: the best of the grid for each start and views, and the finalists, best first."""
    rows = read(results)
    first = [row for row in rows if row["seed"] == 0 and row["q_min"] == _q_min(row["method"])]
    _print_table(["method", "start", "views", "schedule", "epochs", "lr", *METRICS])
    for method, start, views in itertools.product(METHODS, RATES, VIEWS):
        same = [row for row in first if (row["method"], row["start"], row["views"]) == (method, start, views)]
        for row in sorted(same, key=lambda row: -row["top1_balanced"])[:1]:
            _print_row([*list(_setting(row).values())[:-1], *(f"{row[name]:.1f}" for name in METRICS)])
    print()
    _print_table([*SETTING, *METRICS])
    for method in METHODS:
        for setting in ranking(results, method, SEEDS):
            seeds = [row for row in rows if _setting(row) == setting]
            measured = [[row[name] for row in seeds] for name in METRICS]
            cells = [f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}" for values in measured]
            _print_row([*setting.values(), *cells])


def _print_table(columns: list[str]) -> None:
    _print_row(columns)
    _print_row(["---"] * len(columns))


def _print_row(cells: list[Any]) -> None:
    print(f"| {' | '.join(f'{cell:g}' if isinstance(cell, float) else str(cell) for cell in cells)} |")


def grid() -> Iterator[Setting]:
    """Every setting of the first round."""
    for activation, start in itertools.product(ACTIVATIONS, RATES):
        for values in itertools.product(VIEWS, SCHEDULES, EPOCHS, RATES[start]):
            yield dict(zip(SETTING, (activation, start, *values, _q_min(activation)), strict=True))
    for method, (epochs, rates) in BALANCED.items():
        for views, rate in itertools.product(VIEWS, rates):
            yield dict(zip(SETTING, (method, "fresh", views, "cosine", epochs, rate, _q_min(method)), strict=True))


def _q_min(method: str) -> float:
    """0 where the method has none."""
    return methods.get(method).activation_params.get("q_min", 0.0)


def ranking(results: Path, method: str, seeds: int = 1) -> list[Setting]:
    """The settings of a method that `seeds` seeds were trained with, by mean val accuracy, best first."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in read(results):
        if row["method"] == method and (seeds > 1 or row["seed"] == 0):
            found.setdefault(tuple(_setting(row).values()), []).append(row["top1_balanced"])
    means = {key: statistics.fmean(values) for key, values in found.items() if len(values) >= seeds}
    return [dict(zip(SETTING, key, strict=True)) for key in sorted(means, key=means.__getitem__, reverse=True)]


def read(results: Path) -> list[dict[str, Any]]:
    """The rows of a results file; accuracies of a run that diverged are 0."""
    if not results.exists():
        return []
    with results.open(newline="", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        row |= {name: float(row[name]) for name in ("lr", "q_min", *METRICS)}
        row |= {name: int(row[name]) for name in ("epochs", "seed")}
    return rows


def _setting(row: dict[str, Any]) -> Setting:
    return {name: row[name] for name in SETTING}


def _run(features_file: Path, results: Path, work: list[tuple[Setting, int]], jobs: int) -> None:
    done = {(*_setting(row).values(), row["seed"]) for row in read(results)}
    left = [(setting, seed) for setting, seed in work if (*setting.values(), seed) not in done]
    new = not results.exists()
    with (
        results.open("a", newline="", encoding="utf-8") as file,
        ProcessPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        to_stderr().bar("runs", len(left), "runs") as bar,
    ):
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if new:
            table.writeheader()
        for run in as_completed([pool.submit(_train, features_file, setting, seed) for setting, seed in left]):
            table.writerow(run.result())
            file.flush()
            bar.advance(1)


def _train(features_file: Path, setting: Setting, seed: int) -> dict[str, Any]:
    """One row of the results: val accuracies, 0 if it diverges."""
    opened = features.open(features_file)
    changes = {name: value for name, value in setting.items() if name not in ("method", "q_min")}
    if setting["q_min"]:
        changes["q_min"] = setting["q_min"]
    try:
        classifier = retrain(opened, setting["method"], seed=seed, device="cpu", evaluate=False, **changes)
        metrics = evaluate(classifier, opened, "val")
    except InputError:
        metrics = dict.fromkeys(METRICS, 0.0)
    return setting | {"seed": seed} | {name: round(float(metrics[name]), 4) for name in METRICS}
