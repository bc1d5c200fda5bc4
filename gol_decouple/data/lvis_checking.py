"""A file of annotations looked at in every part, before anything is trained or evaluated on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gol_decouple.data.images import BadImage, try_all
from gol_decouple.data.layouts import missing_hint
from gol_decouple.data.lvis_counts import count, in_words
from gol_decouple.data.lvis_images import find_images, refuse_no_folder
from gol_decouple.data.lvis_json import NEGATIVE, load, parse
from gol_decouple.data.lvis_records import Bad, LvisData
from gol_decouple.data.masks import areas_of, faults, to_rle
from gol_decouple.data.skipping import to_line
from gol_decouple.errors import InputError, few
from gol_decouple.plain_text import plain_line
from gol_decouple.progress import SILENT, Progress

_MASKS_AT_ONCE = 2**12  # as often the bar moves on
OUTSIDE_BY = 1.0  # pixels that a box may reach over the edge: annotations are rounded


def check_annotations(
    path: Path, root: Path | None, progress: Progress = SILENT
) -> tuple[list[str], InputError | None]:
    """Look at every entry of a file in LVIS's or COCO's format, and decode every image that it names.

    Bad are entries that are malformed, have the id of another, or name an image or category that is not there; images
    with annotations of a class that is verified not to be in them; boxes without an area, or that reach more than a
    pixel out of the image; masks that are malformed, empty, or missing where others have one; images that are missing,
    do not decode, or are of another size than the file says.

    Args:
        root: the folder of the images; None: they are not looked at.

    Returns:
        A line for each bad thing (`annotation 17` or the image's path, a tab, why), and the error that tells of all of
        them; None where nothing is wrong.

    Raises:
        InputError: a file that is not in either format at all, or no such folder.
    """
    if root is not None:
        refuse_no_folder(root)  # before the minutes that the rest takes
    progress.say(f"reading {path}")  # which takes half a minute at LVIS's size
    data, bad = parse(*load(path))
    _tell(data, bad, progress)
    usable = _usable(data)
    bad += _contradictions(data) + _bad_boxes(data, usable) + _bad_masks(data, usable, progress)
    missing: list[str] = []
    if root is None:
        progress.say("no --data-root: images were not looked at")
    else:
        bad_images, missing = _bad_images(data, root, progress)
        bad = bad_images + bad
    if not bad:
        progress.say(f"nothing is wrong with {data.name}")
        return [], None
    hint = (missing_hint(root, missing) if root else None) or "each is printed, with the reason; mend or remove them"
    named = few([f"{what} ({reason})" for what, reason in bad])
    counts = f"{len({what for what, _ in bad}):,} bad entries and images"
    return [to_line(what, reason) for what, reason in bad], InputError(f"{data.name}: {counts}: {named}", hint)


def _tell(data: LvisData, bad: list[Bad], progress: Progress) -> None:
    lvis = "LVIS's format" if data.federated else "COCO's format (gol-decouple convert makes LVIS's of it)"
    progress.say(
        f"{data.name}: {lvis}, {len(data.images):,} images, {len(data.annotations):,} annotations, "
        f"{len(data.categories):,} categories"
    )
    for note in data.notes:
        progress.say(plain_line(note))
    if not bad:
        counts = count(data)
        progress.say(f"{counts.num_images:,} images are annotated; categories: {in_words(counts.frequency)}")
        for note in counts.notes:
            progress.say(plain_line(note))


def _usable(data: LvisData) -> NDArray[np.bool_]:
    """Which annotations [A] can be looked at further: those of a known image with a size, not malformed."""
    images, annotations = data.images, data.annotations
    usable = (annotations.images >= 0) & (annotations.labels >= 0)
    return usable & ((images.heights > 0) & (images.widths > 0))[annotations.images]


def _contradictions(data: LvisData) -> list[Bad]:
    """Images with annotations of a class that is verified not to be in them."""
    images, annotations, categories = data.images, data.annotations, data.categories
    absent = images.negative[:, 0] * len(categories) + images.negative[:, 1]
    known = (annotations.images >= 0) & (annotations.labels >= 0)
    present = (annotations.images * len(categories) + annotations.labels)[known]
    return [
        Bad(f"image {images.ids[image]}", f"{NEGATIVE} has category {categories.ids[label]}, annotated in it")
        for image, label in zip(*np.divmod(np.intersect1d(absent, present), len(categories)), strict=True)
    ]


def _bad_boxes(data: LvisData, usable: NDArray[np.bool_]) -> list[Bad]:
    annotations, images = data.annotations, data.images
    left, top, width, height = annotations.boxes.T
    image_heights, image_widths = images.heights[annotations.images], images.widths[annotations.images]
    flat = (width <= 0) | (height <= 0)
    out = (left < -OUTSIDE_BY) | (top < -OUTSIDE_BY)
    out |= (left + width > image_widths + OUTSIDE_BY) | (top + height > image_heights + OUTSIDE_BY)
    bad = []
    for at in np.flatnonzero(usable & (flat | out)).tolist():
        box = f"[{', '.join(f'{value:.10g}' for value in annotations.boxes[at])}]"
        size = f"{image_widths[at]}x{image_heights[at]}"
        reason = "has no area" if flat[at] else f"reaches out of its image of {size} (width x height)"
        bad.append(Bad(f"annotation {annotations.ids[at]}", f"bbox {box} {reason}"))
    return bad


def _bad_masks(data: LvisData, usable: NDArray[np.bool_], progress: Progress) -> list[Bad]:
    """Annotations whose masks are malformed, empty or missing; none if the file has no masks."""
    annotations, images = data.annotations, data.images
    if all(some is None for some in annotations.segmentations):
        progress.say("no annotation has a mask")
        return []
    places = np.flatnonzero(usable)
    sizes = np.stack([images.heights, images.widths], axis=1)
    bad: list[Bad] = []
    with progress.bar("masks", len(places), "annotations") as bar:
        for start in range(0, len(places), _MASKS_AT_ONCE):
            some = places[start : start + _MASKS_AT_ONCE]
            segmentations = [annotations.segmentations[at] for at in some]
            reasons = _reasons(segmentations, sizes[annotations.images[some]])
            bad += [Bad(f"annotation {annotations.ids[some[at]]}", reasons[at]) for at in sorted(reasons)]
            bar.advance(len(some))
    return bad


def _reasons(segmentations: list[Any], sizes: NDArray[np.int64]) -> dict[int, str]:
    """What is wrong with each of N masks that are no good; sizes [N, 2] are height and width of the images."""
    reasons = faults(segmentations, sizes)
    whole = [at for at in range(len(segmentations)) if at not in reasons]
    areas = areas_of([to_rle(segmentations[at], *sizes[at].tolist()) for at in whole])
    return reasons | {whole[place]: "its mask is empty" for place in np.flatnonzero(areas == 0).tolist()}


def _bad_images(data: LvisData, root: Path, progress: Progress) -> tuple[list[Bad], list[str]]:
    """Images that are missing, do not decode or have another size, and the names of the missing ones."""
    files, note = find_images(data.images, root, data.name)
    progress.say(plain_line(note))
    sizes = iter(zip(files.names, data.images.heights.tolist(), data.images.widths.tolist(), strict=True))
    bad: list[Bad] = []
    missing: list[str] = []
    with progress.bar("check", len(files), "images") as bar:
        for some in try_all(root, files.names):
            for found, (name, height, width) in zip(some, sizes, strict=False):  # as many sizes as were decoded
                if isinstance(found, BadImage):
                    bad.append(Bad(name, found.reason))
                    missing += [name] if found.missing else []
                elif found != (height, width) and height > 0 and width > 0:
                    has = f"{found[1]}x{found[0]}"
                    bad.append(Bad(name, f"is {has} (width x height), the file says {width}x{height}"))
            bar.advance(len(some), f"{len(bad):,} bad" if bad else "")
    return bad, missing
