"""Stage one's checkpoints when they are damaged or of something else: the other one or a message, no traceback."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from test_training_stop import Make, assert_same, kept, maker
from torch import nn

from gol_decouple.backbones import ImageClassifier
from gol_decouple.config import load_config
from gol_decouple.data import load_data
from gol_decouple.errors import InputError
from gol_decouple.progress import SILENT, Progress
from gol_decouple.stages.training import Trainer
from gol_decouple.stages.training_state import load_state

State = dict[str, Any]


@pytest.fixture(scope="module")
def make(small_config: Path) -> Make:
    return maker(small_config, "device=cpu", "stage1.num_workers=0", "stage1.evaluate_every=0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make: Make) -> Path:
    """A folder with the checkpoints after the second epoch and the third, the last one."""
    folder = tmp_path_factory.mktemp("trained")
    make(folder).run(SILENT)
    return folder


@pytest.fixture
def own(tmp_path: Path, trained: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "own"))


def continued(make: Make, folder: Path) -> list[str]:
    """What is told when the training in a folder goes on."""
    said = Console(file=io.StringIO(), width=1000)
    make(folder).run(Progress(said))
    return said.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def falls_back(make: Make, folder: Path, trained: Path, reason: str) -> None:
    """Check that the training goes on from the checkpoint before the last, with a warning, and to the same end."""
    lines = continued(make, folder)
    assert lines[0].startswith(f"warning: {folder / 'last.pt'} {reason}")
    assert lines[1] == "continuing stage one after epoch 2 of 3"
    assert_same(kept(folder)["model"], kept(trained)["model"])


def places(path: Path) -> dict[str, list[int]]:
    """Where the bytes of each entry of an archive lie, the first, one in the middle and the last, by its name."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry):  # moves to its bytes
                start = archive.fp.tell()  # type: ignore[union-attr]
            found[entry.filename] = sorted({start, start + entry.file_size // 2, start + entry.file_size - 1})
    return found


def test_a_flip_in_any_entry_of_the_last_checkpoint_is_found(make: Make, own: Path, trained: Path) -> None:
    whole, trainer = (trained / "last.pt").read_bytes(), make(own)
    entries = places(trained / "last.pt")
    assert len(entries) > 20, "weights, statistics, momentum and more"
    for name, positions in entries.items():
        for position in positions:
            content = bytearray(whole)
            content[position] ^= 1 << position % 8
            (own / "last.pt").write_bytes(content)
            said = Console(file=io.StringIO(), width=1000)
            state = load_state(own, trainer.task.data_sha256, Progress(said), trainer._take)
            assert said.file.getvalue() == f"warning: {own / 'last.pt'} is damaged and left aside ({name})\n"  # type: ignore[attr-defined]
            assert state is not None
            assert state["epochs_done"] == 2


def test_it_goes_on_from_the_one_before(make: Make, own: Path, trained: Path) -> None:
    content = bytearray((own / "last.pt").read_bytes())
    content[len(content) // 2] ^= 16
    (own / "last.pt").write_bytes(content)
    falls_back(make, own, trained, "is damaged and left aside (last.pt.tmp/data/")


def nested(depth: int) -> State:
    tree: State = {}
    for _ in range(depth):
        tree = {"model": tree}
    return tree


def odd_pickle(path: Path, content: bytes) -> None:
    """An archive as torch.save writes it, with right checksums and any pickle in it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (("data.pkl", content), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"last/{name}", data)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b""), "is damaged and left aside (its table of contents)"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged and left aside (its table of contents)"),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "is damaged and left aside"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(5000)), "is damaged and left aside"),
        (lambda path: path.write_text("epoch,lr\n"), "is damaged and left aside"),
        (lambda path: path.write_bytes(pickle.dumps({"epochs_done": 9})), "is damaged and left aside"),
        (lambda path: odd_pickle(path, b"\x80\x02" + b"}" * 50_000 + b"."), "is no checkpoint of this version's"),
        (lambda path: odd_pickle(path, b"\x80\x02cos\nsystem\n."), "is damaged and left aside ("),
        (lambda path: odd_pickle(path, b"\x80\x02a."), "is damaged and left aside ("),
        (lambda path: odd_pickle(path, b""), "is damaged and left aside ("),
        (lambda path: torch.save([1, 2], path), "is no checkpoint of this version's stage one and left aside"),
        (lambda path: torch.save({"model": {}}, path), "is no checkpoint of this version's stage one"),
        (lambda path: torch.save(nested(200), path), "is no checkpoint of this version's stage one"),
    ],
    ids=["0", "short", "half", "HDF5", "text", "pickle", "deep", "code", "junk", "none", "list", "keys", "dicts"],
)  # fmt: skip
def test_what_is_no_checkpoint_is_left_aside(
    make: Make, own: Path, trained: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(own / "last.pt")
    falls_back(make, own, trained, reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state | {"extra": 1}, "is no checkpoint of this version's stage one"),
        (lambda state: state | {"epochs_done": "3"}, "is no checkpoint of this version's stage one"),
        (lambda state: state | {"steps_done": -1}, "is no checkpoint of this version's stage one"),
        (lambda state: state | {"model": 3}, "is no checkpoint of this version's stage one"),
        (lambda state: state | {"model": {}}, "is of another model and left aside: Missing key(s)"),
        (lambda state: state | {"model": dict.fromkeys(state["model"], "text")}, "is of another model and left aside"),
        (lambda state: state | {"optimizer": {}}, "is of another model and left aside"),
        (lambda state: state | {"optimizer": state["optimizer"] | {"param_groups": [3]}}, "is of another model"),
        (lambda state: state | {"log": [{"epoch": 1}]}, "is of another model and left aside: the log has the columns"),
        (lambda state: state | {"log": [3]}, "is of another model and left aside"),
    ],
)  # fmt: skip
def test_a_checkpoint_with_other_content_is_left_aside(
    make: Make, own: Path, trained: Path, change: Callable[[State], State], reason: str
) -> None:
    torch.save(change(kept(own)), own / "last.pt")
    falls_back(make, own, trained, reason)


def test_momentum_of_other_weights_is_left_aside(make: Make, own: Path, trained: Path) -> None:
    state = kept(own)
    state["optimizer"]["state"][0]["momentum_buffer"] = torch.zeros(7)
    torch.save(state, own / "last.pt")
    falls_back(make, own, trained, "is of another model and left aside: momentum of [7] for weights of [4, 3, 3, 3]")


def test_the_previous_one_damaged_does_not_matter(make: Make, own: Path) -> None:
    (own / "previous.pt").write_bytes(b"damaged")
    assert continued(make, own) == ["continuing stage one after epoch 3 of 3"]


def test_checkpoints_of_another_model_are_told(own: Path, small_config: Path) -> None:
    config = load_config(str(small_config), ["device=cpu", "stage1.num_workers=0"])
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    model = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 8)), 8, 3)
    with pytest.raises(InputError, match=r"no checkpoint in .* is of the model that is trained: Unexpected") as caught:
        Trainer(model, load_data(config.data), config, own).run(SILENT)
    assert caught.value.hint is not None
    assert "--overwrite" in caught.value.hint
    assert "timm" in caught.value.hint
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
