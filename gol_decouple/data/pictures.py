"""Image files that somebody names, in batches of what a network is shown; those that cannot be used are told apart."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from gol_decouple.data.folder import images_below
from gol_decouple.data.images import decode
from gol_decouple.data.transforms import CleanView
from gol_decouple.data.workers import worker_start
from gol_decouple.errors import InputError
from gol_decouple.files import read_bytes
from gol_decouple.limits import TEXT_BYTES
from gol_decouple.runtime import default_workers
from gol_decouple.settings import TransformConfig

LIST_SUFFIX = ".txt"
Size = tuple[int, int]  # height and width


class PictureBatch(NamedTuple):
    """Some pictures by their positions, and which of them could not be used, and why."""

    positions: list[int]
    images: torch.Tensor  # uint8 [N, H, W, 3], of `positions`
    failed: dict[int, InputError]


def find_pictures(named: Sequence[Path]) -> list[Path]:
    """The image files that were named: themselves, or below a folder, or in a list, a .txt file with a path a line.

    A list's paths are relative to its folder; a whole number after a path, as lists of labelled images have it, is no
    part of it. Whether the files are there and hold images is found when they are decoded.

    Raises:
        InputError: a folder without images, or a list that is empty or cannot be read.
    """
    found: list[Path] = []
    for path in named:
        if path.is_dir():
            below = images_below(path)
            if not below:
                raise InputError(f"{path} has no images in it", "name a folder that has, or image files")
            found += below
        elif path.suffix.lower() == LIST_SUFFIX:
            found += _listed(path)
        else:
            found.append(path)
    return found


def picture_batches(
    pictures: Sequence[Path],
    transform: TransformConfig,
    size: Size | None,
    batch_size: int,
    workers: int | None = None,
    pinned: bool = False,
) -> Iterator[PictureBatch]:
    """The clean views of image files, in their order.

    Args:
        size: of all clean views; None: each batch's are of the size of its first one.
        workers: processes that decode and transform; None: by the machine, 0: this one.
        pinned: in memory from which a GPU copies faster.
    """
    processes = default_workers() if workers is None else workers
    loader: DataLoader[Any] = DataLoader(
        _Pictures(pictures, transform),
        batch_size=batch_size,
        collate_fn=_Collate(pictures, size),
        num_workers=processes if len(pictures) > batch_size else 0,
        pin_memory=pinned,
        worker_init_fn=worker_start(),
    )
    for positions, images, failed in loader:
        yield PictureBatch(positions, images, {at: InputError(*told) for at, told in failed.items()})


def _listed(path: Path) -> list[Path]:
    try:
        data = read_bytes(path, TEXT_BYTES)
    except OSError as error:
        raise InputError(f"list {path} cannot be read: {error.strerror}", "it holds a path a line") from None
    lines = data.decode("utf-8-sig", errors="surrogateescape").splitlines()
    found = [_path_in(line.strip(), path.parent) for line in lines if line.strip()]
    if not found:
        raise InputError(f"list {path} is empty", "it holds a path a line")
    return found


def _path_in(line: str, folder: Path) -> Path:
    whole, (path, _, label) = folder / line, line.rpartition(" ")
    return folder / path.rstrip() if path and label.isdecimal() and not os.path.exists(whole) else whole


class _Pictures(TorchDataset["tuple[int, torch.Tensor | InputError]"]):
    """Clean views by position. An error is an item like any other: raised in a worker, it would lose its words."""

    def __init__(self, pictures: Sequence[Path], transform: TransformConfig) -> None:
        self._pictures = pictures
        self._clean_view = CleanView(transform)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, position: int) -> tuple[int, torch.Tensor | InputError]:
        try:
            return position, torch.from_numpy(self._clean_view(decode(self._pictures[position])))
        except InputError as error:
            return position, error


class _Collate:
    """Items to positions [N], images [N, H, W, 3], and what to tell of the others."""

    def __init__(self, pictures: Sequence[Path], size: Size | None) -> None:
        self._pictures = pictures
        self._size = size

    def __call__(
        self, items: list[tuple[int, torch.Tensor | InputError]]
    ) -> tuple[list[int], torch.Tensor, dict[int, tuple[str, str | None]]]:
        images: dict[int, torch.Tensor] = {}
        failed: dict[int, tuple[str, str | None]] = {}
        size = self._size
        for position, item in items:
            if isinstance(item, InputError):
                failed[position] = (item.message, item.hint)
                continue
            size = size or (item.shape[0], item.shape[1])
            if item.shape[:2] == size:
                images[position] = item
            else:
                failed[position] = self._another_size(position, item, size)
        stacked = torch.stack(list(images.values())) if images else torch.empty(0, 0, 0, 3, dtype=torch.uint8)
        return list(images), stacked, failed

    def _another_size(self, position: int, image: torch.Tensor, size: Size) -> tuple[str, str]:
        has, wanted = f"{image.shape[0]}x{image.shape[1]}", f"{size[0]}x{size[1]}"
        return f"{self._pictures[position]} is {has}, the run's images {wanted}", f"resize it to {wanted}"
