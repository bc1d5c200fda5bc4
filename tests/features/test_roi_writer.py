"""Files of RoIs written as extraction does: whole images a block, with labels, boxes and IoUs found on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from roi_files import BIAS, IMAGE_COUNTS, NAMES, NUM_IMAGES, PER_IMAGE, WEIGHT, D, arguments, make

from gol_decouple import features
from gol_decouple.distributed import World
from gol_decouple.errors import EnvironmentFailure, InputError
from gol_decouple.features import layout, shards
from gol_decouple.features.layout import Block, Header, LinearWeights, SplitLayout
from gol_decouple.features.rois import ClassImages, ImageRows
from gol_decouple.features.writer import FeatureWriter

MADE = {"train": make(9), "test": make(4, 1, 100)}
IMAGES_A_BLOCK = 2
NUM_BLOCKS = 5 + 2


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fdatasync", lambda descriptor: None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def make_writer(path: Path, num_images: int = NUM_IMAGES, first_id: int = 0, **options: Any) -> FeatureWriter:
    """Train in five blocks, of which the last has one image; test in two."""
    header = Header(
        NAMES,
        "float32",
        D,
        LinearWeights(WEIGHT, BIAS),
        row_order_seed=3,
        class_images=ClassImages(np.array(IMAGE_COUNTS), num_images, np.array(list("fcr"))),
    )
    layouts = {}
    for name, made in MADE.items():
        size = np.full(len(made.ids), 480)
        rows = ImageRows(made.ids + first_id, size, size, PER_IMAGE)
        layouts[name] = SplitLayout(rows, 1, IMAGES_A_BLOCK * PER_IMAGE)
    return FeatureWriter(path, header, layouts, **options)


def columns_of(block: Block) -> dict[str, np.ndarray]:
    made, rows = MADE[block.split], slice(block.start, block.stop)
    return {"features": made.x[rows], "labels": made.labels[rows], "boxes": made.boxes[rows], "iou": made.iou[rows]}


def fill(path: Path, count: int | None = None, publish: bool = True, **options: Any) -> list[Block]:
    """Write `count` of the pending blocks, or all and publish; returns those written."""
    with make_writer(path, **options) as writer:
        todo = writer.pending[:count]
        for block in todo:
            writer.write(block, **columns_of(block))
        if count is None and publish:
            writer.publish()
    return todo


def write_slowly(path: str) -> None:
    """What the process that is killed runs."""
    with make_writer(Path(path)) as writer:
        for block in writer.pending:
            writer.write(block, **columns_of(block))
            print(block.index, flush=True)
            time.sleep(0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rois.h5"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of the file when nothing interrupts its writing."""
    path = tmp_path_factory.mktemp("whole") / "rois.h5"
    assert len(fill(path)) == NUM_BLOCKS
    return path.read_bytes()


def partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def test_what_was_found_on_the_way_is_read(path: Path) -> None:
    fill(path)
    file = features.open(path)
    assert file.checked
    for name, made in MADE.items():
        np.testing.assert_array_equal(file[name].features[0], made.x)
        np.testing.assert_array_equal(file[name].labels, made.labels)
        np.testing.assert_array_equal(file[name].boxes[:], made.boxes)
        np.testing.assert_array_equal(file[name].ious[:], made.iou)
        np.testing.assert_array_equal(file[name].images.num_rois, made.num_rois)
    labels = MADE["train"].labels
    assert file.classes.train_counts.tolist() == [int((labels == label).sum()) for label in range(3)]
    with h5py.File(path) as raw:
        assert raw["train/images/num_rois"][:].tolist() == MADE["train"].num_rois.tolist()
        assert raw["classes/train_counts"][:].tolist() == file.classes.train_counts.tolist()


def test_arrays_and_blocks_make_one_kind_of_file(path: Path) -> None:
    """`features.write` fills the same columns, in the same way."""
    fill(path)
    other = features.write(path.with_name("other.h5"), **arguments(MADE["train"], MADE["test"], regressor=None))

    def tree(of: Path) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}

        def add(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset) and not name.endswith("crc32"):
                found[name] = (node.dtype, node.shape, node.id.get_offset() is not None)

        with h5py.File(of) as file:
            file.visititems(add)
        return found

    assert tree(path) == tree(other)


