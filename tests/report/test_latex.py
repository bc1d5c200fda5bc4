"""Tables as LaTeX: what is in them, and that pdflatex sets whatever is in a name."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gol_decouple.report.latex import latex
from gol_decouple.report.latex_text import escaped
from gol_decouple.report.layout import TextTable
from tests.conftest import RunCli
from tests.report.test_gains import BEST, base, method
from tests.report.test_report import manifest, stage_one

HOSTILE = [
    r"$ & % # _ { } ~ ^ \ \newpage \input{/etc/passwd} % -- --- <b> | \" ' ` *x* [a] ?` !`",
    "é ü ñ ç ş ğ İ ł ø ß Å ź ő ẽ ạ đ ï",
    "αβγδεζηθικλμνξοπρςστυφχψω ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ ά",
    "中文 кошка 😀 \u200d\u00a0…“”‘’–—±×−≤≥→°",
    "x\x1b[31m\ny\x00\u202e",
    "[begins as an option",
    "*star",
]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("balanced_softmax", r"balanced\_softmax"),
        (r"50 % & $x$ #1 {a} \b", r"50 \% \& \$x\$ \#1 \{a\} \textbackslash{}b"),
        ("~^<>|", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"),
        ("a--b - c---", "a-{}-b - c-{}-{}-"),
        ("é İ ï ß Łódź", r"\'{e} \.{I} \" {\i} \ss{} \L{}\'{o}d\'{z}".replace(r"\" {\i}", r"\"{\i}")),
        ("α Ω ± –", r"$\alpha$ $\Omega$ $\pm$ --"),
        ("中文!", r"\texttt{U+4E2D U+6587}!"),
        ("e\u0301", r"\'{e}"),
    ],
)
def test_every_character_is_one_that_latex_sets(text: str, wanted: str) -> None:
    assert escaped(text) == wanted


def test_best_figures_stars_deviations_and_dashes() -> None:
    table = TextTable("accuracy", ["method", "top-1", "few (30)"], [["a", "40.1±0.2", "–"], ["b", "39.0", "1.0"]], [])
    marked = TextTable(table.title, table.columns, table.cells, [], best=frozenset({(0, "top-1")}))
    lines = latex([(3, marked)]).splitlines()
    assert r"method & top-1 & few \\" in lines
    assert r" &  & (30) \\" in lines
    assert r"a & \textbf{40.1}\,{\scriptsize$\pm$\,0.2} & -- \\" in lines
    assert r"b & 39.0 & 1.0 \\" in lines
    for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{accuracy}", r"\label{tab:accuracy}"):
        assert lines.count(command) == 1
    assert lines[0].endswith(r"\usepackage{booktabs}.")


def test_intervals_stand_below_their_gains() -> None:
    cells = [["a", "+1.0* [0.8, 3.5]"], ["b", "-2.5 [-4.6, 0.5]"]]
    lines = latex([(4, TextTable("gain", ["method", "top-1"], cells, [], has_intervals=True))]).splitlines()
    at = lines.index(r"a & $+$1.0$^{*}$ \\")
    assert lines[at + 1] == r" & {\scriptsize [0.8, 3.5]} \\"
    at = lines.index(r"b & $-$2.5 \\")
    assert lines[at + 1] == r" & {\scriptsize [$-$4.6, 0.5]} \\"


def test_recipes_of_a_wide_table_are_letters_told_below() -> None:
    recipes = ["from stage one, 30 epochs, lr 0.1, 10 views", "fresh, 10 epochs, lr 0.1, 10 views"]
    columns = ["method", "recipe", "seeds", "top-1", "many (35)", "medium (35)", "few (30)"]
    cells = [["softmax", recipe, "3", *["40.0±0.1"] * 4] for recipe in (*recipes, recipes[0])]
    text = latex([(3, TextTable("t", columns, cells, ["a note"]))])
    assert re.findall(r"^softmax & (\w) &", text, re.MULTILINE) == ["a", "b", "a"]
    assert rf"recipes: a: {recipes[0]}; b: {recipes[1]} \\ a note" in text


def test_labels_differ_and_gains_are_called_as_what_they_belong_to() -> None:
    table = TextTable("run: data", ["method"], [["a"]], [])
    gain = TextTable("gain over stage one", ["method"], [["a"]], [])
    text = latex([(3, table), (4, gain), (3, table)])
    labels = re.findall(r"\\label{(.*)}", text)
    assert labels == ["tab:run-data", "tab:run-data-gain-over-stage-one", "tab:run-data-2"]
    assert r"\caption{run: data: gain over stage one}" in text


def test_quoted_rows_stand_below_a_rule(tmp_path: Path, run_cli: RunCli) -> None:
    stage_one(tmp_path / "lt")
    lines = run_cli("report", tmp_path, "--format", "latex", "--paper").out.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("paper: softmax"))
    assert lines[at - 1] == r"\midrule"
    assert "42.4" in lines[at]


def compiled(folder: Path, text: str) -> str:
    """What pdflatex says of a minimal document with a text in it."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("pdflatex is not installed")
    found = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip("booktabs is not installed")
    (folder / "tables.tex").write_text(text, encoding="utf-8")
    document = "\n".join([r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}"])
    (folder / "paper.tex").write_text(document + "\n\\input{tables}\n\\end{document}\n")
    command = [program, "-interaction=nonstopmode", "-no-shell-escape", "paper.tex"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    said = ran.stdout.decode(errors="replace")
    assert ran.returncode == 0, said
    assert (folder / "paper.pdf").is_file()
    return said


def test_a_report_compiles_and_fits_the_text(tmp_path: Path, run_cli: RunCli) -> None:
    base(tmp_path / "runs")
    for name in ("gumbel_published", "balanced_softmax", "crt"):
        for seed in range(3):
            method(tmp_path / "runs", name, BEST if seed else (3, 3, 6), seed)
    manifest(tmp_path / "runs" / "other" / "stage2" / "b", run="other")
    outcome = run_cli("report", tmp_path / "runs", "--format", "latex", "--paper")
    assert outcome.code == 0, outcome.err
    assert "Overfull" not in compiled(tmp_path, outcome.out)


def many(count: int, gain: str = "+2.6* [2.0, 3.1]") -> list[tuple[int, TextTable]]:
    """A table of a dataset and one of gains, of so many methods with recipes of their own."""
    metrics = ["top-1", "many (35)", "medium (35)", "few (30)"]
    names = [f"logit_adjustment_{number}" for number in range(count)]
    rows = [[name, f"from stage one, 30 epochs, lr 0.1, tau {name}", "3", *["40.0±0.1"] * 4] for name in names]
    gains = [[name, *[gain] * 4] for name in names]
    notes = [f"a note on something that has to be said of all the figures here, number {number}" for number in range(4)]
    best = frozenset({(count - 1, "top-1")})
    return [
        (3, TextTable("run: data", ["method", "recipe", "seeds", *metrics], rows, notes, best=best, quoted=1)),
        (4, TextTable("gain over stage one", ["method", *metrics], gains, notes, has_intervals=True)),
    ]


@pytest.mark.parametrize("count", [12, 24, 30, 45, 100])
@pytest.mark.parametrize("gain", ["+2.6* [2.0, 3.1]", "-12.6* [-13.1, -12.0]"])
def test_many_methods_fit_the_page(tmp_path: Path, count: int, gain: str) -> None:
    said = compiled(tmp_path, latex(many(count, gain)))
    assert "Float too large" not in said
    assert "Overfull" not in said


def test_a_long_table_has_its_intervals_beside_the_figures() -> None:
    (_, gains) = many(30)
    text = latex([gains])
    assert text.count(r"\begin{table}") == 1
    assert r"\scriptsize" in text.splitlines()
    assert r"logit\_adjustment\_29 & $+$2.6$^{*}$\,{\scriptsize [2.0, 3.1]} & " in text


def test_a_table_that_is_longer_than_a_page_is_continued() -> None:
    (table, _) = many(60)
    text = latex([table])
    floats = text.split(r"\begin{table}")[1:]
    assert len(floats) > 1
    assert re.findall(r"^(logit\\_adjustment\\_\d+) &", text, re.MULTILINE) == [
        rf"logit\_adjustment\_{number}" for number in range(60)
    ]
    assert [r"\caption{run: data (continued)}" in one for one in floats] == [False, *[True] * (len(floats) - 1)]
    assert [r"\addtocounter{table}{-1}" in one for one in floats] == [False, *[True] * (len(floats) - 1)]
    assert [r"a note on" in one for one in floats] == [*[False] * (len(floats) - 1), True]
    assert text.count(r"\textbf{") == 1
    assert len(set(re.findall(r"\\label{(.*)}", text))) == len(floats)
    assert "recipes: a: " in floats[0]
    assert " a: " not in floats[1], "each tells its own recipes"
    last = floats[-1].splitlines()
    (at,) = (place for place, line in enumerate(last) if line.startswith(r"logit\_adjustment\_59"))
    assert last[at - 1] == r"\midrule"


def test_hostile_names_compile(tmp_path: Path) -> None:
    cells = [[name, name, "3", "40.1±0.1", name] for name in HOSTILE]
    gains = [[name, "+1.0* [0.8, 3.5]"] for name in HOSTILE]
    tables = [
        (3, TextTable(HOSTILE[0], ["method", "recipe", "seeds", "top-1", "few (30)"], cells, HOSTILE)),
        (4, TextTable(HOSTILE[3], ["class", "top-1"], gains, [HOSTILE[1]], has_intervals=True)),
    ]
    compiled(tmp_path, latex(tables))
