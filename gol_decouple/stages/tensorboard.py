"""What TensorBoard shows of a training: the files below `tensorboard/` in the folder of a run or of a classifier."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gol_decouple.errors import InputError
from gol_decouple.report.rows import BOX_AP, MASK_AP, Row

if TYPE_CHECKING:
    from gol_decouple.stages.jobs import History  # with torch, which those do without that only read logs

TENSORBOARD = "tensorboard"
SHOWN = ("top1", "top1_many", "top1_medium", "top1_few", *MASK_AP, *BOX_AP)


def summary_writer(section: str, instead: str) -> Any:
    """The class that writes TensorBoard's files.

    Args:
        section: whose setting asks for it.
        instead: what has the same without it.

    Raises:
        InputError: it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        hint = f'pip install "gol-decouple[tensorboard]", or leave it at false: {instead}'
        raise InputError(f"{section}.tensorboard = true, but TensorBoard is not installed", hint) from None
    return SummaryWriter


def remove_board(folder: Path) -> None:
    """Remove what a former training wrote of a classifier."""
    shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)


class Boards:
    """Of stage two: the loss and learning rate of each epoch of each classifier, and at its end its accuracies.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        self._writer = summary_writer("stage2", "manifest.json and log.csv have the same")
        self._open: dict[Path, Any] = {}

    def epoch(self, folder: Path, history: History) -> None:
        """The last epoch of a classifier's history."""
        self._add(folder, history[-1:])
        self._open[folder].flush()

    def _add(self, folder: Path, history: History) -> None:
        for row in history:
            if folder not in self._open:
                # What an interrupted training wrote of this epoch and later ones is no longer shown.
                self._open[folder] = self._writer(str(folder / TENSORBOARD), purge_step=row["epoch"])
            for name in ("lr", "loss"):
                self._open[folder].add_scalar(f"stage2/{name}", row[name], row["epoch"])

    def finish(self, folder: Path, row: Row, history: History) -> None:
        """A finished classifier's accuracies or AP, of its row of the report; what there is none of is left out.

        Args:
            history: of its training, for one that was trained elsewhere, as candidates are; empty if not trained.
        """
        if folder not in self._open:
            remove_board(folder)  # the whole history follows, or there is none
            self._add(folder, history)
        writer = self._open.pop(folder, None) or self._writer(str(folder / TENSORBOARD))
        for name in SHOWN:
            if row[name] is not None:
                writer.add_scalar(f"{row['split']}/{name}", row[name], row["epochs"] or 0)
        writer.close()

    def drop(self, folder: Path) -> None:
        """A classifier that came to nothing: what was written of its training stays."""
        if (writer := self._open.pop(folder, None)) is not None:
            writer.close()
