"""The page: one file, that asks nobody for anything, in which names are texts and nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import RunCli
from page_runs import Page, found_in, make_run, page_of
from test_report import to_markdown

from gol_decouple.progress import SILENT
from gol_decouple.report.latex import HEADER, latex
from gol_decouple.report.page import write
from gol_decouple.report.page.tables import page_tables
from gol_decouple.report.tables import leveled_tables

METHODS = {"crt": [[4, 3, 2], [4, 3, 3]], "gumbel": [[4, 2, 1]]}
HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(2)> <!-- ]]> --!> {{ 7 * 7 }} \u202e\x1b[31m\x00',
    "x" * 500,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run of colours."""
    run = make_run(tmp_path_factory.mktemp("page") / "lt", METHODS)
    return page_of(run, command=["gol-decouple", "report", "my runs"])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """That of a run whose every name is somebody's attempt."""
    changes = {
        "dataset": HOSTILE[0],
        "backbone": HOSTILE[1],
        "command": list(HOSTILE),
        "folder": HOSTILE[0],
        "changed_settings": {"lr": HOSTILE[0]},
        "environment": {"versions": {HOSTILE[1]: HOSTILE[0]}, "checkout": {"commit": HOSTILE[1]}},
    }
    methods = {HOSTILE[0]: METHODS["crt"], HOSTILE[1]: METHODS["gumbel"]}
    run = make_run(tmp_path_factory.mktemp("page") / "lt", methods, HOSTILE, **changes)
    with (run / "config.toml").open("a", encoding="utf-8") as file:
        file.write(f"# {HOSTILE[0]}\n")
    return page_of(run, command=["gol-decouple", "report", *HOSTILE])


def test_it_asks_no_other_machine_for_anything(plain: str) -> None:
    page = Page(plain)
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {name for name, _ in page.elements}
    assert "@import" not in plain
    assert "url(http" not in plain


