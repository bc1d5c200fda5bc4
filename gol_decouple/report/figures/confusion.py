"""Which groups of classes samples of many, medium and few are taken for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from gol_decouple import predictions
from gol_decouple.class_stats import GROUPS, group_masks
from gol_decouple.progress import Progress
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.studies import Setting, Study
from gol_decouple.report.figures.style import COLOURS, INK, PANEL, grid, text
from gol_decouple.report.rows import train_counts
from gol_decouple.runs import PREDICTIONS

COLUMNS = ("method", "of", "taken_for", "samples", "percent", "right_percent")
_DEPTH = 0.0075  # how far a cell is covered, for each percent in it


@dataclass(frozen=True, eq=False)
class Confusion:
    """How many test samples of each group are predicted to be of each; groups are many, medium and few.

    Attributes:
        samples: [3, 3], of true groups in rows and predicted ones in columns.
        right: [3], of each group those whose class is right.
    """

    samples: NDArray[np.int64]
    right: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """In percent of the row; NaN in the row of a group without samples."""
        with np.errstate(invalid="ignore"):
            shares: NDArray[np.float64] = 100.0 * self.samples / self.samples.sum(axis=1, keepdims=True)
        return shares

    @property
    def present(self) -> list[int]:
        """The groups that have samples."""
        return [int(place) for place in np.flatnonzero(self.samples.sum(axis=1))]

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Of each group's samples, in percent, [3]."""
        with np.errstate(invalid="ignore"):
            found: NDArray[np.float64] = 100.0 * self.right / self.samples.sum(axis=1)
        return found


def confusion_of(labels: NDArray[np.int64], predicted: NDArray[np.int64], counts: NDArray[np.int64]) -> Confusion:
    """Of true and predicted classes [N], given the train samples of each class [C]."""
    masks = group_masks(counts)
    groups = np.select([masks[name] for name in GROUPS], range(len(GROUPS)))
    rows, columns = groups[labels], groups[predicted]
    size = len(GROUPS)
    samples = np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)
    return Confusion(samples, np.bincount(rows[labels == predicted], minlength=size))


def confusion(study: Study, progress: Progress) -> Drawn | None:
    """A matrix for each method."""
    found = study.of_shown(_of, progress)
    if not found:
        return None
    figure = grid(found, _draw, ("taken for", "sample of"), (PANEL - 0.4, PANEL - 0.25))
    there = found[0][1].present
    groups = ", ".join(GROUPS[place] for place in there)
    return Drawn(
        study.name("confusion"),
        study.title("Confusion between many, medium and few"),
        "Percent of the test samples of the classes of each group (rows, which sum up to 100) that are taken for a "
        "class of many, medium or few; in brackets those that are right. All seeds together." + study.left_out,
        f"Of test samples of {GROUPS[there[-1]]}, percent taken for classes of {groups}: "
        + "; ".join(
            f"{setting.name} {', '.join(f'{one.shares[there[-1], place]:.0f}' for place in there)}"
            for setting, one in found
        )
        + ".",
        figure,
        COLUMNS,
        [row for setting, one in found for row in _rows(setting.name, one)],
    )


def _draw(axes: Axes, of_setting: tuple[Setting, Confusion]) -> None:
    """Cells, darker the more of their row is in them, with their numbers."""
    setting, one = of_setting
    axes.set_title(text(setting.name))
    there = one.present
    size = len(there)
    for (row, of), (column, taken_for) in itertools.product(enumerate(there), enumerate(there)):
        share = float(one.shares[of, taken_for])
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=COLOURS[0], alpha=_DEPTH * share, linewidth=0)
        )
        told = f"{share:.0f}" + (f"\n({one.accuracies[of]:.0f})" if of == taken_for else "")
        axes.text(column, row, told, ha="center", va="center", color=INK)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_aspect(1.0)
    axes.set_xticks(range(size), [GROUPS[place] for place in there])
    axes.set_yticks(range(size), [GROUPS[place] for place in there])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _of(setting: Setting) -> Confusion | None:
    """Of all seeds together; None where a seed has no predictions."""
    counts = np.array(train_counts(setting.seeds[0]), np.int64)
    labels, predicted = [], []
    for row in setting.seeds:
        path = Path(row["path"]) / PREDICTIONS
        if not path.is_file():
            return None
        found = predictions.read(path)
        for name, classes in (("labels", found.labels), ("classes", found.predicted)):
            if classes.min() < 0 or classes.max() >= len(counts):
                raise predictions.damaged(path, f"its {name} are not of {len(counts)} classes")
        labels.append(found.labels)
        predicted.append(found.predicted)
    return confusion_of(np.concatenate(labels), np.concatenate(predicted), counts)


def _rows(name: str, one: Confusion) -> list[tuple[object, ...]]:
    return [
        (
            *(name, of, taken_for, int(one.samples[row, column]), float(one.shares[row, column])),
            float(one.accuracies[row]) if row == column else "",
        )
        for row, of in enumerate(GROUPS)
        for column, taken_for in enumerate(GROUPS)
        if row in one.present
    ]
