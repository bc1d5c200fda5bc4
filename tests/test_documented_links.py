"""Links between the documents lead somewhere: every file is there, and every heading, as the code host names it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from documented import PAGES, ROOT

_CODE = re.compile(r"^( *)(`{3,}).*?^ *\2 *$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[(?:[^][]|\[[^][]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\[[^]]+\]:\s*(\S+)", re.MULTILINE)


def prose(text: str) -> str:
    """The text without code, each line where it was."""
    text = _CODE.sub(lambda found: "\n" * found[0].count("\n"), text)
    return re.sub(r"`[^`]*`", lambda found: "`" + "x" * (len(found[0]) - 2) + "`", text)


def links(path: Path) -> Iterator[tuple[int, str]]:
    """Where each link of a page stands, and where it leads."""
    text = prose(path.read_text(encoding="utf-8"))
    for found in (*_LINK.finditer(text), *_REFERENCE.finditer(text)):
        yield text[: found.start()].count("\n") + 1, found[1]


def anchors(text: str) -> set[str]:
    """The names of a page's headings: small letters, no punctuation, hyphens for spaces, numbered where they repeat."""
    counted: Counter[str] = Counter()
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6} +(.*?)(?: +#+)? *$", _CODE.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{slug}-{counted[slug]}" if counted[slug] else slug)
        counted[slug] += 1
    return found


def problems(path: Path, root: Path) -> list[str]:
    """What is wrong with the links of a page, each with its line."""
    told = []
    for line, link in links(path):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            if not link.startswith(("https://", "mailto:")):
                told.append(f"{path.name}:{line}: {link} is not https")
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or not target.is_relative_to(root):
            told.append(f"{path.name}:{line}: {link} leads to no file of the project")
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            told.append(f"{path.name}:{line}: {target.name} has no heading #{anchor}")
    return told


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    assert problems(path, ROOT) == []


def test_every_document_can_be_reached_from_the_readme() -> None:
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        if path in seen or path.suffix != ".md":
            continue
        seen.add(path)
        for _, link in links(path):
            target = (path.parent / link.partition("#")[0]).resolve()
            if target.is_file():
                ahead.append(target)
    assert set(PAGES) <= seen


def test_a_link_that_leads_nowhere_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One `two`: three\n\n## Again\n\n## Again\n\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#one-two-three) [c](other.md#again-1) `[d](x.md)` [e](#own)\n\n# Own\n\n"
        "[f](gone.md)\n[g](other.md#no-heading)\n[h [i]](#gone)\n[j](http://x)\n[k](../../etc)\n\n[l]: missing.md\n"
        "```\n[m](n.md)\n```\n"
    )
    assert problems(page, tmp_path) == [
        "page.md:5: gone.md leads to no file of the project",
        "page.md:6: other.md has no heading #no-heading",
        "page.md:7: page.md has no heading #gone",
        "page.md:8: http://x is not https",
        "page.md:9: ../../etc leads to no file of the project",
        "page.md:11: missing.md leads to no file of the project",
    ]
