"""A folder of pictures with the detections drawn into them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gol_decouple import runs
from gol_decouple.detection.drawing import drawn
from gol_decouple.errors import EnvironmentFailure, InputError, few
from gol_decouple.files import atomic_path, disk_errors
from gol_decouple.predictions import Best, ImageDetections

_JPEG = (".jpg", ".jpeg")
_QUALITY = 92


class DrawnPictures:
    """Writes pictures into a folder, below it as they lie below the folder that all of them are in.

    JPEGs become JPEGs, and `x.bmp` becomes `x.bmp.png`.

    Args:
        pictures: all that there will be.
        shown: which of their detections are drawn.

    Raises:
        InputError: a picture of that name is there already, or would be that of two; or the folder is none, or a run.
    """

    def __init__(self, folder: Path, pictures: Sequence[Path], shown: Best) -> None:
        self._folder, self._shown = folder, shown
        runs.check_output(folder, "--pictures")
        whole = {picture: os.path.abspath(picture) for picture in pictures}
        root = os.path.commonpath([os.path.dirname(path) for path in whole.values()])
        self._targets = {picture: folder / _drawn_name(os.path.relpath(path, root)) for picture, path in whole.items()}
        if len(set(self._targets.values())) < len(self._targets):
            targets = list(self._targets.values())
            twice = next(target for at, target in enumerate(targets) if target in targets[:at])
            raise InputError(f"two images would be drawn as {twice}", "rename one of them")
        if there := [str(target) for target in self._targets.values() if target.exists()]:
            told = f"--pictures {folder} has {few(there)} already"
            raise InputError(told, "name another folder, or remove what is in it")

    def add(self, pixels: NDArray[np.uint8], found: ImageDetections) -> None:
        """Write a picture, uint8 [H, W, 3], with what was found in it.

        Raises:
            EnvironmentFailure: the disk is full, or the folder cannot be written.
        """
        target = self._targets[found.image]
        picture = drawn(pixels, found.first(self._shown.among(found.scores)))
        try:
            with disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary:
                if target.suffix.lower() in _JPEG:  # colours of every pixel, for the sake of the text
                    picture.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0)
                else:
                    picture.save(temporary, format="PNG")
        except EnvironmentFailure as failure:
            raise EnvironmentFailure(failure.message, "free some space, or choose another folder") from None


def _drawn_name(name: str) -> str:
    return name if name.lower().endswith((*_JPEG, ".png")) else f"{name}.png"
