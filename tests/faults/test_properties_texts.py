"""Whatever a list, a config or a setting says, it is read or refused in words; what is right comes back as it was."""

from __future__ import annotations

import contextlib
import posixpath
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import assume
from hypothesis import strategies as st
from properties import EXAMPLES, FEWER, hold, spoiled

from gol_decouple.config import load_config, override_section, to_toml
from gol_decouple.data.lists import read_list, read_names
from gol_decouple.data.skipping import _read, to_line
from gol_decouple.errors import InputError
from gol_decouple.plain_text import plain, plain_line
from gol_decouple.settings import Config, Stage2Config
from gol_decouple.toml_texts import parse_toml

LINES = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.builds("{} {}".format, st.text(max_size=12), st.text(max_size=6)),
        st.builds("{} {}".format, st.sampled_from(["../x", "/x", "a/./b", "C:x", "a\\b", ".", "a//b"]), st.integers()),
    ),
    max_size=5,
).map("\n".join)
PARTS = st.text(alphabet="abcXYZ019-_(),é漢 ", min_size=1, max_size=8).map(str.strip).filter(bool)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_list_is_read_or_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "list.txt"

    @hold(examples, st.one_of(st.binary(max_size=60), LINES.map(lambda text: text.encode(errors="surrogatepass"))))
    def _(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(InputError):
            found = read_list(path)
            assert len(found.paths) == len(found.labels)
            for name in found.paths:
                assert not posixpath.isabs(name)
                assert ".." not in posixpath.normpath(name).split("/")
        with contextlib.suppress(InputError):
            assert len(read_names(path, 2)) == 2
        with contextlib.suppress(InputError):
            _read(path)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_list_that_is_right_comes_back(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "list.txt"

    @hold(examples, st.lists(st.tuples(PATHS, st.integers(0, 999_999)), max_size=6))
    def _(rows: list[tuple[str, int]]) -> None:
        path.write_text("".join(f"{name} {label}\n" for name, label in rows), encoding="utf-8")
        found = read_list(path)
        assert list(zip(found.paths, found.labels.tolist(), strict=True)) == rows


@pytest.mark.parametrize("examples", EXAMPLES)
def test_what_check_writes_is_what_skip_reads(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "bad.txt"

    @hold(examples, PATHS, st.text(max_size=20))
    def _(name: str, reason: str) -> None:
        assume("\0" not in reason)
        path.write_text(to_line(name, reason) + "\n", encoding="utf-8", errors="surrogatepass", newline="\n")
        assert name in _read(path).values()


# Configs

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.dates(), st.times()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _plain(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_config_is_taken_or_refused_and_comes_back(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "theirs.toml"
    right = _plain(load_config("cifar100_lt"))

    @hold(examples, spoiled(right, VALUES))
    def _(tree: Any) -> None:
        assume(isinstance(tree, dict))
        with contextlib.suppress(UnicodeEncodeError):
            path.write_text(tomli_w.dumps(tree), encoding="utf-8")
            try:
                config = load_config(str(path))
            except InputError:
                return
            path.write_text(to_toml(config), encoding="utf-8")
            assert load_config(str(path)) == config


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_text_is_toml_or_refused(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "theirs.toml"
    single = """[]{}=.,#\\\n"'a1 -é"""
    pieces = st.sampled_from([*single, '"""', "'''", "\r\n", "[[", "]]", "0x", "inf"])

    @hold(examples, st.one_of(st.text(max_size=40), st.lists(pieces, max_size=40).map("".join)))
    def _(text: str) -> None:
        with contextlib.suppress(ValueError):  # an InputError is one
            parse_toml(text)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(InputError):
            load_config(str(path))


KEYS = st.one_of(
    st.sampled_from(
        [
            *("stage1.lr", "stage1.epochs", "data.kind", "name", "seed"),
            *("stage2", "stage2.lr", "transform.mean", "methods.gumbel.lr"),
        ]
    ),
    st.text(max_size=10),
    st.lists(st.text(max_size=4), max_size=4).map(".".join),
)
TEXTS = st.one_of(
    st.text(max_size=20),
    VALUES.map(repr),
    st.sampled_from(
        ["[1", "{a=1}", "[[]]", "nan", "-inf", "1e999", "true", "''", "1\nx=2", "0o8", "[" * 90, "{a=" * 90]
    ),
)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_setting_is_taken_or_refused(examples: int) -> None:
    @hold(examples, st.one_of(st.text(max_size=20), st.builds("{}={}".format, KEYS, TEXTS)))
    def _(text: str) -> None:
        with contextlib.suppress(InputError):
            load_config("digits_lt", [text])
        with contextlib.suppress(InputError):
            assert override_section(Stage2Config(), [text], "stage2")


@pytest.mark.parametrize("examples", FEWER)
def test_what_is_shown_cannot_be_obeyed(examples: int) -> None:
    @hold(examples, st.text())
    def _(text: str) -> None:
        shown = plain_line(text)
        assert not any(ord(letter) < 32 and letter != "\t" for letter in shown)
        assert not any(0x7F <= ord(letter) < 0xA0 for letter in shown)
        assert plain(shown) == shown
        shown.encode()
