"""Two studies compared, for people and programs: tables of one dataset each, csv, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from gol_decouple.plain_text import plain_line
from gol_decouple.report import noise
from gol_decouple.report.layout import EMPTY, TextTable, print_table
from gol_decouple.report.markdown import escaped, markdown
from gol_decouple.report.points import bounds, signed
from gol_decouple.report.rows import method_of, settings_text
from gol_decouple.report.studies import Comparison, Move, Pair
from gol_decouple.report.study_matching import Setting

_HEADINGS = {
    **{"top1": "top-1", "top1_balanced": "balanced", "top1_many": "many", "top1_medium": "medium", "top1_few": "few"},
    **{"ap": "AP", "ap_r": "APr", "ap_c": "APc", "ap_f": "APf"},
    **{"ap_box": "AP", "ap_r_box": "APr", "ap_c_box": "APc", "ap_f_box": "APf"},
}
_WIDTH = 120
_OF_RESULT = ("dataset", "imbalance_factor", "backbone", "split", "stage", "method")
_OF_MOVE = (
    *("metric", "seeds_a", "seeds_b", "a", "b", "deviation_a", "deviation_b", "difference"),
    *("low", "high", "p_value", "noise", "is_more_than_noise", "is_beyond_all"),
)
FIELDS = (*_OF_RESULT, "changed_settings", "runs_a", "runs_b", *_OF_MOVE, "differs")


def print_tables(found: Comparison, names: Sequence[str], console: Console) -> None:
    """A table for each dataset, and below the last what the marks say."""
    for table in _tables(found, names):
        print_table(table, console)
        console.print()
    for note in _closing(found):
        console.print(note, markup=False, emoji=False, highlight=False)


def to_text(found: Comparison, names: Sequence[str]) -> str:
    """The same for a file."""
    text = io.StringIO()
    print_tables(found, names, Console(file=text, width=_WIDTH))
    return text.getvalue().rstrip("\n")


def to_markdown(found: Comparison, names: Sequence[str]) -> str:
    """The same as sections."""
    return "\n\n".join([*(markdown(table, 3) for table in _tables(found, names)), *map(escaped, _closing(found))])


def to_json(found: Comparison, names: Sequence[str]) -> str:
    """An object: `a` and `b`, where the studies lie; `compared`, an object for each result and metric; `only_a` and
    `only_b`, results of one study; `moved` and `expected_by_chance`, of the differences whose noise is known.
    """
    moves = found.moves
    tree = {
        "a": names[0],
        "b": names[1],
        "compared": [_record(pair, move) for pair in found.pairs for move in pair.moves],
        "only_a": list(map(_result, found.only_a)),
        "only_b": list(map(_result, found.only_b)),
        "tested": len(moves),
        "moved": sum(move.is_more_than_noise is True for move in moves),
        "moved_beyond_all": sum(move.is_beyond_all for move in moves),
        "expected_by_chance": round((1 - noise.LEVEL) * len(moves), 2),
    }
    return json.dumps(tree, indent=2, allow_nan=False)


def to_csv(found: Comparison, _names: Sequence[str]) -> str:
    """A line for each result and metric; for a result of one study a line without a metric. Empty where None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for pair in found.pairs:
        for move in pair.moves:
            told = _record(pair, move)
            lists = {name: " ".join(told[name]) for name in ("runs_a", "runs_b")} | {"differs": "; ".join(pair.differs)}
            writer.writerow(told | lists | {"changed_settings": settings_text(pair.a.first)})
    for side, settings in (("a", found.only_a), ("b", found.only_b)):
        for setting in settings:
            told = {name: value for name, value in _result(setting).items() if name in _OF_RESULT}
            seeds = {f"runs_{side}": " ".join(_runs(setting)), f"seeds_{side}": len(setting.rows)}
            writer.writerow(told | seeds | {"changed_settings": settings_text(setting.first)})
    return text.getvalue().rstrip("\n")


def _runs(setting: Setting) -> list[str]:
    return sorted({row["run"] for row in setting.rows})


def _result(setting: Setting) -> dict[str, Any]:
    row = setting.first
    told = {name: row[name] for name in (*_OF_RESULT, "changed_settings")}
    return told | {"method": method_of(row), "runs": _runs(setting)}


def _record(pair: Pair, move: Move) -> dict[str, Any]:
    interval = move.interval
    told = {name: value for name, value in _result(pair.a).items() if name != "runs"}
    told |= {"runs_a": _runs(pair.a), "runs_b": _runs(pair.b)}
    told |= {"metric": move.metric, "seeds_a": len(pair.a.rows), "seeds_b": len(pair.b.rows)}
    told |= {name: getattr(move, name) for name in ("a", "b", "deviation_a", "deviation_b", "difference")}
    told |= {
        name: None if interval is None else getattr(interval, name) for name in ("low", "high", "p_value", "noise")
    }
    told |= {"is_more_than_noise": move.is_more_than_noise, "is_beyond_all": interval and move.is_beyond_all}
    return told | {"differs": pair.differs}


