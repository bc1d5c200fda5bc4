"""The best classifier that our parts can make of some features, chosen on validation data, and then its test accuracy.

python -m benchmarks combinations search runs/NAME/features.h5 combinations.json
python -m benchmarks combinations test runs/NAME/features.h5 combinations.json
python -m benchmarks combinations model runs/NAME mixup.safetensors
python -m benchmarks combinations show combinations.json    (docs/reproduction.md)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Any

import torch
import typer

from benchmarks import studies
from gol_decouple import classifiers, evaluate, features, methods
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile
from gol_decouple.files import read_json, write_json
from gol_decouple.methods import Method
from gol_decouple.progress import to_stderr
from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.reproduction.models import write_model
from gol_decouple.stages.closed_form import closed_form
from gol_decouple.stages.jobs import Job, Retrained
from gol_decouple.stages.rows import open_rows
from gol_decouple.stages.together import train_together

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

LOSSES = ("cross_entropy", "balanced", "class_balanced", "label_aware_smoothing")
SAMPLERS = ("random", "square_root", "class_balanced", "progressive")
CLASSIFIERS: dict[str, dict[str, Any]] = {"linear": {}, "lws": {}, "cosine": {"cosine_scale": 16.0}}
# One-vs-all losses are sums over classes: their gradients are larger.
RATES = {
    "softmax": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    "sigmoid": (3e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    "gumbel": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
}
UNTRAINED = ("tau_norm", "logit_adjustment", "iif", "ncm")
EPOCHS = 15
FINALISTS, SEEDS = 20, 5
PARTS = ("activation", "loss", "sampler", "classifier", "start", "lr")
SHOWN = ("top1_balanced", "top1_many", "top1_medium", "top1_few", "ece")
BY = "top1_balanced"

Row = dict[str, Any]


def grid() -> Iterator[Method]:
    """Every combination, and what is not trained; a classifier of stage one's, as LWS is, starts from there alone."""
    for name in UNTRAINED:
        yield from methods.search(methods.get(name))
    for activation, rates in RATES.items():
        known = methods.get(activation)
        for loss, sampler, classifier in product(LOSSES, SAMPLERS, CLASSIFIERS):
            starts = ("stage_one",) if classifier == "lws" else ("stage_one", "fresh")
            for start, rate in product(starts, rates):
                yield Method(
                    name=f"{activation} {loss} {sampler} {classifier}",
                    activation=activation,
                    paper="",
                    start=start,
                    lr=rate,
                    epochs=EPOCHS,
                    loss=loss,
                    sampler=sampler,
                    classifier=classifier,
                    schedule="cosine",
                    clip_norm=None if activation == "softmax" else 20.0,
                    activation_params=known.activation_params,
                    classifier_params=CLASSIFIERS[classifier],
                )


@app.command()
def search(features_file: Path, out: Path) -> None:
    """Train the grid with one seed, the best twenty with five; write all their val accuracies (%)."""
    torch.set_num_threads(1)
    if out.exists() and "tests" in read_json(out):
        raise SystemExit(f"{out} has what was found on test images: keep it, and search into another file")
    opened = features.open(features_file)
    began, every = time.monotonic(), list(grid())
    first = _judged(opened, every, [0], "val")
    best = sorted((row for row in first if BY in row), key=lambda row: -row[BY])[:FINALISTS]
    wanted = [_method(row) for row in best]
    finals = _judged(opened, wanted, range(SEEDS), "val")
    what = f"{len(every) + len(finals):,} classifiers"
    made = {"made": studies.record(features_file.parent, began, what)}
    write_json(out, _facts(opened, "val") | {"first": first, "finals": finals} | made)
    show([out])


@app.command()
def test(features_file: Path, results: Path) -> None:
    """Train what was chosen on val, on these features or on others, and evaluate it on their test images, once.

    That is the best of all, the best of each activation, and the best of what is not trained.
    """
    torch.set_num_threads(1)
    opened = features.open(features_file)
    told = read_json(results)
    tests = told.setdefault("tests", [])
    if opened.fingerprint in [one["features"]["fingerprint"] for one in tests]:
        raise SystemExit(f"{results} has what was found on these features' test images already")
    began, wanted = time.monotonic(), [_method(row) for row in chosen(told)]
    rows = _judged(opened, wanted, range(SEEDS), "test")
    made = {"made": studies.record(features_file.parent, began, f"{len(rows):,} classifiers")}
    tests.append(_facts(opened, "test") | {"rows": rows} | made)
    write_json(results, told)
    show([results])


def _facts(opened: FeaturesFile, split: str) -> Row:
    """What features these are, how many samples were judged, and what stage one's own classifier has there."""
    known = evaluate(classifiers.as_tensors(opened.classifier), opened, split)
    return {
        "features": opened.origin | {"fingerprint": opened.fingerprint},
        "samples": len(opened[split]),
        "stage_one": {name: round(float(known[name]), 3) for name in SHOWN},
    }


