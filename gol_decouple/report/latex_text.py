"""Any text as LaTeX that pdflatex sets, whatever is in it."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

_HYPHEN = "\0"  # while a text is put together; none has this character (see `plain_text`)
_PLAIN = {
    "-": _HYPHEN,
    "\u00a0": "~",
    **{mark: f"\\{mark}" for mark in "$&%#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "'": "{'}",
    "`": r"\textasciigrave{}",
    "*": "{*}",
    "[": "{[}",
    "]": "{]}",
}
_SIGNS = {
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\to$",
    "°": r"$^\circ$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
_ALPHABET = (
    *("alpha", "beta", "gamma", "delta", "varepsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu"),
    *("xi", "o", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "varphi", "chi", "psi", "omega"),
)
_HAVE_CAPITALS = {"gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "omega"}
_CAPITALS = {"varepsilon": "E", "varphi": "\\Phi", "o": "O", "psi": "\\Psi", "alpha": "A", "beta": "B", "zeta": "Z"}
_CAPITALS |= {"eta": "H", "iota": "I", "kappa": "K", "mu": "M", "nu": "N", "rho": "P", "tau": "T", "chi": "X"}
# Accents by the character that Unicode combines with a letter.
_ACCENTS = {
    **{"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": "."},
    **{"\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0331": "b"},
}


def _greek() -> dict[str, str]:
    letters = {}
    for number, name in enumerate(_ALPHABET):
        letters[chr(0x3B1 + number)] = "$o$" if name == "o" else f"$\\{name}$"
        if name != "varsigma":
            capital = f"\\{name.capitalize()}" if name in _HAVE_CAPITALS else _CAPITALS[name]
            letters[chr(0x391 + number)] = f"${capital}$" if capital.startswith("\\") else f"$\\mathrm{{{capital}}}$"
    return letters


_KNOWN = {**_PLAIN, **_SIGNS, **_greek()}


def escaped(text: str) -> str:
    r"""Every character as itself: letters of Latin with their accents, Greek ones in math.

    Of others, as of Chinese, the code points: \texttt{U+4E2D U+6587}.
    """
    parts: list[str] = []
    composed = unicodedata.normalize("NFC", text)
    for is_known, run in groupby(composed, lambda letter: _character(letter) is not None):
        if is_known:
            parts += [str(_character(letter)) for letter in run]
        else:
            parts.append(rf"\texttt{{{' '.join(f'U+{ord(letter):04X}' for letter in run)}}}")
    # Two hyphens would be set as one dash, which only a dash is.
    return re.sub(f"{_HYPHEN}(?={_HYPHEN})", "-{}", "".join(parts)).replace(_HYPHEN, "-")


def _character(letter: str) -> str | None:
    """One character in LaTeX; None if there is none."""
    if letter in _KNOWN:
        return _KNOWN[letter]
    if letter.isascii() and letter.isprintable():
        return letter
    base, *accents = list(unicodedata.normalize("NFD", letter))
    if not accents or not (base.isascii() and base.isalpha()) or not all(accent in _ACCENTS for accent in accents):
        return None
    told = f"\\{base}" if base in "ij" else base
    for accent in accents:
        told = f"\\{_ACCENTS[accent]}{{{told}}}"
    return told
