"""Small finished runs with predictions, tables of classes and images, written without training anything."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from gol_decouple.progress import SILENT
from gol_decouple.report import gains, rows
from gol_decouple.report.figures.write import figures
from gol_decouple.report.page import write

COUNTS = (120, 40, 5)
GROUPS = ("many", "medium", "few")
PER_CLASS = 4
LABELS = np.repeat(np.arange(3), PER_CLASS)


def make_run(
    run: Path, methods: dict[str, list[list[int]]], names: tuple[str, ...] = ("red", "green", "blue"), /, **changes: Any
) -> Path:
    """A run whose stage one has 4, 2 and 0 of 4 test images of its classes right, and methods what is said per seed."""
    images = np.zeros((len(LABELS), 8, 8, 3), dtype=np.uint8)
    images[np.arange(len(LABELS)), :, :, LABELS] = 200
    path = run.parent / f"{run.name}.npz"
    run.mkdir(parents=True)
    train = np.repeat(np.arange(3), COUNTS)
    parts = {"train_images": np.zeros((len(train), 8, 8, 3), dtype=np.uint8), "train_labels": train}
    np.savez(path, test_images=images, test_labels=LABELS, class_names=np.array(names), **parts)
    write_folder(run, [4, 2, 0], names, stage=1, method="softmax", **changes)
    config = f'[data]\nkind = "npz"\npath = "{path}"\n\n[backbone]\nname = "resnet32"\n\n[stage1]\nepochs = 3\n'
    config += "batch_size = 16\nlr = 0.01\n\n[methods]\n"
    (run / "config.toml").write_text(config, encoding="utf-8")
    for method, seeds in methods.items():
        for seed, right in enumerate(seeds):
            folder = run / "stage2" / f"{len(list(run.glob('stage2/*')))}"
            write_folder(folder, right, names, stage=2, method=method, seed=seed, **changes)
    return run


def write_folder(folder: Path, right: list[int], names: tuple[str, ...], /, **changes: Any) -> None:
    """A finished folder that has the first so many test images of each class right."""
    folder.mkdir(parents=True, exist_ok=True)
    hits = np.concatenate([np.arange(PER_CLASS) < number for number in right])
    classes = np.where(hits, LABELS, (LABELS + 1) % 3)
    both = np.stack([classes, (classes + 1) % 3], axis=1)
    scores = np.tile(np.array([0.75, 0.25], dtype=np.float32), (len(LABELS), 1))
    np.savez(folder / "predictions.npz", id=np.arange(len(LABELS)), label=LABELS, classes=both, scores=scores)
    accuracy = [100 * number / PER_CLASS for number in right]
    with (folder / "per_class.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("class", "name", "train_count", "group", "samples", "accuracy"))
        table.writerows(zip(range(3), names, COUNTS, GROUPS, (PER_CLASS,) * 3, accuracy, strict=True))
    top1 = sum(accuracy) / 3
    metrics = {"top1": top1, "top1_balanced": top1, **dict.fromkeys((f"num_{group}" for group in GROUPS), 1)}
    metrics |= {f"top1_{group}": value for group, value in zip(GROUPS, accuracy, strict=True)}
    tree = {
        **{"dataset": "colours", "imbalance_factor": 24.0, "backbone": "resnet32", "split": "test", "seed": 0},
        **{"activation": "softmax", "loss": "cross_entropy", "sampler": "random", "classifier": "linear"},
        **{"settings": {"start": "stage_one", "lr": 0.1, "epochs": 3}, "changed_settings": {}, "seconds": 1.5},
        **{"features": {"fingerprint": "f" * 64}, "train_counts": list(COUNTS), "metrics": metrics},
        **{"command": ["gol-decouple", "stage2", "my runs/lt"], "folder": "/home/me"},
        **{"environment": {"versions": {"torch": "2.9"}, "checkout": {"commit": "abc123", "dirty": True}}},
        **changes,
    }
    (folder / "manifest.json").write_text(json.dumps(tree), encoding="utf-8")


def found_in(*paths: Path) -> list[rows.Row]:
    """The rows of finished folders, with their gains."""
    return gains.add_gains(rows.collect_rows(list(paths), paths[0]))


def page_of(*paths: Path, **options: Any) -> str:
    found = found_in(*paths)
    return write.to_html(found, SILENT, drawn=figures(found, SILENT), **options)


class Page(HTMLParser):
    """A page as a browser takes it apart: its elements with their attributes, and the texts of some of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._inside[-1] if self._inside else "", data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def texts_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]
