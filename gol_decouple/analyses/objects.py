"""Where objects are and what they are, annotated and as classifiers see it (GOL, ECCV 2022, Figures 2 and 5)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gol_decouple.analyses.object_grid import (
    SMOOTHING,
    Distributions,
    Floats,
    Ints,
    add,
    centre_cells,
    class_divergences,
    distributions,
    divergence,
    empty_counts,
    mean_of,
)
from gol_decouple.analyses.outputs import Outputs
from gol_decouple.analyses.sources import Run, Source, by_setting, seeds_note
from gol_decouple.data.lvis_records import positions
from gol_decouple.errors import InputError, few
from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.stages.detection_evaluation import DetectionEvaluation

TRUTH = "ground_truth"
ALL = "all"
_CELLS = ("method", "category", "row", "column", "objects", "p_obj", "p_y_given_obj", "p_y")
_GROUPS = ("method", "group", "categories", "kl_obj", "kl_joint", "kl_mean")
_CATEGORIES = ("method", "class", "category_id", "name", "group", "objects", "expected", "kl")


@dataclass(frozen=True, eq=False)
class Divergence:
    """KL(annotated || predicted) in nats, of one classifier; NaN where a group has no annotated object.

    Attributes:
        objects: of P(obj, u).
        joint: of P(y, u) over classes and cells together, by group, of its classes among each other; and "all".
        each: [C], of every class's own P(u | y); NaN for those without objects.
        mean: the mean of `each`, by group and of all.
    """

    source: Source
    objects: float
    joint: dict[str, float]
    each: Floats
    mean: dict[str, float]


@dataclass(frozen=True, eq=False)
class Objects:
    """N(y, u) of C classes on a grid, annotated and predicted (see `object_grid`).

    Attributes:
        truth: [C, grid * grid].
        predicted: of each classifier, by name, [C, grid * grid]; expected counts.
        category_ids: [C], as annotations have them.
    """

    grid: int
    truth: Floats
    predicted: dict[str, Floats]
    category_ids: Ints

    def of(self, name: str) -> Distributions:
        """The distributions of a classifier, or of TRUTH."""
        return distributions(self.truth if name == TRUTH else self.predicted[name])


def count_objects(run: Run, detections: DetectionEvaluation, grid: int) -> Objects:
    """Annotated objects, and those that every classifier detects in cached RoIs, in one pass over these.

    Of predictions, those count that the annotations evaluate: of classes an image is annotated or negative for.

    Raises:
        InputError: parts that do not go together.
    """
    num_classes = len(run.features.classes)
    truth = detections.truth
    counts = empty_counts(num_classes, grid)
    images, places = np.divmod(truth.keys, len(truth.category_ids))
    labels = positions(detections.category_ids, truth.category_ids)[places]
    used = (labels >= 0) & ~truth.ignored
    boxes = np.concatenate([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]], axis=1)[used]
    add(counts, labels[used], centre_cells(boxes, truth.sizes[images[used]], grid))
    predicted = {source.name: empty_counts(num_classes, grid) for source in run.sources}
    pairs = [(source.classifier, source.loss) for source in run.sources]
    for size, found in detections.detections(pairs):
        for own, one in zip(predicted.values(), found, strict=True):
            cells = centre_cells(one.boxes, np.broadcast_to(np.array(size), (len(one.boxes), 2)), grid)
            add(own, one.labels, cells, one.scores)
    return Objects(grid, counts, predicted, detections.category_ids)


def divergences(run: Run, found: Objects, smoothing: float = SMOOTHING) -> list[Divergence]:
    """Of every classifier from the annotations."""
    groups = run.frequencies.groups
    masks = {ALL: np.ones(len(groups), bool)} | {name: groups == name for name in run.frequencies.names}
    told = []
    for source in run.sources:
        predicted = found.predicted[source.name]
        each = class_divergences(found.truth, predicted, smoothing)
        joint = {group: divergence(found.truth[mask], predicted[mask], smoothing) for group, mask in masks.items()}
        mean = {group: mean_of(each, mask) for group, mask in masks.items()}
        objects = divergence(found.truth.sum(0), predicted.sum(0), smoothing)
        told.append(Divergence(source, objects, joint, each, mean))
    return told


def choose_categories(run: Run, found: Objects, wanted: Sequence[str]) -> list[int]:
    """The labels of categories by name, or by id; of each group the one with most objects, where none is wanted.

    Raises:
        InputError: there is no such category.
    """
    if wanted:
        return list(dict.fromkeys(label_of(run.features.classes.names, found.category_ids, name) for name in wanted))
    objects = found.truth.sum(1)
    groups = [np.flatnonzero(run.frequencies.groups == name) for name in run.frequencies.names]
    return [int(members[objects[members].argmax()]) for members in groups if objects[members].sum() > 0]


def label_of(names: Sequence[str], ids: Ints, wanted: str) -> int:
    """The label of a category by its name, or by its id among those of the classes [C].

    Raises:
        InputError: there is none.
    """
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and (places := np.flatnonzero(ids == int(wanted))).size:
        return int(places[0])
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5) or [name for name in names if wanted in name]
    hint = f"did you mean {few(near)}?" if near else f"there are {len(names):,}: {few(names)}; ids do too"
    raise InputError(f"unknown category {wanted!r}", hint)


def write_objects(
    outputs: Outputs,
    run: Run,
    found: Objects,
    told: Sequence[Divergence],
    labels: Sequence[int],
    detections: DetectionEvaluation,
) -> None:
    """`objects.csv`, the cells of the chosen categories; `objects_kl.csv`, by group; `objects_kl_by_category.csv`; and
    `objects.json` with what all of it was made with.
    """
    outputs.csv("objects.csv", _CELLS, _cell_rows(run, found, labels))
    outputs.csv("objects_kl.csv", _GROUPS, _group_rows(run, found, told))
    names, groups, objects = run.features.classes.names, run.frequencies.groups, found.truth.sum(1)
    rows = (
        (
            *(one.source.name, label, int(found.category_ids[label]), names[label], groups[label]),
            *(int(objects[label]), float(found.predicted[one.source.name][label].sum()), float(one.each[label])),
        )
        for one in told
        for label in range(len(names))
    )
    outputs.csv("objects_kl_by_category.csv", _CATEGORIES, rows)
    summary = {one.source.name: {"objects": one.objects, "joint": one.joint, "mean": one.mean} for one in told}
    truth = detections.truth
    made_with = {
        "annotations": Path(truth.name).name,
        "images": len(truth.image_ids),
        "objects": int(objects.sum()),
        "settings": asdict(detections.settings),
        "grid": found.grid,
        "smoothing": SMOOTHING,
        "unit": "nats",
    }
    outputs.json("objects.json", {**made_with, "kl": summary})


def _cell_rows(run: Run, found: Objects, labels: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    rows, columns = np.divmod(np.arange(found.grid**2), found.grid)
    for name in (TRUTH, *found.predicted):
        own, counts = found.of(name), found.truth if name == TRUTH else found.predicted[name]
        for label in labels:
            cells = (rows, columns, counts[label], own.objects, own.classes[label], own.joint[label])
            for values in zip(*(cell.tolist() for cell in cells), strict=True):
                yield name, run.features.classes.names[label], *values


def _group_rows(run: Run, found: Objects, told: Sequence[Divergence]) -> Iterator[tuple[Any, ...]]:
    present = found.truth.sum(1) > 0
    for one in told:
        for group, joint in one.joint.items():
            number = int((present & ((run.frequencies.groups == group) | (group == ALL))).sum())
            yield one.source.name, group, number, one.objects if group == ALL else float("nan"), joint, one.mean[group]


def objects_tables(run: Run, found: Objects, told: Sequence[Divergence]) -> list[TextTable]:
    """The divergences by group: of P(y, u), and the means of categories."""
    present = found.truth.sum(1) > 0
    numbers = {name: int((present & (run.frequencies.groups == name)).sum()) for name in run.frequencies.names}
    headings = [ALL, *(f"{name} ({number})" for name, number in numbers.items())]
    settings = by_setting(told)
    joint, mean = [], []
    for setting, members in settings.items():
        objects = _text([one.objects for one in members])
        joint.append([setting, objects, *(_text([one.joint[group] for one in members]) for group in (ALL, *numbers))])
        mean.append([setting, *(_text([one.mean[group] for one in members]) for group in (ALL, *numbers))])
    made_with = f"nats, on {found.grid} x {found.grid} cells, smoothed with {SMOOTHING:g}; less is closer"
    note, seeds = "means of categories with annotated objects (their number)", seeds_note(settings)
    of_joint = ["method", "P(obj, u)", *headings]
    of_each = f"{run.name}: KL divergence of P(u | y)"
    return [
        TextTable(f"{run.name}: KL divergence of P(y, u)", of_joint, joint, [made_with, *seeds]),
        TextTable(of_each, ["method", *headings], mean, [note, *seeds]),
    ]


def _text(values: Sequence[float]) -> str:
    """The mean of several seeds."""
    mean = float(np.mean(values))
    return EMPTY if np.isnan(mean) else f"{mean:.3f}"
