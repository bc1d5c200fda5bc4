"""What `gol-decouple analyze` does: chooses analyses, makes them, and tells what there is to print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gol_decouple import runtime
from gol_decouple.analyses.curves import curves, write_curves
from gol_decouple.analyses.gradients import gradient_masses, masses_table, write_masses
from gol_decouple.analyses.norms import norms_table, weight_norms, write_norms
from gol_decouple.analyses.objects import (
    choose_categories,
    count_objects,
    divergences,
    label_of,
    objects_tables,
    write_objects,
)
from gol_decouple.analyses.outputs import Outputs
from gol_decouple.analyses.sources import Run, open_run
from gol_decouple.errors import InputError, few
from gol_decouple.progress import SILENT, Progress
from gol_decouple.report.layout import TextTable
from gol_decouple.stages.detection_evaluation import DetectionEvaluation
from gol_decouple.stages.gradients import GRADIENTS

GRID = 32
FOLDER = "analyses"


@dataclass(frozen=True)
class Wanted:
    """What to analyse, and how.

    Attributes:
        what: of WHAT; None: all that a run has what they need for.
        methods: patterns of classifiers; none: all.
        categories: names or ids of those whose maps are drawn; none: of each frequency the one with most objects.
        grid: cells in each direction.
        annotations: instead of those of the run's config.
        device: None: the run's own.
    """

    what: tuple[str, ...] | None = None
    methods: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    grid: int = GRID
    annotations: Path | None = None
    device: str | None = None


@dataclass
class Made:
    """Tables to print, and the files that were written."""

    tables: list[TextTable] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def analyze(
    paths: Sequence[Path], runs_dir: Path, out: Path | None, wanted: Wanted, progress: Progress = SILENT
) -> Made:
    """Analyse runs, and write figures and their numbers.

    Args:
        paths: run folders or features files; none: only curves, which need none.
        out: the folder to write to, and of several runs the folder of theirs, by name; None: `analyses` in each run.

    Raises:
        InputError: a run that cannot be analysed so (see `sources.open_run`), or nothing to do.
    """
    if not paths:
        return _without_run(out, wanted)
    opened = [open_run(path, runs_dir, wanted.methods, progress) for path in paths]
    names = [run.name for run in opened]
    if out is not None and len(set(names)) < len(names):
        raise InputError(f"several of the runs have one name: {few(sorted(names))}", "leave --out out")
    made = Made()
    for run in opened:
        folder = run.target.folder / FOLDER if out is None else out / run.name if len(opened) > 1 else out
        outputs = Outputs(folder)
        for what in wanted.what or WHAT:
            try:
                made.tables += _ANALYSES[what](outputs, run, wanted, progress)
            except _NotThereError as error:
                if wanted.what is not None:
                    raise InputError(error.message, error.hint) from None
                progress.say(f"no {what}: {error.message}")
        made.files += outputs.files
    return made


class _NotThereError(InputError):
    """A run does not have what an analysis needs."""


def _without_run(out: Path | None, wanted: Wanted) -> Made:
    if wanted.what != ("curves",):
        raise InputError("there is no run to analyse", "name one, or ask for --what curves, which needs none")
    if out is None:
        raise InputError("there is no run to write the curves into", "name a folder with --out")
    outputs = Outputs(out)
    _curves(outputs)
    return Made(files=outputs.files)


def _curves(outputs: Outputs, *_: object) -> list[TextTable]:
    from gol_decouple.analyses.drawing.curves import draw_curves

    found = curves()
    write_curves(outputs, found)
    outputs.png("curves.png", draw_curves(found))
    return []


def _norms(outputs: Outputs, run: Run, *_: object) -> list[TextTable]:
    from gol_decouple.analyses.drawing.by_class import draw_norms

    found = weight_norms(run)
    write_norms(outputs, run, found)
    outputs.png("norms.png", draw_norms(found, run.frequencies))
    return [norms_table(run, found)]


def _gradients(outputs: Outputs, run: Run, *_: object) -> list[TextTable]:
    found = gradient_masses(run)
    if not found:
        path = shlex.quote(str(run.target.folder if run.target.config else run.target.features))
        hint = f"gol-decouple stage2 {path} --activation gumbel --set stage2.gradients=true --overwrite"
        raise _NotThereError(f"no classifier of {run.name} has a {GRADIENTS}", hint)
    from gol_decouple.analyses.drawing.by_class import draw_gradients

    write_masses(outputs, run, found)
    outputs.png("gradients.png", draw_gradients(found, run.frequencies, run.features.is_detection))
    return [masses_table(run, found)]


def _objects(outputs: Outputs, run: Run, wanted: Wanted, progress: Progress) -> list[TextTable]:
    detections = _detections(run, wanted, progress)
    for name in wanted.categories:  # what is not there is told before the long pass
        label_of(run.features.classes.names, detections.category_ids, name)
    found = count_objects(run, detections, wanted.grid)
    told, labels = divergences(run, found), choose_categories(run, found, wanted.categories)
    write_objects(outputs, run, found, told, labels, detections)
    from gol_decouple.analyses.drawing.objects import draw_category, draw_divergences
    from gol_decouple.analyses.drawing.shown import drawn

    names = [one.source.name for one in drawn(told)]
    for label in labels:
        name = run.features.classes.names[label]
        outputs.png(f"objects_{label}_{_file_name(name)}.png", draw_category(found, names, label, name))
    outputs.png("objects_kl.png", draw_divergences(told, run.frequencies.names))
    return objects_tables(run, found, told)


def _detections(run: Run, wanted: Wanted, progress: Progress) -> DetectionEvaluation:
    """What the run's classifiers are evaluated with."""
    target, features = run.target, run.features
    if not features.is_detection:
        hint = "--what norms, curves and gradients are of images too"
        raise _NotThereError(f"{run.name} has no RoIs: its features are of images", hint)
    if target.config is None and wanted.annotations is None:
        told = f"{features.path} belongs to no run that would say where the annotations are"
        raise _NotThereError(told, "--annotations lvis_v1_val.json")
    device = wanted.device or (target.config.device if target.config else "auto")
    used = runtime.select_device(device)
    return DetectionEvaluation(features, target.config, target.folder, wanted.annotations, used, progress)


def _file_name(name: str) -> str:
    """A category's name as part of a file's."""
    return re.sub(r"[^\w.-]+", "_", name)[:60]


_ANALYSES: dict[str, Callable[[Outputs, Run, Wanted, Progress], list[TextTable]]] = {
    "objects": _objects,
    "norms": _norms,
    "curves": _curves,
    "gradients": _gradients,
}
WHAT = tuple(_ANALYSES)