def chosen(told: Row) -> list[Row]:
    """What goes to test, by val alone: the best final, then the best of each other activation, and of the untrained.

    Where none of an activation is a final, that is its best with one seed.
    """
    finals, first = ranked(told["finals"]), ranked(told["first"])
    best = finals[0]
    others = [name for name in (*RATES, EMPTY) if name != best["activation"]]
    return [best, *(row for name in others for row in [r for r in (*finals, *first) if r["activation"] == name][:1])]


def _parts(method: Method) -> Row:
    """What a row tells of a method; of what is not trained its name and parameters stand in the loss's place."""
    if method.is_trained:
        return {part: getattr(method, part) for part in PARTS}
    ((name, value),) = (method.posthoc_params or method.classifier_params).items()
    told = f"{method.name}, {name} {value:g}" if isinstance(value, float) else f"{method.name}, {name} {value}"
    return dict.fromkeys(PARTS, EMPTY) | {"loss": told}


def _method(row: Row) -> Method:
    for method in grid():
        if all(row[part] == value for part, value in _parts(method).items()):
            return method
    raise SystemExit(f"no such combination in the grid any more: {row}")


def _judged(opened: FeaturesFile, wanted: Sequence[Method], seeds: Sequence[int], split: str) -> list[Row]:
    """A row for every method and seed; without accuracies if it diverged."""
    start = classifiers.as_tensors(opened.classifier)
    trained = [method for method in wanted if method.is_trained]
    untrained = [Job(method, seeds[0], start, "stage_one") for method in wanted if not method.is_trained]
    jobs = [Job(method, seed, start, "stage_one") for method in trained for seed in seeds]
    rows = open_rows(opened, torch.device("cpu"), trained, None)
    found = []
    every = chain(train_together(rows, jobs, to_stderr()), ((job, closed_form(opened, job)) for job in untrained))
    for job, made in every:
        row: Row = _parts(job.method) | {"seed": job.seed}
        found.append(row | ({} if isinstance(made, InputError) else _accuracies(made, opened, split)))
    return sorted(found, key=lambda row: (*(str(row[part]) for part in PARTS), row["seed"]))


def _accuracies(made: Retrained, opened: FeaturesFile, split: str) -> Row:
    measured = evaluate(made, opened, split)
    return {name: round(float(measured[name]), 3) for name in SHOWN}


def ranked(rows: Sequence[Row]) -> list[Row]:
    """One row a combination, means over its seeds, the best first; without those of which a seed diverged."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[part] for part in PARTS), []).append(row)
    groups = {key: members for key, members in groups.items() if all(BY in row for row in members)}
    means = [
        dict(zip(PARTS, key, strict=True))
        | {name: statistics.fmean(row[name] for row in members) for name in SHOWN}
        | {"seeds": len(members), "deviation": statistics.stdev(row[BY] for row in members) if members[1:] else 0.0}
        for key, members in groups.items()
    ]
    return sorted(means, key=lambda row: -row[BY])


@app.command()
def model(run: Path, out: Path) -> None:
    """Write the model of RUN, which was searched, in bfloat16, for `stage1 --checkpoint`."""
    write_model(run, out)


@app.command()
def show(results: list[Path], best: int = FINALISTS) -> None:
    """Print the tables of what `search` and `test` wrote, as markdown; of the finals only so many of the best."""
    studies.show(tables([read_json(path) for path in results], best))


def tables(searches: Sequence[Row], best: int = FINALISTS) -> list[TextTable]:
    """Of each search the finals on val, and what was chosen on test images; at last what was run."""
    found, made = [], []
    for told in searches:
        tests = told.get("tests", [])
        found.append(_table("the best", "val", told, ranked(told["finals"])[:best]))
        for one in tests:
            of_test = {tuple(row[part] for part in PARTS): row for row in ranked(one["rows"])}
            in_order = [of_test[key] for row in chosen(told) if (key := tuple(row[part] for part in PARTS)) in of_test]
            found.append(_table("chosen on val, the first of all, others of their kind", "test", one, in_order))
        made += [one["made"] for one in (told, *tests)]
    return [*found, studies.table("Combinations", made)]


def _table(title: str, split: str, told: Row, rows: Sequence[Row]) -> TextTable:
    stage_one, dataset = told["stage_one"], told["features"]["dataset"]
    of = f"{dataset['name']}, imbalance factor {dataset['imbalance_factor']:g}"
    title = f"{told['made']['run']}, {of}: {title}; on {told['samples']:,} {split} images (%)"
    columns = [*PARTS, "seeds", "all", "many", "medium", "few", "ECE"]
    cells = [["stage one", *["–"] * len(PARTS), *(f"{stage_one[name]:.1f}" for name in SHOWN)]]
    for row in rows:
        every = f"{row[BY]:.1f}" + (f"±{row['deviation']:.1f}" if row["seeds"] > 1 else "")
        others = (f"{row[name]:.1f}" for name in SHOWN[1:])
        cells.append([*(str(row[part]) for part in PARTS), str(row["seeds"]), every, *others])
    notes = [
        f"{EPOCHS} epochs, cosine schedule; mean over classes; ±: deviation over seeds of stage two; a loss alone: "
        "a correction of stage one's classifier, or class means (ncm), not trained"
    ]
    return TextTable(title, columns, cells, notes)
