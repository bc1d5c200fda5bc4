"""Figures as SVG that may stand in a page: beside others, in its colours, and read out as one picture."""

from __future__ import annotations

import re
from html import escape

from markupsafe import Markup

_PROLOGUE = re.compile(r"\A.*?(?=<svg\b)", re.DOTALL)
# In a page a comment ends where XML's does not, and metadata name addresses of vocabularies.
_NOT_SHOWN = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
_TAG = re.compile(r"<svg\b[^>]*>")
_ATTRIBUTE = re.compile(r'\s(?:role|aria-\w+|version|xmlns:\w+)="[^"]*"')
_ID = re.compile(r'\bid="([^"]+)"')
_REFERENCE = re.compile(r'((?:xlink:)?href="#|url\(#)([^")]+)')
_BLACK = re.compile(r"#000000\b|#000(?=[;\"'])")


def inline(svg: str, prefix: str, label: str) -> Markup:
    """An SVG file's picture for a page.

    Args:
        prefix: of its ids, which no other picture of the page has.
        label: what it shows, for those who do not see it.
    """
    body = _NOT_SHOWN.sub("", _PROLOGUE.sub("", svg, count=1)).strip()
    body = _ID.sub(lambda found: f'id="{prefix}{found[1]}"', body)
    body = _REFERENCE.sub(lambda found: f"{found[1]}{prefix}{found[2]}", body).replace("xlink:href=", "href=")
    body = _BLACK.sub("currentColor", body)
    # matplotlib's own style sheet would be that of the whole page.
    body = re.sub(r"<style\b.*?</style>", "", body, flags=re.DOTALL)
    told = f' role="img" aria-label="{escape(label)}"'
    return Markup(_TAG.sub(lambda found: f"{_ATTRIBUTE.sub('', found[0])[:-1]}{told}>", body, count=1))
