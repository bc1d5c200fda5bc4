"""The named methods: each one a row of data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gol_decouple.methods.record import NEAREST_MEAN, Method

_DECOUPLING = "Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020"
_GOL = "Alexandridis et al., Long-tailed Instance Segmentation using Gumbel Optimized Loss, ECCV 2022"
_GUMBEL_PARAMS = {"q_min": -4.0}
# On RoIs, whatever the method: as detectors are trained, 512 RoIs of each of 16 images a step and 12 epochs, which the
# public code of decoupled training keeps (BALMS, EQLv2's, LTA). One-vs-all classifiers start afresh: a Softmax
# classifier's logits have an arbitrary offset, and with background it is large.
OF_ROIS: dict[str, Any] = {"batch_size": 8192, "lr": 0.02, "epochs": 12, "schedule": "cosine", "weight_decay": 1e-4}

# Start, learning rate, epochs, schedule and views did best on validation data of CIFAR100-LT (docs/defaults.md). For
# sigmoid and gumbel that is a brief fine-tuning of the Softmax classifier; longer or faster loses the gain. With
# class-balanced sampling the best rate depends on the features: crt keeps its authors', gumbel_crt has one between.
_SOFTMAX = Method(
    "softmax",
    "softmax",
    f"{_DECOUPLING}, retrained with random sampling",
    start="stage_one",
    lr=0.1,
    epochs=30,
    schedule="cosine",
)
_SIGMOID = Method(
    "sigmoid",
    "sigmoid",
    "one binary cross entropy a class",
    start="stage_one",
    lr=3e-4,
    epochs=15,
    schedule="cosine",
)
_GUMBEL = Method(
    "gumbel",
    "gumbel",
    f"{_GOL}, equations 6 and 9",
    start="stage_one",
    lr=1e-5,
    epochs=30,
    activation_params=_GUMBEL_PARAMS,
)
_PLAIN = (
    _SOFTMAX,
    Method(
        "crt",
        "softmax",
        f"{_DECOUPLING}, section 4 (cRT)",
        sampler="class_balanced",
        start="fresh",
        lr=0.1,
        epochs=10,
        schedule="cosine",
    ),
    _SIGMOID,
    _GUMBEL,
    Method(
        "gumbel_paper",
        "gumbel",
        f"{_GOL}, section 6.5: its setting for CIFAR100-LT",
        start="stage_one",
        lr=1e-4,
        epochs=15,
        activation_params=_GUMBEL_PARAMS,
    ),
    Method(
        "gumbel_crt",
        "gumbel",
        f"{_GOL}, with the sampler of cRT",
        sampler="class_balanced",
        start="fresh",
        lr=3e-3,
        epochs=15,
        schedule="cosine",
        clip_norm=20.0,
        activation_params=_GUMBEL_PARAMS,
    ),
    Method(
        "gumbel_published",
        "gumbel_published",
        f"{_GOL}, as its public code computes it (no gradient for positives below q = -4)",
        start="stage_one",
        lr=1e-5,
        epochs=30,
    ),
)


def _with_loss(plain: Method, name: str, loss: str, paper: str, **params: Any) -> Method:
    return replace(plain, name=name, loss=loss, paper=paper, loss_params=params)


_BALANCED = "Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020"
_LOGIT_ADJUSTMENT = "Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021"
_BALANCED_ACTIVATION = "Ren et al., Balanced Activation for Long-tailed Visual Recognition, LVIS workshop 2020"
_DROPLOSS = "Hsieh et al., DropLoss for Long-Tail Instance Segmentation, AAAI 2021"
_EQL = "Tan et al., Equalization Loss for Long-Tailed Object Recognition, CVPR 2020"

# Other losses, in the recipe of their activation; rates of their own are not searched for yet.
_OTHER_LOSSES = (
    _with_loss(_SOFTMAX, "balanced_softmax", "balanced", _BALANCED),
    _with_loss(_SIGMOID, "balanced_sigmoid", "balanced", _BALANCED_ACTIVATION),
    _with_loss(_GUMBEL, "balanced_gumbel", "balanced", f"{_GOL}, with an exact prior shift", shift="exact"),
    _with_loss(
        _SOFTMAX,
        "logit_adjusted",
        "logit_adjusted",
        f"{_LOGIT_ADJUSTMENT}, equation 10",
        tau=1.0,
    ),
    _with_loss(_SOFTMAX, "focal", "focal", "Lin et al., Focal Loss for Dense Object Detection, ICCV 2017", gamma=2.0),
    _with_loss(
        _SOFTMAX,
        "class_balanced",
        "class_balanced",
        "Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019",
        beta=0.9999,
        deferred=0.0,
    ),
    _with_loss(_SOFTMAX, "softmax_eql", "softmax_eql", f"{_EQL}, for softmax", lambda_=5e-3, gamma=0.9),
    _with_loss(
        _SOFTMAX,
        "seesaw",
        "seesaw",
        "Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation, CVPR 2021",
        p=0.8,
        q=2.0,
        eps=0.01,
    ),
    _with_loss(
        _SOFTMAX,
        "bags",
        "bags",
        "Li et al., Overcoming Classifier Imbalance for Long-tail Object Detection with Balanced Group Softmax, "
        "CVPR 2020",
        ratio=8.0,
    ),
    _with_loss(_SIGMOID, "eql", "eql", _EQL, lambda_=None),
    _with_loss(_SIGMOID, "beql", "beql", f"{_DROPLOSS}, equation 4", lambda_=None, base=4.0),
    _with_loss(
        _SIGMOID,
        "eqlv2",
        "eqlv2",
        "Tan et al., Equalization Loss v2: A New Gradient Balance Approach, CVPR 2021",
        gamma=12.0,
        mu=0.8,
        alpha=4.0,
    ),
    _with_loss(
        _SIGMOID,
        "acsl",
        "acsl",
        "Wang et al., Adaptive Class Suppression Loss for Long-Tail Object Detection, CVPR 2021",
        threshold=0.7,
    ),
)
_OTHER_CLASSIFIERS = (
    Method(
        "lws",
        "softmax",
        f"{_DECOUPLING}, section 4 (LWS)",
        classifier="lws",
        sampler="class_balanced",
        start="stage_one",
        lr=0.2,
        epochs=10,
        schedule="cosine",
    ),
    Method(
        "mislas_stage2",
        "softmax",
        "Zhong et al., Improving Calibration for Long-Tailed Recognition, CVPR 2021: label-aware smoothing and LWS",
        loss="label_aware_smoothing",
        classifier="lws",
        sampler="class_balanced",
        start="stage_one",
        lr=0.1,
        epochs=10,
        schedule="cosine",
        loss_params={"head": 0.4, "tail": 0.1},
    ),
    Method(
        "ldam_drw",
        "softmax",
        "Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019",
        loss="ldam",
        classifier="cosine",
        start="stage_one",
        lr=0.1,
        epochs=30,
        schedule="cosine",
        loss_params={"max_margin": 0.5, "deferred": 0.8, "beta": 0.9999, "scale": 30.0},
        classifier_params={"cosine_scale": 1.0},
    ),
    Method(
        "disalign",
        "softmax",
        "Zhang et al., Distribution Alignment: A Unified Framework for Long-tail Visual Recognition, CVPR 2021",
        loss="inverse_frequency",
        classifier="disalign",
        start="stage_one",
        lr=0.1,
        epochs=10,
        schedule="cosine",
        loss_params={"power": 1.2},
    ),
)
_FOR_DETECTION = tuple(
    replace(method, background=True, start="fresh", **OF_ROIS)
    for method in (
        _with_loss(_SIGMOID, "droploss", "drop", _DROPLOSS, lambda_=None, form="code"),
        _with_loss(_GUMBEL, "gol", "drop", f"{_GOL}, with DropLoss", lambda_=None, form="code"),
        _with_loss(
            _SIGMOID,
            "federated",
            "federated",
            "Zhou et al., Probabilistic two-stage detection, 2021 (CenterNet2)",
            num_sampled=50,
            power=0.5,
        ),
    )
)


def _posthoc(name: str, paper: str, background: bool = False, **params: Any) -> Method:
    return Method(
        name,
        "softmax",
        paper,
        start="stage_one",
        lr=0.0,
        epochs=0,
        views="clean",
        posthoc=name,
        background=background,
        posthoc_params=params,
    )


_NCM = Method(
    NEAREST_MEAN,
    "softmax",
    f"{_DECOUPLING}, section 4 (NCM)",
    classifier=NEAREST_MEAN,
    start="fresh",
    lr=0.0,
    epochs=0,
    views="clean",
    classifier_params={"space": "centred_l2"},
)
_POSTHOC = (
    _posthoc("tau_norm", f"{_DECOUPLING}, section 4", tau=1.0),
    _posthoc("logit_adjustment", f"{_LOGIT_ADJUSTMENT}, equation 9", tau=1.0),
    _posthoc(
        "iif",
        "Alexandridis et al., Inverse Image Frequency for Long-tailed Image Recognition, 2022",
        variant="raw",
    ),
    _posthoc(
        "norcal",
        "Pan et al., On Model Calibration for Long-Tailed Object Detection and Instance Segmentation, NeurIPS 2021",
        background=True,
        gamma=0.6,
    ),
)
_ALL = (*_PLAIN, *_OTHER_LOSSES, *_OTHER_CLASSIFIERS, _NCM, *_POSTHOC, *_FOR_DETECTION)
METHODS = {method.name: method for method in _ALL}
# What takes each image's one label for granted: losses and corrections that know no background, and class means.
WITHOUT_BACKGROUND = frozenset(
    {
        *("balanced_softmax", "logit_adjusted", "softmax_eql", "mislas_stage2", "ldam_drw"),
        *("ncm", "tau_norm", "logit_adjustment", "iif"),
    }
)
