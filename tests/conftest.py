"""Shared fixtures: small real runs made once, the command line in this process, and the folder of real data."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import annotated
import numpy as np
import pytest
import torch
from PIL import Image

from gol_decouple.cli import main
from gol_decouple.methods import METHODS
from gol_decouple.progress import SILENT, Bar
from gol_decouple.targets import find_target, stage2_settings

if TYPE_CHECKING:
    from gol_decouple.stages.jobs import Weights
    from gol_decouple.stages.rows import InMemory
    from gol_decouple.stages.training import Trainer

# Beside another busy process, two threads on these tiny tensors wait for each other longer than they compute.
torch.set_num_threads(1)

CLASS_COUNTS = (40, 21, 6)
# All methods but corrections of what is trained, and those for background samples.
TRAINED = [name for name, method in METHODS.items() if method.is_trained and not method.background]

# Of `retrained_run`: linear layers whose scores are the activation of the logits, the same with a temperature, others.
PLAIN = ["softmax", "sigmoid", "gumbel", "gumbel_published", "balanced_gumbel", "eqlv2", "seesaw", "lws", "tau_norm"]
TEMPERED = ["crt", "focal", "gumbel_paper", "balanced_sigmoid"]
NOT_LINEAR = ["ldam_drw", "ncm", "disalign", "bags"]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


RunCli = Callable[..., Outcome]
Interrupt = Callable[["Trainer", int], None]


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], handlers_as_before: None) -> RunCli:
    """`run_cli("stage2", run, ...)`: the program in this process, with what it printed and its exit code."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["gol-decouple", *(str(argument) for argument in arguments)])
        capsys.readouterr()
        code = main()
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    monkeypatch.setenv("COLUMNS", "200")
    return run


@pytest.fixture
def handlers_as_before() -> Iterator[None]:
    """For tests that run the program in this process, which answers for signals while it runs and then no more."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def colour_images(counts: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """8x8 noise around one colour a class: learnable in a few steps."""
    stream = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])[labels]
    noise = stream.normal(0, 40, (len(labels), 8, 8, 3))
    return np.clip(centres[:, None, None] + noise, 0, 255).astype(np.uint8), labels


def write_gaussians(path: Path, with_classifier: bool = True) -> Path:
    """A features file: three classes of 60, 25 and 10 samples in three views, in blocks of 32 rows."""
    from gol_decouple import features
    from gol_decouple.features import layout

    stream = np.random.default_rng(0)
    centres, labels = stream.normal(0, 2.5, (3, 8)), np.repeat(np.arange(3), (60, 25, 10))
    train, test = (centres[labels] + stream.normal(size=(views, 95, 8)) for views in (3, 1))
    splits = {"train": (train.astype(np.float32), labels), "test": (test[0].astype(np.float32), labels)}
    classifier = (stream.normal(size=(3, 8)), stream.normal(size=3)) if with_classifier else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCK_BYTES", 32 * 8 * 4)
        return features.write(path, splits, classifier=classifier)


@pytest.fixture(scope="session")
def gaussians(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of `write_gaussians`, with a Softmax classifier of no merit."""
    return write_gaussians(tmp_path_factory.mktemp("features") / "gaussians.h5")


@pytest.fixture(scope="session")
def gaussian_rows(gaussians: Path) -> InMemory:
    """The train split of `gaussians`, all views."""
    from gol_decouple import features
    from gol_decouple.stages.rows import InMemory

    return InMemory(features.open(gaussians), torch.device("cpu"), 3)


@pytest.fixture(scope="session")
def stage_one(gaussians: Path) -> Weights:
    """The Softmax classifier of `gaussians`."""
    from gol_decouple import features
    from gol_decouple.classifiers import as_tensors

    return as_tensors(features.open(gaussians).classifier)


