"""What the exporting scripts of docs/ share as programs: their options, and how they end."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, get_args

from gol_decouple.detection.roi_export import Detector, Export, export_rois
from gol_decouple.errors import GolDecoupleError
from gol_decouple.progress import to_stderr
from gol_decouple.settings import FeatureDtype


def add_options(parser: ArgumentParser) -> None:
    """An option for each part of an `Export`."""
    for name, told in (("images", "folder of the images"), ("train", "annotations"), ("val", "annotations")):
        parser.add_argument(f"--{name}", type=Path, required=True, help=told)
    parser.add_argument("--out", type=Path, default=Path("rois.h5"), help="file to write (default: %(default)s)")
    parser.add_argument("--name", help="of the dataset, in reports (default: the images' folder)")
    for name in ("rois_per_image", "val_rois_per_image", "limit", "seed"):
        default = getattr(Export, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help="(default: %(default)s)")
    share = Export.foreground_fraction
    parser.add_argument("--foreground-fraction", type=float, default=share, help="(default: %(default)s)")
    parser.add_argument("--dtype", choices=get_args(FeatureDtype), default=Export.dtype)
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def run(detector: Detector, origin: dict[str, Any], options: dict[str, Any]) -> None:
    """Export, and say what comes next; what fails with a known cause ends the program with a message.

    Args:
        options: by the names of `Export`'s fields.
    """
    progress = to_stderr()
    try:
        paths = export_rois(detector, origin, Export(**options), progress)
    except GolDecoupleError as error:
        progress.say(f"error: {error.message}")
        if error.hint:
            progress.say(f"hint: {error.hint}")
        raise SystemExit(error.exit_code) from None
    command = ["gol-decouple", "stage2", *paths, "--activation", "gumbel", "--annotations", options["val"]]
    progress.say(f"next: {shlex.join(map(str, command))}")
