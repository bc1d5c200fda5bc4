"""Stand-ins for mmdetection and detectron2: small networks with the attributes and calls that the scripts in docs use.

They say nothing of what the frameworks compute; both are the same network below. `mmdetection()` and `detectron2()`
are the modules by name, for `sys.modules`.
"""

from __future__ import annotations

import math
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.ops import roi_align

C, CHANNELS, SIZE, ANCHORS = 3, 4, 6, 3
SCALE = (2.0, 1.5)  # of widths and heights, from an image to what the network sees
THRESHOLDS = (0.5, 0.6, 0.7)
STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.03, 0.03, 0.06, 0.06))


def pixels_of(path: str) -> np.ndarray:
    """[H, W, 3], resized."""
    image = Image.open(path).convert("RGB")
    return np.asarray(image.resize((round(image.width * SCALE[0]), round(image.height * SCALE[1]))))


def drawn(*shape: int, seed: int, std: float = 0.5) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * std)


class Layers(nn.Module):
    """A shared layer, then a classifier and a regressor."""

    def __init__(self, stage: int, columns: int = C + 1, groups: int = C) -> None:
        super().__init__()
        self.shared = nn.Linear(CHANNELS * 4, SIZE)
        self.classifier, self.regressor = nn.Linear(SIZE, columns), nn.Linear(SIZE, 4 * groups)
        for number, (layer, std) in enumerate(((self.shared, 0.5), (self.classifier, 0.5), (self.regressor, 0.2))):
            layer.weight = drawn(*layer.weight.shape, seed=10 * stage + number, std=std)
            layer.bias = drawn(*layer.bias.shape, seed=100 + 10 * stage + number, std=std)


def decoded(boxes: torch.Tensor, deltas: torch.Tensor, stds: tuple[float, ...], size: tuple[int, int]) -> torch.Tensor:
    """[R, 4] of boxes [R, 4] and deltas [R, 4], within an image of height and width."""
    dx, dy, dw, dh = (deltas * torch.tensor(stds)).unbind(1)
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    x, y = boxes[:, 0] + width / 2 + dx * width, boxes[:, 1] + height / 2 + dy * height
    width, height = width * dw.clamp(max=math.log(62.5)).exp(), height * dh.clamp(max=math.log(62.5)).exp()
    corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=1)
    return torch.minimum(corners.clamp(min=0), torch.tensor([size[1], size[0]] * 2, dtype=corners.dtype))


def maps_of(inputs: torch.Tensor) -> torch.Tensor:
    """[1, CHANNELS, H / 8, W / 8]."""
    weight = drawn(CHANNELS, 3, 8, 8, seed=1, std=0.1)
    return nn.functional.conv2d(inputs, weight, stride=8).tanh()


def proposals_of(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """20 boxes [20, 4] for an image of height and width, which depend on what is in it."""
    seed = int(maps.abs().sum() * 1000)
    corners = torch.rand((20, 2, 2), generator=torch.Generator().manual_seed(seed)).sort(dim=1).values
    return (corners * torch.tensor([size[1], size[0]])).reshape(20, 4)


def pooled(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
    return roi_align(maps, rois, 2, 1 / 8, aligned=True)


def anchors_of(maps: torch.Tensor) -> torch.Tensor:
    """[H * W * ANCHORS, 4], those of a place beside each other."""
    height, width = maps.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) * 8.0, torch.arange(width) * 8.0, indexing="ij")
    sides = torch.tensor([[64.0, 48.0], [80.0, 48.0], [48.0, 64.0]])
    middles = torch.stack([x, y], dim=-1)[:, :, None]
    return torch.cat([middles - sides / 2, middles + sides / 2], dim=-1).reshape(-1, 4)


