"""Named methods: each one a choice of the five parts (activation, loss, sampler, classifier, start) and a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from gol_decouple.errors import unknown


@dataclass(frozen=True)
class Method:
    """One way to retrain a classifier; `settings` are what a user may change, the parts are what the name means.

    Attributes:
        start: "stage_one", the Softmax classifier's weights, or "fresh", small weights at the activation's prior point.
        views: "clean", or "random": any of a sample's cached views, drawn anew each epoch.
        precision: dtype of the matrix products; weights, loss and momentum are float32.
        clip_norm: largest norm of a step's gradient, over weight and bias together; None leaves it as it is.
        background: whether it is for features with background samples only.
        activation_params, loss_params: parameters with their values, as `activations.get` and `losses.get` take them.
    """

    name: str
    activation: str
    paper: str
    start: str
    lr: float
    epochs: int
    loss: str = "cross_entropy"
    sampler: str = "random"
    classifier: str = "linear"
    views: str = "random"
    schedule: str = "constant"
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float | None = None
    precision: str = "float32"
    background: bool = False
    activation_params: Mapping[str, Any] = field(default_factory=dict)
    loss_params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything a user may change, with its value."""
        return {name: getattr(self, name) for name in SETTINGS} | {**self.activation_params, **self.loss_params}

    def with_settings(self, **changes: Any) -> Method:
        """This method with some settings changed; None leaves a setting as it is.

        Raises:
            InputError: the method has no such setting.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        for name in changes:
            if name not in self.settings:
                raise unknown(f"setting of method {self.name!r}", name, self.settings)
        activation_params, loss_params = (
            {name: changes.pop(name, value) for name, value in params.items()}
            for params in (self.activation_params, self.loss_params)
        )
        return replace(self, **changes, activation_params=activation_params, loss_params=loss_params)

    def changes_from_default(self) -> dict[str, Any]:
        """The settings in which this differs from the method of its name."""
        default = get(self.name).settings
        return {name: value for name, value in self.settings.items() if value != default[name]}

    def as_dict(self) -> dict[str, Any]:
        """What it is, as plain values: every field but those at their default, to which new ones can be added."""
        defaults: dict[str, Any] = {field.name: field.default for field in fields(self)}
        defaults["loss_params"] = {}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}


SETTINGS = (
    *("start", "lr", "epochs", "schedule", "views"),
    *("batch_size", "momentum", "weight_decay", "clip_norm", "precision"),
)
_DECOUPLING = "Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020"
_GOL = "Alexandridis et al., Long-tailed Instance Segmentation using Gumbel Optimized Loss, ECCV 2022"
_GUMBEL_PARAMS = {"q_min": -4.0}

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
        f"{_DECOUPLING}, section 4.1 (cRT)",
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
        "Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021, equation 10",
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
_FOR_DETECTION = tuple(
    replace(method, background=True)
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
METHODS = {method.name: method for method in (*_PLAIN, *_OTHER_LOSSES, *_FOR_DETECTION)}


def get(name: str) -> Method:
    """The method called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def select(patterns: Sequence[str], background: bool = False) -> list[str]:
    """Names of the methods that match, in the order of the patterns; `*`, `?` and `[...]` as in file names, or "all".

    Args:
        background: whether patterns find the methods for features with background too; names in full always do.

    Raises:
        InputError: a pattern that nothing matches.
    """
    found: list[str] = []
    for pattern in patterns:
        wanted = "*" if pattern == "all" else pattern
        matching = [name for name in METHODS if fnmatchcase(name, wanted)]
        if pattern not in METHODS and not background:
            matching = [name for name in matching if not METHODS[name].background]
        if not matching:
            raise unknown("method", pattern, METHODS)
        found += matching
    return list(dict.fromkeys(found))


def first_softmax() -> Method:
    """What gives methods a Softmax classifier to start from, on a features file that has none."""
    return get("softmax").with_settings(start="fresh")


def apply_settings(methods: list[Method], changes: Mapping[str, Any]) -> list[Method]:
    """Each method with the changes that it has a setting for."""
    return [
        method.with_settings(**{name: value for name, value in changes.items() if name in method.settings})
        for method in methods
    ]
