"""The configs that come with the package, by name. A module of its own, since it is read before any setting is."""

from __future__ import annotations

from pathlib import Path


def config_names() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(path.stem for path in configs_dir().glob("*.toml"))


def configs_dir() -> Path:
    """Inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
