"""Which part of stage two's setting Gumbel's gain depends on: one part changed at a time, on validation data.

python -m benchmarks ablation search runs/NAME/features.h5 ablation.json
python -m benchmarks ablation show ablation.json      (docs/reproduction.md has the whole commands)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks import studies
from gol_decouple import activations, bootstrap, classifiers, evaluate, features, losses, methods
from gol_decouple.bootstrap import Comparison
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile
from gol_decouple.files import read_json, write_json
from gol_decouple.losses import Loss
from gol_decouple.methods import Method
from gol_decouple.progress import to_stderr
from gol_decouple.report.layout import TextTable
from gol_decouple.report.points import bounds, signed
from gol_decouple.stages.evaluation import predict
from gol_decouple.stages.jobs import Job, Retrained, Weights
from gol_decouple.stages.rows import open_rows
from gol_decouple.stages.together import train_together

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

BASES = ("gumbel_paper", "gumbel")
SHOWN = ("top1_balanced", "top1_many", "top1_medium", "top1_few", "ece")


@dataclass(frozen=True)
class Variation:
    """A method whose setting differs in one part from that of its base.

    Attributes:
        biases: those that a start from stage one gets: "kept"; "zero"; or "prior", all raised or lowered alike, so that
            the mean score over train samples and classes is 1/C.
    """

    part: str
    value: str
    method: Method
    biases: str = "kept"


@dataclass(frozen=True)
class Judged:
    """One classifier on N val samples: its metrics (%), their labels [N], and whether it is right, bool [N]."""

    metrics: dict[str, Any]
    labels: NDArray[np.int64]
    hits: NDArray[np.bool_]


def variations(base: Method) -> Iterator[Variation]:
    """The base itself, then each of its parts changed."""
    yield Variation("base", "as it is", base)
    for start, told in (("fresh", "fresh, bias -log log C"), ("paper", "fresh, weights 0.001, biases -2")):
        yield Variation("start", told, base.with_settings(start=start))
    slowly = base.with_settings(start="fresh", lr=3e-3, schedule="cosine")
    yield Variation("start, rate, schedule", "fresh, lr 0.003, cosine", slowly)
    yield Variation("bias start", "stage one's weights, biases 0", base, "zero")
    yield Variation("bias start", "stage one's, mean score 1/C", base, "prior")
    for lr in (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3):
        if lr != base.lr:
            yield Variation("learning rate", f"{lr:g}", base.with_settings(lr=lr))
    for epochs in (1, 5, 15, 30, 60):
        if epochs != base.epochs:
            yield Variation("epochs", str(epochs), base.with_settings(epochs=epochs))
    yield Variation("schedule", "cosine", base.with_settings(schedule="cosine"))
    yield Variation("sampler", "class-balanced", replace(base, sampler="class_balanced"))
    yield Variation("views", "the clean one", base.with_settings(views="clean"))
    for q_min in (-2.0, -3.0, -6.0, -8.0):
        yield Variation("clamping", f"tangent below {q_min:g}", base.with_settings(q_min=q_min))
    published = methods.get("gumbel_published")
    parts = {"activation": published.activation, "activation_params": published.activation_params}
    yield Variation("clamping", "published code", replace(base, **parts))
    for activation in ("sigmoid", "softmax"):
        yield Variation("activation", activation, replace(base, activation=activation, activation_params={}))


@app.command()
def search(features_file: Path, out: Path, seeds: int = 3) -> None:
    """Train every variation of both settings; write val accuracies (%), and differences to the setting as it is."""
    torch.set_num_threads(1)
    began = time.monotonic()
    opened = features.open(features_file)
    known = classifiers.as_tensors(opened.classifier)
    rows, jobs = None, []
    for name in BASES:
        for one in variations(methods.get(name)):
            start = started(one, known, opened)
            jobs += [(name, one, Job(one.method, seed, start, "stage_one")) for seed in range(seeds)]
    rows = open_rows(opened, torch.device("cpu"), [job.method for _, _, job in jobs], None)
    made = dict(train_together(rows, [job for _, _, job in jobs], to_stderr()))
    found: dict[tuple[str, str, str], list[Judged | None]] = {}
    for name, one, job in jobs:
        found.setdefault((name, one.part, one.value), []).append(_judged(made[job], opened))
    softmax = losses.get("cross_entropy", activation="softmax")
    figures = tree(opened, _on_val(known, softmax, opened), found)
    write_json(out, figures | {"made": studies.record(features_file.parent, began, f"{len(jobs):,} classifiers")})
    show(out)


def started(one: Variation, known: Weights, opened: FeaturesFile) -> Weights:
    """Stage one's weights, with the biases that a variation starts from."""
    weight, bias = known
    if one.biases == "zero":
        return weight, torch.zeros_like(bias)
    if one.biases == "prior":
        return weight, bias + shift_to_prior(weight, bias, torch.from_numpy(opened["train"].features[0]).float())
    return known


