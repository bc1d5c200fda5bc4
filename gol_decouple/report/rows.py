"""From manifests to rows: one a run and seed, plain values, as `report --format json` and csv print them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gol_decouple import runs
from gol_decouple.class_stats import GROUPS
from gol_decouple.errors import InputError
from gol_decouple.files import read_json
from gol_decouple.metrics import ACCURACIES, CALIBRATION
from gol_decouple.report.kinds import GAINS, check_kinds
from gol_decouple.report.paper import paper_top1
from gol_decouple.reported_ap import FREQUENCIES, REPORTED
from gol_decouple.targets import find_target

Row = dict[str, Any]

# What the rows of stage one are called wherever methods are named for programs.
STAGE_ONE = "stage_one"
# Below this difference, in points, accuracy over samples and over classes is one figure: the test set is balanced.
SAME_POINTS = 0.05

_METRICS = (*ACCURACIES, *(f"num_{group}" for group in GROUPS))
# Of runs of detection, in points: AP of masks, None where only boxes were evaluated, and AP of boxes.
MASK_AP = REPORTED
BOX_AP = tuple(f"{name}_box" for name in REPORTED)
_DETECTION = ("test_settings", *MASK_AP, *BOX_AP, *(f"num_{letter}" for letter in FREQUENCIES))
# Every row has these keys, in this order; accuracies are percentages, None for an empty group.
FIELDS = (
    *("run", "dataset", "imbalance_factor", "backbone", "stage", "method"),
    *(
        "activation",
        "loss",
        "sampler",
        "classifier",
        "start",
        "started_from",
        "lr",
        "epochs",
        "views",
        "changed_settings",
        "trained_on",
        "temperature",
        "chosen_on",
        "tried",
        "seed",
        "split",
        "cascade",
    ),
    *_METRICS,
    *CALIBRATION,
    "samples",
    *_DETECTION,
    *("baseline", *GAINS),
    *("seconds", "paper_top1", "features", "path"),
)
_GROUPING = (
    *("run", "dataset", "imbalance_factor", "backbone", "features", "stage", "method", "split"),
    *("start", "lr", "epochs", "views", "trained_on", *(f"num_{group}" for group in GROUPS)),
)
_OBJECTS = ("changed_settings", "test_settings", "cascade")


def collect_rows(
    paths: Sequence[Path], runs_dir: Path, left_out: Callable[[InputError], object] | None = None
) -> list[Row]:
    """The rows of all finished runs and classifiers at or below `paths`: run folders, features files or any folders.

    Args:
        left_out: is told why each result that cannot be read is left out; None: the first of them is raised.

    Raises:
        InputError: a path that is not there, no finished run below any of them, or none that can be read.
    """
    folders = finished_folders(paths, runs_dir)
    if not folders:
        where = ", ".join(str(path) for path in paths)
        raise InputError(f"no finished run in {where}", "gol-decouple stage1 CONFIG makes one")
    rows, errors = [], []
    for folder in folders:
        try:
            rows.append(read_row(folder))
        except InputError as error:
            errors.append(error)
    if errors and (left_out is None or not rows):
        raise errors[0]
    if left_out is not None:
        for each in errors:
            left_out(each)
    return sorted(rows, key=lambda row: (str(row["run"]), row["stage"], row["method"], str(row["path"])))


def finished_folders(paths: Sequence[Path], runs_dir: Path) -> list[Path]:
    """Those of all finished runs and classifiers at or below `paths`, each once.

    Raises:
        InputError: a path that is not there.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for folder in _finished_folders(path, runs_dir):
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def by_setting(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that differ in the seed alone, together."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (*(row[name] for name in _GROUPING), *(json.dumps(row[name], sort_keys=True) for name in _OBJECTS))
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def method_of(row: Row) -> str:
    """The name by which a row's method is asked for and told: STAGE_ONE, or that of stage two."""
    return STAGE_ONE if row["stage"] == 1 else str(row["method"])


def is_unbalanced(row: Row) -> bool:
    """Whether accuracy over test samples and over classes are two figures."""
    over_samples, over_classes = row["top1"], row["top1_balanced"]
    return None not in (over_samples, over_classes) and bool(abs(over_samples - over_classes) > SAME_POINTS)


def settings_text(row: Row) -> str:
    """The settings in which a row differs from its method, as `--set` takes them."""
    return " ".join(f"{name}={value}" for name, value in sorted(row["changed_settings"].items()))


def tested_with(row: Row) -> str:
    """What the detections of a row were found and evaluated with."""
    told = row["test_settings"]
    return (
        f"score threshold {told['score_threshold']:g}, NMS {told['nms_threshold']:g}, {told['max_detections']} "
        f"detections an image, {told['images']:,} images of {told['annotations']}"
    )


def train_counts(row: Row) -> list[int]:
    """Train samples of each class, from the row's manifest."""
    folder = Path(row["path"])
    return _train_counts(folder, runs.read_manifest(folder))


def frequency_counts(row: Row) -> list[int]:
    """What frequency is counted by: of detection train images that hold each class, else train samples."""
    manifest = runs.read_manifest(Path(row["path"]))
    counted = "image_counts" if row["test_settings"] is not None and "image_counts" in manifest else "train_counts"
    return [int(count) for count in manifest[counted]]


def _train_counts(folder: Path, manifest: Row) -> list[int]:
    try:
        return [int(count) for count in manifest["train_counts"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _no_manifest(folder, _missing(error)) from None


def _finished_folders(path: Path, runs_dir: Path) -> Iterator[Path]:
    if path.is_file():
        path = find_target(path, runs_dir).folder
    if not path.is_dir():
        raise InputError(f"{path} does not exist", f"runs lie in {runs_dir}; --runs-dir names another folder")
    for manifest in sorted(path.rglob(runs.MANIFEST)):
        folder = manifest.parent
        # Other programs' manifests may lie below any folder.
        if folder.parent.name == runs.STAGE2 or (folder / runs.CONFIG).is_file():
            yield folder


def run_folder(folder: Path) -> Path:
    """The run that a finished folder belongs to, by where it lies: a run may have been moved or renamed."""
    return folder.parent.parent if folder.parent.name == runs.STAGE2 else folder


def read_choice(path: Path) -> Row:
    """How a classifier was chosen, if it was.

    Raises:
        InputError: the file does not say that.
    """
    if not os.path.lexists(path):
        return {"chosen_on": None, "tried": None}
    told = read_json(path, f"remove {path} to go without")
    try:
        tried = [{"settings": dict(one["settings"]), "value": one["value"]} for one in told["tried"]]
        return {"chosen_on": str(told["held_out"]), "tried": tried}
    except (KeyError, TypeError, ValueError, IndexError):
        raise InputError(f"{path} does not say what was tried", f"remove {path} to go without") from None


def read_row(folder: Path) -> Row:
    """The row of a finished run or classifier.

    Raises:
        InputError: its manifest or choice cannot be read, or is not of a run.
    """
    manifest = runs.read_manifest(folder)
    choice = read_choice(folder / runs.CHOICE)
    try:
        settings = manifest["settings"]
        detection, metrics = _detection(manifest.get("detection")), manifest["metrics"]
        if detection["test_settings"] is not None:  # whose RoIs need not have been classified
            metrics = dict.fromkeys(_METRICS) | metrics
        values = {
            **manifest,
            **{name: metrics[name] for name in _METRICS},
            **detection,
            **{name: metrics.get(name) for name in CALIBRATION},
            "run": run_folder(folder).name,
            "start": settings.get("start"),
            "started_from": manifest.get("started_from"),
            "lr": manifest.get("scaled_lr", settings.get("lr")),
            "epochs": settings.get("epochs", 0),
            "views": manifest.get("views", 1),
            "changed_settings": _changed(manifest),
            "trained_on": manifest.get("trained_on", "train"),
            "temperature": manifest.get("temperature"),
            "samples": manifest.get("samples"),
            "cascade": _cascade(manifest.get("cascade")),
            **choice,
            "paper_top1": paper_top1(manifest),
            "features": manifest["features"]["fingerprint"],
            "path": str(folder),
            **dict.fromkeys(("baseline", *GAINS)),
        }
        row = {name: values[name] for name in FIELDS}
        check_kinds(row)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise _no_manifest(folder, _missing(error)) from None
    _train_counts(folder, manifest)
    return row


def _changed(manifest: dict[str, Any]) -> Row:
    """The settings in which it differs from its method; of stage one, whether it ended before its epochs did."""
    changed: Row = manifest.get("changed_settings", {})
    steps = manifest["settings"].get("max_steps")
    return changed if steps is None else {**changed, "max_steps": steps}


def _cascade(stages: list[dict[str, Any]] | None) -> list[str] | None:
    """Of the mean over a cascade's stages, the names of their features files; else None."""
    return None if stages is None else [str(stage["features"]) for stage in stages]


def _detection(told: dict[str, Any] | None) -> Row:
    """The fields of `figures.manifest_of`, all None for a run of classification."""
    if told is None:
        return dict.fromkeys(_DETECTION)
    masks = dict.fromkeys(REPORTED) if told["masks"] is None else told["masks"]
    return {
        "test_settings": {
            **told["settings"],
            "annotations": told["annotations"],
            "images": told["images"],
            "masks": told["masks"] is not None,
        },
        **{name: masks[name] for name in REPORTED},
        **{name: told["boxes"][of] for name, of in zip(BOX_AP, REPORTED, strict=True)},
        **{f"num_{letter}": told[f"num_{letter}"] for letter in FREQUENCIES},
    }


def _missing(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _no_manifest(folder: Path, reason: str) -> InputError:
    path = folder / runs.MANIFEST
    return InputError(f"{path} is not a manifest of a run: {reason}", runs.make_again(path))
