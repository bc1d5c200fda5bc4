"""The features file: what the classifier sees, cached once (docs/features-format.md)."""

from gol_decouple.features.arrays import write
from gol_decouple.features.layout import Classes, LinearWeights
from gol_decouple.features.reader import FeaturesFile, open_features

open = open_features

__all__ = ["Classes", "FeaturesFile", "LinearWeights", "open", "open_features", "write"]
