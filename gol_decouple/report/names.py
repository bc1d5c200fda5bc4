"""Short names that tell the settings of a report apart: in figures, legends and lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gol_decouple.report.rows import Row, settings_text

STAGE_ONE = "stage one"


def setting_names(settings: Sequence[Sequence[Row]]) -> list[str]:
    """One for each of some settings (see `rows.by_setting`), no two the same.

    The method; what it changes where several settings of one run have it; and the run where there are several.
    """
    firsts = [seeds[0] for seeds in settings]
    several_runs = len({row["run"] for row in firsts}) > 1
    methods = Counter((row["run"], _method(row)) for row in firsts)
    names = []
    for row in firsts:
        parts = [_method(row)]
        if methods[row["run"], _method(row)] > 1:
            parts.append(settings_text(row) or "defaults")
        names.append(" ".join([*([f"{row['run']}:"] if several_runs else []), *parts]))
    repeated = Counter(names)
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name} ({seen[name]})" if repeated[name] > 1 else name)
    return unique


def _method(row: Row) -> str:
    return STAGE_ONE if row["stage"] == 1 else str(row["method"])
