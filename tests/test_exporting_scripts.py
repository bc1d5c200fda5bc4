"""docs/export_mmdetection.py and docs/export_detectron2.py on stand-ins of the frameworks, up to stage two."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import stand_ins
import torch
from conftest import RunCli
from stand_ins import SCALE, STDS, C, D2Model, MmModel
from torch import nn
from torchvision.ops import box_iou

from gol_decouple import features
from gol_decouple.detection import export_program
from gol_decouple.detection.roi_export import Export, match
from gol_decouple.errors import InputError
from gol_decouple.features import layout

DOCS = Path(__file__).resolve().parents[1] / "docs"
FAST = ("--set", "stage2.epochs=2", "--set", "stage2.batch_size=16")
FRAMEWORKS = ["mmdetection", "detectron2"]
Script = Callable[..., list[Path]]


def made(framework: str, kind: str, **changes: Any) -> nn.Module:
    return (MmModel if framework == "mmdetection" else D2Model)(kind, **changes)


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch, annotated_root: Path, tmp_path: Path) -> Script:
    """`run_script("mmdetection", model, "--seed", 3)`: runs a script as a user does; returns the files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layout, "BLOCK_BYTES", 1)  # an image a block

    def run(framework: str, model: nn.Module, *options: object, out: str = "mine.h5") -> list[Path]:
        for name, module in getattr(stand_ins, framework)(model).items():
            monkeypatch.setitem(sys.modules, name, module)
        script = load(framework)
        data = [f"--{name}={annotated_root / file}" for name, file in (("train", "train.json"), ("val", "val.json"))]
        data += [f"--images={annotated_root}", "--name=tiny", f"--out={out}", "--dtype=float32", "--device=cpu"]
        data += ["--rois-per-image=12", "--val-rois-per-image=16", *map(str, options)]
        monkeypatch.setattr(sys, "argv", ["script", "config.yaml", "model.pth", *data])
        script.main()
        return sorted(tmp_path.glob(f"{Path(out).stem}*.h5"))

    return run


