"""The page, from rows to HTML."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import gol_decouple
from gol_decouple.errors import few
from gol_decouple.plain_text import plain
from gol_decouple.progress import Progress
from gol_decouple.report.figures.drawn import Drawn
from gol_decouple.report.page.classes import classes
from gol_decouple.report.page.origins import origins, run_configs
from gol_decouple.report.page.samples import samples
from gol_decouple.report.page.studies import Study, studies, with_baselines
from gol_decouple.report.page.summary import summary
from gol_decouple.report.page.tables import page_tables
from gol_decouple.report.rows import Row

_FOLDER = Path(__file__).parent
_NAMED = 3
_SCRIPTS = ("page.js", "tables.js", "classes.js")  # one function: what the first define the others use


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its SVG, and what stands beside it."""

    name: str
    title: str
    caption: str
    svg: Markup


def to_html(
    found: Sequence[Row],
    progress: Progress,
    command: list[str] | None = None,
    paper: bool = False,
    of_runs: Sequence[Row] = (),
    drawn: Sequence[Drawn] = (),
) -> str:
    """One self-contained page of rows with their gains (see `gains.add_gains`): it asks no other machine for anything.

    Args:
        progress: is told what is left out.
        command: that asked for it, as it was typed.
        paper: whether figures that papers print stand in its tables.
        of_runs: all rows of their runs, among them baselines that were not asked for.
        drawn: the figures of the rows.
    """
    known = with_baselines(found, of_runs)
    compared = studies(known)
    configs = run_configs(known)
    context = {
        "title": f"Report on {few(list(dict.fromkeys(row['dataset'] for row in found)), _NAMED)}",
        "lead": _lead(found, compared),
        "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": gol_decouple.__version__,
        "command": None if command is None else shlex.join(command),
        "summaries": [summary(study) for study in compared],
        "tables": page_tables(found, paper),
        "pictures": _pictures(drawn),
        "classes": [shown for study in compared if (shown := classes(study, progress)) is not None],
        "samples": [samples(study) for study in compared],
        "origins": [(study.title, origins(study, configs)) for study in compared],
        "configs": configs,
        "has_gains": any(row["baseline"] is not None for row in found),
        "has_detection": any(study.is_detection for study in compared),
        "has_accuracies": not all(study.is_detection for study in compared),
    }
    return _render(context)


def _lead(found: Sequence[Row], compared: Sequence[Study]) -> str:
    """How much there is."""
    retrained = [row for row in found if row["stage"] == 2]
    methods, seeds = {row["method"] for row in retrained}, {row["seed"] for row in retrained}
    told = [
        _number(len({row["dataset"] for row in found}), "dataset"),
        _number(len({row["run"] for row in found}), "run"),
        f"{_number(len(retrained), 'retrained classifier')} of {_number(len(methods), 'method')}",
        _number(len(seeds), "seed"),
    ]
    tests = f", in {len(compared)} groups that can be compared" if len(compared) > 1 else ""
    return f"{', '.join(told)}{tests}."


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _pictures(drawn: Sequence[Drawn]) -> list[Picture]:
    from gol_decouple.report.figures.files import to_svg  # with matplotlib, which other reports do without

    # Elements of matplotlib's making, in which names are escaped.
    return [Picture(one.name, one.title, one.caption, Markup(_shown(to_svg(one)))) for one in drawn]


def _render(context: dict[str, Any]) -> str:
    early, style = _file("early.js"), _file("page.css")
    script = f'"use strict";\n(() => {{\n{"".join(map(_file, _SCRIPTS))}}})();\n'
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    return environment.get_template("page.html.j2").render(
        **context,
        early=Markup(early),
        script=Markup(script),
        style=Markup(style),
        hashes=" ".join(f"'sha256-{_hash(text)}'" for text in (early, script)),
    )


def _shown(value: Any) -> Any:
    """What is printed of a value: nothing of a file's text is a control character, or half of one."""
    return plain(value, len(value)) if type(value) is str else value


def _file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a page's policy names the only scripts that run."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
