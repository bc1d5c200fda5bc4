"""The features file: what the classifier sees, cached once (docs/features-format.md)."""

from gol_decouple.features.arrays import write
from gol_decouple.features.layout import Classes, LinearWeights
from gol_decouple.features.reader import FeaturesFile, is_detection, open_features
from gol_decouple.features.roi_arrays import Detection, Rois
from gol_decouple.features.roi_writer import RoiWriter
from gol_decouple.features.rois import ImageRows, Images, Regressor
from gol_decouple.features.verification import verify

open = open_features

__all__ = [
    "Classes",
    "Detection",
    "FeaturesFile",
    "ImageRows",
    "Images",
    "LinearWeights",
    "Regressor",
    "RoiWriter",
    "Rois",
    "is_detection",
    "open",
    "open_features",
    "verify",
    "write",
]
