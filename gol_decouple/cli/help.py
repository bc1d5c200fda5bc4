"""How the help looks: commands in panels, in the order of a study, and examples below each command's options."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from gol_decouple.cli.examples import COMMANDS, START, text_of


class Command(TyperCommand):
    """A command whose help ends with examples, printed as they are: what is copied must not be wrapped."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, then the examples."""
        super().format_help(ctx, formatter)
        if text := text_of(self.name or ""):
            typer.echo(text)


class Group(TyperGroup):
    """All commands, and where to start."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, then the first two commands."""
        super().format_help(ctx, formatter)
        typer.echo(START)


def arrange(app: typer.Typer) -> None:
    """Give every command of `app` its place among all, its line and its examples."""
    order = list(COMMANDS)
    for info in app.registered_commands:
        name = info.name or getattr(info.callback, "__name__", "")
        info.name, info.cls = name, Command
        if name in COMMANDS:
            info.rich_help_panel, info.short_help = COMMANDS[name].panel, COMMANDS[name].line
    known = [info for info in app.registered_commands if info.name in COMMANDS]
    others = [info for info in app.registered_commands if info.name not in COMMANDS]
    app.registered_commands = sorted(known, key=lambda info: order.index(info.name or "")) + others
