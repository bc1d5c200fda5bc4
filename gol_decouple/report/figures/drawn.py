"""What a figure is, before it is written anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure.

    Attributes:
        name: of its files, without an ending; in a report no other one is.
        title: what it shows, in a few words.
        caption: how to read it, and how it was computed, in a sentence or two.
        alt: what it shows, with its main numbers, for those who do not see it.
        columns, rows: the numbers it shows, as a table.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
