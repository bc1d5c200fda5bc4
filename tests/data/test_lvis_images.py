"""Images of annotation files, found by what is on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from lvis_files import Tree, tiny

from gol_decouple.data.lvis_images import find_images
from gol_decouple.data.lvis_json import read_annotations
from gol_decouple.data.lvis_records import Images
from gol_decouple.errors import InputError

COCO_URLS = ["train2017/000000000020.jpg", "val2017/000000000010.jpg"]
FILES = ["000000000020.jpg", "000000000010.jpg"]


def images(**changes: str) -> Images:
    """Those of the tiny file, with `file_name` or another `coco_url` for both, `{}` in it standing for the number."""
    tree: Tree = tiny()
    for row in tree["images"]:
        row.update({key: value.format(f"{row['id']:012d}") for key, value in changes.items()})
    return read_annotations(tree).images


def touch(root: Path, *names: str) -> Path:
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


V05 = "COCO_val2014_{}.jpg"
FOUND = [
    ({}, COCO_URLS, COCO_URLS, "folder and file of coco_url"),
    ({}, FILES, FILES, "the file of coco_url"),
    ({"file_name": V05}, COCO_URLS, COCO_URLS, "folder and file of coco_url"),
    ({"file_name": V05}, FILES, FILES, "the file of coco_url"),
    ({"file_name": V05}, [V05.format(name[:-4]) for name in FILES], None, "file_name"),
    ({"file_name": "a/b/{}.png"}, ["a/b/000000000020.png", "a/b/000000000010.png"], None, "file_name"),
    ({"file_name": "./a//{}.png"}, ["a/000000000020.png", "a/000000000010.png"], None, "file_name"),
    ({"coco_url": "", "file_name": V05}, FILES, FILES, "the file of file_name"),
    ({"coco_url": "", "file_name": "/home/a/{}.jpg"}, FILES, FILES, "the file of file_name"),
]


@pytest.mark.parametrize(("changes", "there", "expected", "told"), FOUND, ids=range(len(FOUND)))
def test_images_are_found_by_what_is_there(
    tmp_path: Path, changes: dict[str, str], there: list[str], expected: list[str] | None, told: str
) -> None:
    root = touch(tmp_path / "root", *there)
    files, note = find_images(images(**changes), root, "tiny")
    assert files.names == (expected or there)
    assert files.root == root
    assert note == f"all images are found in {root} by {told}, as {files.names[0]}"


def test_where_some_are_missing_the_way_that_finds_most_is_taken(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", FILES[1])
    files, note = find_images(images(), root, "tiny")
    assert files.names == FILES
    assert note == f"1 of 2 images are found in {root} by the file of coco_url, as {FILES[0]}"


def test_where_none_is_there_the_first_way_is_taken(tmp_path: Path) -> None:
    files, note = find_images(images(file_name="a.jpg"), touch(tmp_path / "root"), "tiny")
    assert files.names == COCO_URLS
    assert note.startswith("0 of 2 images are found")


def test_no_folder_and_no_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: there is no such folder of images") as caught:
        find_images(images(), tmp_path / "nowhere", "tiny")
    assert caught.value.hint == "--data-root names it"
    with pytest.raises(InputError, match="^tiny: images have no path: image 20 has coco_url '', file_name ''$"):
        find_images(images(coco_url=""), tmp_path, "tiny")


@pytest.mark.parametrize("name", ["../{}.jpg", "/etc/{}.jpg", "a\\{}.jpg", "C:/{}.jpg", "a/../../{}.jpg"])
def test_names_that_leave_the_root_are_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, *FILES)
    with pytest.raises(InputError, match="^tiny: image 20 is called .*which is no path below the image root$"):
        find_images(images(coco_url="", file_name=name), touch(tmp_path / "root"), "tiny")


def test_files_outside_the_root_are_not_looked_for(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", *FILES)
    touch(tmp_path, *FILES)
    assert find_images(images(coco_url="", file_name="../{}.jpg"), root, "tiny")[0].names == FILES


def test_coco_urls_that_are_not_urls_stay_below_the_root(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image 20 is called '../000000000020.jpg'"):
        find_images(images(coco_url="x/../{}.jpg"), touch(tmp_path / "root"), "tiny")


def test_real_images(real_data: Path) -> None:
    for name, root in (
        ("lvis/lvis_v0.5_val_3.json", "lvis/val3_images"),
        ("coco_lt/coco_lt_val.json", "coco_lt/images"),
    ):
        data = read_annotations(real_data / name)
        files, note = find_images(data.images, real_data / root, data.name)
        assert note.startswith("all images are found")
        first = files.look()[0]
        assert first[:2].tolist() == [data.images.heights[0], data.images.widths[0]]
