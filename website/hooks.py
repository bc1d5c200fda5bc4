"""What the docs site has beside docs/: README, the changelog, how to contribute, the configs, the license.

Each is the file that the repository has, with its links led to where its targets are on the site.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
PLACES = {**PAGES, "LICENSE": "license.md", "configs": "configs.md"}
_NAMED = re.compile(r"\[((?:docs/)?[\w.-]+\.md)\]\(([\w.-]+\.md)")
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages that do not lie in docs/."""
    for name, place in PAGES.items():
        files.append(_page(config, place, _LINK.sub(_site_link, (ROOT / name).read_text(encoding="utf-8"))))
    license_ = (ROOT / "LICENSE").read_text(encoding="utf-8")
    files.append(_page(config, "license.md", f"# License\n\n```text\n{license_}```\n"))
    files.append(_page(config, "configs.md", _configs()))
    files.append(File.generated(config, "site.css", content=(ROOT / "website" / "site.css").read_text()))
    for folder in _folders():
        files.append(_page(config, f"{folder.name}/index.md", _listing(folder)))
    return files


def on_page_markdown(markdown: str, config: MkDocsConfig, **_: Any) -> str:
    """Links from docs/ to what lies beside it, and to folders, which the code host lists and a site does not.

    A link that has the name of a file gets that of its page.
    """
    markdown = re.sub(r"(?<=\]\()\.\./([^)\s#]+)", _site_link, markdown)
    for folder in _folders():
        markdown = re.sub(rf"(?<=\]\(){folder.name}/?(?=\))", f"{folder.name}/index.md", markdown)
    titles = dict(_titles(config.nav or []))
    return _NAMED.sub(lambda found: f"[{titles.get(found[2], found[1])}]({found[2]}", markdown)


def _titles(nav: list[Any]) -> Iterator[tuple[str, str]]:
    """Of each page of the navigation its file and its name."""
    for entry in nav:
        for title, place in entry.items():
            if isinstance(place, list):
                yield from _titles(place)
            else:
                yield place, title


def _page(config: MkDocsConfig, place: str, text: str) -> File:
    return File.generated(config, place, content=text)


def _site_link(found: re.Match[str]) -> str:
    link = found[1]
    if config := re.fullmatch(r"configs/(\w+)\.toml", link):
        return f"configs.md#{config[1]}"
    return PLACES.get(link.rstrip("/"), link.removeprefix("docs/"))


def _folders() -> list[Path]:
    return sorted(path for path in (ROOT / "docs").iterdir() if path.is_dir())


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return "\n".join([f"# {folder.name}/\n", *(f"- [{name}]({name})" for name in names)])


def _configs() -> str:
    parts = ["# Configs\n\nEach is a file in `configs/`, and `gol-decouple stage1 NAME` takes it by its name.\n"]
    for path in sorted((ROOT / "configs").glob("*.toml")):
        parts.append(f"## {path.stem}\n\n```toml\n{path.read_text(encoding='utf-8')}```\n")
    return "\n".join(parts)
