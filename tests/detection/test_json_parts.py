"""Lists in JSON files, a part at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gol_decouple.detection import json_parts
from gol_decouple.errors import InputError

ROWS = [
    {
        "image_id": number,
        "bbox": [1, 2.5, 3, 4],
        "segmentation": {"size": [2, 3], "counts": "ab"},
        "more": [{}, {"a": 1}],
    }
    for number in range(50)
] + [{"text": "},{ ]"}] * 5


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("size", [1, 7, 100, 1000, 10**6])
def test_parts_are_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, size: int) -> None:
    monkeypatch.setattr(json_parts, "PART_CHARACTERS", size)
    path = tmp_path / "rows.json"
    path.write_text("  " + json.dumps(ROWS, indent=indent) + "\n")
    parts = list(json_parts.read_parts(path))
    assert [row for part in parts for row in part] == ROWS
    assert len(parts) > 10 or size >= 1000


@pytest.mark.parametrize("size", [10, 10**6])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "holds a dict, not a list"),
        ('{"annotations": []}', "holds a dict, not a list"),
        ("", "is not readable JSON: Expecting value"),
        ("[1, 2", "is not readable JSON"),
        ('[{"a": 1}, {"a": 1}, {"a" 1}]', "is not readable JSON"),
        ("[]]", "is not readable JSON: Extra data"),
        ("[1,]", "is not readable JSON"),
        ("[" * 100_000, "is not readable JSON: maximum recursion depth"),
    ],
)
def test_other_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str, size: int
) -> None:
    monkeypatch.setattr(json_parts, "PART_CHARACTERS", size)
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        list(json_parts.read_parts(path))
    assert str(path) in caught.value.message
    assert "JSON list" in caught.value.hint


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json cannot be read: No such file"):
        list(json_parts.read_parts(tmp_path / "none.json"))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.json is not readable JSON"):
        list(json_parts.read_parts(tmp_path / "binary.json"))
