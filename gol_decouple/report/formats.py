"""How a report can be printed. A module of its own, since the command line lists them before anything is read."""

from enum import StrEnum


class Format(StrEnum):
    """How a report is printed."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"
    html = "html"