def module(name: str, **contents: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(contents)
    return made


# mmdetection


class MmHead(nn.Module):
    """Of a stage: a BBoxHead."""

    def __init__(self, stage: int, groups: int, columns: int) -> None:
        super().__init__()
        layers = Layers(stage, columns, groups)
        self.shared, self.fc_cls, self.fc_reg = layers.shared, layers.classifier, layers.regressor
        self.num_classes, self.reg_class_agnostic = C, groups == 1
        self.loss_cls = SimpleNamespace(use_sigmoid=False)
        self.bbox_coder = SimpleNamespace(means=(0.0,) * 4, stds=STDS[stage])
        self.separate = False

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.shared(x.flatten(1)).relu()
        return self.fc_cls(x), self.fc_reg(x + 1 if self.separate else x)


class MmExtractor(nn.Module):
    def forward(self, maps: tuple[torch.Tensor, ...], rois: torch.Tensor) -> torch.Tensor:
        return pooled(maps[0], rois[:, 1:])


class MmRoIHead(nn.Module):
    """A StandardRoIHead, or of several stages a CascadeRoIHead; `results` keeps what it predicted."""

    def __init__(self, stages: int, groups: int, columns: int) -> None:
        super().__init__()
        heads = [MmHead(stage, groups, columns) for stage in range(stages)]
        extractors = [MmExtractor() for _ in range(stages)]
        settings = [SimpleNamespace(assigner=SimpleNamespace(pos_iou_thr=iou)) for iou in THRESHOLDS[:stages]]
        several = stages > 1
        self.bbox_head = nn.ModuleList(heads) if several else heads[0]
        self.bbox_roi_extractor = nn.ModuleList(extractors) if several else extractors[0]
        self.train_cfg = settings if several else settings[0]
        self.test_cfg = SimpleNamespace(score_thr=0.05)
        self.mask_head: nn.Module | None = nn.Linear(1, 1)
        self.results: list[tuple[torch.Tensor, torch.Tensor]] = []

    def predict(self, maps: Any, proposals: Any, samples: Any, rescale: bool) -> list[Any]:
        assert self.mask_head is None
        assert self.test_cfg.score_thr > 1
        assert not rescale
        heads = list(self.bbox_head) if isinstance(self.bbox_head, nn.ModuleList) else [self.bbox_head]
        extractors = list(self.bbox_roi_extractor) if len(heads) > 1 else [self.bbox_roi_extractor]
        boxes = proposals[0].bboxes
        for head, extractor in zip(heads, extractors, strict=True):
            rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
            logits, deltas = head(extractor(maps, rois))
            best = logits[:, :C].argmax(1) if not head.reg_class_agnostic else torch.zeros(len(boxes), dtype=torch.long)
            of_class = deltas.view(len(boxes), -1, 4)[torch.arange(len(boxes)), best]
            boxes = decoded(boxes, of_class, head.bbox_coder.stds, samples[0].metainfo["img_shape"])
        self.results.append((logits, boxes))
        return []


class MmRetina(nn.Module):
    """A RetinaHead on two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.retina_cls = nn.Conv2d(CHANNELS, ANCHORS * C, 3, padding=1)
        self.retina_reg = nn.Conv2d(CHANNELS, ANCHORS * 4, 3, padding=1)
        self.num_classes = self.cls_out_channels = C
        self.prior_generator = SimpleNamespace(grid_priors=self._priors)
        self.bbox_coder = SimpleNamespace(
            decode=lambda own, deltas, max_shape: decoded(own, deltas, STDS[0], max_shape)
        )

    def _priors(self, sizes: Any, device: Any) -> list[torch.Tensor]:
        return [anchors_of(torch.zeros(1, 1, *size)) for size in sizes]

    def forward(self, maps: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        pairs = [(self.retina_cls(level), self.retina_reg(level)) for level in maps]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


class MmModel(nn.Module):
    def __init__(self, kind: str, groups: int = C, columns: int = C + 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cfg, self.dataset_meta = SimpleNamespace(test_pipeline=[]), {"classes": ("three", "seven", "nine")}
        self.num_proposals = 20
        if kind == "retina":
            self.bbox_head = MmRetina()
        else:
            self.roi_head = MmRoIHead(3 if kind == "cascade" else 1, groups, columns)
            self.rpn_head = SimpleNamespace(predict=self._propose)

    def data_preprocessor(self, data: dict[str, Any], training: bool) -> dict[str, Any]:
        assert not training
        return {"inputs": torch.stack(data["inputs"]).float() / 255, "data_samples": data["data_samples"]}

    def extract_feat(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = maps_of(inputs)
        return maps, nn.functional.avg_pool2d(maps, 2)

    def _propose(self, maps: Any, samples: Any, rescale: bool) -> list[Any]:
        assert not rescale
        boxes = proposals_of(maps[0], samples[0].metainfo["img_shape"])[: self.num_proposals]
        return [SimpleNamespace(bboxes=boxes)]


def mm_pipeline(data: dict[str, Any]) -> dict[str, Any]:
    pixels = torch.from_numpy(pixels_of(data["img_path"]).copy()).permute(2, 0, 1)
    sample = SimpleNamespace(metainfo={"scale_factor": SCALE, "img_shape": tuple(pixels.shape[1:])})
    return {"inputs": pixels, "data_samples": sample}


def mmdetection(model: MmModel) -> dict[str, ModuleType]:
    """Modules; `init_detector` gives the model, whatever it is asked for."""
    return {
        "mmcv": module("mmcv"),
        "mmcv.transforms": module("mmcv.transforms", Compose=lambda steps: mm_pipeline),
        "mmdet": module("mmdet"),
        "mmdet.apis": module("mmdet.apis", init_detector=lambda config, checkpoint, device: model),
        "mmdet.utils": module("mmdet.utils", get_test_pipeline_cfg=lambda cfg: cfg.test_pipeline),
        "mmengine": module("mmengine"),
        "mmengine.structures": module("mmengine.structures", InstanceData=SimpleNamespace),
    }


# detectron2


class D2Boxes:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class D2Instances:
    def __init__(self, image_size: tuple[int, int]) -> None:
        self.image_size = image_size


class D2Predictor(nn.Module):
    """Of a stage: FastRCNNOutputLayers."""

    def __init__(self, stage: int, groups: int, columns: int) -> None:
        super().__init__()
        layers = Layers(stage, columns, groups)
        self.head, self.cls_score, self.bbox_pred = layers.shared, layers.classifier, layers.regressor
        weights = [1 / std for std in STDS[stage]]
        self.box2box_transform = SimpleNamespace(weights=weights)
        self.test_score_thresh = 0.05


class D2Pooler(nn.Module):
    def forward(self, maps: list[torch.Tensor], boxes: list[D2Boxes]) -> torch.Tensor:
        return pooled(maps[0], boxes[0].tensor)


class D2RoIHeads(nn.Module):
    """StandardROIHeads, or of several stages CascadeROIHeads."""

    def __init__(self, stages: int, groups: int, columns: int) -> None:
        super().__init__()
        predictors = [D2Predictor(stage, groups, columns) for stage in range(stages)]
        self.box_predictor = nn.ModuleList(predictors) if stages > 1 else predictors[0]
        self.box_pooler = D2Pooler()
        self.num_classes, self.mask_on, self.keypoint_on = C, True, True

    def forward(self, images: Any, maps: dict[str, torch.Tensor], proposals: list[Any]) -> None:
        assert (self.mask_on, self.keypoint_on) == (False, False)
        several = isinstance(self.box_predictor, nn.ModuleList)
        boxes = proposals[0].proposal_boxes.tensor
        assert len(proposals[0].objectness_logits) == len(boxes)
        for stage, predictor in enumerate(self.box_predictor if several else [self.box_predictor]):
            assert predictor.test_score_thresh > 1
            x = predictor.head(self.box_pooler([maps["p3"]], [D2Boxes(boxes)]).flatten(1)).relu()
            logits, deltas = predictor.cls_score(x), predictor.bbox_pred(x).view(len(boxes), -1, 4)
            best = logits[:, :C].argmax(1) if deltas.shape[1] > 1 else torch.zeros(len(boxes), dtype=torch.long)
            boxes = decoded(boxes, deltas[torch.arange(len(boxes)), best], STDS[stage], proposals[0].image_size)


class D2Retina(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_score = nn.Conv2d(CHANNELS, ANCHORS * C, 3, padding=1)
        self.bbox_pred = nn.Conv2d(CHANNELS, ANCHORS * 4, 3, padding=1)

    def forward(self, levels: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return [self.cls_score(level) for level in levels], [self.bbox_pred(level) for level in levels]


class D2Model(nn.Module):
    def __init__(self, kind: str, groups: int = C, columns: int = C + 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = lambda inputs: {"p3": maps_of(inputs), "p4": nn.functional.avg_pool2d(maps_of(inputs), 2)}
        if kind == "retina":
            self.head, self.head_in_features, self.num_classes = D2Retina(), ["p3", "p4"], C
            self.anchor_generator = lambda levels: [D2Boxes(anchors_of(level)) for level in levels]
            apply = lambda deltas, boxes: decoded(boxes, deltas, STDS[0], (10**6, 10**6))  # noqa: E731
            self.box2box_transform = SimpleNamespace(apply_deltas=apply)
        else:
            self.roi_heads = D2RoIHeads(3 if kind == "cascade" else 1, groups, columns)

    def preprocess_image(self, batch: list[dict[str, torch.Tensor]]) -> Any:
        inputs = torch.stack([one["image"] for one in batch]) / 255
        return SimpleNamespace(tensor=inputs, image_sizes=[tuple(inputs.shape[-2:])])

    def proposal_generator(self, images: Any, maps: dict[str, torch.Tensor]) -> tuple[list[Any], None]:
        found = D2Instances(images.image_sizes[0])
        found.proposal_boxes = D2Boxes(proposals_of(maps["p3"], images.image_sizes[0]))
        return [found], None


class D2Config:
    """What `get_cfg` gives."""

    def __init__(self) -> None:
        self.INPUT = SimpleNamespace(FORMAT="RGB", MIN_SIZE_TEST=64, MAX_SIZE_TEST=128)
        self.MODEL = SimpleNamespace(
            DEVICE="cuda",
            META_ARCHITECTURE="GeneralizedRCNN",
            RPN=SimpleNamespace(),
            BACKBONE=SimpleNamespace(NAME="fpn"),
        )
        self.MODEL.ROI_BOX_CASCADE_HEAD = SimpleNamespace(IOUS=THRESHOLDS)
        self.MODEL.ROI_HEADS = SimpleNamespace(IOU_THRESHOLDS=[0.5])
        self.MODEL.ROI_BOX_HEAD = SimpleNamespace(USE_SIGMOID_CE=False)

    def merge_from_file(self, path: str) -> None:
        assert path == "config.yaml"


class D2Resize:
    def __init__(self, sizes: list[int], most: int) -> None:
        assert (sizes, most) == ([64, 64], 128)

    def get_transform(self, image: np.ndarray) -> Any:
        size = (round(image.shape[1] * SCALE[0]), round(image.shape[0] * SCALE[1]))
        return SimpleNamespace(apply_image=lambda pixels: np.asarray(Image.fromarray(pixels).resize(size)))


def detectron2(model: D2Model) -> dict[str, ModuleType]:
    """Modules; `build_model` gives the model, whatever it is asked for."""

    def read_image(path: str, format: str) -> np.ndarray:
        return np.asarray(Image.open(path).convert(format))

    loader = lambda given: SimpleNamespace(load=lambda path: None)  # noqa: E731
    names = {
        "checkpoint": {"DetectionCheckpointer": loader},
        "config": {"get_cfg": D2Config},
        "data": {},
        "data.detection_utils": {"read_image": read_image},
        "data.transforms": {"ResizeShortestEdge": D2Resize},
        "modeling": {"build_model": lambda cfg: model},
        "structures": {"Boxes": D2Boxes, "Instances": D2Instances},
    }
    made = {f"detectron2.{name}": module(f"detectron2.{name}", **contents) for name, contents in names.items()}
    return {"detectron2": module("detectron2"), **made}
