"""Evaluation of detections by LVIS's protocol (docs/lvis-evaluation.md)."""

from gol_decouple.detection.evaluation import Evaluation, evaluate_lvis, prepare

__all__ = ["Evaluation", "evaluate_lvis", "prepare"]
