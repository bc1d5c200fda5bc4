"""What decides which of a detector's boxes are detections: the test settings that results are compared under."""

from __future__ import annotations

from dataclasses import dataclass

from gol_decouple.errors import InputError


@dataclass(frozen=True)
class DetectionSettings:
    """Test settings, by default those that GOL's paper gives for its comparison of activations.

    Attributes:
        score_threshold: detections have a higher score.
        nms_threshold: of two boxes of a class whose IoU is higher, only that with the higher score is a detection; GOL
            itself has 0.3.
        max_detections: how many of the highest scores of an image are kept, over all classes.

    Raises:
        InputError: a value that is out of range.
    """

    score_threshold: float = 1e-4
    nms_threshold: float = 0.5
    max_detections: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold < 1:
            raise InputError(f"score_threshold is {self.score_threshold}", "it is at least 0 and below 1")
        if not 0 < self.nms_threshold <= 1:
            raise InputError(f"nms_threshold is {self.nms_threshold}", "it is above 0 and at most 1")
        if self.max_detections < 1:
            raise InputError(f"max_detections is {self.max_detections}", "it is at least 1")
