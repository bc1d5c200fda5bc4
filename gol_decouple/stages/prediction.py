"""What a finished model sees in image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from gol_decouple import runtime
from gol_decouple.data.pictures import picture_batches
from gol_decouple.errors import InputError
from gol_decouple.features.extract import Forward
from gol_decouple.predictions import ImagePrediction
from gol_decouple.progress import SILENT, Progress
from gol_decouple.stages.restored import Restored


@torch.inference_mode()
def predict_images(
    model: Restored, pictures: Sequence[Path], top_k: int = 5, device: str = "auto", progress: Progress = SILENT
) -> Iterator[ImagePrediction | InputError]:
    """The likeliest classes of image files, in their order; of one that cannot be used, why.

    Images are cropped, resized, normalised and multiplied as in the extraction of the run's features, a batch of
    `features.batch_size` at a time, so that memory does not grow with their number. Classes are in the order of the
    loss's ranking; scores are the method's, with its temperature if it has one.

    Args:
        model: from `restored.restore(finding.find_classifier("runs/x", "gumbel"))`.
        pictures: paths, from `data.pictures.find_pictures`.
        top_k: how many classes of each image.
    """
    used = runtime.select_device(device)
    forward = Forward(model.model.backbone.to(used), model.config, used)
    classifier, loss = model.classifier.to(used), model.loss.to(used)
    size, workers = model.config.features.batch_size, model.config.stage1.num_workers
    pinned = used.type == "cuda"
    batches = picture_batches(pictures, model.config.transform, model.image_size, size, workers, pinned)
    with progress.bar("images", len(pictures), "images") as bar:
        for positions, images, failed in batches:
            found: dict[int, ImagePrediction | InputError] = dict(failed)
            if positions:
                logits = classifier.logits(forward(images))
                top = loss.ranking(logits).topk(min(top_k, len(model.class_names)), dim=1).indices
                scores = model.scores(logits).gather(1, top).float()
                for position, classes, values in zip(positions, top.tolist(), scores.tolist(), strict=True):
                    names = [model.class_names[label] for label in classes]
                    found[position] = ImagePrediction(pictures[position], classes, names, values)
            bar.advance(len(found))
            yield from (found[position] for position in sorted(found))