def test_blocks_are_whole_images(path: Path) -> None:
    with make_writer(path) as writer:
        assert all(block.start % PER_IMAGE == 0 and block.stop % PER_IMAGE == 0 for block in writer.pending)
        assert writer.pending[4] == Block("train", 0, 4, 48, 54)
    assert layout.rows_per_block(1024 * 2, 512) == 512
    assert layout.rows_per_block(1024 * 4, 1000) == 1000
    assert layout.rows_per_block(64 * 2, 100) == 81 * 100


def test_the_next_writer_continues(path: Path, whole: bytes) -> None:
    first, second, third = fill(path, 2), fill(path, 4), fill(path)
    assert (len(first), len(second), len(third)) == (2, 4, NUM_BLOCKS - 6)
    assert path.read_bytes() == whole
    assert [entry.name for entry in path.parent.iterdir()] == ["rois.h5"]


def test_order_of_blocks_does_not_matter(path: Path, whole: bytes) -> None:
    with make_writer(path) as writer:
        for block in reversed(writer.pending):
            writer.write(block, **columns_of(block))
        writer.publish()
    assert path.read_bytes() == whole


def test_a_killed_process_loses_no_block(path: Path, whole: bytes) -> None:
    code = "import sys; sys.path[:0] = sys.argv[1:3]; import test_roi_writer; test_roi_writer.write_slowly(sys.argv[3])"
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(here), str(here.parent), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline(), "the process failed"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(InputError, match="is incomplete"):
        features.open(partial_of(path))
    assert 1 <= len(fill(path)) <= NUM_BLOCKS - 3
    assert path.read_bytes() == whole


@pytest.mark.parametrize("column", ["features", "labels", "boxes", "iou"])
def test_a_block_with_one_column_changed_is_written_again(path: Path, whole: bytes, column: str) -> None:
    fill(path, 4)
    with h5py.File(partial_of(path)) as file:
        offset = file[f"train/{column}"].id.get_offset()
        per_block = IMAGES_A_BLOCK * PER_IMAGE * file[f"train/{column}"].nbytes // len(MADE["train"].labels)
    with partial_of(path).open("r+b") as raw:
        raw.seek(offset + 2 * per_block + 1)
        byte = raw.read(1)[0]
        raw.seek(offset + 2 * per_block + 1)
        raw.write(bytes([byte ^ 1]))
    assert [(block.split, block.index) for block in fill(path)] == [
        *(("train", 2), ("train", 4)),
        *(("test", 0), ("test", 1)),
    ]
    assert path.read_bytes() == whole


LINES: dict[str, Callable[[list[str]], list[str]]] = {
    "without the last crc": lambda words: words[:-1],
    "with one crc": lambda words: words[:4],
    "with one more": lambda words: [*words, "5"],
    "with two exchanged": lambda words: [*words[:3], words[4], words[3], *words[5:]],
}


@pytest.mark.parametrize("change", LINES.values(), ids=LINES)
def test_a_line_that_does_not_tell_all_columns_costs_its_block(
    path: Path, whole: bytes, change: Callable[[list[str]], list[str]]
) -> None:
    fill(path, 3)
    log = path.with_name("rois.h5.partial.0.log")
    lines = log.read_text().split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("train 0 1 "))
    lines[at] = " ".join(change(lines[at].split()))
    log.write_text("\n".join(lines))
    assert len(fill(path)) == NUM_BLOCKS - 2
    assert path.read_bytes() == whole


@pytest.mark.parametrize("other", [{"num_images": 170}, {"first_id": 5}])
def test_another_plan_starts_afresh(path: Path, whole: bytes, other: dict[str, int]) -> None:
    fill(path, 3, **other)
    assert len(fill(path)) == NUM_BLOCKS
    assert path.read_bytes() == whole