def _tables(found: Comparison, names: Sequence[str]) -> list[TextTable]:
    groups: dict[tuple[Any, ...], list[Pair]] = {}
    for pair in (pair for pair in found.pairs if pair.moves):
        row = pair.a.first
        key = (row["dataset"], row["imbalance_factor"], row["backbone"], row["split"], row["test_settings"] is None)
        groups.setdefault((*key, pair.moves[0].metric), []).append(pair)
    return [_table(pairs, names) for pairs in groups.values()]


def _table(pairs: list[Pair], names: Sequence[str]) -> TextTable:
    row = pairs[0].a.first
    has_recipe = any(settings_text(pair.a.first) for pair in pairs)
    columns = ["method", *(["recipe"] if has_recipe else []), "seeds", "metric", "A", "B", "B - A"]
    cells = []
    for pair in pairs:
        recipe = [settings_text(pair.a.first) or ("defaults" if pair.a.first["stage"] == 2 else "")]
        names_of = [pair.a.method, *(recipe if has_recipe else []), f"{len(pair.a.rows)}, {len(pair.b.rows)}"]
        for move in pair.moves:
            means = [_mean(move.a, move.deviation_a), _mean(move.b, move.deviation_b)]
            cells.append([*names_of, _HEADINGS[move.metric], *means, _difference(move)])
            names_of = [""] * len(names_of)
    backbone, what = row["backbone"] or "unknown backbone", "%"
    if row["test_settings"] is not None:
        what = f"AP of {'masks' if row['ap'] is not None else 'boxes'}"
    title = f"{row['dataset']}, imbalance factor {row['imbalance_factor']:g}, {backbone}, {row['split']} ({what})"
    return TextTable(title, columns, cells, [f"A: {names[0]}; B: {names[1]}", *_differences(pairs)])


def _mean(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return EMPTY
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f}±{deviation:.1f}"


def _difference(move: Move) -> str:
    if move.difference is None:
        return EMPTY
    told = signed(move.difference)
    if move.interval is None:
        return f"{told} [?]"
    mark = "**" if move.is_beyond_all else "*" if move.is_more_than_noise else ""
    kind = "t" if move.interval.noise == noise.TEST_SAMPLES else ""
    return f"{told}{mark} {bounds(move.interval.low, move.interval.high)}{kind}"


def _differences(pairs: list[Pair]) -> list[str]:
    """What differs beside the results, a line for each, with the methods that it is so of."""
    told: dict[str, list[str]] = {}
    for pair in pairs:
        for text in pair.differs:
            told.setdefault(text, []).append(pair.a.name)
    return [
        f"differs: {text} (A and B)" if len(names) == len(pairs) else f"differs: {text} (of {', '.join(names)})"
        for text, names in told.items()
    ]


def _closing(found: Comparison) -> list[str]:
    moves = found.moves
    kinds = {move.interval.noise for move in moves if move.interval is not None}
    notes = []
    if noise.SEEDS in kinds:
        notes.append("[low, high]: 95 % interval by the seeds of both (Welch's t)")
    if noise.TEST_SAMPLES in kinds:
        notes.append(
            "[low, high]t: of one training in A or B, whose noise is unknown: by the number of test samples alone"
        )
    if len(moves) < sum(len(pair.moves) for pair in found.pairs):
        notes.append("[?]: of one training in A or B, whose noise is unknown")
    if moves:
        notes.append(_counted(moves))
    empty = [pair.a for pair in found.pairs if not pair.moves]
    for what, settings in (
        ("in both without a figure", empty),
        ("only in A", found.only_a),
        ("only in B", found.only_b),
    ):
        if settings:
            told = (f"{one.first['dataset']} {one.name} ({', '.join(_runs(one))})" for one in settings)
            notes.append(plain_line(f"{what}: {'; '.join(told)}"))
    return notes


def _counted(moves: Sequence[Move]) -> str:
    moved = sum(move.is_more_than_noise is True for move in moves)
    beyond = sum(move.is_beyond_all for move in moves)
    chance = (1 - noise.LEVEL) * len(moves)
    return (
        f"{moved} of {len(moves)} differences are beyond the noise (*), where {chance:.1f} would be by chance; "
        f"{beyond} even if all of them are allowed for (**)"
    )
