"""Tables in terminals of any width and in markdown: what is best, and names of any kind."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from gol_decouple.report.layout import TextTable, print_table
from gol_decouple.report.markdown import markdown
from tests.report.test_gains import base, method
from tests.report.test_report import collect, dataset_tables, manifest, shown, stage_one

BOLD = "\x1b[1m"
EXTREME = [
    "m",
    "x" * 500,
    "a_very_long_method_name_with_settings_1e-05",
    "名前" * 30,
    "two words " * 20,
    "\x1b[31mred\x1b[0m\n\t",
    "[bold]not[/bold]",
]


def printed(table: TextTable, width: int, terminal: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system="standard" if terminal else None
    )
    print_table(table, console)
    return console.file.getvalue()


def best(table: TextTable) -> dict[str, list[str]]:
    """The methods that are best, by column."""
    at = table.columns.index("method")
    return {
        name: [cells[at] for number, cells in enumerate(table.cells) if (number, name) in table.best]
        for name in table.columns
    }


# What is best


def test_the_best_of_a_column_is_that_of_the_means_as_printed(tmp_path: Path) -> None:
    tops = {"a": (40.0, 42.0), "b": (41.04, 41.0), "c": (40.9, 40.9)}
    for name, values in tops.items():
        for seed, top1 in enumerate(values):
            manifest(
                tmp_path / f"{name}{seed}",
                method=name,
                seed=seed,
                metrics={"top1": top1, "top1_balanced": top1, "top1_few": None if name == "b" else 10.0 + seed},
            )
    (table,) = dataset_tables(collect(tmp_path))
    found = best(table)
    assert found["top-1"] == ["a", "b"], "41.00 and 41.02 are both printed as 41.0"
    assert found["few (30)"] == ["a", "c"]
    assert found["method"] == found["recipe"] == found["seeds"] == []


def test_one_row_is_not_the_best_and_nothing_quoted_is(tmp_path: Path) -> None:
    stage_one(tmp_path / "lt")
    (table,) = dataset_tables(collect(tmp_path), paper=True)
    assert table.quoted == 1
    assert table.best == frozenset()
    manifest(tmp_path / "lt" / "stage2" / "a", metrics={"top1": 30.0})
    (table,) = dataset_tables(collect(tmp_path), paper=True)
    assert [number for number, name in table.best if name == "top-1"] == [0], "the paper's 42.4 and 45.5 take no part"


def test_a_terminal_shows_it_in_bold_and_nothing_else_has_codes() -> None:
    table = TextTable("t", ["method", "top-1"], [["a", "40.1±0.2"], ["b", "39.0"]], [], best=frozenset({(0, "top-1")}))
    assert f" a     {BOLD}  40.1±0.2\x1b[0m" in printed(table, 80, terminal=True).splitlines()
    assert "\x1b" not in printed(table, 80)
    assert "| a | **40.1±0.2** |" in markdown(table, 3).splitlines()
    assert "| b | 39.0 |" in markdown(table, 3).splitlines()


# Widths


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("name", EXTREME)
def test_nothing_is_wider_than_the_terminal_and_no_number_is_cut(width: int, name: str) -> None:
    figures = ["100.0±50.0", "99.9±49.9", "88.8±48.8", "77.7±47.7", "66.6±46.6", "55.5±45.5"]
    columns = ["run", "method", "recipe", "seeds", "AP", "AP50", "AP75", "APr (1203)", "APc (461)", "APf (405)"]
    recipe = "from stage one, 30 epochs, lr 0.1, best of 12 on val"
    table = TextTable(name, columns, [[name, name, f"{recipe} {name}", "100", *figures]], [name * 3])
    text = printed(table, width)
    assert max(map(cell_len, text.splitlines())) <= width
    words = text.split()
    for figure in figures:
        mean, deviation = figure.split("±")
        assert figure in words or (mean in words and f"±{deviation}" in words), figure


@pytest.mark.parametrize("name", EXTREME)
def test_gains_fit_80_columns_with_any_name(name: str) -> None:
    figures = ["-100.0* [-100.0, -99.9]"] * 5
    columns = ["run", "method", "recipe", "top-1", "balanced", "many (385)", "medium (479)", "few (136)"]
    table = TextTable("gain", columns, [[name, name, name, *figures]], [], has_intervals=True)
    text = printed(table, 80)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert text.split().count("-100.0*") == 5
    assert text.split().count("-99.9]") == 5


def test_a_recipe_stands_in_a_line_of_its_own_where_it_would_be_broken_often() -> None:
    columns = ["method", "recipe", "seeds", *(f"APx{number}" for number in range(5))]
    recipe = "from stage one, 30 epochs, lr 0.1"
    table = TextTable("t", columns, [["balanced_softmax", recipe, "3", *["10.0±0.1"] * 5]], [])
    narrow = printed(table, 80).splitlines()
    assert narrow[-3:] == [" balanced_softmax      3" + "  10.0±0.1" * 5, f"   {recipe}", ""]
    assert any(line.startswith(f" balanced_softmax  {recipe}  ") for line in printed(table, 160).splitlines())


def test_real_tables_take_no_more_than_80_columns(tmp_path: Path) -> None:
    base(tmp_path)
    for seed in range(3):
        method(tmp_path, "gumbel_published_with_a_long_name", (3, 3, seed), seed)
    assert max(map(len, shown(collect(tmp_path), 80).splitlines())) <= 80


# Markdown


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("balanced_softmax", "balanced_softmax"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("a|b", r"a\|b"),
        ("![x](http://y)", r"!\[x\](http://y)"),
        ("**bold** _it_ `code` \\", r"\*\*bold\*\* \_it\_ \`code\` \\"),
        ("&lt; & co", "&amp;lt; & co"),
        ("a\nb", r"a\\nb"),
    ],
)
def test_names_are_no_markup(name: str, wanted: str) -> None:
    table = TextTable(name, ["method", "top-1"], [[name, "+1.0* [0.5, 1.5]"]], ["(*) stands", name], has_intervals=True)
    lines = markdown(table, 3).splitlines()
    assert lines[0] == "### " + wanted.replace("\\|", "|")
    assert lines[4] == f"| {wanted} | +1.0* [0.5, 1.5] |"
    assert lines[6:] == ["- (*) stands", "- " + wanted.replace("\\|", "|")]
