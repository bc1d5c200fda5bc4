"""No code from data is run: also not what a library of ours would run."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
from conftest import RunCli
from hostile import CANARY, payload
from hostile_images import _POSTSCRIPT, config_of_folder

from gol_decouple.data.images import decode
from gol_decouple.errors import InputError

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]


@pytest.mark.parametrize("names", [BATCHES, ["batches.meta"]])
@pytest.mark.parametrize("fails", [True, False])
def test_a_forged_cifar_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli, names: list[str], fails: bool
) -> None:
    """torchvision unpickles it, but only files whose checksums are those of the published ones."""
    from torchvision.datasets import cifar

    def fetch(*_: object, **__: object) -> None:
        if fails:
            raise URLError("no network")

    monkeypatch.setattr(cifar, "download_and_extract_archive", fetch)
    (tmp_path / "cifar-10-batches-py").mkdir()
    for name in names:
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(payload(tmp_path))
    outcome = run_cli("check", "cifar10_lt", "--data-root", tmp_path)
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.err.startswith("error: cifar-10-python.tar.gz")
    assert not (tmp_path / CANARY).exists()


def test_postscript_is_never_handed_to_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    def run(*_: object, **__: object) -> None:
        pytest.fail("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    (tmp_path / "a.png").write_bytes(_POSTSCRIPT)
    with pytest.raises(InputError, match="a.png cannot be decoded: not an image"):
        decode(tmp_path / "a.png")


def test_names_do_not_reach_a_terminal_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli
) -> None:
    """In a terminal also what is printed for programs, which elsewhere is as it is."""
    config = config_of_folder(tmp_path)
    (tmp_path / "images" / "train" / "cat" / "\x1b[2J.png").write_bytes(b"no")
    outcome = run_cli("check", config)
    assert outcome.code == 2
    assert outcome.out == "train/cat/\x1b[2J.png\tnot an image\n"
    assert "\x1b" not in outcome.err
    assert "\\x1b[2J.png" in outcome.err
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        run_cli("check", config)
        terminal.flush()
        shown = os.read(ours, 10_000)
    os.close(ours)
    assert shown == b"train/cat/\\x1b[2J.png\tnot an image\r\n"


def test_a_name_cannot_pass_for_a_message(tmp_path: Path, run_cli: RunCli) -> None:
    config = config_of_folder(tmp_path)
    (tmp_path / "images" / "train" / "cat" / "a\nerror: all is lost\r.png").write_bytes(b"no")
    outcome = run_cli("check", config)
    assert outcome.code == 2
    assert [line for line in outcome.err.splitlines() if line.startswith("error: ")] == [
        f"error: {tmp_path / 'images'}: 1 of 9 images are bad; 1 cannot be decoded: "
        "train/cat/a\\nerror: all is lost\\r.png (not an image)"
    ]
