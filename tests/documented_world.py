"""A small world in which documented commands run: tiny data and runs under the names that the documents use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import annotated
import lvis_files
import numpy as np
import roi_files
import torch
from conftest import CLASS_COUNTS, colour_images, write_gaussians
from documented import ROOT, Command
from PIL import Image
from pycocotools import mask as masks

from gol_decouple.config import config_names, load_config
from gol_decouple.settings import Stage2Config
from gol_decouple.stages.classifier import run_stage2
from gol_decouple.targets import find_target

# Methods that need background samples, and pages that are about detectors: their runs are those of a detector.
OF_DETECTORS = {"gol", "droploss", "norcal", "federated"}
DETECTOR_PAGES = ("docs/detectors.md", "docs/other-detectors.md", "docs/exported-rois.md")
# Classes of the tiny annotations instead of LVIS's.
WORDS = {"sofa": "seven", "1203": "9", "/data/imagenet": "imagenet"}
NAMES = ("red", "green", "blue")
_TINY = {"stage1.epochs": "1", "stage1.max_steps": "1", "stage1.batch_size": "8", "stage1.num_workers": "0"}
_TINY |= {"features.views": "1", "stage1.precision": "float32"}
_IMAGES = {"backbone.name": "resnet32", "transform.size": "8", "transform.resize": "8"}
_DETECTOR = {"backbone.name": "torchvision:resnet18", "detector.train_min_sizes": "[48,64]", "detector.min_size": "64"}
_DETECTOR |= {"detector.max_size": "96", "detector.rois_per_image": "16", "detector.proposals": "40"}
_DETECTOR |= {"detector.val_rois_per_image": "12", "stage1.batch_size": "2"}


def is_of_detector(command: Command) -> bool:
    """Whether a command is about a detector, by what it names or where it stands."""
    named = any(word.startswith(("runs/lvis", "runs/coco", "lvis_", "coco_")) for word in command.words)
    return named or bool(OF_DETECTORS & set(command.words)) or command.where.startswith(DETECTOR_PAGES)


@dataclass(frozen=True)
class World:
    """A working folder, and finished runs to copy into it: of images, and of a detector (made if asked for)."""

    folder: Path
    run: Path
    detector: Callable[[], Path]

    def prepare(self, command: Command) -> list[str]:
        """Make what a command names; returns its arguments, with settings that make it small."""
        words = [WORDS.get(word, word) for word in command.words]
        of_detector = is_of_detector(command)
        for word in words[1:]:
            self._place(word.rstrip("/"), of_detector)
        name = words[0]
        if name in ("stage1", "check") and words[1] in config_names():
            self._data(words, command)
            words += self._settings(words, name)
            if "--data-root" not in words and load_config(words[1]).data.kind in ("folder", "list"):
                words += ["--data-root", "data"]
        elif name == "report" and words[1:2] in ([], ["runs"], ["--format"]):
            self._copy(self.run, "runs/mine")
            there = {"cifar100": "colours", "gumbel_crt": "gumbel*", "balanced_softmax": "balanced_*"}
            words = [there.get(word, word) for word in words]
        elif name in ("stage2", "tune") and not any("stage2.epochs" in word for word in words):
            words += ["--set", "stage2.epochs=1"]
        if name == "analyze" and "gradients" in words:
            target = find_target(self.folder / words[1], self.folder / "runs")
            run_stage2(target, ["sigmoid"], [0], [Stage2Config(epochs=1, gradients=True)], "cpu")
        elif name == "analyze":
            words = ["bag*" if word == "balanced_*" else word for word in words]
        elif name == "tune":
            words += ["--minutes", "0.02"]
        return words

    def _place(self, word: str, of_detector: bool) -> None:
        path = self.folder / word
        makers: dict[str, Callable[[Path], object]] = {
            **dict.fromkeys(("holiday", "val2017"), lambda path: self._pictures(path, of_detector)),
            "photo.jpg": lambda path: self._picture(path, of_detector),
            "sorted.h5": write_gaussians,
            "list.txt": lambda path: path.write_text("photo.jpg\n"),
            "my_features.h5": write_gaussians,
            "my_rois.h5": roi_files.write,
            "instances_train.json": lambda path: lvis_files.write(path, lvis_files.as_coco(lvis_files.tiny())),
            "instances_val.json": lambda path: lvis_files.write(path, lvis_files.as_coco(lvis_files.tiny())),
            "lvis_v1_train.json": lambda path: lvis_files.write(path, annotated.tree(annotated.TRAIN, "train")),
            "coco": annotated.make,
            "results.json": self._results,
            "docs": lambda path: None,
        }
        if path.exists() or word.startswith("-"):
            return
        if word in makers:
            makers[word](path)
        elif word.startswith("mine") and word.endswith(".h5"):
            roi_files.write(path)
        elif word in ("my_val.json", "lvis_v1_val.json"):
            # Of RoIs that are written above, else of the images of the detector's run.
            made = self.folder / "val.json"
            text = made.read_text() if made.exists() else json.dumps(annotated.tree(annotated.VAL, "val"))
            path.write_text(text)
        elif word.startswith("runs/"):
            self._run(word, of_detector)
        elif word.endswith(".json") and not of_detector:
            self._study(path)
        elif word.endswith(".csv") and (ROOT / word).is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / word, path)

    def _run(self, word: str, of_detector: bool) -> None:
        name = Path(word).parts[1]
        if of_detector:
            self._copy(self.detector(), f"runs/{name}")
        elif name == "my_features":
            features = write_gaussians(self.folder / "my_features.h5")
            run_stage2(find_target(features, self.folder / "runs"), ["gumbel"], [0], [Stage2Config(epochs=1)], "cpu")
        else:
            run = self._copy(self.run, f"runs/{name}")
            if "/stage2/" in word:
                (one,) = run.glob("stage2/gumbel-*seed0-*")
                one.rename(self.folder / word)

    def _copy(self, run: Path, name: str) -> Path:
        """With one classifier of gumbel, so that it can be chosen without a seed."""
        without = shutil.ignore_patterns("gumbel-seed1-*")
        return Path(shutil.copytree(run, self.folder / name, dirs_exist_ok=True, ignore=without))

    def _pictures(self, path: Path, of_detector: bool) -> None:
        if of_detector:
            annotated.draw(self.folder, annotated.VAL, path.name)
        else:
            path.mkdir()
            self._picture(path / "0.jpg", of_detector)

    def _picture(self, path: Path, of_detector: bool) -> None:
        picture = Image.fromarray(colour_images((1,), 0)[0][0])
        (picture.resize((64, 48)) if of_detector else picture).save(path)

    def _results(self, path: Path) -> None:
        """What is annotated, found."""
        tree = annotated.tree(annotated.VAL, "val")
        sizes = {image["id"]: (image["height"], image["width"]) for image in tree["images"]}
        found = []
        for one in tree["annotations"]:
            (mask,) = masks.frPyObjects(one["segmentation"], *sizes[one["image_id"]])
            mask["counts"] = mask["counts"].decode()
            told = {name: one[name] for name in ("image_id", "category_id", "bbox")}
            found.append(told | {"score": 0.9, "segmentation": mask})
        path.write_text(json.dumps(found))

    def _study(self, path: Path) -> None:
        from gol_decouple.report import rows, tables

        path.write_text(tables.to_json(rows.collect_rows([self.run], self.run.parent)))

    def _data(self, words: list[str], command: Command) -> None:
        """The data of a config under --data-root, and what --checkpoint and lists name."""
        data = load_config(words[1], [words[place + 1] for place, word in enumerate(words) if word == "--set"]).data
        root = self.folder / _after(words, "--data-root", "data")
        if data.kind == "lvis":
            annotated.make(root)
            for split, images in (("train", annotated.TRAIN), ("val", annotated.VAL)):
                path = Path(data.annotations.folder or root) / getattr(data.annotations, split)
                path = path if path.is_absolute() else root / path
                lvis_files.write(path, annotated.tree(images, split))
        elif data.kind == "npz":
            images, labels = colour_images(CLASS_COUNTS, 0)
            tests = colour_images((3, 3, 3), 1)
            np.savez(root, train_images=images, train_labels=labels, test_images=tests[0], test_labels=tests[1])
        elif data.kind in ("folder", "list"):
            self._images(root)
            lists = [getattr(data.lists, split) for split in ("train", "val", "test")] if data.lists else []
            for name in filter(None, lists):
                split = "train" if "train" in name else "test"
                lines = [
                    f"{path.relative_to(root)} {NAMES.index(path.parent.name)}"
                    for path in (root / split).rglob("*.png")
                ]
                (root / name).write_text("\n".join(lines) + "\n")
                (self.folder / name).write_text("\n".join(lines) + "\n")
        if "data.skip=bad.txt" in words:
            (self.folder / "bad.txt").write_text("my_images/train/red/0.png\tdamaged\n")
        checkpoint = _after(words, "--checkpoint", "")
        if checkpoint and not (self.folder / checkpoint).exists():
            self._checkpoint(self.folder / checkpoint)

    def _checkpoint(self, path: Path) -> None:
        """The model of the run of images, as torch and safetensors save them."""
        from safetensors.torch import load_file

        path.parent.mkdir(parents=True, exist_ok=True)
        model = self.run / "model.safetensors"
        if path.suffix == ".safetensors":
            shutil.copy(model, path)
        else:
            torch.save({"state_dict": load_file(model)}, path)

    def _images(self, root: Path) -> None:
        for split, counts in (("train", CLASS_COUNTS), ("val", (2, 2, 2)), ("test", (3, 3, 3))):
            for number, (pixels, label) in enumerate(zip(*colour_images(counts, 0), strict=True)):
                path = root / split / NAMES[label] / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)

    def _settings(self, words: list[str], name: str) -> list[str]:
        config = load_config(words[1])
        small = _TINY | (_IMAGES if config.detector is None else _DETECTOR)
        small |= {"backbone.pretrained": "false"}
        if config.backbone.trainable is not None or "backbone.trainable" in " ".join(words):
            small["backbone.trainable"] = '["layer3"]'
        if "--checkpoint" in words:
            small |= {"stage1.epochs": "0"}
        if config.data.kind.startswith("cifar"):
            small = {key: value for key, value in small.items() if not key.startswith("transform.")}
        return [part for key, value in small.items() for part in ("--set", f"{key}={value}")]


def _after(words: list[str], option: str, otherwise: str) -> str:
    return words[words.index(option) + 1] if option in words else otherwise


class Cifar:
    """CIFAR as torchvision gives it, of ten classes with 100 train images at most."""

    filename, url = "cifar.tar.gz", "https://example.org/cifar.tar.gz"

    def __init__(self, root: str, train: bool, download: bool) -> None:
        labels = np.repeat(np.arange(10), 100 if train else 2)
        self.data = np.random.default_rng(0).integers(0, 256, (len(labels), 32, 32, 3)).astype(np.uint8)
        self.targets, self.classes = labels.tolist(), [f"class {label}" for label in range(10)]


CIFARS = SimpleNamespace(cifar10=Cifar, cifar100=Cifar).__dict__
