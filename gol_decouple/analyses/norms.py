"""How long each class's weights are, against how frequent it is (GOL, ECCV 2022, Figure 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gol_decouple.analyses.object_grid import Floats, mean_of
from gol_decouple.analyses.outputs import Outputs
from gol_decouple.analyses.sources import Run, Source, by_setting, seeds_note
from gol_decouple.metrics import rank_correlation
from gol_decouple.report.layout import EMPTY, TextTable

COLUMNS = ("method", "class", "name", "count", "group", "norm")


@dataclass(frozen=True, eq=False)
class Norms:
    """Of one classifier.

    Attributes:
        norms: [C], the Euclidean norm of each class's weight, without its bias.
        correlation: Spearman's, of norms and train counts; NaN where either is the same for all.
    """

    source: Source
    norms: Floats
    correlation: float


def weight_norms(run: Run) -> list[Norms]:
    """Of every classifier of a run."""
    found = []
    for source in run.sources:
        norms = source.classifier.class_norms(len(run.features.classes))
        found.append(Norms(source, norms, rank_correlation(norms, run.frequencies.counts)))
    return found


def write_norms(outputs: Outputs, run: Run, found: list[Norms]) -> None:
    """`norms.csv`, of each classifier the classes from the most frequent to the least."""
    names, groups, counts = run.features.classes.names, run.frequencies.groups, run.frequencies.counts
    rows = (
        (one.source.name, label, names[label], int(counts[label]), groups[label], float(one.norms[label]))
        for one in found
        for label in run.frequencies.order.tolist()
    )
    outputs.csv("norms.csv", COLUMNS, rows)


def norms_table(run: Run, found: list[Norms]) -> TextTable:
    """The mean norm of each group, and the rank correlation."""
    groups = run.frequencies.groups
    names = [name for name in run.frequencies.names if (groups == name).any()]
    settings = by_setting(found)
    cells = []
    for setting, members in settings.items():
        norms = np.mean([one.norms for one in members], axis=0)
        means = [f"{mean_of(norms, groups == name):.3g}" for name in names]
        cells.append([setting, *means, _signed(float(np.mean([one.correlation for one in members])))])
    headings = [f"{name} ({(groups == name).sum()})" for name in names]
    note = f"means of classes (their number); correlation: of the ranks of norm and {run.frequencies.unit}"
    return TextTable(
        f"{run.name}: weight norms", ["method", *headings, "correlation"], cells, [note, *seeds_note(settings)]
    )


def _signed(value: float) -> str:
    return EMPTY if np.isnan(value) else f"{value:+.2f}"
