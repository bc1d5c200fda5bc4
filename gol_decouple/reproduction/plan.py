"""What is run for each column of a published table, and what the papers print there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gol_decouple.config import load_config
from gol_decouple.errors import InputError, unknown
from gol_decouple.report.rows import STAGE_ONE
from gol_decouple.settings import Config, Stage2Config

# Besides the two that the table is about (Softmax retrained, Gumbel) what the field compares with them.
METHODS = (
    *("softmax", "sigmoid", "gumbel_paper", "gumbel", "crt", "gumbel_crt", "lws", "ncm", "tau_norm"),
    *("logit_adjustment", "focal", "class_balanced", "ldam_drw", "softmax_eql", "balanced_softmax"),
    *("balanced_sigmoid", "balanced_gumbel", "disalign", "mislas_stage2"),
)

# What the command sets itself, and what is there instead.
_OWN = {"seed": "--stage1-seeds says how many models are trained", "name": "--runs-dir says where its runs lie"}


@dataclass(frozen=True)
class Column:
    """One dataset with one backbone.

    Attributes:
        name: among the columns of its table.
        title: what a reader calls it.
        config: of stage one.
        changes: to that config, as `--set` takes them.
        epochs: of the paper's stage one.
        balanced_activation: top-1 in percent that the Balanced Activation paper (LVIS workshop 2020) prints in its
            Table 1 for methods of the same losses, of a recipe of its own.
    """

    name: str
    title: str
    config: str
    epochs: int
    changes: tuple[str, ...] = ()
    balanced_activation: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """How much of a table is made, and with what.

    Attributes:
        prefix: what the names of runs begin with.
        stage1_seeds: how many models of each column, with seeds from 0.
        seeds: how many of each method on each model, from 0.
        changes: to every column's config, as `--set` takes them.
        device: None: the configs'.
    """

    prefix: str
    columns: Sequence[Column]
    stage1_seeds: int = 1
    seeds: int = 5
    changes: Sequence[str] = ()
    device: str | None = None

    def run_name(self, column: Column, seed: int) -> str:
        """The name of the run with one model."""
        return f"{self.prefix}_{column.name}_seed{seed}"

    def runs(self, column: Column, runs_dir: Path) -> list[Path]:
        """The folders of a column's runs, whether or not they are there."""
        return [runs_dir / self.run_name(column, seed) for seed in range(self.stage1_seeds)]


def _cifar100_lt(imbalance_factor: int, **balanced_activation: float) -> Column:
    return Column(
        f"if{imbalance_factor}",
        f"CIFAR100-LT, imbalance factor {imbalance_factor}, ResNet-32",
        "cifar100_lt",
        240,
        (f"data.imbalance_factor={imbalance_factor}",),
        balanced_activation,
    )


# GOL, ECCV 2022, Table 4, by dataset; its figures stand in `report.paper`.
TABLE_4: dict[str, tuple[Column, ...]] = {
    "cifar100_lt": (
        _cifar100_lt(50),
        _cifar100_lt(
            100,
            **{STAGE_ONE: 45.3},
            focal=43.8,
            class_balanced=44.6,
            softmax_eql=47.3,
            balanced_softmax=50.3,
        ),
        _cifar100_lt(
            200,
            **{STAGE_ONE: 41.0},
            focal=40.2,
            class_balanced=39.9,
            softmax_eql=43.3,
            balanced_softmax=45.9,
        ),
    ),
    "imagenet_lt": (
        Column("resnet50", "ImageNet-LT, ResNet-50", "imagenet_lt_resnet50", 200),
        Column("seresnet50", "ImageNet-LT, SE-ResNet-50", "imagenet_lt_seresnet50", 200),
    ),
    "places_lt": (Column("resnet152", "Places-LT, ResNet-152", "places_lt_resnet152", 30),),
}
TABLES = {"table4": TABLE_4}


def columns_of(table: str, dataset: str, only: Sequence[str] = ()) -> list[Column]:
    """The columns of a table that are of a dataset, in its order.

    Args:
        only: names of columns; all unless given.

    Raises:
        InputError: there is no such table, dataset or column.
    """
    if table not in TABLES:
        raise unknown("table", table, TABLES)
    if dataset not in TABLES[table]:
        raise unknown("dataset", dataset, TABLES[table])
    columns = {column.name: column for column in TABLES[table][dataset]}
    for name in only:
        if name not in columns:
            raise unknown("column", name, columns)
    return [column for name, column in columns.items() if not only or name in only]


def config_of(wanted: Wanted, column: Column, seed: int) -> Config:
    """What one run of stage one is.

    Raises:
        InputError: a change that does not fit, or that changes what the table is about.
    """
    for key in (change.partition("=")[0].strip() for change in wanted.changes):
        if key in _OWN:
            raise InputError(f"--set {key} is the table's own", _OWN[key])
    name = wanted.run_name(column, seed)
    config = load_config(column.config, [*column.changes, *wanted.changes], seed=seed, device=wanted.device, name=name)
    plain = load_config(column.config, column.changes, seed=seed, name=name)
    if config.data.imbalance_factor != plain.data.imbalance_factor or config.backbone.name != plain.backbone.name:
        raise InputError("the imbalance factor and the backbone are the column's", "choose columns with --only")
    if _of_results(config) != _of_results(plain) or config.methods != plain.methods:
        hint = f"gol-decouple stage2 {name} --set ... adds other settings to a run of the table"
        raise InputError("settings of stage two and of methods are the table's", hint)
    return config


def _of_results(config: Config) -> Stage2Config:
    """The settings of stage two that results depend on."""
    return config.stage2.model_copy(update={"memory_gb": None, "gradients": False, "tensorboard": False})
