"""Test images that the best method mends or spoils, with what was predicted before and after: where they are at hand.

Nothing is downloaded, and of image files only those that are shown are opened.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gol_decouple import predictions, runs
from gol_decouple.class_stats import group_masks
from gol_decouple.data import Dataset, Split, load_data
from gol_decouple.data.images import ImageFiles
from gol_decouple.errors import GolDecoupleError, InputError
from gol_decouple.plain_text import plain_line
from gol_decouple.predictions import Predictions
from gol_decouple.report.page.studies import Study
from gol_decouple.report.rows import Row, run_folder, train_counts
from gol_decouple.settings import DataConfig

MOST = 12  # of the mended, and of the lost
SIDE = 96  # pixels, of the longer side; smaller ones stay as they are
_LOSSLESS_UP_TO = 48  # pixels; of larger ones JPEG is a fraction
_LONGEST_NAME = 80  # characters
_GROUPS = ("few", "medium", "many")  # the order in which they are shown


@dataclass(frozen=True)
class Sample:
    """A test image.

    Attributes:
        uri: its pixels, as a data URI.
        width, height: of these, in pixels.
        id: its position in the split as it was published.
        truth, group: its class, and whether it is many, medium or few.
        before, after: what the baseline and the method take it for, with its score.
    """

    uri: str
    width: int
    height: int
    id: int
    truth: str
    group: str
    before: str
    after: str

    @property
    def is_large(self) -> bool:
        """Whether it is shown as it is; the pixels of a small one are."""
        return max(self.width, self.height) > _LOSSLESS_UP_TO


@dataclass(frozen=True)
class Samples:
    """Of one study; or, without images, the reason.

    Attributes:
        title: the study's.
        baseline, method: names of what was compared.
        mended, lost: images on which only the method is right, or only the baseline is; of `num_mended`, `num_lost`.
        total: how many test images there are.
        reason: why there is none.
    """

    title: str
    baseline: str = ""
    method: str = ""
    mended: tuple[Sample, ...] = ()
    lost: tuple[Sample, ...] = ()
    num_mended: int = 0
    num_lost: int = 0
    total: int = 0
    reason: str = ""


def samples(study: Study) -> Samples:
    """The first seeds' predictions of the best method and its baseline, classes with few images first."""
    try:
        return _samples(study)
    except GolDecoupleError as error:
        return Samples(study.title, reason=error.message)


def _samples(study: Study) -> Samples:
    if study.is_detection:
        raise InputError("its images hold many objects; gol-decouple predict draws what is found in them")
    baseline = None if study.best is None else study.baselines[study.best]
    if study.best is None or baseline is None:
        raise InputError("there is no method and baseline of one run to compare")
    before_row, after_row = study.settings[baseline][0], study.settings[study.best][0]
    before, after = (_predictions(row) for row in (before_row, after_row))
    if not (np.array_equal(before.ids, after.ids) and np.array_equal(before.labels, after.labels)):
        raise InputError("the method and its baseline were tested on different samples")
    dataset, split = _images(after_row, after)
    groups = group_masks(np.array(train_counts(after_row), dtype=np.int64))
    if dataset.num_classes != len(groups["few"]):
        raise InputError(f"the images are of {dataset.num_classes} classes, and the run of {len(groups['few'])}")
    mended, lost = ~before.hits & after.hits, before.hits & ~after.hits
    first, second = (
        tuple(_sample(place, dataset, split, before, after, groups) for place in _chosen(some, after.labels, groups))
        for some in (mended, lost)
    )
    names = study.names[baseline], study.names[study.best]
    return Samples(study.title, *names, first, second, int(mended.sum()), int(lost.sum()), len(after.labels))


def _predictions(row: Row) -> Predictions:
    path = Path(row["path"]) / runs.PREDICTIONS
    if not path.exists():
        raise InputError(f"{path} is not there; the command that made the row makes it again with --overwrite")
    return predictions.read(path)


def _images(row: Row, tested: Predictions) -> tuple[Dataset, Split]:
    """The dataset and the split that a row was tested on."""
    folder = run_folder(Path(row["path"]))
    if not (folder / runs.CONFIG).is_file():
        raise InputError(f"the features of {folder} were made elsewhere, and images are not in them")
    config = runs.read_config(folder).data
    if config.kind == "lvis":
        raise InputError("its images hold many objects")
    dataset = load_data(_from_where_it_was(config, row), look=False, download=False)
    split = dataset.splits.get(row["split"])
    if split is None:
        raise InputError(f"there is no split {row['split']} in {config.path or config.kind} any more")
    same = np.isin(tested.ids, split.ids)
    if not same.all() or not np.array_equal(split.labels[_positions(split, tested.ids)], tested.labels):
        raise InputError(f"the images in {config.path or config.kind} are not those that were tested")
    return dataset, split


def _from_where_it_was(config: DataConfig, row: Row) -> DataConfig:
    """Relative paths of a config start where its command was typed, which may be elsewhere."""
    before = runs.read_manifest(Path(row["path"])).get("folder")
    if config.path is None or Path(config.path).exists() or not isinstance(before, str):
        return config
    return config.model_copy(update={"path": str(Path(before) / config.path)})


def _positions(split: Split, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(split.ids, kind="stable")
    return order[np.searchsorted(split.ids, ids, sorter=order)]


def _chosen(
    candidates: NDArray[np.bool_], labels: NDArray[np.int64], groups: dict[str, NDArray[np.bool_]]
) -> list[int]:
    """Up to MOST positions, drawn with seed 0: few-shot classes first, and in a group each class before one twice."""
    places = np.random.default_rng(0).permutation(np.flatnonzero(candidates))
    rank = {label: place for place, name in enumerate(_GROUPS) for label in np.flatnonzero(groups[name]).tolist()}
    seen: dict[int, int] = {}
    keys: list[tuple[int, int, int, int]] = []
    for place in places.tolist():
        label = int(labels[place])
        seen[label] = seen.get(label, 0) + 1
        keys.append((rank[label], seen[label], len(keys), place))
    return [place for *_, place in sorted(keys)[:MOST]]


def _sample(
    place: int,
    dataset: Dataset,
    split: Split,
    before: Predictions,
    after: Predictions,
    groups: dict[str, NDArray[np.bool_]],
) -> Sample:
    label = int(after.labels[place])
    (position,) = _positions(split, after.ids[place : place + 1]).tolist()
    uri, width, height = _data_uri(_pixels(split, position))
    (group,) = (name for name, mask in groups.items() if mask[label])
    names = dataset.class_names
    told = [_told(one, place, names) for one in (before, after)]
    return Sample(uri, width, height, int(after.ids[place]), _name(names, label), group, *told)


def _pixels(split: Split, position: int) -> NDArray[np.uint8]:
    images = split.images
    return images[position] if isinstance(images, ImageFiles) else np.asarray(images[position])


def _told(found: Predictions, place: int, names: Sequence[str]) -> str:
    name = _name(names, int(found.predicted[place]))
    return name if found.scores is None else f"{name} ({found.scores[place, 0]:.2f})"


def _name(names: Sequence[str], label: int) -> str:
    return plain_line(names[label], _LONGEST_NAME) if 0 <= label < len(names) else f"class {label}"


def _data_uri(pixels: NDArray[np.uint8]) -> tuple[str, int, int]:
    """PNG where it is small, else JPEG, at most SIDE pixels wide and high; and its width and height."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    kind = "png" if max(image.size) <= _LOSSLESS_UP_TO else "jpeg"
    image.save(file, kind, **({"optimize": True} if kind == "png" else {"quality": 82}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}", *image.size
