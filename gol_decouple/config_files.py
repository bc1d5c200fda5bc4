"""The configs that come with the package, by name. A module of its own, since it is read before any setting is."""

from __future__ import annotations

from pathlib import Path

from gol_decouple.errors import unknown


def config_names() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(path.stem for path in configs_dir().glob("*.toml"))


def config_text(name: str) -> str:
    """The file of a config that comes with the package.

    Raises:
        InputError: there is none of that name.
    """
    if name not in config_names():
        raise unknown("config", name, config_names())
    return (configs_dir() / f"{name}.toml").read_text(encoding="utf-8")


def configs_dir() -> Path:
    """Inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
