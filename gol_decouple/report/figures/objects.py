"""Where objects of a category are, annotated and detected (GOL, ECCV 2022, Figures 2 and 5), as `analyze` found it."""

from __future__ import annotations

import csv
import math
import re
import shlex
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gol_decouple.progress import Progress
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.figures.studies import SHOWN, Study
from gol_decouple.report.figures.style import COLOURS, GREY, MARKERS, new_figure, settled, style, text

ANALYSES, DIVERGENCES, CELLS = "analyses", "objects_kl.csv", "objects.csv"
_MAPS = ("p_obj", "p_y_given_obj", "p_y")
_TITLES = ("P(obj, u)", "P(y | obj, u)", "P(y, u)")
_SIDE = 1.3  # inches of a map
_SEED = re.compile(r"-seed\d+(-[0-9a-f]{8})?$")

Table = list[dict[str, str]]
Maps = dict[str, NDArray[np.float64]]


def divergences(study: Study, progress: Progress) -> Drawn | None:
    """A row for every classifier, a marker for every group: of P(y, u) on the left, of P(u | y) on the right."""
    table = _table(study, DIVERGENCES, ("method", "group", "kl_joint", "kl_mean"), progress, says=True)
    if table is None:
        return None
    told: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in table:
        pair = (_number(row["kl_joint"]), _number(row["kl_mean"]))
        told.setdefault(_SEED.sub("", row["method"]), {}).setdefault(row["group"], []).append(pair)
    means = {name: {group: np.mean(pairs, axis=0) for group, pairs in of.items()} for name, of in told.items()}
    groups = list(dict.fromkeys(row["group"] for row in table))[: len(COLOURS)]
    with style():
        figure = new_figure(5.6, 0.26 * len(means) + 1.4)
        panels = figure.subplots(1, 2, sharey=True)
        for group, colour, marker in zip(groups, COLOURS, MARKERS, strict=False):
            values = np.array([of.get(group, (math.nan, math.nan)) for of in means.values()])
            for axes, each in zip(panels, values.T, strict=True):
                axes.scatter(
                    each, range(len(means)), s=22, color=colour, marker=marker, label=text(group), linewidths=0
                )
        panels[0].set_yticks(range(len(means)), [text(name, 40) for name in means])
        panels[0].set_ylim(len(means) - 0.5, -0.5)
        for axes, title in zip(panels, ("of P(y, u)", "of P(u | y), mean of categories"), strict=True):
            axes.set_title(title)
            axes.set_xlabel("KL divergence (nats)")
            axes.set_xlim(left=0.0)
            axes.grid(axis="y", linewidth=0.4, color=GREY, alpha=0.4)
            axes.set_axisbelow(True)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
        settled(figure)
    first = groups[0]
    return Drawn(
        study.name("objects_kl"),
        study.title("Divergence of detected from annotated objects"),
        "KL divergence of where objects of which category are annotated (y at the place u) from where they are "
        "detected; less is closer. Mean over seeds, from what gol-decouple analyze wrote.",
        f"KL divergence of P(y, u) in nats, {first}: "
        + "; ".join(f"{name} {of[first][0]:.3f}" for name, of in means.items() if first in of)
        + ".",
        figure,
        ("method", "group", "kl_joint", "kl_mean"),
        [(name, group, *map(float, pair)) for name, of in means.items() for group, pair in of.items()],
    )


def distributions(study: Study, progress: Progress) -> Drawn | None:
    """The distributions of one category: a column of maps for what is annotated and for each classifier."""
    columns = ("method", "category", "row", "column", *_MAPS)
    table = _table(study, CELLS, columns, progress)
    if not table:
        return None
    category = table[0]["category"]
    rows = [row for row in table if row["category"] == category]
    names = list({_SEED.sub("", row["method"]): row["method"] for row in reversed(rows)}.values())[::-1][: SHOWN + 1]
    try:
        maps = {name: _maps([row for row in rows if row["method"] == name]) for name in names}
    except ValueError as error:
        progress.warn(f"left out of figures: {CELLS} of {study.run} is damaged: {error}")
        return None
    with style():
        figure = new_figure(len(names) * (_SIDE + 0.1) + 0.4, 3 * (_SIDE + 0.25) + 0.5)
        panels = figure.subplots(3, len(names), squeeze=False)
        for column, (name, of_name) in enumerate(maps.items()):
            for line, (title, cells) in enumerate(zip(_TITLES, of_name.values(), strict=True)):
                axes = panels[line, column]
                most = float(np.nanmax(cells, initial=0.0))
                axes.imshow(cells, cmap="cividis", vmin=0.0, vmax=most or 1.0, extent=(0, 1, 1, 0))
                axes.set_title(f"{text(_SEED.sub('', name), 18)}\n" * (line == 0) + f"max {most:.2g}")
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
                if column == 0:
                    axes.set_ylabel(title)
        figure.suptitle(f"y = {text(category, 60)}", fontsize="medium")
        settled(figure)
    return Drawn(
        study.name("objects"),
        study.title(f"Where objects of {category} are"),
        "Maps of images, with u the place of a box's centre: of all objects, of the category among them, and of "
        "objects of the category. Dark is 0, bright the maximum above each map; places without objects have no colour.",
        f"Maps of {category}; the largest P(y, u): "
        + "; ".join(f"{_SEED.sub('', name)} {np.nanmax(of['p_y'], initial=0.0):.2g}" for name, of in maps.items())
        + ".",
        figure,
        columns,
        [[row[name] for name in columns] for row in rows if row["method"] in names],
    )


def _maps(rows: Table) -> Maps:
    """Of one classifier, [G, G] each.

    Raises:
        ValueError: they are not the cells of a square.
    """
    size = math.isqrt(len(rows))
    places = [(int(row["row"]), int(row["column"])) for row in rows]
    if places != [divmod(place, size) for place in range(size * size)] or not size:
        raise ValueError("its cells are no square")
    return {name: np.array([_number(row[name]) for row in rows]).reshape(size, size) for name in _MAPS}


def _number(cell: str) -> float:
    return float(cell) if cell else math.nan


def _table(study: Study, name: str, columns: Sequence[str], progress: Progress, says: bool = False) -> Table | None:
    """A csv of the run's analyses; None where there is none, or where it is damaged, which is told.

    Args:
        says: which command makes it.
    """
    path = study.folder / ANALYSES / name
    again = f"gol-decouple analyze {shlex.quote(str(study.folder))} --what objects"
    if not study.is_detection:
        return None
    if not path.is_file():
        if says:
            progress.say(f"{study.run}: object distributions are drawn after {again}")
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file, strict=True))
        if not table or any(row.get(column) is None for row in table for column in columns):
            raise ValueError(f"it does not have {', '.join(columns)} in every line")
        for row in table:
            for column in columns:
                if column.startswith(("kl_", "p_")):
                    _number(row[column])
        return table
    except (OSError, ValueError, csv.Error) as error:
        progress.warn(f"left out of figures: {path} cannot be read: {error}; {again} writes it again")
        return None
