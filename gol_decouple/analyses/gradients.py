"""Positive and negative gradient of every class over stage two (DropLoss, AAAI 2021, Figure 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gol_decouple.analyses.object_grid import Floats
from gol_decouple.analyses.outputs import Outputs
from gol_decouple.analyses.sources import Run, Source, by_setting, seeds_note
from gol_decouple.report.layout import EMPTY, TextTable
from gol_decouple.stages.gradients import GRADIENTS, read_gradients

COLUMNS = ("method", "class", "name", "count", "group", "positive", "negative", "background", "ratio")


@dataclass(frozen=True, eq=False)
class Mass:
    """Of one classifier: sums over all its epochs of |dL/dq_j| for each class j, all [C].

    Attributes:
        positive: over the samples of class j.
        negative: over those of other classes.
        background: over background; zeros where there is none.
        epochs: how many there were.
    """

    source: Source
    positive: Floats
    negative: Floats
    background: Floats
    epochs: int

    @property
    def ratio(self) -> Floats:
        """Positive over all that is negative, background too; NaN where that is 0."""
        return ratio(self.positive, self.negative + self.background)


def ratio(positive: Floats, negative: Floats) -> Floats:
    """Positive over negative, NaN where that is 0."""
    quotients: Floats = np.full(np.shape(positive), np.nan)
    return np.divide(positive, negative, out=quotients, where=np.asarray(negative) > 0)


def gradient_masses(run: Run) -> list[Mass]:
    """Of every classifier of a run that was trained with `stage2.gradients`; of none, an empty list.

    Raises:
        InputError: a file of them that cannot be read.
    """
    found = []
    for source in run.sources:
        if source.folder is None or not (source.folder / GRADIENTS).is_file():
            continue
        epochs = read_gradients(source.folder, len(run.features.classes)).numpy()
        positive, negative, background = epochs.sum(0)
        found.append(Mass(source, positive, negative, background, len(epochs)))
    return found


def write_masses(outputs: Outputs, run: Run, found: list[Mass]) -> None:
    """`gradients.csv`, of each classifier the classes from the most frequent to the least."""
    names, frequencies = run.features.classes.names, run.frequencies
    rows = []
    for one in found:
        for label in frequencies.order.tolist():
            about = (one.source.name, label, names[label], int(frequencies.counts[label]), frequencies.groups[label])
            background = float(one.background[label]) if run.features.is_detection else float("nan")
            sums = (float(one.positive[label]), float(one.negative[label]), background, float(one.ratio[label]))
            rows.append((*about, *sums))
    outputs.csv("gradients.csv", COLUMNS, rows)


def masses_table(run: Run, found: list[Mass]) -> TextTable:
    """Positive over negative gradient, of all classes of a group together."""
    groups = run.frequencies.groups
    names = [name for name in run.frequencies.names if (groups == name).any()]
    cells, settings = [], by_setting(found)
    for setting, members in settings.items():
        positive, negative, background = (
            np.mean([getattr(one, part) for one in members], axis=0) for part in ("positive", "negative", "background")
        )
        against = negative + background
        parts = [ratio(positive[groups == name].sum(), against[groups == name].sum()) for name in names]
        own = ratio(positive.sum(), against.sum())
        row = [setting, str(members[0].epochs), *(_text(float(value)) for value in (own, *parts))]
        if run.features.is_detection:
            row.append(_text(100.0 * float(ratio(background.sum(), against.sum())), ".1f"))
        cells.append(row)
    headings = ["method", "epochs", "all", *(f"{name} ({(groups == name).sum()})" for name in names)]
    notes = ["sums over epochs, samples and the classes of a group (their number)"]
    if run.features.is_detection:
        headings.append("background")
        notes.append("negative includes background, whose share of it is in %")
    return TextTable(f"{run.name}: positive over negative gradient", headings, cells, [*notes, *seeds_note(settings)])


def _text(value: float, form: str = ".3g") -> str:
    return EMPTY if np.isnan(value) else f"{value:{form}}"