def shift_to_prior(weight: torch.Tensor, bias: torch.Tensor, rows: torch.Tensor) -> float:
    """What all biases are moved by for a mean Gumbel score of 1/C over rows [N, D] and classes, by bisection."""
    logits = (rows @ weight.T + bias).double()
    gumbel = activations.get("gumbel")
    low, high = -100.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        too_high = float(gumbel.scores(logits + middle).mean()) > 1 / len(bias)
        low, high = (low, middle) if too_high else (middle, high)
    return (low + high) / 2


def _judged(result: Retrained | InputError, opened: FeaturesFile) -> Judged | None:
    if isinstance(result, InputError):
        return None
    return _on_val(result, result.loss, opened)


def _on_val(classifier: Any, loss: Loss, opened: FeaturesFile) -> Judged:
    found = predict(classifier, opened, "val", loss)
    return Judged(evaluate(classifier, opened, "val"), found.labels, found.classes[:, 0] == found.labels)


def tree(
    opened: FeaturesFile, stage_one: Judged, found: dict[tuple[str, str, str], list[Judged | None]]
) -> dict[str, Any]:
    """What is written: of each variation the mean over seeds, its difference to its base, and to stage one."""
    counts = opened.classes.train_counts
    rows = []
    for name in BASES:
        of_base = found[name, "base", "as it is"]
        if None in of_base:
            raise SystemExit(f"{name} diverges as it is: there is nothing to compare with")
        base = _hits(of_base)
        for (of, part, value), made in found.items():
            if of != name:
                continue
            row: dict[str, Any] = {"base": name, "part": part, "value": value, "seeds": len(made)}
            if None in made:
                rows.append(row | {"diverged": sum(one is None for one in made)})
                continue
            row |= {shown: round(float(np.mean([one.metrics[shown] for one in made if one])), 3) for shown in SHOWN}
            comparisons = [
                Comparison(base, [_hits(made)], [True]),
                Comparison(stage_one.hits[None], [_hits(made)], [False]),
            ]
            gains = bootstrap.gains_of_all(comparisons, stage_one.labels, counts)
            for against, (gain,) in zip(("over_base", "over_stage_one"), gains, strict=True):
                over = gain["top1_balanced"]
                row[against] = None if over is None else studies.rounded(over)
            rows.append(row)
    return {
        "features": opened.origin | {"fingerprint": opened.fingerprint},
        "val_samples": len(stage_one.labels),
        "stage_one": {name: round(float(stage_one.metrics[name]), 3) for name in SHOWN},
        "rows": rows,
    }


def _hits(made: list[Judged | None]) -> NDArray[np.bool_]:
    return np.stack([one.hits for one in made if one])


@app.command()
def show(
    results: Path, of: Annotated[list[str] | None, typer.Option(help="This setting alone; repeatable.")] = None
) -> None:
    """Print the tables of what `search` wrote, as markdown."""
    studies.show(tables(read_json(results), of or BASES))


def tables(told: dict[str, Any], of: Sequence[str] = BASES) -> list[TextTable]:
    """One for each setting that was varied, and what was run."""
    stage_one = told["stage_one"]
    columns = ["part", "value", "all", "many", "medium", "few", "over the setting", "over stage one", "ECE"]
    found = []
    for name in of:
        cells = [["stage one", "–", *(f"{stage_one[metric]:.1f}" for metric in SHOWN[:-1]), "–", "–"]]
        cells[0].append(f"{stage_one['ece']:.1f}")
        for row in told["rows"]:
            if row["base"] != name:
                continue
            if "diverged" in row:
                cells.append([row["part"], row["value"], *["diverged"], *["–"] * 6])
                continue
            over = "–" if row["part"] == "base" else _interval(row["over_base"])
            accuracies = [f"{row[metric]:.1f}" for metric in SHOWN]
            cells.append(
                [row["part"], row["value"], *accuracies[:-1], over, _interval(row["over_stage_one"]), accuracies[-1]]
            )
        notes = [
            f"mean over classes of {told['val_samples']:,} validation images and {told['rows'][0]['seeds']} seeds; "
            "differences in points with 95 % intervals of a paired bootstrap over these images and seeds",
            "*: the interval excludes 0, each by itself; of so many, some do by chance",
        ]
        setting = methods.get(name)
        title = f"{name}: lr {setting.lr:g}, {setting.epochs} epochs, one part changed at a time (%)"
        found.append(TextTable(title, columns, cells, notes, has_intervals=True))
    return [*found, studies.table("Ablation", [told["made"]])]


def _interval(gain: list[float]) -> str:
    mean, low, high = gain
    return f"{signed(mean)}{'*' if low > 0 or high < 0 else ''} {bounds(low, high)}"
