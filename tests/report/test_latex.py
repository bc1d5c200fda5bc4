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


def test_hostile_names_compile(tmp_path: Path) -> None:
    cells = [[name, name, "3", "40.1±0.1", name] for name in HOSTILE]
    gains = [[name, "+1.0* [0.8, 3.5]"] for name in HOSTILE]
    tables = [
        (3, TextTable(HOSTILE[0], ["method", "recipe", "seeds", "top-1", "few (30)"], cells, HOSTILE)),
        (4, TextTable(HOSTILE[3], ["class", "top-1"], gains, [HOSTILE[1]], has_intervals=True)),
    ]
    compiled(tmp_path, latex(tables))
