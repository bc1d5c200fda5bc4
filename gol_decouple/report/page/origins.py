"""Where each row comes from: the parts of its method, its settings, and the command and config that made it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gol_decouple import runs
from gol_decouple.errors import GolDecoupleError
from gol_decouple.files import read_bytes
from gol_decouple.limits import SETTINGS_BYTES
from gol_decouple.report.cells import recipe
from gol_decouple.report.layout import EMPTY
from gol_decouple.report.page.studies import Study
from gol_decouple.report.rows import Row, run_folder

_PARTS = ("activation", "loss", "sampler", "classifier")
_UNKNOWN = "its manifest does not say"


@dataclass(frozen=True)
class Made:
    """A command, where it was typed, and which seeds it made."""

    command: str | None
    folder: str
    seeds: str


@dataclass(frozen=True)
class Origin:
    """How one setting was made.

    Attributes:
        name: of the setting.
        facts: what there is to know of it, by what it is called.
        settings: all of them, as JSON.
        made: the commands.
        run: the number of its run's config among `Configs`.
    """

    name: str
    facts: dict[str, str]
    settings: str
    made: list[Made]
    run: int


@dataclass(frozen=True)
class RunConfig:
    """The resolved config of a run, or why there is none."""

    run: str
    text: str | None
    reason: str


def origins(study: Study, configs: Sequence[RunConfig]) -> list[Origin]:
    """Those of a study's settings.

    Args:
        configs: of all runs of the page (see `run_configs`).
    """
    places = {config.run: place for place, config in enumerate(configs)}
    return [
        _origin(name, seeds, places[str(run_folder(Path(seeds[0]["path"])))])
        for name, seeds in zip(study.names, study.settings, strict=True)
    ]


def run_configs(rows: Sequence[Row]) -> list[RunConfig]:
    """The config of every run that the rows are of, by its folder."""
    folders = dict.fromkeys(run_folder(Path(row["path"])) for row in rows)
    return [_config(folder) for folder in folders]


def _config(folder: Path) -> RunConfig:
    path = folder / runs.CONFIG
    if not path.is_file():
        return RunConfig(str(folder), None, "there is none: its features were made elsewhere")
    try:
        return RunConfig(str(folder), read_bytes(path, SETTINGS_BYTES).decode("utf-8", "replace"), "")
    except GolDecoupleError as error:
        return RunConfig(str(folder), None, error.message)
    except OSError as error:
        return RunConfig(str(folder), None, f"{path} cannot be read: {error.strerror}")


def _origin(name: str, seeds: Sequence[Row], run: int) -> Origin:
    first = seeds[0]
    manifests = [runs.read_manifest(Path(row["path"])) for row in seeds]
    settings = json.dumps(manifests[0].get("settings"), indent=2, ensure_ascii=False, default=str)
    return Origin(name, _facts(first, seeds, manifests[0]), settings, _made(seeds, manifests), run)


def _facts(first: Row, seeds: Sequence[Row], manifest: Mapping[str, Any]) -> dict[str, str]:
    numbers = ", ".join(EMPTY if row["seed"] is None else str(row["seed"]) for row in seeds)
    seconds = [row["seconds"] for row in seeds if row["seconds"] is not None]
    facts = {"recipe": recipe(first)}
    facts |= {part: str(first[part]) for part in _PARTS if first[part] is not None}
    facts |= {"seeds": numbers, "trained on": str(first["trained_on"])}
    facts |= {"seconds": f"{sum(seconds):,.1f}"} if seconds else {}
    return facts | {"computed with": _versions(manifest), "checkout": _checkout(manifest)}


def _made(seeds: Sequence[Row], manifests: Sequence[Mapping[str, Any]]) -> list[Made]:
    """Commands, each once, with the seeds that it made."""
    found: dict[tuple[str | None, str], list[str]] = {}
    for row, manifest in zip(seeds, manifests, strict=True):
        key = _command(manifest.get("command")), str(manifest.get("folder") or _UNKNOWN)
        found.setdefault(key, []).append(EMPTY if row["seed"] is None else str(row["seed"]))
    return [Made(command, folder, ", ".join(numbers)) for (command, folder), numbers in found.items()]


def _command(told: Any) -> str | None:
    """As it would be typed; None: a program called the library, or the manifest is of before commands were told."""
    if not isinstance(told, list) or not told or not all(isinstance(word, str) for word in told):
        return None
    return shlex.join(told)


def _section(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = manifest.get(name)
    return section if isinstance(section, dict) else {}


def _versions(manifest: Mapping[str, Any]) -> str:
    environment = _section(manifest, "environment")
    versions = _section(environment, "versions") or _section(manifest, "software")
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or _UNKNOWN


def _checkout(manifest: Mapping[str, Any]) -> str:
    checkout = _section(_section(manifest, "environment"), "checkout")
    if not checkout:
        return "not run from a git checkout, or not told"
    return f"{checkout.get('commit')}{', with changes' if checkout.get('dirty') else ''}"
