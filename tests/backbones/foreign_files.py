"""Checkpoint files as mmdetection and detectron2 write them around a state dict, with the configs they carry.

Settings and their names are those of the frameworks' own configs for LVIS and COCO; what tests vary is an argument.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from foreign import BODIES

Tree = dict[str, Any]
SOFTMAX = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0}
GUMBEL = {"type": "GumbelCE"}  # C + 1 columns
GUMBEL_DROP = {  # C columns
    "type": "DropLoss",
    "use_sigmoid": True,
    "loss_weight": 1.0,
    "lambda_": 0.0011,
    "version": "v1",
    "use_classif": "gumbel",
}
NORMED_MASKS = {"type": "NormedConv2d", "tempearture": 20}  # as it is spelt there
PIXELS = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "rgb": True}
CAFFE_PIXELS = {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "rgb": False}


def write_mmdetection(
    path: Path, state: Mapping[str, torch.Tensor], config: str, names: Sequence[str], version: int = 2
) -> Path:
    """As a hook of mmcv (2) or mmengine (3) saves a model; published files have no optimizer."""
    if version == 2:
        meta = {
            "env_info": "sys.platform: linux\nPython: 3.7.3\nPyTorch: 1.8.1\nMMCV: 1.4.8",
            "config": config,
            "seed": None,
            "exp_name": "mask_rcnn.py",
            "epoch": 12,
            "iter": 75072,
            "mmcv_version": "1.4.8",
            "time": "Mon Mar 14 09:26:53 2022",
            "hook_msgs": {},
            "mmdet_version": "2.21.0+62a053e",
            "CLASSES": tuple(names),
        }
    else:
        meta = {
            "epoch": 12,
            "iter": 75072,
            "cfg": config,
            "seed": 1234,
            "experiment_name": "mask-rcnn_20230314_092653",
            "time": "20230314_092653",
            "mmengine_version": "0.7.2",
            "dataset_meta": {"classes": tuple(names), "palette": None},
        }
    torch.save({"meta": meta, "state_dict": dict(state)}, path)
    return path


def write_detectron2(path: Path, state: Mapping[str, torch.Tensor]) -> Path:
    """As its checkpointer saves a training run (.pth), or as its model zoo has it (.pkl, arrays)."""
    if path.suffix == ".pkl":
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        with path.open("wb") as file:
            pickle.dump({"model": arrays, "__author__": "Detectron2 Model Zoo"}, file)
        return path
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(64)}}, "param_groups": [{"lr": 0.02, "params": [0]}]}
    scheduler = {"base_lrs": [0.02], "last_epoch": 90000, "milestones": [60000, 80000]}
    torch.save({"model": dict(state), "optimizer": optimizer, "scheduler": scheduler, "iteration": 89999}, path)
    return path


def mmdetection_config(
    version: int = 2,
    body: str = "R50",
    classes: int = 80,
    *,
    style: str = "pytorch",
    pixels: Mapping[str, Any] = PIXELS,
    loss: Mapping[str, Any] = SOFTMAX,
    agnostic: bool = False,
    mask_predictor: Mapping[str, Any] | None = None,
    scale: tuple[int, int] = (1333, 800),
    testing: Mapping[str, Any] | None = None,
) -> str:
    """The text of a whole config in Python, as a checkpoint has it.

    Args:
        version: 2: normalisation is a step of the pipelines; 3: a part of the model.
        pixels: mean and std in the order of the network's channels, and whether that is red first.
        testing: of detections, beside or instead of LVIS's usual ones.
    """
    model = _model(body, classes, style, loss, agnostic, mask_predictor)
    model["test_cfg"]["rcnn"] |= testing or {}
    tree: Tree = {"model": model, "dataset_type": "LVISV1Dataset", "data_root": "data/lvis_v1/"}
    tree |= _data_of_2(pixels, scale) if version == 2 else _data_of_3(pixels, scale)
    if version == 3:
        model["data_preprocessor"] = {
            "type": "DetDataPreprocessor",
            "mean": list(pixels["mean"]),
            "std": list(pixels["std"]),
            "bgr_to_rgb": pixels["rgb"],
            "pad_mask": True,
            "pad_size_divisor": 32,
        }
    return "".join(f"{name} = {_python(value)}\n" for name, value in tree.items())


def _model(
    body: str,
    classes: int,
    style: str,
    loss: Mapping[str, Any],
    agnostic: bool,
    mask_predictor: Mapping[str, Any] | None,
) -> Tree:
    shape = BODIES[body]
    wide = {"groups": shape.groups, "base_width": shape.group_width} if shape.groups > 1 else {}
    strides = [4, 8, 16, 32]

    def extractor(bins: int) -> Tree:
        layer = {"type": "RoIAlign", "output_size": bins, "sampling_ratio": 0}
        return {"type": "SingleRoIExtractor", "roi_layer": layer, "out_channels": 256, "featmap_strides": strides}

    def coder(deviations: list[float]) -> Tree:
        return {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": deviations}

    masks: Tree = {"type": "FCNMaskHead", "num_convs": 4, "in_channels": 256, "num_classes": classes}
    masks |= {"predictor_cfg": dict(mask_predictor)} if mask_predictor else {}
    suppression = {"nms_pre": 1000, "max_per_img": 1000, "nms": {"type": "nms", "iou_threshold": 0.7}}
    return {
        "type": "MaskRCNN",
        "backbone": {
            "type": "ResNeXt" if wide else "ResNet",
            "depth": 50 if body == "R50" else 101,
            **wide,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "frozen_stages": 1,
            "norm_cfg": {"type": "BN", "requires_grad": style == "pytorch"},
            "norm_eval": True,
            "style": style,
            "init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet50"},
        },
        "neck": {"type": "FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 256, "num_outs": 5},
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": 256,
            "feat_channels": 256,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [8],
                "ratios": [0.5, 1.0, 2.0],
                "strides": [*strides, 64],
            },
            "bbox_coder": coder([1.0] * 4),
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": extractor(7),
            "bbox_head": {
                "type": "Shared2FCBBoxHead",
                "in_channels": 256,
                "fc_out_channels": 1024,
                "roi_feat_size": 7,
                "num_classes": classes,
                "bbox_coder": coder([0.1, 0.1, 0.2, 0.2]),
                "reg_class_agnostic": agnostic,
                "loss_cls": dict(loss),
            },
            "mask_roi_extractor": extractor(14),
            "mask_head": masks,
        },
        "train_cfg": {
            "rpn_proposal": {**suppression, "nms_pre": 2000, "min_bbox_size": 0},
            "rcnn": {"sampler": {"type": "RandomSampler", "num": 512, "pos_fraction": 0.25}, "mask_size": 28},
        },
        "test_cfg": {
            "rpn": {**suppression, "min_bbox_size": 0},
            "rcnn": {
                "score_thr": 0.0001,
                "nms": {"type": "nms", "iou_threshold": 0.5},
                "max_per_img": 300,
                "mask_thr_binary": 0.5,
            },
        },
    }


def _data_of_2(pixels: Mapping[str, Any], scale: tuple[int, int]) -> Tree:
    normal = {"mean": list(pixels["mean"]), "std": list(pixels["std"]), "to_rgb": pixels["rgb"]}
    steps = [
        {"type": "Resize", "keep_ratio": True},
        {"type": "RandomFlip"},
        {"type": "Normalize", **normal},
        {"type": "Pad", "size_divisor": 32},
        {"type": "ImageToTensor", "keys": ["img"]},
        {"type": "Collect", "keys": ["img"]},
    ]
    test = {"type": "MultiScaleFlipAug", "img_scale": scale, "flip": False, "transforms": steps}
    pipeline = [{"type": "LoadImageFromFile"}, test]
    data = {"type": "LVISV1Dataset", "ann_file": "data/lvis_v1/annotations/lvis_v1_val.json", "pipeline": pipeline}
    return {
        "img_norm_cfg": normal,
        "test_pipeline": pipeline,
        "data": {"samples_per_gpu": 2, "workers_per_gpu": 2, "test": data},
        "evaluation": {"metric": ["bbox", "segm"], "interval": 24},
        "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.0001},
        "workflow": [("train", 1)],
        "gpu_ids": range(8),
    }


def _data_of_3(pixels: Mapping[str, Any], scale: tuple[int, int]) -> Tree:
    pipeline = [
        {"type": "LoadImageFromFile", "backend_args": None},
        {"type": "Resize", "scale": scale, "keep_ratio": True},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
        {"type": "PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")},
    ]
    data = {"type": "LVISV1Dataset", "ann_file": "annotations/lvis_v1_val.json", "pipeline": pipeline}
    return {
        "default_scope": "mmdet",
        "test_pipeline": pipeline,
        "test_dataloader": {"batch_size": 1, "dataset": data, "drop_last": False},
        "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9}},
    }


def _python(value: Any, indent: int = 0) -> str:
    """A value as these configs are printed: `dict(...)`, and what does not fit a line an entry a line."""
    if isinstance(value, Mapping):
        entries, marks = [f"{key}={_python(entry, indent + 4)}" for key, entry in value.items()], ("dict(", ")")
    elif isinstance(value, (list, tuple)):
        entries, marks = [_python(entry, indent + 4) for entry in value], ("[", "]")
        marks = marks if isinstance(value, list) else ("(", ")")
    else:
        return repr(value)
    line = marks[0] + ", ".join(entries) + marks[1]
    if len(line) + indent <= 79 and "\n" not in line:
        return line
    space = " " * (indent + 4)
    return marks[0] + "".join(f"\n{space}{entry}," for entry in entries) + f"\n{' ' * indent}" + marks[1]
