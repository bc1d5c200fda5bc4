"""Shell completion: names that the program knows and runs that are there, quickly, and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gol_decouple
from gol_decouple.config import config_names

ROOT = Path(gol_decouple.__file__).parents[1]
SCRIPT = (
    "import sys\n"
    "sys.argv = ['gol-decouple']\n"
    "from gol_decouple.cli import main\n"
    "code = main()\n"
    "heavy = {'torch', 'torchvision', 'h5py', 'sklearn', 'matplotlib', 'timm'} & set(sys.modules)\n"
    "sys.exit(f'imported {heavy}' if heavy else code)\n"
)


def complete(folder: Path, words: str, shell: str = "bash") -> list[str]:
    """What is offered for the last word."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
    environment |= {"_GOL_DECOUPLE_COMPLETE": f"complete_{shell}"}
    environment |= {"COMP_WORDS": words.replace(" ", "\n"), "COMP_CWORD": str(words.count(" "))}
    environment |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if line]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two runs, and something that is none."""
    for name in ("runs/digits_lt", "runs/mine", "elsewhere/other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.toml").write_text("")
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("gol-decouple st", ["stage1", "stage2"]),
        ("gol-decouple stage1 cifar", ["cifar100_lt", "cifar100_lt_mixup", "cifar10_lt"]),
        ("gol-decouple configs ", config_names()),
        ("gol-decouple check my_images.t", []),
        ("gol-decouple stage2 ", ["runs/digits_lt", "runs/mine"]),
        ("gol-decouple stage2 runs/m", ["runs/mine"]),
        ("gol-decouple stage2 --runs-dir elsewhere ", ["elsewhere/other"]),
        ("gol-decouple stage2 --runs-dir nowhere ", []),
        ("gol-decouple report runs/d", ["runs/digits_lt"]),
        ("gol-decouple predict runs/", ["runs/digits_lt", "runs/mine"]),
        ("gol-decouple stage2 runs/mine --activation ", ["softmax", "sigmoid", "gumbel", "gumbel_published"]),
        ("gol-decouple stage2 runs/mine --method gumbel_p", ["gumbel_paper", "gumbel_published"]),
        ("gol-decouple stage2 runs/mine --set stage2.l", ["stage2.lr=", "stage2.lambda_="]),
        ("gol-decouple stage2 runs/mine --set stage1", []),
        ("gol-decouple stage1 folder --set data.lists.t", ["data.lists.train=", "data.lists.test="]),
        ("gol-decouple reproduce t", ["table4"]),
        ("gol-decouple reproduce table4 --dataset ", ["cifar100_lt", "imagenet_lt", "places_lt"]),
        ("gol-decouple stage1 folder --ove", ["--overwrite"]),
    ],
)
def test_what_is_offered(folder: Path, words: str, offered: list[str]) -> None:
    before = sorted(folder.rglob("*"))
    assert complete(folder, words) == offered
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_offered_the_same(folder: Path, shell: str) -> None:
    told = "\n".join(complete(folder, "gol-decouple stage2 runs/mine --activation g", shell))
    assert "gumbel" in told
    assert "softmax" not in told


def test_the_script_is_shown_and_nothing_installed(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    command = [sys.executable, "-m", "gol_decouple", "--show-completion", "bash"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_GOL_DECOUPLE_COMPLETE=complete_bash" in done.stdout
    assert not list(tmp_path.iterdir())
