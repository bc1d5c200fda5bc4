"""What is told of each epoch: log.csv, and of stage one TensorBoard's files where they are asked for."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gol_decouple.errors import InputError
from gol_decouple.files import write_text
from gol_decouple.runs import LOG
from gol_decouple.stages.tensorboard import TENSORBOARD, summary_writer

BEFORE, AFTER = ("epoch", "lr", "train_loss"), ("images_per_second", "seconds")
FIELDS = (*BEFORE, "accuracy", *AFTER)  # of an image classifier


class TrainingLog:
    """The rows of `log.csv` in a run's folder, one an epoch, with the keys BEFORE, `columns` and AFTER.

    Args:
        tensorboard: also write every row as scalars below `tensorboard/`.
        is_main: whether this process is the one that writes.
        columns: what the task that is trained has of its own.

    Raises:
        InputError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self, folder: Path, tensorboard: bool = False, is_main: bool = True, columns: tuple[str, ...] = ("accuracy",)
    ) -> None:
        self._fields = (*BEFORE, *columns, *AFTER)
        self.rows: list[dict[str, Any]] = []
        self._folder = folder
        self._writer: Any = None
        found = summary_writer("stage1", "log.csv has the same") if tensorboard else None
        self._tensorboard = found if is_main else None

    @property
    def seconds(self) -> float:
        """Wall time of all epochs."""
        return sum(float(row["seconds"]) for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """One more epoch."""
        self.rows.append(row)
        if self._tensorboard is not None:
            if self._writer is None:
                # What an interrupted run wrote of this epoch and later ones is no longer shown.
                self._writer = self._tensorboard(str(self._folder / TENSORBOARD), purge_step=row["epoch"])
            for name, value in row.items():
                if name != "epoch" and value is not None:
                    self._writer.add_scalar(f"stage1/{name}", value, row["epoch"])
            self._writer.flush()

    def take(self, rows: list[dict[str, Any]]) -> None:
        """Take up the rows of a checkpoint.

        Raises:
            ValueError: they have other columns.
        """
        for row in rows:
            if set(row) != set(self._fields):
                raise ValueError(f"the log has the columns {', '.join(map(str, row))}")
        self.rows = rows

    def write(self) -> None:
        """Write `log.csv`."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._folder / LOG, text.getvalue())


def seconds_of(folder: Path) -> float:
    """Wall time of all epochs that a run's `log.csv` tells; 0 where nothing was trained.

    Raises:
        InputError: it does not tell that of every epoch.
    """
    path = folder / LOG
    if not path.is_file():
        return 0.0
    try:
        seconds = sum(float(row["seconds"]) for row in _rows(path, (*BEFORE, *AFTER)))
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"its seconds sum up to {seconds}")
        return seconds
    except (OSError, ValueError, TypeError, csv.Error) as error:
        hint = f"remove {path} to go without: it is only told in the report how long the training took"
        raise _unreadable(path, error, hint) from None


def write_history(folder: Path, history: Sequence[dict[str, Any]]) -> None:
    """Write the `log.csv` of a retrained classifier, with the columns BEFORE; the numbers with all their digits.

    Args:
        history: see `jobs.Retrained`.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(BEFORE)
    table.writerows((row["epoch"], row["lr"], row["loss"]) for row in history)
    write_text(folder / LOG, text.getvalue())


def read_log(path: Path) -> dict[str, list[float]]:
    """The columns of the `log.csv` of either stage, by name; NaN where nothing was measured.

    Raises:
        InputError: it cannot be read, or does not have every epoch.
    """
    try:
        rows = _rows(path, BEFORE)
        if any(None in row.values() for row in rows):
            raise ValueError("a line ends early")
        return {name: [float(row[name] or math.nan) for row in rows] for name in (rows[0] if rows else BEFORE)}
    except (OSError, ValueError, TypeError, csv.Error) as error:
        hint = f"remove {path} to go without: only curves of the training are drawn from it"
        raise _unreadable(path, error, hint) from None


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, strict=True)
        there, rows = set(table.fieldnames or ()), list(table)
    if missing := set(columns) - there:
        raise ValueError(f"it has no column {min(missing)}")
    if any(None in row for row in rows):
        raise ValueError("a line has more values than there are columns")
    if [int(row["epoch"]) for row in rows] != list(range(1, len(rows) + 1)):
        raise ValueError("it does not have every epoch, from 1 on")
    return rows


def _unreadable(path: Path, error: Exception, hint: str) -> InputError:
    return InputError(f"{path} is not a readable log of a training: {error}", hint)
