"""The files of an analysis: pictures, and the numbers beside them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gol_decouple import runs
from gol_decouple.files import disk_errors, write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Outputs:
    """What is written into a folder, which is made if need be; files of the same names are replaced.

    Attributes:
        files: in the order in which they were written.

    Raises:
        InputError: there is a file of the folder's name, or the folder is a run.
    """

    def __init__(self, folder: Path) -> None:
        runs.check_output(folder, "--out")
        self.folder = folder
        self.files: list[Path] = []

    def csv(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table; numbers that are not defined (NaN) are empty, others have six digits."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        table.writerows([_cell(value) for value in row] for row in rows)
        write_text(self._path(name), text.getvalue())

    def json(self, name: str, tree: dict[str, Any]) -> None:
        """An object; numbers that are not defined (NaN) are null."""
        write_json(self._path(name), _plain(tree))

    def png(self, name: str, figure: Figure) -> None:
        """A picture."""
        from gol_decouple.report.figures.files import save

        save(figure, self._path(name))

    def _path(self, name: str) -> Path:
        path = self.folder / name
        with disk_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.files.append(path)
        return path


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
