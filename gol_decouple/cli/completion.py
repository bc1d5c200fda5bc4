"""What a shell completes: names that the program knows, and runs that are there. It reads names and writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gol_decouple import methods, runs
from gol_decouple.config_files import config_names

if TYPE_CHECKING:
    from pydantic import BaseModel

RUNS_DIR = Path("runs")


def configs(incomplete: str) -> list[str]:
    """Configs by name; of anything else the shell completes files."""
    return _beginning(config_names(), incomplete)


def method_names(incomplete: str) -> list[str]:
    """Methods of stage two, and `all`."""
    return _beginning([*methods.METHODS, "all"], incomplete)


def rows(incomplete: str) -> list[str]:
    """What rows of a report are called: stage one's and methods."""
    return _beginning(["stage_one", *methods.METHODS], incomplete)


def activations(incomplete: str) -> list[str]:
    """Activations that a method is called after."""
    return _beginning((name for name, one in methods.METHODS.items() if name == one.activation), incomplete)


def published(incomplete: str) -> list[str]:
    """Tables of papers."""
    from gol_decouple.reproduction.plan import TABLES

    return _beginning(TABLES, incomplete)


def datasets_of_tables(incomplete: str) -> list[str]:
    """Datasets that one of these tables has."""
    from gol_decouple.reproduction.plan import TABLES

    return _beginning(dict.fromkeys(name for table in TABLES.values() for name in table), incomplete)


def run_folders(ctx: typer.Context, incomplete: str) -> list[str]:
    """Runs below --runs-dir; of anything else the shell completes files."""
    runs_dir = Path(ctx.params.get("runs_dir") or RUNS_DIR)
    try:
        found = sorted(str(folder) for folder in runs_dir.iterdir() if (folder / runs.CONFIG).is_file())
    except OSError:
        return []
    return _beginning(found, incomplete)


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of --set, of stage two alone where no other can be set."""
    from gol_decouple.settings import Config, Stage2Config

    stage2_only = ctx.info_name in ("stage2", "tune")
    keys = (f"stage2.{name}" for name in Stage2Config.model_fields) if stage2_only else _keys(Config)
    return _beginning((f"{key}=" for key in keys), incomplete)


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    from pydantic import BaseModel

    for name, field in section.model_fields.items():
        inner: Any = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