def test_publishing_with_images_missing_is_an_error(path: Path) -> None:
    with make_writer(path) as writer:
        writer.write(writer.pending[0], **columns_of(writer.pending[0]))
        with pytest.raises(EnvironmentFailure, match="lacks 6 blocks"):
            writer.publish()
    assert not path.exists()


@pytest.mark.parametrize(
    ("column", "rows", "message"),
    [
        ("labels", np.zeros(12), "^train labels are float64, expected integers$"),
        ("labels", np.full(12, 9), r"^train labels: label 9 is outside -1\.\.3$"),
        ("labels", np.tile([0, -1], 6), r"^train labels: rows 12\.\.17, which are of one image, have a RoI after"),
        ("boxes", np.ones((12, 3)), r"^train rows 12\.\.23 have boxes of \[12, 3\], expected \[12, 4\]$"),
        ("boxes", np.full((12, 4), np.nan), "^train boxes of row 12 hold NaN or infinity$"),
        ("boxes", np.full((12, 4), 1e300), "^train boxes of row 12 reach 1e.300, which overflows float32$"),
        ("iou", np.full(12, 1.25), r"^train iou of row 12 are 1\.25, expected 0 to 1$"),
    ],
)
def test_unusable_rows_are_refused_and_the_rest_kept(path: Path, column: str, rows: np.ndarray, message: str) -> None:
    with make_writer(path) as writer:
        writer.write(writer.pending[0], **columns_of(writer.pending[0]))
        block = writer.pending[0]
        with pytest.raises(InputError, match=message):
            writer.write(block, **(columns_of(block) | {column: rows}))
        assert block in writer.pending
    assert len(fill(path)) == NUM_BLOCKS - 1


def test_shards_are_joined_to_the_file_that_one_process_writes(path: Path, whole: bytes) -> None:
    of_process = [fill(path, publish=False, world=World(rank, 2), shard=True) for rank in range(2)]
    assert [len(part) for part in of_process] == [4, 3]
    shards.merge(path)
    assert path.read_bytes() == whole
    assert [entry.name for entry in path.parent.iterdir()] == ["rois.h5"]


def test_a_shard_that_is_not_finished_continues(path: Path, whole: bytes) -> None:
    fill(path, publish=False, world=World(1, 2), shard=True)
    fill(path, 1, world=World(0, 2), shard=True)
    with pytest.raises(InputError, match=r"no shard of .* has train rows 24\.\.35, view 0"):
        shards.merge(path)
    assert len(fill(path, publish=False, world=World(0, 2), shard=True)) == 3
    shards.merge(path)
    assert path.read_bytes() == whole


def test_a_damaged_shard_is_named(path: Path) -> None:
    for rank in range(2):
        fill(path, publish=False, world=World(rank, 2), shard=True)
    shard = path.with_name("rois.h5.shard.1")
    with h5py.File(shard) as file:
        offset = file["train/iou"].id.get_offset()
    with shard.open("r+b") as raw:
        raw.seek(offset + 12 * 4)
        raw.write(b"\xff\xff\xff\xff")
    with pytest.raises(InputError, match=r"rois\.h5\.shard\.1 is damaged in train rows 12\.\.23"):
        shards.merge(path)


TWO = """
import sys
sys.path[:0] = {folders!r}
import test_roi_writer
from pathlib import Path
from gol_decouple.distributed import joined
with joined("cpu") as (world, device):
    with test_roi_writer.make_writer(Path(sys.argv[1]), world=world) as writer:
        for block in writer.pending:
            writer.write(block, **test_roi_writer.columns_of(block))
        writer.publish()
"""


def test_two_processes_share_the_images(path: Path, whole: bytes) -> None:
    from test_distributed import two_processes

    fill(path, 2)
    here = Path(__file__).parent
    told = two_processes(TWO.format(folders=[str(here), str(here.parent)]), path)
    assert [outcome.code for outcome in told] == [0, 0], told[0].err + told[1].err
    assert path.read_bytes() == whole
