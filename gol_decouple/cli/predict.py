"""The command that shows images to a finished model: to an image classifier, or to a detector."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

import typer

from gol_decouple.cli.app import DataFormat, Device, OfMethod, OfSeed, Run, app, echo, result_console
from gol_decouple.errors import InputError
from gol_decouple.predictions import LEAST_ONE_VS_ALL, LEAST_SCORE, SHOWN_OBJECTS
from gol_decouple.progress import SILENT, Progress, to_stderr

if TYPE_CHECKING:
    from gol_decouple.stages.finding import Found
    from gol_decouple.stages.restored_detector import RestoredDetector

CLASSES = 5
T = TypeVar("T")


@app.command()
def predict(
    run: Run,
    image: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, folders, or .txt lists with a path a line.")
    ],
    method: OfMethod = None,
    seed: OfSeed = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"How many of each image: classes ({CLASSES} unless given), or objects ({SHOWN_OBJECTS}; csv and "
            "json: all).",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help=f"Of detectors: the least score ({LEAST_SCORE} unless given, {LEAST_ONE_VS_ALL} of one-vs-all "
            "methods; csv and json: the run's).",
        ),
    ] = None,
    format_: Annotated[
        DataFormat, typer.Option("--format", help="How to print them; objects as json: COCO's and LVIS's results.")
    ] = DataFormat.table,
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of detectors: write the images there, with objects drawn into them."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of detectors: what --format json takes image ids from, by file name."),
    ] = None,
    device: Device = None,
) -> None:
    """Print the likeliest classes of images, or the objects that a detector finds in them: boxes in pixels."""
    from gol_decouple.stages.finding import find_classifier

    found = find_classifier(run, method, seed)
    from gol_decouple.data.pictures import find_pictures

    if not found.is_detector:
        of_detectors = {"--min-score": min_score, "--pictures": pictures, "--annotations": annotations}
        for option, value in of_detectors.items():
            if value is not None:
                told = f"{option} is for detectors, and {found.run} tells the classes of whole images"
                raise InputError(told, "leave it out")
        _classes(found, find_pictures(image), top_k or CLASSES, format_, device)
        return
    if annotations is not None and format_ is not DataFormat.json:
        raise InputError("--annotations names the images of results, which only json has", "--format json")
    _objects(found, find_pictures(image), top_k, min_score, format_, pictures, annotations, device)


def _classes(found: Found, images: list[Path], top_k: int, format_: DataFormat, device: str | None) -> None:
    """Print the likeliest classes of images."""
    from gol_decouple.report import predicted
    from gol_decouple.stages.prediction import predict_images
    from gol_decouple.stages.restored import restore

    model, progress = restore(found), to_stderr()
    note = None if model.sums_to_one else f"scores of {model.name} are one for each class, and do not sum to 1"
    results = _Usable(predict_images(model, images, top_k, device or model.config.device, _bar(progress)), progress)
    if format_ is DataFormat.table:
        predicted.print_tables(results, str(found), note, result_console())
    else:
        lines = predicted.csv_lines if format_ is DataFormat.csv else predicted.json_lines
        for line in lines(results):
            echo(line)
        if note:
            progress.say(f"note: {note}")
    results.refuse(len(images))


def _objects(
    found: Found,
    images: list[Path],
    top_k: int | None,
    min_score: float | None,
    format_: DataFormat,
    pictures: Path | None,
    annotations: Path | None,
    device: str | None,
) -> None:
    """Print the objects in images, and draw them."""
    from gol_decouple.predictions import Best
    from gol_decouple.report import detected
    from gol_decouple.stages.detector_prediction import detect_in_pictures, for_people
    from gol_decouple.stages.drawn_pictures import DrawnPictures
    from gol_decouple.stages.restored_detector import restore_detector

    images, model, progress = list(dict.fromkeys(images)), restore_detector(found), to_stderr()
    shown, everything = for_people(model, top_k, min_score), Best(top_k, min_score or 0.0)
    ids = _image_ids(images, model, annotations, progress) if format_ is DataFormat.json else {}
    see = None if pictures is None else DrawnPictures(pictures, images, shown).add
    wanted = shown if format_ is DataFormat.table else everything
    masked = everything if format_ is DataFormat.json else shown if see is not None else None
    if masked is not None and not model.has_masks:
        masked = None
        progress.say(f"note: there are no masks: {found.run} has no mask predictor that was loaded or trained")
    device = device or model.config.device
    bar = progress if format_ is DataFormat.table else _bar(progress)  # a table comes when all images are done
    results = _Usable(detect_in_pictures(model, images, wanted, masked, device, bar, see), progress)
    if format_ is DataFormat.table:
        most = min(shown.top_k or model.settings.max_detections, model.settings.max_detections)
        note = f"at most {most} objects an image, of scores from {shown.min_score:g} (--top-k, --min-score); pixels"
        detected.print_tables(results, str(found), note, result_console())
    else:
        lines = detected.csv_lines(results) if format_ is DataFormat.csv else detected.result_lines(results, ids)
        for line in lines:
            echo(line)
    if pictures is not None:
        progress.say(f"{len(images) - results.failed} pictures with what was found are in {pictures}")
    results.refuse(len(images))


def _image_ids(
    images: list[Path], model: RestoredDetector, annotations: Path | None, progress: Progress
) -> dict[Path, int]:
    """What results call the images; tells what that is."""
    from gol_decouple.data.picture_ids import ids_by_annotations, ids_by_name

    if annotations is None:
        ids, told = ids_by_name(images)
    else:
        ids, told = ids_by_annotations(images, annotations, model.class_names, model.category_ids)
    progress.say(f"note: {told}")
    return dict(zip(images, ids, strict=True))


def _bar(progress: Progress) -> Progress:
    """In a terminal the results are themselves the sign of life."""
    return SILENT if sys.stdout.isatty() else progress


class _Usable(Generic[T]):
    """What was found among some results; of the others, tells why and counts them."""

    def __init__(self, results: Iterable[T | InputError], progress: Progress) -> None:
        self._results = results
        self._progress = progress
        self.failed = 0
        self._hint: str | None = None

    def __iter__(self) -> Iterator[T]:
        for result in self._results:
            if isinstance(result, InputError):
                self.failed += 1
                self._hint = self._hint or result.hint
                self._progress.warn(result.message)
            else:
                yield result

    def refuse(self, number: int) -> None:
        """Raise an InputError if some of the images, so many in all, could not be used."""
        if self.failed:
            failed = f"{self.failed} of {number} images could not be used, and are named above"
            raise InputError(failed, self._hint)
