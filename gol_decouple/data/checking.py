"""Every image of a dataset decoded, before any training: which are missing or damaged."""

from __future__ import annotations

from pathlib import Path

from gol_decouple.class_stats import GROUPS, group_masks
from gol_decouple.data import load_data
from gol_decouple.data.annotated import warn_of
from gol_decouple.data.dataset import Dataset, tell
from gol_decouple.data.images import LEAVE_OUT, BadImage, ImageFiles, try_all
from gol_decouple.data.layouts import missing_hint
from gol_decouple.data.loading import check_sizes, refuse_different_sizes
from gol_decouple.data.lvis import annotation_files, load_annotated
from gol_decouple.data.lvis_checking import check_annotations
from gol_decouple.data.skipping import to_line
from gol_decouple.errors import InputError, few
from gol_decouple.progress import SILENT, Progress
from gol_decouple.settings import Config


def check_images(config: Config, progress: Progress = SILENT) -> tuple[list[str], InputError | None]:
    """Decode every image of every split of a config's data, and say what there is.

    Returns:
        A line for each bad image (its path below the data root, a tab, why), as `data.skip` takes them; and the error
        that tells of all of them, or of images whose sizes need `transform.size`; None where nothing is wrong.

    Raises:
        InputError: data without which there is nothing to decode: no folder, a malformed list, an empty split.
    """
    if config.data.kind == "lvis":
        return _check_annotated(config, progress)
    dataset = load_data(config.data, look=False)
    tell(dataset, progress)
    for line in _summary(dataset):
        progress.say(line)
    files = [split.images for split in dataset.splits.values() if isinstance(split.images, ImageFiles)]
    if not files:
        check_sizes(dataset, config.transform)
        progress.say(f"{sum(map(len, dataset.splits.values())):,} images in arrays: there is nothing to decode")
        return [], None
    together = ImageFiles(files[0].root, list(dict.fromkeys(name for part in files for name in part.names)))
    bad, sizes = _decode_all(together, progress)
    failure = _failure(together, bad) if bad else None
    try:
        refuse_different_sizes(sizes, config.transform)
    except InputError as error:
        if failure is None:
            return [], error
        progress.warn(f"{error.message} ({error.hint})")
    if failure is None:
        progress.say(f"all {len(together):,} images of {dataset.name} decode")
    return [to_line(name, why.reason) for name, why in bad.items()], failure


def _check_annotated(config: Config, progress: Progress) -> tuple[list[str], InputError | None]:
    """All that `lvis_checking` looks at, of both files of annotations, and then what they are together."""
    lines: dict[str, None] = {}
    failures: list[InputError] = []
    for path in dict.fromkeys(annotation_files(config.data).values()):
        found, failure = check_annotations(path, Path(config.data.path or ""), progress)
        lines.update(dict.fromkeys(found))
        failures += [failure] if failure is not None else []
    for other in failures[1:]:
        progress.warn(f"{other.message} ({other.hint})")
    if not failures:
        warn_of(load_annotated(config.data, look=False), progress)
    return list(lines), failures[0] if failures else None


def _decode_all(images: ImageFiles, progress: Progress) -> tuple[dict[str, BadImage], set[tuple[int, int]]]:
    """The bad images by name, and the sizes of the others."""
    bad: dict[str, BadImage] = {}
    sizes: set[tuple[int, int]] = set()
    names = iter(images.names)
    with progress.bar("check", len(images), "images") as bar:
        for some in try_all(images.root, images.names):
            for found, name in zip(some, names, strict=False):  # as many names as were decoded
                if isinstance(found, BadImage):
                    bad[name] = found
                else:
                    sizes.add(found)
            bar.advance(len(some), f"{len(bad):,} bad" if bad else "")
    return bad, sizes


def _failure(images: ImageFiles, bad: dict[str, BadImage]) -> InputError:
    missing = [name for name, why in bad.items() if why.missing]
    damaged = [f"{name} ({why.reason})" for name, why in bad.items() if not why.missing]
    kinds = [f"{len(missing):,} missing: {few(missing)}"] if missing else []
    kinds += [f"{len(damaged):,} cannot be decoded: {few(damaged)}"] if damaged else []
    return InputError(
        f"{images.root}: {len(bad):,} of {len(images):,} images are bad; {'; '.join(kinds)}",
        missing_hint(images.root, missing) or LEAVE_OUT,
    )


def _summary(dataset: Dataset) -> list[str]:
    """A line for each split: its images and classes, and of train how many classes are many, medium and few."""
    lines = []
    for name, split in dataset.splits.items():
        classes = len(set(split.labels.tolist()))
        lines.append(f"{name}: {len(split):,} images, {classes:,} of {dataset.num_classes:,} classes")
    masks = group_masks(dataset.train_counts)
    lines[0] += f" ({', '.join(f'{int(masks[group].sum()):,} {group}' for group in GROUPS)})"
    return lines
