"""Short names that tell the settings of a report apart: in figures, legends and lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gol_decouple.report.rows import STAGE_ONE, Row, method_of, settings_text


def setting_names(settings: Sequence[Sequence[Row]]) -> list[str]:
    """One for each of some settings (see `rows.by_setting`), no two the same.

    The method; what it changes where several settings of one run have it; and the run where there are several.
    """
    firsts = [seeds[0] for seeds in settings]
    several_runs = len({row["run"] for row in firsts}) > 1
    methods = Counter((row["run"], method_of(row)) for row in firsts)
    names = []
    for row in firsts:
        parts = [shown_method(row)]
        if methods[row["run"], method_of(row)] > 1:
            parts.append(settings_text(row) or "defaults")
        names.append(" ".join([*([f"{row['run']}:"] if several_runs else []), *parts]))
    repeated = Counter(names)
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name} ({seen[name]})" if repeated[name] > 1 else name)
    return unique


def shown_method(row: Row) -> str:
    """What people are shown of a row's method."""
    return _shown(method_of(row))


def shown_baseline(name: str) -> str:
    """What people are shown of a baseline (see `gains.told_name`)."""
    method, *settings = name.split(" ")
    return " ".join([_shown(method), *settings])


def _shown(method: str) -> str:
    return "stage one" if method == STAGE_ONE else method
