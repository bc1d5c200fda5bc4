"""JSON of the wrong type, depth or size: annotations, results of detectors, and the manifests of a run folder."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lvis_files
from hostile import Corpus, Good
from hostile_images import HARMLESS

JSON = Corpus()
_DEEP, _DEEPER = "[" * 900 + "]" * 900, "[" * 1_000_000
_LONG = "9" * 4000
Tree = Any

# Whole files that are nothing of the kind
JUNK: dict[str, bytes] = {
    "empty": b"",
    "noise": bytes(range(1, 256)) * 20,
    "zero bytes": bytes(1000),
    "null": b"null",
    "a number": b"1e999",
    "nan": b"NaN",
    "a text": b'"' + b"x" * 10_000_000 + b'"',
    "a text without an end": b'"' + b"x" * 1_000_000,
    "an escape sequence": b'"\x1b[2J"',
    "a list": b"[]",
    "an object": b"{}",
    "a million lists": _DEEPER.encode(),
    "a million objects": b'{"a":' * 1_000_000,
    "lists in lists": _DEEP.encode(),
    "a list within a list of objects": b'[{"a": ' + b"[" * 100_000,
    "a long number": b'{"a": ' + b"9" * 100_000 + b"}",
    "cut off": b'{"images": [{"id": 1, ',
    "two documents": b"{}{}",
    "in UTF-16": '{"images": []}'.encode("utf-16"),
    "not in UTF-8": b'{"\xff": 1}',
    "a zip archive": b"PK\x03\x04" + bytes(99),
    "a gzip file": b"\x1f\x8b\x08" + bytes(99),
    "a pickle": b"\x80\x02cposix\nsystem\n(U\x0ctouch canarytR.",
    "comments": b"// no\n{}",
}


def _annotations(
    name: str, content: bytes | Callable[[Tree], Tree], codes: tuple[int, ...] = (2,), says: str = ""
) -> None:
    """A case: annotations that are `content`, or good ones changed, looked at in every part."""

    def make(folder: Path, good: Good) -> list[Any]:
        if isinstance(content, bytes):
            (folder / "theirs.json").write_bytes(content)
        else:
            tree = copy.deepcopy(lvis_files.tiny())
            changed = content(tree) or tree
            text = changed if isinstance(changed, str) else json.dumps(changed)
            (folder / "theirs.json").write_text(text)
        return ["check", folder / "theirs.json"]

    JSON.add(f"annotations {name}", make, codes, says)


def _set(*keys: Any, to: Any) -> Callable[[Tree], Tree]:
    """`tree[keys[0]][keys[1]]... = to`, which may be a text of JSON that Python would not write."""

    def change(tree: Tree) -> Tree:
        node = tree
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = "HERE" if isinstance(to, bytes) else to
        return json.dumps(tree).replace('"HERE"', to.decode()) if isinstance(to, bytes) else tree

    return change


for _name, _junk in JUNK.items():
    _annotations(f"that are {_name}", _junk)
for _key in ("images", "annotations", "categories"):
    for _kind, _value in {"null": None, "a number": 7, "an object": {}, "lists": [[]], "deep": _DEEP.encode()}.items():
        _annotations(f"with {_key} that are {_kind}", _set(_key, to=_value))
_ROW = ("annotations", 0)
for _key in ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"):
    for _kind, _value in {
        "null": b"null",
        "text with an escape sequence": b'"\\u001b[31m"',
        "a long number": _LONG.encode(),
        "deep": _DEEP.encode(),
    }.items():
        _annotations(
            f"with {_key} that is {_kind}", _set(*_ROW, _key, to=_value), HARMLESS if _key == "iscrowd" else (2,)
        )
_annotations("with bbox of NaN", _set(*_ROW, "bbox", to=b"[NaN, 0, 1, 1]"))
_annotations("with bbox of infinity", _set(*_ROW, "bbox", to=b"[0, 0, 1e999, -Infinity]"))
_annotations("with an area of NaN", _set(*_ROW, "area", to=b"NaN"))
_annotations("with a name of escape sequences", _set("categories", 0, "name", to="\x1b[2J\x07"), (0,))
_annotations("with a name that is a list", _set("categories", 0, "name", to=[["x"]]))
_annotations("with a name of 10 MB", _set("categories", 0, "name", to="x" * 10_000_000), (0,))
_annotations("with a frequency that is a list", _set("categories", 0, "frequency", to=[["r"]]))
_annotations("with a frequency of escape sequences", _set("categories", 0, "frequency", to="\x1b[31m"))
_annotations("with a height of 2^62", _set("images", 0, "height", to=2**62))
_annotations("with a height below 0", _set("images", 0, "height", to=-1))
_annotations("with a width that is true", _set("images", 0, "width", to=True))
_annotations("with negatives that are a text", _set("images", 0, "neg_category_ids", to="37"))
_annotations("with negatives of long numbers", _set("images", 0, "neg_category_ids", to=b"[" + _LONG.encode() + b"]"))
_annotations("with keys twice", _set("images", 0, "id", to=b'1, "id": 1, "id": {}'))
for _kind, _value in {
    "of two corners": [[0, 0, 1, 1]],
    "of a number without an end": [[0, 0, 1, 1, 2, 1e300]],
    "of texts": [["0", "0", "1", "1", "2", "2"]],
    "of ten thousand corners": [[0, 0] * 10_000],
    "of ten polygons beyond the edge": [[1e5, -1e5, 9e4, 9e4, 0, 0]] * 10,
    "of runs cut off": {"size": [8, 10], "counts": "PP"},
    "of runs of another size": {"size": [2**31, 2**31], "counts": [0, 2**62]},
    "of runs that are too long": {"size": [8, 10], "counts": [2**60, 2**60]},
    "of negative runs": {"size": [8, 10], "counts": [-1, 81]},
    "of counts that are objects": {"size": [8, 10], "counts": {"a": 1}},
    "of runs that are no text": {"size": [8, 10], "counts": "\x00\x1b\xff"},
}.items():
    _annotations(
        f"with a mask {_kind}",
        _set(*_ROW, "segmentation", to=_value),
        HARMLESS if "edge" in _kind or "thousand" in _kind else (2,),
    )
_annotations(
    "with a mask of runs that are long numbers",
    _set(*_ROW, "segmentation", to=b'{"size": [8, 10], "counts": [' + b", ".join([b"9" * 4300] * 20) + b"]}"),
)


def _images(name: str, file_name: str) -> None:
    """A case: an image of the annotations is called so."""

    def make(folder: Path, good: Good) -> list[Any]:
        tree = lvis_files.tiny()
        for row in tree["images"]:
            row.pop("coco_url")
            row["file_name"] = file_name
        (folder / "root").mkdir()
        lvis_files.write(folder / "theirs.json", tree)
        return ["check", folder / "theirs.json", "--data-root", folder / "root"]

    JSON.add(f"annotations of images called {name}", make)


for _name, _file in {
    "above": "../x.png",
    "deep above": "a/../../../etc/passwd",
    "from the root": "/etc/passwd",
    "with a zero byte": "a\0.png",
    "with an escape sequence": "\x1b[2J.png",
    "with backslashes": "..\\x.png",
    "with lone surrogates": "\udcff.png",
    "by a very long name": "x" * 100_000,
    "by many folders": "a/" * 50_000 + "x.png",
}.items():
    _images(_name, _file)


# Results of detectors

_GOOD = {"image_id": 20, "category_id": 7, "score": 0.5, "bbox": [1, 1, 2, 2]}


def _results(name: str, content: bytes, *more: str, codes: tuple[int, ...] = (2,)) -> None:
    def make(folder: Path, good: Good) -> list[Any]:
        lvis_files.write(folder / "truth.json", lvis_files.tiny())
        (folder / "theirs.json").write_bytes(content)
        return ["evaluate", folder / "truth.json", folder / "theirs.json", *more]

    JSON.add(f"results {name}", make, codes)


for _name, _junk in JUNK.items():
    _results(f"that are {_name}", _junk, codes=(0,) if _name == "a list" else (2,))
for _key in _GOOD:
    for _kind, _text in {
        "null": "null",
        "nan": "NaN",
        "a text": '"\\u001b[31m"',
        "a long number": _LONG,
        "deep": _DEEP,
        "of another file": "12345",
    }.items():
        if (_key, _kind) != ("score", "of another file"):
            _results(
                f"with {_key} that is {_kind}",
                (json.dumps([_GOOD, {**_GOOD, _key: "HERE"}]).replace('"HERE"', _text)).encode(),
            )
_results("of null among good ones", json.dumps([_GOOD, None, [], 1, _GOOD]).encode())
_results("of one object with ten thousand", b'[{"a": [' + b"{}, " * 700_000 + b"{}]}]")
_results("of spaces", b"[" + b" " * 20_000_000 + b"{}]")
_results("of a text with what ends an object", b'[{"image_id": "' + b"}, {" * 700_000 + b'"}]')
_results("with masks of boxes", json.dumps([_GOOD]).encode(), "--iou-type", "segm")
_results("with a huge box", json.dumps([{**_GOOD, "bbox": [0, 0, 1e99, 1e99]}]).encode(), codes=HARMLESS)
_results(
    "with masks that are deep",
    json.dumps([{**_GOOD, "segmentation": "X"}]).replace('"X"', _DEEP).encode(),
    "--iou-type",
    "segm",
)


# What a run folder from elsewhere says


def _run(name: str, change: Callable[[Path], object], codes: tuple[int, ...] = (2,), says: str = "") -> None:
    """A case: the report on a run folder that somebody changed."""

    def make(folder: Path, good: Good) -> list[Any]:
        run = folder / "runs" / "theirs"
        run.mkdir(parents=True)
        for file in ("config.toml", "manifest.json", "per_class.csv", "predictions.npz"):
            shutil.copy(good.run / file, run)
        change(run)
        return ["report", run]

    JSON.add(f"run {name}", make, codes, says)


def _manifest(name: str, change: bytes | Callable[[Tree], Tree], codes: tuple[int, ...] = (2,)) -> None:
    def write(run: Path) -> None:
        path = run / "manifest.json"
        if isinstance(change, bytes):
            path.write_bytes(change)
        else:
            tree = json.loads(path.read_text())
            changed = change(tree) or tree
            path.write_text(changed if isinstance(changed, str) else json.dumps(changed))

    _run(f"whose manifest {name}", write, codes)


for _name, _junk in JUNK.items():
    _manifest(f"is {_name}", _junk)
for _key in (
    "stage",
    "run",
    "method",
    "seed",
    "metrics",
    "settings",
    "dataset",
    "imbalance_factor",
    "backbone",
    "features",
    "train_counts",
    "split",
    "seconds",
):
    for _kind, _value in {"null": None, "lists": [["x"]], "an object": {"x": {}}, "a number": -1.5}.items():
        _manifest(f"has {_key} that is {_kind}", _set(_key, to=_value), HARMLESS)
_manifest("has accuracies of classes alone", _set("metrics", "top1", to=None))
_manifest("has top1 of NaN", _set("metrics", "top1", to=b"NaN"))
_manifest("has top1 of infinity", _set("metrics", "top1", to=b"1e999"))
_manifest("has top1 that is a text", _set("metrics", "top1", to="\x1b[31m99"))
_manifest("has top1 that is a long number", _set("metrics", "top1", to=_LONG.encode()))
_manifest("has settings that are deep", _set("settings", "lr", to=_DEEP.encode()))
_manifest("has a method of escape sequences", _set("method", to="\x1b[2J\x1b]0;x\x07"), (0,))
_manifest("has a dataset of markup", _set("dataset", to="[red]x[/nothing] :skull:"), (0,))
_manifest("has a dataset of 10 MB", _set("dataset", to="x" * 10_000_000), HARMLESS)
_manifest("has a text instead of changed settings", _set("changed_settings", to="x"))
_manifest("has detections of nothing", _set("detection", to={}))
_manifest("has detections that are a list", _set("detection", to=[]))
_manifest("has a cascade of numbers", _set("cascade", to=[1, 2]))
for _name, _junk in JUNK.items():
    _run(f"whose choice is {_name}", lambda run, junk=_junk: (run / "choice.json").write_bytes(junk))
for _name, _tried in {
    "a number": 7,
    "deep": [[[]]],
    "objects of nothing": [{}],
    "of texts": [{"settings": {}, "value": "\x1b"}],
}.items():
    _run(
        f"whose choice tried {_name}",
        lambda run, tried=_tried: (run / "choice.json").write_text(json.dumps({"held_out": "val", "tried": tried})),
    )
_run("whose manifest is a pipe", lambda run: ((run / "manifest.json").unlink(), os.mkfifo(run / "manifest.json")))
_run(
    "whose manifest leads to /dev/zero",
    lambda run: ((run / "manifest.json").unlink(), (run / "manifest.json").symlink_to("/dev/zero")),
)
_run("whose choice is a pipe", lambda run: os.mkfifo(run / "choice.json"), HARMLESS)
_run(
    "whose predictions are a pipe",
    lambda run: ((run / "predictions.npz").unlink(), os.mkfifo(run / "predictions.npz")),
    HARMLESS,
)
_run("that leads to itself", lambda run: (run / "stage2").symlink_to(run), (0,))
_run("called by escape sequences", lambda run: run.rename(run.with_name("\x1b[31mx")))
