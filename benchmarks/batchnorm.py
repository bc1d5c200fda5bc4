"""BatchNorm in stage two: whether it matters that public code leaves it in train mode, and statistics of other samples.

python -m benchmarks batchnorm compare runs/NAME batchnorm.json      (docs/reproduction.md)
python -m benchmarks batchnorm show batchnorm.json
python -m benchmarks batchnorm restate runs/NAME restated.safetensors --sampler class_balanced
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import nn

from benchmarks import studies
from gol_decouple import bootstrap, losses, methods, runs, runtime, sealed_tensors
from gol_decouple.data import load_data
from gol_decouple.data.dataset import Dataset
from gol_decouple.data.loading import Batch, Batches, EpochKeys, Key, by_labels, clean_keys
from gol_decouple.data.transforms import Normalise
from gol_decouple.files import read_json, write_json
from gol_decouple.metrics import top1_metrics
from gol_decouple.progress import to_stderr
from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.report.points import bounds, signed
from gol_decouple.settings import Config
from gol_decouple.stages.restored import load_model

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

METHOD = methods.get("gumbel_paper")  # constant rate, no clipping, all of a linear classifier: as it is trained below
MODES = {"eval": False, "train": True}
SHOWN = ("top1_balanced", "top1_many", "top1_medium", "top1_few")


@app.command()
def compare(run: Path, out: Path, seeds: int = 3) -> None:
    """Train gumbel_paper's classifier on RUN's images, through its backbone, once with BatchNorm in either mode.

    Both see the same batches of freshly augmented images. In train mode features are normalised with the batch's
    statistics, and the running ones, which validation images are normalised with, move. Accuracies are of val (%), and
    the differences of the two modes have 95 % intervals of a paired bootstrap over its images and the seeds.
    """
    torch.set_num_threads(1)
    began, config = time.monotonic(), runs.read_config(run)
    dataset = load_data(config.data)
    val = dataset.splits["val"]
    rows: list[dict[str, Any]] = []
    hits: dict[str, list[NDArray[np.bool_]]] = {mode: [] for mode in MODES}
    for seed in range(seeds):
        for mode, (predicted, moved) in _compared(run, config, dataset, seed).items():
            found = top1_metrics(predicted, val.labels, dataset.train_counts)
            accuracies = {name: round(float(found[name]), 3) for name in SHOWN}
            rows.append({"batchnorm": mode, "seed": seed} | accuracies | {"statistics_moved": moved})
            hits[mode].append(predicted == val.labels)
    stacked = [np.stack(hits[mode]) for mode in ("train", "eval")]
    (gains,) = bootstrap.gains(stacked[:1], stacked[1], val.labels, dataset.train_counts, [True])
    known = {name: gain for name in SHOWN if (gain := gains[name]) is not None}
    over = {name: studies.rounded(gain) for name, gain in known.items()}
    told = {"method": METHOD.name, "val_samples": len(val), "rows": rows, "train_over_eval": over}
    write_json(out, told | {"made": studies.record(run, began, f"{len(rows)} classifiers")})
    show(out)


@app.command()
def show(results: Path) -> None:
    """Print the tables of what `compare` wrote, as markdown."""
    studies.show(tables(read_json(results)))


def tables(told: dict[str, Any]) -> list[TextTable]:
    """The accuracies in both modes, what the train mode makes of them, and what was run."""
    columns = ["BatchNorm", "seed", "all", "many", "medium", "few", "statistics moved"]
    cells = [
        [row["batchnorm"], str(row["seed"]), *(f"{row[name]:.1f}" for name in SHOWN), f"{row['statistics_moved']:.3f}"]
        for row in told["rows"]
    ]
    gains = [told["train_over_eval"].get(name) for name in SHOWN]
    over = [EMPTY if gain is None else f"{signed(gain[0])} {bounds(*gain[1:])}" for gain in gains]
    cells.append(["train over eval", "–", *over, "–"])
    notes = [
        f"{told['method']} on freshly augmented images; {told['val_samples']:,} validation images; differences in "
        "points with 95 % intervals of a paired bootstrap over these images and seeds",
        "statistics moved: what running means moved by, in running deviations, mean over layers and their channels",
    ]
    return [
        TextTable("BatchNorm in stage two (%)", columns, cells, notes, has_intervals=True),
        studies.table("BatchNorm", [told["made"]]),
    ]


@app.command()
def restate(run: Path, out: Path, sampler: str = "class_balanced") -> None:
    """Write RUN's model with the BatchNorm statistics of its train images as a sampler draws them, for --checkpoint.

    Those of a model that was trained with mixup are of mixed images under random sampling; MiSLAS (CVPR 2021) lets them
    move in stage two, whose images are not mixed, under class-balanced sampling. Here they are the means over all
    batches of one epoch of freshly augmented images; `--sampler random` changes the mixing alone.
    """
    torch.set_num_threads(1)
    config = runs.read_config(run)
    dataset = load_data(config.data)
    model = load_model(run, config, dataset.num_classes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    normalise = Normalise(config.transform)
    model.train()
    for images, _ in _batches(config, dataset, sampler, config.stage1.batch_size, 1, config.seed):
        with torch.no_grad(), runtime.autocast(torch.device("cpu"), torch.bfloat16):
            model(normalise(images))
    sealed_tensors.save(model.state_dict(), out)


def _compared(run: Path, config: Config, dataset: Dataset, seed: int) -> dict[str, tuple[NDArray[np.int64], float]]:
    """Of both modes the predicted classes of val, [N], and how far the running statistics are from where they were."""
    model = load_model(run, config, dataset.num_classes)
    loss = losses.get(
        METHOD.loss, activation=METHOD.activation, class_counts=dataset.train_counts, **METHOD.loss_params
    )
    networks = {mode: deepcopy(model).requires_grad_(False) for mode in MODES}
    steps = {}
    for mode, network in networks.items():
        network.classifier.requires_grad_(True)
        steps[mode] = torch.optim.SGD(network.classifier.parameters(), METHOD.lr, METHOD.momentum)
    normalise = Normalise(config.transform)
    total = METHOD.epochs * -(-len(dataset.splits["train"]) // METHOD.batch_size)
    with to_stderr().bar(f"seed {seed}", total, "steps") as bar:
        for images, labels in _batches(config, dataset, METHOD.sampler, METHOD.batch_size, METHOD.epochs, seed):
            inputs = normalise(images)
            for mode, network in networks.items():
                network.backbone.train(MODES[mode])
                with torch.no_grad(), runtime.autocast(torch.device("cpu"), torch.bfloat16):
                    features = network.backbone(inputs)
                steps[mode].zero_grad()
                loss(network.classifier(features.float()), labels).backward()
                steps[mode].step()
            bar.advance(1)
    return {mode: (_on_val(network, config, dataset), _moved(network, model)) for mode, network in networks.items()}


def _batches(
    config: Config, dataset: Dataset, sampler: str, batch_size: int, epochs: int, seed: int
) -> Iterator[Batch]:
    """Those of all epochs, freshly augmented."""
    train = dataset.splits["train"]
    keys = EpochKeys(by_labels(train.labels, seed, sampler), batch_size)
    batches = Batches(train, config.transform, keys, seed, workers=1)
    for keys.epoch in range(epochs):
        yield from batches


@torch.inference_mode()
def _on_val(network: nn.Module, config: Config, dataset: Dataset) -> NDArray[np.int64]:
    normalise, val, predicted = Normalise(config.transform), dataset.splits["val"], []
    keys: list[list[Key]] = clean_keys(range(len(val)), config.features.batch_size)
    network.eval()
    for images, _ in Batches(val, config.transform, keys, seed=0, workers=0):
        with runtime.autocast(torch.device("cpu"), torch.bfloat16):
            features = network.backbone(normalise(images))
        predicted.append(network.classifier(features.float()).argmax(dim=1).numpy())
    return np.concatenate(predicted)


def _moved(network: nn.Module, before: nn.Module) -> float:
    """What running means moved by, in running deviations of before: the mean over layers of that over channels."""
    pairs = zip(network.modules(), before.modules(), strict=True)
    moved = [
        ((after.running_mean - old.running_mean).abs() / (old.running_var + old.eps).sqrt()).mean()
        for after, old in pairs
        if isinstance(old, nn.BatchNorm2d)
    ]
    return round(float(torch.stack(moved).mean()), 4)
