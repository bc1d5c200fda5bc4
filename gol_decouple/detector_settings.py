"""The settings of detectors: section [detector] of a config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from gol_decouple.setting_types import Count, Float, Fraction, NonNegative, Positive, Rate, Section, Share

Framework = Literal["torchvision", "detectron2", "mmdetection"]
# Those of Fast R-CNN, by which what a box regressor gives for x, y, width and height is divided.
CODER_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class ConventionsConfig(Section):
    """How the framework that made a detector's weights builds it; what is unset is that framework's usual one.

    Nobody can see most of these in the weights, and with another one a detector works, but worse.
    """

    framework: Framework | None = None  # unset: whose names a checkpoint's tensors have, else torchvision's
    # ids: classes are numbered by the rank of their categories' ids; names: as a checkpoint's names of them say
    class_order: Literal["ids", "names"] | None = None
    channels: Literal["rgb", "bgr"] | None = None  # the order in which the network takes colours
    stride_in: Literal["1x1", "3x3"] | None = None  # the convolution of a bottleneck that halves the size
    batchnorm_eps: NonNegative | None = None
    anchor_rounding: bool | None = None  # to whole pixels, around the origin
    anchor_offset: Fraction | None = None  # of the first anchor's centre, in strides
    aligned: bool | None = None  # RoIAlign shifts by half a pixel, so that pixel centres are where they are
    sampling_ratio: Count | None = None  # of RoIAlign, points in each direction of a bin; 0: by the RoI's size
    # float: torchvision's resizing of floats, to a size rounded down; opencv, pillow: of bytes, to the nearest size,
    # and pillow's looks at all pixels when it makes an image smaller
    resize: Literal["float", "opencv", "pillow"] | None = None
    coder_weights: tuple[Rate, Rate, Rate, Rate] | None = None  # that divide the box regressor's dx, dy, dw and dh


class DetectorConfig(Section):
    """A Mask R-CNN around the backbone, for images with boxes and masks; sizes are in pixels."""

    conventions: ConventionsConfig = ConventionsConfig()
    # Of the classifier that a checkpoint brings; unset: what the checkpoint says, else softmax. What is trained here
    # is softmax.
    activation: Literal["softmax", "sigmoid", "gumbel"] | None = None
    mask_predictor: Literal["standard", "normalized"] = "standard"  # normalized: cosine, with temperature 20
    # Of the shorter side, as long as the longer one stays within max_size; training draws one for each image.
    train_min_sizes: Annotated[tuple[Positive, ...], Field(min_length=1)] = (640, 672, 704, 736, 768, 800)
    min_size: Positive = 800
    max_size: Positive = 1333
    rois_per_image: Positive = 512  # sampled in training, and cached of each train image
    foreground_fraction: Annotated[Float, Field(gt=0, le=1)] = 0.25  # of the sampled RoIs, at most
    proposals: Positive = 1000  # of an image that the RPN keeps, of which train RoIs are sampled
    # Of each level of the pyramid, that the RPN suppresses among when it is tested; unset: as many as `proposals`.
    proposals_before_nms: Positive | None = None
    val_rois_per_image: Positive = 1000  # cached of each val image: the proposals that the RPN is surest of
    repeat_threshold: Share = 1e-3  # of stage1.sampler = "repeat_factor": images of rarer classes come more often
    # Of testing: detections below the score are dropped, as are those that overlap a better one of their class by nms.
    score_threshold: Fraction = 1e-4
    nms: Annotated[Float, Field(gt=0, le=1)] = 0.5
    max_detections: Positive = 300  # of an image
    masks: bool = False  # evaluate masks too, and boxes with them, by the whole detector on the val images

    @model_validator(mode="after")
    def _sized(self) -> DetectorConfig:
        if max(self.min_size, *self.train_min_sizes) > self.max_size:
            raise PydanticCustomError("size", "max_size should not be smaller than min_size and train_min_sizes")
        if self.rois_per_image * self.foreground_fraction < 1:
            raise PydanticCustomError("rois", "rois_per_image times foreground_fraction should be at least 1")
        return self