def test_its_policy_lets_only_its_own_scripts_run(plain: str) -> None:
    (policy,) = (one["content"] for one in Page(plain).of("meta") if "http-equiv" in one)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    scripts = re.findall(r"<script>(.*?)</script>", plain, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy


def test_headings_labels_and_ids(plain: str) -> None:
    page = Page(plain)
    assert page.of("html") == [{"lang": "en"}]
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = ("aria-labelledby", "aria-describedby")
    named = {attributes[name] for _, attributes in page.elements for name in references if name in attributes}
    assert named <= set(ids)
    assert {one["href"][1:] for one in page.of("a") if one["href"]} <= set(ids)
    assert all(one.get("alt") for one in page.of("img"))
    assert all(one.get("aria-label") for one in page.of("svg"))


def test_it_says_what_it_is_and_who_made_it(plain: str) -> None:
    assert "<h1>Report on colours</h1>" in plain
    assert "1 dataset, 1 run, 3 retrained classifiers of 2 methods, 2 seeds." in plain
    assert "with <code>gol-decouple report &#39;my runs&#39;</code>" in plain


def test_tables_have_the_best_in_bold_and_their_texts(plain: str) -> None:
    page = Page(plain)
    assert "79.2±5.9" in page.texts_of("strong")
    assert [one["data-method"] for one in page.of("tr") if "data-method" in one][:3] == ["softmax", "crt", "gumbel"]
    texts = {one["id"] for one in page.of("pre") if "id" in one}
    assert {one["data-copy"] for one in page.of("button") if "data-copy" in one} <= texts
    assert "| method |" in plain
    assert r"\begin{tabular}" in plain


def test_copied_texts_are_those_of_the_other_formats(tmp_path: Path) -> None:
    for name, changes in (("a", {}), ("b", {"dataset": "shapes"})):
        make_run(tmp_path / name, METHODS, **changes)
    found = found_in(tmp_path)
    tables = page_tables(found, paper=False)
    assert [table.level for table in tables] == [3, 4, 3, 4]
    assert all(table.latex.startswith(HEADER) for table in tables)
    parts = [table.latex.removeprefix(HEADER).strip() for table in tables]
    assert "\n\n".join([HEADER, *parts]) == latex(leveled_tables(found))
    assert "\n\n".join(table.markdown for table in tables) == to_markdown(found)


def test_every_row_tells_its_command_and_config(plain: str) -> None:
    assert plain.count("gol-decouple stage2 &#39;my runs/lt&#39;") >= 3
    assert "in <code>/home/me</code>" in plain
    assert "torch 2.9" in plain
    assert "abc123, with changes" in plain
    assert "kind = &#34;npz&#34;" in plain
    assert "&#34;epochs&#34;: 3" in plain


def test_a_manifest_of_an_older_version_has_less_to_tell(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", METHODS, command=None, environment=7, folder=None)
    text = page_of(run)
    assert "no command is known" in text
    assert "its manifest does not say" in text


def test_without_figures_classes_and_predictions_there_is_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", METHODS)
    for path in [*run.rglob("predictions.npz"), *run.rglob("per_class.csv")]:
        path.unlink()
    text = page_of(run)
    assert 'id="classes"' not in text
    assert "No test images are shown" in text
    assert "without an interval" in text


def test_a_baseline_that_was_not_asked_for_is_compared_with_all_the_same(tmp_path: Path) -> None:
    found = found_in(make_run(tmp_path / "lt", METHODS))
    chosen = [row for row in found if row["method"] == "crt"]
    text = write.to_html(chosen, SILENT, of_runs=found)
    assert "Its gain over stage one is" in text
    assert "Most gained" in text
    assert "1 dataset, 1 run, 2 retrained classifiers of 1 method, 2 seeds." in text
    assert [one.get("data-method") for one in Page(text).of("tr") if "data-method" in one] == ["crt", "crt"]


# Names


def test_hostile_names_are_texts(hostile: str, plain: str) -> None:
    page, usual = Page(hostile), Page(plain)
    assert {name for name, _ in page.elements} <= {name for name, _ in usual.elements} | {"strong"}
    assert len(page.of("script")) == len(usual.of("script"))
    known = {name for _, attributes in usual.elements for name in attributes}
    assert {name for _, attributes in page.elements for name in attributes} <= known
    assert not [name for name in known if name.startswith("on")]
    assert all(str(one["src"]).startswith("data:image/") for one in page.of("img"))
    assert "{{ 7 * 7 }}" in html.unescape(hostile)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", hostile)


def test_hostile_names_end_no_script(hostile: str) -> None:
    blocks = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', hostile, re.DOTALL)
    assert len(blocks) == 1
    assert "<" not in blocks[0]
    assert "\\u003c/script\\u003e" in blocks[0]


def test_a_browser_shows_a_hostile_page_and_runs_nothing_of_it(hostile: str, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium")
    path = tmp_path / "page.html"
    path.write_text(hostile, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    command = [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    page = Page(dumped)
    assert page.of("html")[0]["class"] == "js"
    assert 'class="live needs-js"' in dumped
    assert len(page.of("img")) == len(Page(hostile).of("img"))
    assert not [one for one in page.of("img") if "onerror" in one]
    assert any(one.get("aria-sort") is None for one in page.of("th"))
    assert "3 of 3 classes shown" in dumped
    assert '<td class="number up">+62.5</td>' in dumped


# The command


def test_the_command_writes_the_page(tmp_path: Path, run_cli: RunCli) -> None:
    run = make_run(tmp_path / "lt", METHODS)
    outcome = run_cli("report", run, "--format", "html", "-o", tmp_path / "report.html")
    assert (outcome.code, outcome.out) == (0, "")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "--format html" in text


def test_a_page_needs_no_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lt", METHODS)
    lines = [
        "import sys; from pathlib import Path; from gol_decouple.progress import SILENT",
        "from gol_decouple.report import rows; from gol_decouple.report.page.write import to_html",
        f"to_html(rows.collect_rows([Path({str(run)!r})], Path('.')), SILENT)",
        "assert 'torch' not in sys.modules",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