def load(framework: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("script", DOCS / f"export_{framework}.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def layers_of(model: Any, stage: int = 0) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """The shared layer, the classifier and the regressor of a stage."""
    if isinstance(model, MmModel):
        head = model.roi_head.bbox_head
        head = head[stage] if isinstance(head, nn.ModuleList) else head
        return head.shared, head.fc_cls, head.fc_reg
    head = model.roi_heads.box_predictor
    head = head[stage] if isinstance(head, nn.ModuleList) else head
    return head.head, head.cls_score, head.bbox_pred


def look(root: Path, split: str, image_id: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The network's input, its maps, and the objects' boxes in pixels of the original image."""
    tree = json.loads((root / f"{split}.json").read_text())
    (name,) = [image["file_name"] for image in tree["images"] if image["id"] == image_id]
    inputs = torch.from_numpy(stand_ins.pixels_of(str(root / name)).copy()).permute(2, 0, 1)[None].float() / 255
    boxes = [one["bbox"] for one in tree["annotations"] if one["image_id"] == image_id]
    boxes = [[x, y, x + width, y + height] for x, y, width, height in boxes]
    return inputs, stand_ins.maps_of(inputs), torch.tensor(boxes).reshape(-1, 4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_detector_of_one_stage(run_script: Script, run_cli: RunCli, framework: str, annotated_root: Path) -> None:
    model = made(framework, "plain")
    (path,) = run_script(framework, model)
    file = features.open(path)
    shared, classifier, regressor = layers_of(model)
    assert file.checked
    assert file.classes.names == ["three", "seven", "nine"]  # in the order of category ids
    assert file.classes.image_counts is not None
    assert (file.classes.image_counts.tolist(), file.classes.num_images) == ([1, 3, 1], 4)
    assert file.classes.frequency is not None
    assert file.classes.frequency.tolist() == ["r", "c", "f"]
    assert file.classifier is not None
    np.testing.assert_array_equal(file.classifier.weight, classifier.weight.detach())
    assert file.regressor is not None
    np.testing.assert_array_equal(file.regressor.weight, regressor.weight.detach().view(C, 4, -1))
    np.testing.assert_allclose(file.regressor.coder_weights, [1 / std for std in STDS[0]])
    scale = torch.tensor([*SCALE, *SCALE])
    val = file["val"]
    for at, image_id in enumerate(val.images.ids.tolist()):
        inputs, maps, objects = look(annotated_root, "val", image_id)
        boxes = stand_ins.proposals_of(maps, tuple(inputs.shape[-2:]))[:16]
        rows = slice(16 * at, 16 * at + 16)
        np.testing.assert_allclose(val.boxes[rows], boxes / scale, rtol=1e-5)
        seen = shared(stand_ins.pooled(maps, boxes).flatten(1)).relu()
        np.testing.assert_allclose(val.features[0, rows], seen.detach(), atol=1e-5)
        largest = box_iou(boxes / scale, objects).max(1).values if len(objects) else torch.zeros(16)
        np.testing.assert_allclose(val.ious[rows], largest, atol=1e-5)
        assert ((val.labels[rows] < C) == (val.ious[rows] >= 0.5)).all()
    done = run_cli("stage2", path, "--activation", "gumbel", "--annotations", annotated_root / "val.json", *FAST)
    assert done.code == 0, done.err
    assert "3 images of val.json" in " ".join(done.out.split())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_train_rois_are_drawn_with_the_objects_among_them(
    run_script: Script, framework: str, annotated_root: Path
) -> None:
    (path,) = run_script(framework, made(framework, "plain"), "--rois-per-image=60", "--foreground-fraction=0.5")
    train = features.open(path)["train"]
    assert sorted(train.images.ids.tolist()) == [100, 101, 102, 104]  # one has no object
    for at, image_id in enumerate(train.images.ids.tolist()):
        _, _, objects = look(annotated_root, "train", image_id)
        rows = slice(60 * at, 60 * at + int(train.images.num_rois[at]))
        assert rows.stop - rows.start == 20 + len(objects)  # all there are
        np.testing.assert_allclose(train.boxes[rows][-len(objects) :], objects, atol=1e-4)
        assert (train.ious[rows][-len(objects) :] > 0.999).all()
        assert (train.labels[rows][-len(objects) :] < C).all()


def test_rois_are_drawn_by_seed_and_image(run_script: Script) -> None:
    first, again, other = (
        features.open(*run_script("mmdetection", MmModel("plain"), f"--seed={seed}", out=f"{name}.h5"))["train"]
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    np.testing.assert_array_equal(first.boxes[:], again.boxes[:])
    assert (first.images.num_rois == 12).all()

    def of_image(split: Any, image_id: int) -> np.ndarray:
        at = split.images.ids.tolist().index(image_id)
        return np.asarray(split.boxes[12 * at : 12 * at + 12])

    assert (of_image(first, 100) != of_image(other, 100)).any()


@pytest.mark.parametrize("groups", [1, C])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_cascade(run_script: Script, run_cli: RunCli, framework: str, groups: int, annotated_root: Path) -> None:
    model = made(framework, "cascade", groups=groups)
    paths = run_script(framework, model, "--foreground-fraction=1")
    assert [path.name for path in paths] == ["mine_stage1.h5", "mine_stage2.h5", "mine_stage3.h5"]
    files = [features.open(path) for path in paths]
    scale = torch.tensor([*SCALE, *SCALE])
    for image, image_id in enumerate(files[0]["val"].images.ids.tolist()):
        inputs, maps, _ = look(annotated_root, "val", image_id)
        size = tuple(inputs.shape[-2:])
        boxes = stand_ins.proposals_of(maps, size)[:16]
        rows = slice(16 * image, 16 * image + 16)
        for stage, file in enumerate(files):
            shared, classifier, regressor = layers_of(model, stage)
            assert file.regressor is not None
            assert file.regressor.weight.shape == (groups, 4, stand_ins.SIZE)
            np.testing.assert_allclose(file.regressor.coder_weights, [1 / std for std in STDS[stage]])
            np.testing.assert_allclose(file["val"].boxes[rows], (boxes / scale).detach(), rtol=1e-4, atol=1e-4)
            seen = shared(stand_ins.pooled(maps, boxes).flatten(1)).relu()
            np.testing.assert_allclose(file["val"].features[0, rows], seen.detach(), atol=1e-4)
            best = classifier(seen)[:, :C].argmax(1) if groups > 1 else torch.zeros(16, dtype=torch.long)
            deltas = regressor(seen).view(16, groups, 4)[torch.arange(16), best]
            boxes = stand_ins.decoded(boxes, deltas, STDS[stage], size)
    between = 0
    for stage, file in enumerate(files):
        used = file["train"].labels >= 0
        labels, ious = file["train"].labels[used], file["train"].ious[used]
        assert ((labels < C) == (ious >= stand_ins.THRESHOLDS[stage])).all()
        between += ((ious >= 0.5) & (labels == C)).sum()
    assert between > 0
    annotations = annotated_root / "val.json"
    done = run_cli("stage2", *paths, "--activation", "gumbel", "--annotations", annotations, *FAST)
    assert done.code == 0, done.err
    assert "mean of 3 stages, fresh, 2 epochs" in " ".join(done.out.split())
    assert "mean of 3 stages, stage one, loaded" in " ".join(done.out.split())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_retinanet(run_script: Script, run_cli: RunCli, framework: str, annotated_root: Path) -> None:
    model: Any = made(framework, "retina")
    (path,) = run_script(framework, model, "--val-rois-per-image=50")
    file = features.open(path)
    assert file.classifier is None
    assert file.regressor is None
    assert file.feature_size == 9 * stand_ins.CHANNELS
    filters = (model.bbox_head.retina_cls if framework == "mmdetection" else model.head.cls_score).state_dict()
    weight = filters["weight"].view(stand_ins.ANCHORS, C, -1).numpy()
    bias = filters["bias"].view(stand_ins.ANCHORS, C).numpy()
    val = file["val"]
    for at, image_id in enumerate(val.images.ids.tolist()):
        _, maps, _ = look(annotated_root, "val", image_id)
        levels = [maps, nn.functional.avg_pool2d(maps, 2)]
        logits = [nn.functional.conv2d(level, filters["weight"], filters["bias"], padding=1) for level in levels]
        surest = torch.cat([one.detach().view(stand_ins.ANCHORS, C, -1).amax(1).flatten() for one in logits])
        rows = slice(50 * at, 50 * at + 50)
        # An anchor's logits are those of the filters of its shape: one of the three gives what the network gave.
        found = np.einsum("acd,rd->rac", weight, val.features[0, rows]) + bias
        wanted = surest.sort(descending=True).values[:50].numpy()
        assert (np.abs(found.max(2) - wanted[:, None]).min(1) < 1e-5).all()
    done = run_cli("stage2", path, "--activation", "gumbel", "--annotations", annotated_root / "val.json", *FAST)
    assert done.code == 0, done.err


def test_classifiers_that_are_no_softmax_are_left_out(run_script: Script) -> None:
    def classifier_of(model: nn.Module, framework: str, out: str) -> Any:
        return features.open(*run_script(framework, model, out=out)).classifier

    assert classifier_of(MmModel("plain", columns=C), "mmdetection", "gumbel.h5") is None
    assert classifier_of(MmModel("plain", columns=C + 2), "mmdetection", "seesaw.h5") is None
    sigmoid, cosine = MmModel("plain"), MmModel("plain")
    sigmoid.roi_head.bbox_head.loss_cls.use_sigmoid = True
    assert classifier_of(sigmoid, "mmdetection", "sigmoid.h5") is None

    class NormedLinear(nn.Linear):
        pass

    cosine.roi_head.bbox_head.fc_cls = NormedLinear(stand_ins.SIZE, C + 1)
    assert classifier_of(cosine, "mmdetection", "cosine.h5") is None
    assert classifier_of(D2Model("plain", columns=C), "detectron2", "columns.h5") is None
    assert classifier_of(D2Model("plain"), "detectron2", "softmax.h5") is not None


def separate(model: MmModel) -> None:
    model.roi_head.bbox_head.separate = True


def many_classes(model: MmModel) -> None:
    model.roi_head.bbox_head.num_classes = 80


def other_order(model: MmModel) -> None:
    model.dataset_meta = {"classes": ("three", "nine", "seven")}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (separate, "error: fc_reg sees other features than fc_cls"),
        (many_classes, "error: the detector has 80 classes, and the annotations have 3\nhint: export with"),
        (other_order, "error: class 1 of the detector is 'nine', but in the order of category ids 'seven'"),
    ],
)
def test_detectors_that_do_not_fit_are_refused(
    run_script: Script, capsys: pytest.CaptureFixture[str], change: Callable[[MmModel], None], told: str
) -> None:
    model = MmModel("plain")
    change(model)
    with pytest.raises(SystemExit) as left:
        run_script("mmdetection", model)
    assert left.value.code == 2
    assert told in capsys.readouterr().err
    assert not Path("mine.h5").exists()


def test_the_means_of_a_box_coder_are_refused(run_script: Script) -> None:
    model = MmModel("plain")
    model.roi_head.bbox_head.bbox_coder.means = (0.0, 0.0, 0.1, 0.1)
    with pytest.raises(InputError, match="the box coder has means"):
        run_script("mmdetection", model)


def test_a_file_that_is_there_is_kept(run_script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = run_script("mmdetection", MmModel("plain"))
    told = capsys.readouterr().err
    assert "next: gol-decouple stage2 mine.h5 --activation gumbel --annotations " in told
    before = path.read_bytes()
    with pytest.raises(SystemExit):
        run_script("mmdetection", MmModel("plain"), "--seed=3")
    assert "error: mine.h5 exists" in capsys.readouterr().err
    assert path.read_bytes() == before
    run_script("mmdetection", MmModel("plain"), "--seed=3", "--overwrite")
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--limit=0", "limit is 0"),
        ("--rois-per-image=0", "rois_per_image is 0"),
        ("--val-rois-per-image=-1", "val_rois_per_image is -1"),
        ("--foreground-fraction=1.5", "foreground_fraction is 1.5"),
        ("--seed=-1", "seed is -1"),
        ("--images=nowhere", "data.path = nowhere: there is no such folder"),
        ("--val=none.json", "there is no file"),
    ],
)
def test_options_are_checked(run_script: Script, capsys: pytest.CaptureFixture[str], option: str, told: str) -> None:
    with pytest.raises(SystemExit) as left:
        run_script("detectron2", D2Model("plain"), option)
    assert left.value.code == 2
    assert f"error: {told}" in capsys.readouterr().err.replace("data.annotations.val: ", "")


def test_images_without_proposals(run_script: Script) -> None:
    model = MmModel("cascade")
    model.num_proposals = 0
    files = [features.open(path) for path in run_script("mmdetection", model)]
    assert [file["val"].images.num_rois.tolist() for file in files] == [[0, 0, 0]] * 3
    assert (files[0]["train"].images.num_rois > 0).all()  # the objects


def test_an_interrupted_export_continues(run_script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = stand_ins.mm_pipeline

    def stopping(data: dict[str, Any]) -> dict[str, Any]:
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(data["img_path"])
        return real(data)

    with monkeypatch.context() as patch:
        patch.setattr(stand_ins, "mm_pipeline", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_script("mmdetection", MmModel("cascade"))
    before, seen = seen, []

    def counting(data: dict[str, Any]) -> dict[str, Any]:
        seen.append(data["img_path"])
        return real(data)

    monkeypatch.setattr(stand_ins, "mm_pipeline", counting)
    paths = run_script("mmdetection", MmModel("cascade"))
    assert len(seen) < 7
    assert len(set(before + seen)) == 7
    whole = run_script("mmdetection", MmModel("cascade"), out="whole.h5")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in whole]


def test_matching_is_by_the_largest_overlap() -> None:
    corners = torch.rand((40, 2, 2), generator=torch.Generator().manual_seed(0)).sort(dim=1).values * 50
    boxes, objects, labels = corners[:30].reshape(30, 4), corners[30:].reshape(10, 4), torch.arange(10) % C
    boxes[0, 2:] = boxes[0, :2]  # without an area, as are boxes that were clipped away
    found, ious = match(boxes, objects, labels, C, 0.3)
    expected, of = box_iou(boxes, objects).max(1)
    torch.testing.assert_close(ious, expected)
    assert found.tolist() == torch.where(expected >= 0.3, labels[of], C).tolist()
    assert 3 < (found < C).sum() < 27
    none, zeros = match(boxes, objects[:0], labels[:0], C, 0.3)
    assert (none.tolist(), zeros.tolist()) == ([C] * 30, [0.0] * 30)


def test_the_program_for_any_other_detector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_cli: RunCli) -> None:
    page = (DOCS / "exported-rois.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "any.py", "exec"), {})
    file = features.open("any.h5")
    assert (file.checked, file.is_detection, len(file["val"].images)) == (True, True, 20)
    sizes = {"height": 200, "width": 200, "neg_category_ids": [1, 2, 3]}
    one = {"id": 1, "image_id": 60, "category_id": 2, "bbox": [5, 5, 40, 40]}
    tree = {"images": [{"id": id_, **sizes} for id_ in range(60, 80)], "annotations": [one]}
    tree["categories"] = [{"id": id_, "name": name} for id_, name in ((1, "cat"), (2, "dog"), (3, "fox"))]
    Path("val.json").write_text(json.dumps(tree))
    done = run_cli("stage2", "any.h5", "--activation", "gumbel", "--annotations", "val.json", *FAST)
    assert done.code == 0, done.err


def test_the_page_names_options_that_there_are(capsys: pytest.CaptureFixture[str], run_script: Script) -> None:
    page = (DOCS / "exported-rois.md").read_text(encoding="utf-8")
    script = page[page.index("python docs/export_mmdetection.py") : page.index("gol-decouple stage2 mine.h5")]
    parser = argparse.ArgumentParser()
    export_program.add_options(parser)
    told = parser.format_help()
    named = set(re.findall(r"--[a-z-]+", script)) | {"--rois-per-image", "--foreground-fraction", "--limit"}
    assert len(named) == 7
    assert all(option in told for option in named)
    assert {field.name for field in fields(Export)} == set(
        vars(parser.parse_args(["--images=a", "--train=b", "--val=c"]))
    )
