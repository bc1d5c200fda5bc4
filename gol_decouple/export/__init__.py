"""A finished model in files that work without this program: safetensors, the checkpoint it came from, or ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gol_decouple import runs, sealed_tensors
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.export.checkpoint import as_checkpoint
from gol_decouple.export.detector import detector_checkpoint, detector_file
from gol_decouple.export.linear import Tensors, library_of, tensors_of
from gol_decouple.export.onnx import as_onnx
from gol_decouple.export.told import CONFIG, told_of
from gol_decouple.export.told_detector import told_of_detector
from gol_decouple.files import atomic_path, disk_errors, write_json
from gol_decouple.stages.finding import Found
from gol_decouple.stages.restored import Restored, restore
from gol_decouple.stages.restored_detector import restore_detector

# Writes the model's own file to a path.
Write = Callable[[Path], object]


class _Prepared(NamedTuple):
    """What is to be written: the model's file, notes on it, `config.json`, and what the backbone is called."""

    name: str
    write: Write
    notes: list[str]
    told: dict[str, Any]
    backbone: str


def export_model(found: Found, folder: Path, kind: str = "safetensors", overwrite: bool = False) -> list[str]:
    """Write a finished model into `folder`, and beside it `config.json`, which says what it is.

    Args:
        kind: "safetensors": `model.safetensors`, under the tensor names of the model's library; "checkpoint": the
            file that stage one loaded, with this run's tensors in it; "onnx": `model.onnx`, of image classifiers.
        overwrite: whether to write into a folder that holds something; files of other names stay.

    Returns:
        What was written, a line each.

    Raises:
        InputError: a classifier that the format cannot hold, a folder that is not empty, or packages that are missing.
        EnvironmentFailure: the disk is full.
    """
    _check_folder(folder, overwrite)
    name, write, notes, told, backbone = (_detector if found.is_detector else _classifier)(found, kind)
    try:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Last of all, so that it never tells of other weights than those beside it.
            (folder / CONFIG).unlink(missing_ok=True)
        with atomic_path(folder / name) as temporary:
            write(temporary)
        write_json(folder / CONFIG, told)
    except EnvironmentFailure as failure:
        raise EnvironmentFailure(failure.message, "free some space, or choose another --out") from None
    classes = f"{backbone}, {told['num_classes']} classes"
    return [f"{folder / name}: {found} ({classes})", f"{folder / CONFIG}: input, classes and scores", *notes]


def _check_folder(folder: Path, overwrite: bool) -> None:
    runs.check_output(folder, "--out")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        hint = "name another folder, or replace the files of the same names with --overwrite"
        raise InputError(f"--out {folder} is not empty", hint)


def _classifier(found: Found, kind: str) -> _Prepared:
    """An image classifier."""
    model = restore(found)
    name, write, notes = {"safetensors": _safetensors, "checkpoint": _checkpoint, "onnx": _onnx}[kind](model)
    told = told_of(model, name, library_of(model), with_formula=kind != "onnx")
    return _Prepared(name, write, notes, told, model.config.backbone.name)


def _detector(found: Found, kind: str) -> _Prepared:
    """A detector."""
    if kind == "onnx":
        raise InputError(f"{found.run} is of a detector, and those are not written as ONNX", "--format safetensors")
    model = restore_detector(found)
    made, layout = detector_checkpoint(model) if kind == "checkpoint" else detector_file(model)
    told = told_of_detector(model, made.name, layout)
    return _Prepared(made.name, made.write, made.notes, told, model.config.backbone.name)


def _safetensors(model: Restored) -> tuple[str, Write, list[str]]:
    tensors: Tensors = tensors_of(model)
    return runs.MODEL, lambda path: sealed_tensors.write(tensors, path, {"format": "pt"}), []


def _checkpoint(model: Restored) -> tuple[str, Write, list[str]]:
    made = as_checkpoint(model)
    return made.name, made.write, made.notes


def _onnx(model: Restored) -> tuple[str, Write, list[str]]:
    return "model.onnx", as_onnx(model), []
