"""Kills runs of the program at random moments, and asks that each ends like one that was not killed, bit by bit.

    python tests/faults/kill_runs.py --kills 300 --seed 0

prints what was killed by what, and leaves with an error, and all that happened, at the first life that lost something.
The tests do the same with fewer kills.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import annotated  # noqa: E402
import numpy as np  # noqa: E402
from kill_lives import Command, Lives, Scenario, Server  # noqa: E402
from PIL import Image  # noqa: E402

STAGE1 = ["stage1", "{data}/tiny.toml", "--runs-dir", "runs"]
STAGE2 = ["stage2", "runs/tiny", "--device", "cpu", "--set", "stage2.epochs=3"]
METHODS = ["--method", "softmax", "--method", "gumbel", "--method", "crt", "--method", "ncm", "--method", "seesaw"]
GRID = [*STAGE2, "--activation", "gumbel", "--method", "softmax", "--set", "stage2.lr=[1e-4,1e-3]"]
TUNE = ["tune", "runs/tiny", "--method", "softmax", "--method", "ncm", "--minutes", "1000", "--set", "stage2.epochs=2"]
OVERWRITE = [*STAGE1, "--set", "stage1.epochs=2"]
EXPORT = ["export", "runs/tiny", "--out", "exported"]
DETECTOR = ["stage1", "{data}/detector.toml", "--runs-dir", "runs"]
SCENARIOS = [
    Scenario("stage one", [Command(STAGE1)]),
    Scenario("workers", [Command([*STAGE1, "--set", "stage1.num_workers=2"])]),
    Scenario("shards", [Command([*STAGE1, "--shards"]), Command(["merge", "runs/tiny"])]),
    Scenario("overwriting", [Command([*STAGE1, "--overwrite"], again=STAGE1)], start="stage one"),
    Scenario(
        "stage two",
        [Command([*STAGE2, *METHODS, "--seeds", "2", "--set", "stage2.gradients=true"])],
        start="stage one",
    ),
    Scenario(
        "streamed", [Command([*STAGE2, "--method", "softmax", "--set", "stage2.memory_gb=1e-6"])], start="stage one"
    ),
    Scenario("choice", [Command(GRID)], start="stage one"),
    Scenario("tune", [Command([*TUNE, "--set", "stage2.lr=0.1", "--set", "stage2.space=raw"])], start="stage one"),
    Scenario(
        "use",
        [
            Command(["report", "runs/tiny", "--format", "csv"], continues=False),
            Command(["analyze", "runs/tiny"], continues=False),
            Command(EXPORT, continues=False, again=[*EXPORT, "--overwrite"]),
            Command(["predict", "runs/tiny", "{data}/small", "--format", "json", "--device", "cpu"], continues=False),
        ],
        start="stage two",
    ),
    Scenario("detector", [Command(DETECTOR)], slow=True),
    Scenario(
        "rois",
        [Command(["stage2", "runs/detector", "--method", "gol", "--method", "softmax", "--set", "stage2.epochs=3"])],
        start="detector",
        slow=True,
    ),
]


def make_data(folder: Path) -> Path:
    """Images of 8x8 pixels in three classes, photographs with annotations, and a config for each."""
    folder.mkdir()
    stream, arrays = np.random.default_rng(0), {}
    for split, counts in (("train", (20, 9, 3)), ("test", (4, 4, 4))):
        labels = np.repeat(np.arange(3), counts)
        noise = stream.normal(0, 40, (len(labels), 8, 8, 3))
        pixels = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])[labels][:, None, None] + noise
        arrays |= {f"{split}_images": np.clip(pixels, 0, 255).astype(np.uint8), f"{split}_labels": labels}
    np.savez(folder / "tiny.npz", **arrays)
    (folder / "small").mkdir()
    for number, image in enumerate(arrays["test_images"]):
        Image.fromarray(image).save(folder / "small" / f"{number:02}.png")
    (folder / "tiny.toml").write_text(CONFIG.format(path=folder / "tiny.npz"), encoding="utf-8")
    annotated.write_config(folder / "detector.toml", annotated.make(folder))
    return folder


CONFIG = """
[data]
kind = "npz"
path = "{path}"
[transform]
crop_padding = 1
flip = true
[backbone]
name = "resnet32"
[features]
views = 3
[stage1]
epochs = 3
batch_size = 16
lr = 0.01
precision = "float32"
num_workers = 0
"""


def kill_often(lives: Lives, names: Sequence[str], kills: int) -> str:
    """Lives of these scenarios in turn, until so many kills have been; returns what to tell of them."""
    for number in itertools.count():
        for name in names:
            if lives.kills.total() >= kills:
                return lives.table()
            lives.live(name, number)
    raise AssertionError


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenario", nargs="+", choices=[scenario.name for scenario in SCENARIOS])
    parser.add_argument("--number", type=int, help="of one life of the scenario, to see it again")
    given = parser.parse_args()
    names = given.scenario or [scenario.name for scenario in SCENARIOS]
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    with Server(folder) as server:
        lives = Lives(server, SCENARIOS, folder, make_data(folder / "data"), given.seed)
        if given.number is not None:
            lives.live(names[0], given.number)
        print(lives.table() if given.number is not None else kill_often(lives, names, given.kills))


if __name__ == "__main__":
    main()