@pytest.fixture(params=["stacked", "each its own stack"])
def stacked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether small classifiers are trained as one stack, as they are by themselves."""
    from gol_decouple import runtime

    if request.param != "stacked":
        monkeypatch.setattr(runtime, "SMALL_STEP", 0)
    return bool(request.param == "stacked")


@pytest.fixture(scope="session")
def images_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 40, 21 and 6 train images and 10 test images each, under MedMNIST's key names."""
    path = tmp_path_factory.mktemp("images") / "colours.npz"
    train, test = colour_images(CLASS_COUNTS, 0), colour_images((10, 10, 10), 1)
    np.savez(
        path,
        train_images=train[0],
        train_labels=train[1][:, None],
        test_images=test[0],
        test_labels=test[1],
        class_names=np.array(["red", "green", "blue"]),
    )
    return path


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory, images_npz: Path) -> Path:
    """A config for `images_npz`: three epochs of stage one, seconds on a CPU."""
    path = tmp_path_factory.mktemp("configs") / "colours.toml"
    path.write_text(
        f"""
[data]
kind = "npz"
path = "{images_npz}"

[transform]
crop_padding = 1
flip = true

[backbone]
name = "resnet32"

[stage1]
epochs = 3
batch_size = 16
lr = 0.01
precision = "float32"
num_workers = 0
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, small_config: Path) -> Path:
    """A finished run of `small_config`. Tests must not write into it: copy it first."""
    from gol_decouple.config import load_config
    from gol_decouple.stages.backbone import run_stage1

    return run_stage1(load_config(str(small_config)), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def retrained_run(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Path:
    """A finished run with classifiers of seed 0: plain ones, those that are no linear layer, some with a temperature.

    Gumbel has seed 1 too, ncm one in raw space as its seed 1, and logit_adjusted two values of tau. Tests must not
    write into it: copy it first.
    """
    from gol_decouple.config import override_section
    from gol_decouple.stages.classifier import run_stage2

    run = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("runs") / "colours"))
    target = find_target(run, run.parent)
    for names, seed, settings in (
        ([*PLAIN, *NOT_LINEAR], 0, ["stage2.epochs=2"]),
        (TEMPERED, 0, ["stage2.temperature=val", "stage2.epochs=2"]),
        (["gumbel"], 1, []),
        (["ncm"], 1, ["stage2.space=raw"]),
        (["logit_adjusted"], 0, ["stage2.tau=[1,2]", "stage2.epochs=2"]),
    ):
        grid = override_section(stage2_settings(target), settings, "stage2")
        run_stage2(target, names, [seed], grid, "cpu", keep_grid=names == ["logit_adjusted"])
    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, images_npz: Path) -> Path:
    """The test images of `images_npz` as PNGs, 0.png to 29.png, ten each in folders red, green and blue."""
    folder = tmp_path_factory.mktemp("photos")
    for number, pixels in enumerate(np.load(images_npz)["test_images"]):
        path = folder / ("red", "green", "blue")[number // 10] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """`interrupt(trainer, epoch)`: trains, and stops when that epoch (from 0) has run but is not saved."""
    from gol_decouple.stages.training import Trainer

    class Stop(Exception):
        pass

    real_epoch = Trainer._epoch

    def run(trainer: Trainer, last: int) -> None:
        def stopping(self: Trainer, epoch: int, bar: Bar) -> float:
            loss = real_epoch(self, epoch, bar)
            if epoch == last:
                raise Stop
            return loss

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_epoch", stopping)
            with pytest.raises(Stop):
                trainer.run(SILENT)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, or a skip that says where it is looked for."""
    named = os.environ.get("GOL_DECOUPLE_DATA")
    path = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no real data: set GOL_DECOUPLE_DATA to its folder, or put it at ../shared/data")
    return path


@pytest.fixture(scope="session")
def annotated_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images and annotations of `annotated.make`. Tests must not write into it."""
    return annotated.make(tmp_path_factory.mktemp("annotated"))


@pytest.fixture(scope="session")
def detector_config(tmp_path_factory: pytest.TempPathFactory, annotated_root: Path) -> Path:
    """A config for `annotated_root`: seconds on a CPU."""
    return annotated.write_config(tmp_path_factory.mktemp("configs") / "tiny.toml", annotated_root)


# Of `retrained_detector`: linear layers whose scores are the activation of the logits, and others.
PLAIN_OF_ROIS = ["softmax", "gumbel", "gol", "norcal"]
OTHERS_OF_ROIS = ["seesaw", "bags", "eqlv2", "disalign"]


@pytest.fixture(scope="module")
def narrow_detectors() -> Iterator[None]:
    """Detectors that are built meanwhile have a narrow backbone."""
    from gol_decouple.backbones import mask_rcnn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_rcnn, "resnet_fpn_backbone", annotated.narrow_backbone)
        yield


@pytest.fixture(scope="session")
def retrained_detector(tmp_path_factory: pytest.TempPathFactory, detector_config: Path) -> Iterator[Path]:
    """A finished run of a narrow detector, whose masks were evaluated on the images that it was trained on, with
    classifiers of seed 0 by `PLAIN_OF_ROIS` and `OTHERS_OF_ROIS`. Tests must not write into it: copy it first.
    """
    from gol_decouple.backbones import mask_rcnn
    from gol_decouple.config import load_config, override_section
    from gol_decouple.stages.backbone import run_stage1
    from gol_decouple.stages.classifier import run_stage2

    changes = ["data.annotations.val=train.json", "detector.masks=true", "stage1.lr=0.003", "stage1.epochs=6"]
    changes += ["stage1.sampler=random", "transform.flip=false", "detector.train_min_sizes=[64]"]
    changes += ["detector.max_detections=12"]
    folder = tmp_path_factory.mktemp("detectors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_rcnn, "resnet_fpn_backbone", annotated.narrow_backbone)
        run = run_stage1(load_config(str(detector_config), changes), folder)
        target = find_target(run, folder)
        settings = override_section(stage2_settings(target), ["stage2.epochs=5"], "stage2")
        run_stage2(target, [*PLAIN_OF_ROIS, *OTHERS_OF_ROIS], [0], settings, "cpu")
    for state in run.glob("*.pt"):
        state.unlink()
    yield run
    shutil.rmtree(folder)
