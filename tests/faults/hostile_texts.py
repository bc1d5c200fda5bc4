"""Texts that strangers may have written: image lists, class names, files to skip, configs, and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostile import Corpus, Good
from hostile_images import encoded

TEXTS = Corpus()
_GOOD = b"a/1.png 0\nb/1.png 1\n"


def _config_of_lists(folder: Path, more: str = "") -> Path:
    for label in ("a", "b"):
        (folder / "images" / label).mkdir(parents=True)
        (folder / "images" / label / "1.png").write_bytes(encoded("png"))
    for name in ("train.txt", "test.txt"):
        (folder / name).write_bytes(_GOOD)
    path = folder / "mine.toml"
    path.write_text(
        f'[data]\nkind = "list"\npath = "{folder / "images"}"\n{more}\n[data.lists]\nfolder = "{folder}"\n'
        'train = "train.txt"\ntest = "test.txt"\n[backbone]\nname = "resnet32"\n[stage1]\nepochs = 1\nbatch_size = 4\n'
        'lr = 0.01\nprecision = "float32"\nnum_workers = 0\n[transform]\nsize = 8\n',
        encoding="utf-8",
    )
    return path


# Lists


def a_list(name: str, content: bytes, codes: tuple[int, ...] = (2,), says: str = "") -> None:
    def make(folder: Path, good: Good) -> list[Any]:
        config = _config_of_lists(folder)
        (folder / "train.txt").write_bytes(content)
        return ["check", config]

    TEXTS.add(f"list {name}", make, codes, says)


for _name, _path in {
    "above the root": "../secret.png",
    "deep above the root": "a/../../../../etc/passwd",
    "from the root of the disk": "/etc/passwd",
    "of the user's own": "~/.ssh/id_rsa",
    "of a drive": "C:/x.png",
    "of backslashes": "..\\..\\x.png",
    "of a host": "\\\\host\\share\\x.png",
    "of the root itself": ".",
    "above": "..",
    "of nothing": "//",
    "of an address": "http://example.org/x.png",
}.items():
    a_list(f"with a path {_name}", f"{_path} 0\n".encode() + _GOOD)
for _name, _label in {
    "huge": "9" * 4000,
    "of a million": "1000000",
    "negative": "-1",
    "fractional": "0.5",
    "without a value": "nan",
    "exponential": "1e9",
    "of other digits": "\u0663",
    "hexadecimal": "0x10",
    "of a digit that is none": "\u00b2",
}.items():
    a_list(f"with a label that is {_name}", f"a/1.png {_label}\n".encode(), says="is not a path and a label")
a_list("with a large label", b"a/1.png 999999\n" + _GOOD, (0,))
a_list("empty", b"")
a_list("of empty lines", b"\n" * 10_000)
a_list("with zero bytes", b"a/1.png\0 0\n" + _GOOD, says="zero bytes")
a_list("of noise", bytes(range(1, 256)) * 50)
a_list("in UTF-16", _GOOD.decode().encode("utf-16"))
a_list("of one line of a million letters", b"a" * 1_000_000 + b"\n")
a_list("of one path of a million letters", b"a/" * 500_000 + b"x.png 0\n" + _GOOD)
a_list("of spaces", b" " * 500_000 + b"x\n" + _GOOD)
a_list("with escape sequences", b"\x1b[2J\x1b[31m/1.png 0\n" + _GOOD)
a_list("with an 8-bit escape", "\x9b2J/1.png 0\n".encode() + _GOOD)
a_list("with a bell and a backspace", b"a/\x07\x08.png 0\n" + _GOOD)
a_list("with markup", b"[red]x[/red]/[/].png 0\n" + _GOOD)
a_list("of an old Mac", _GOOD.replace(b"\n", b"\r"))
a_list("that turns direction", "a/\u202egnp.1 0\n".encode() + _GOOD)
a_list("not in UTF-8", b"\xff\xfe\xfd/1.png 0\n" + _GOOD)
a_list("that is JSON", b'[{"path": "a/1.png", "label": 0}]')
a_list("that is a pickle", b"\x80\x02cposix\nsystem\n(U\x0ctouch canarytR.")
a_list("of one image ten thousand times", b"a/1.png 0\n" * 10_000 + b"b/1.png 1\n", (0,))


# Class names, files to skip


def _named(name: str, key: str, content: bytes, codes: tuple[int, ...] = (2,)) -> None:
    def make(folder: Path, good: Good) -> list[Any]:
        (folder / "named.txt").write_bytes(content)
        return ["check", _config_of_lists(folder, f'{key} = "{folder / "named.txt"}"')]

    TEXTS.add(f"{key} {name}", make, codes)


_named("too few", "class_names", b"one\n")
_named("too many", "class_names", b"x\n" * 100_000)
_named("of zero bytes", "class_names", b"one\0\ntwo\n")
_named("with escape sequences", "class_names", b"\x1b[31mone\ntwo\x1b]0;x\x07\n", (0,))
_named("of 5 MB each", "class_names", b"x" * 1_000_000 + b"\n" + b"y" * 1_000_000, (0,))
_named("not in UTF-8", "class_names", b"\xff\n\xfe\n", (0,))
_named("with labels twice", "class_names", b"0 one\n0 two\n", (0,))
_named("of nothing", "skip", b"", (0,))
_named("above the root", "skip", b"../../x.png\n/etc/passwd\ta\n", (0,))
_named("with escape sequences", "skip", b"\x1b[2Jx.png\tno\n", (0,))
_named("of everything", "skip", _GOOD.replace(b" 0", b"\tx").replace(b" 1", b"\tx"))
_named("of zero bytes", "skip", b"\0")
_named("of one line of a million letters", "skip", b"../" * 300_000, (0,))
_named("of noise", "skip", bytes(range(1, 256)) * 50, (0,))


# Configs


def config(name: str, content: bytes, codes: tuple[int, ...] = (2,), says: str = "") -> None:
    def make(folder: Path, good: Good) -> list[Any]:
        (folder / "theirs.toml").write_bytes(content)
        return ["stage1", folder / "theirs.toml", "--runs-dir", folder / "runs"]

    TEXTS.add(f"config {name}", make, codes, says)


_START = b'name = "x"\n[backbone]\nname = "resnet32"\n[stage1]\nepochs = 1\nbatch_size = 4\nlr = 0.01\n[data]\n'
config("empty", b"")
config("of noise", bytes(range(1, 256)))
config("of zero bytes", bytes(1000))
config("in UTF-16", _START.decode().encode("utf-16"))
config("not in UTF-8", b'name = "\xff"\n')
config("of lists in lists", b"a = " + b"[" * 100_000)
config("of closed lists in lists", b"a = " + b"[" * 20_000 + b"]" * 20_000)
config("of tables in tables", b"a = " + b"{a=" * 20_000 + b"1" + b"}" * 20_000)
config("of a key of many parts", b"a." * 30_000 + b"b = 1\n")
config("of a section of many parts", b"[" + b"a." * 30_000 + b"b]\n")
config("of a section of quoted parts", b"[" + b'"a" . ' * 30_000 + b"b]\n")
config("of a key in a table of many parts", b"x = {" + b"a." * 30_000 + b"b = 1}\n")
config("of a huge number", _START + b"seed = " + b"9" * 5000 + b"\n")
config("of a number without an end", _START + b"seed = 1e" + b"9" * 5000 + b"\n")
config("of a date that is none", b"seed = 9999-99-99\n")
config("of dates", b"seed = 1979-05-27T07:32:00Z\nname = 2001-01-01\n" + _START[11:])
config("of nan", _START.replace(b"0.01", b"nan") + b'kind = "digits"\n')
config("of infinity", _START.replace(b"0.01", b"inf") + b'kind = "digits"\n')
config("of huge numbers", _START.replace(b"epochs = 1", b"epochs = 9223372036854775807") + b'kind = "digits"\n')
config("of keys twice", b"seed = 1\nseed = 2\n")
config("of a name that is a path", _START.replace(b'"x"', b'"../../x"') + b'kind = "digits"\n')
config("of a name with escape sequences", _START.replace(b'"x"', b'"\\u001b[2J"') + b'kind = "digits"\n')
config("of an unknown key with escape sequences", b'"\\u001b[31m" = 1\n' + _START + b'kind = "digits"\n')
config("of a value with escape sequences", _START + b'kind = "\\u001b[31m"\n')
config("of a value of a million letters", _START + b'kind = "' + b"x" * 1_000_000 + b'"\n')
config("of a list where text should be", _START + b'kind = [["digits"]]\n')
config("of sections where values should be", b"[name.x]\n[seed.y]\n[stage1.lr.z]\n")
config("of values where sections should be", b"stage1 = 1\ndata = []\nbackbone = false\n")
config("of twenty thousand keys", b"".join(b"k%d = 1\n" % n for n in range(20_000)))
config(
    "of a backbone that would be fetched",
    _START.replace(b'"resnet32"', b'"timm:hf-hub:evil/model"') + b'kind = "digits"\n',
)
config(
    "of a backbone that is a path", _START.replace(b'"resnet32"', b'"timm:local-dir:/tmp/evil"') + b'kind = "digits"\n'
)
config("of a backbone that is code", _START.replace(b'"resnet32"', b'"torchvision:os.system"') + b'kind = "digits"\n')
config("of a path with a zero byte", _START + b'kind = "npz"\npath = "\\u0000"\n')
config("of a list with a zero byte", _START + b'kind = "list"\npath = "."\n[data.lists]\ntrain = "\\u0000"\n')


# Settings


def setting(name: str, *texts: str, codes: tuple[int, ...] = (2,)) -> None:
    def make(folder: Path, good: Good) -> list[Any]:
        return [
            "stage1",
            good.config,
            "--runs-dir",
            folder / "runs",
            *(part for text in texts for part in ("--set", text)),
        ]

    TEXTS.add(f"--set {name}", make, codes)


setting("without a value", "stage1.lr")
setting("without a key", "=1")
setting("of nothing", "")
setting("of dots", "....=1")
setting("of lists in lists", "stage1.lr=" + "[" * 60_000)
setting("of closed lists in lists", "stage1.lr=" + "[" * 20_000 + "]" * 20_000)
setting("of tables in tables", "stage1.lr=" + "{a=" * 20_000)
setting("of a key of many parts", "a." * 60_000 + "b=1")
setting("of a key in a table of many parts", "stage1.lr={" + "a." * 40_000 + "b=1}")
setting("of a huge number", "stage1.epochs=" + "9" * 5000)
setting("of escape sequences", "\x1b[31m=1")
setting("of a value of escape sequences", "data.kind=\x1b[31m")
setting("of markup", "data.kind=[red]x[/red]")
setting("of two lines", "stage1.lr=1\nname = 2")
setting("of a section", "stage1={}")
setting("of nan", "stage1.lr=nan")
setting("of private names", "__class__.__init__=1")
setting("of a path above", "name=../../x")
setting("of a setting within a value", "seed.x.y=1")
setting("of lone surrogates", "data.kind=\udcff")


def _stage2(name: str, *texts: str) -> None:
    def make(folder: Path, good: Good) -> list[Any]:
        given = [part for text in texts for part in ("--set", text)]
        return ["stage2", good.features, "--runs-dir", folder / "runs", "--activation", "gumbel", *given]

    TEXTS.add(f"stage2 --set {name}", make)


_stage2(
    "of a grid of a billion",
    *(f"stage2.{key}={list(range(1, 33))}" for key in ("lr", "epochs", "batch_size", "views", "tau", "gamma")),
)
_stage2("of lists in lists", "stage2.lr=" + "[" * 20_000 + "]" * 20_000)
_stage2("of another section", "stage1.lr=1")
