"""The commands that list what there is: configs of stage one, methods of stage two."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gol_decouple import methods
from gol_decouple.cli import completion
from gol_decouple.cli.app import app, echo_json

Short = Annotated[bool, typer.Option("--short", help="A line each.")]


class ListFormat(StrEnum):
    """How a list is printed, for people or for programs."""

    text = "text"
    json = "json"


AsList = Annotated[ListFormat, typer.Option("--format", help="How to print it; json has everything.")]


@app.command("configs")
def list_configs(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG", help="Its file is printed; all unless given.", autocompletion=completion.configs
        ),
    ] = None,
    short: Short = False,
    format_: AsList = ListFormat.text,
) -> None:
    """List the configs of stage one: data, backbone, the paper's figures or what was measured, and the first command.

    Of one config, print the file, as a beginning for one of your own.
    """
    from gol_decouple.config_files import config_names, config_text
    from gol_decouple.report import configs

    if config is not None and format_ is ListFormat.text and not short:
        typer.echo(config_text(config), nl=False)
        return
    found = [configs.describe(name) for name in ([config] if config is not None else config_names())]
    if format_ is ListFormat.json:
        echo_json([one._asdict() for one in found])
    else:
        typer.echo(configs.to_lines(found) if short else configs.to_text(found))


@app.command("methods")
def list_methods(
    method: Annotated[
        list[str] | None,
        typer.Argument(metavar="METHOD", help="Names or patterns.", autocompletion=completion.method_names),
    ] = None,
    short: Short = False,
    format_: AsList = ListFormat.text,
) -> None:
    """List the methods of stage two: paper, parts and settings."""
    from gol_decouple.report.methods import to_json, to_lines, to_text

    found = [methods.get(name) for name in methods.select(method or ["all"], background=None)]
    if format_ is ListFormat.json:
        echo_json(to_json(found))
    else:
        typer.echo(to_lines(found) if short else to_text(found))
