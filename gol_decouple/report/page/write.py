"""The page, from rows to HTML."""

from __future__ import annotations

from collections.abc import Sequence

from gol_decouple.progress import Progress
from gol_decouple.report.rows import Row


def to_html(found: Sequence[Row], progress: Progress, command: list[str] | None = None) -> str:
    """One self-contained page of rows with their gains."""
    raise NotImplementedError(found, progress, command)
