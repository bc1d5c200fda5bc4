"""A features file that is there already, finished or begun: the one that is to be written, or refused as another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gol_decouple import belonging
from gol_decouple.distributed import World
from gol_decouple.errors import InputError
from gol_decouple.features import metadata
from gol_decouple.features.layout import Header, LinearWeights, Samples, SplitLayout
from gol_decouple.features.logs import shard_path
from gol_decouple.features.plan import facts, plan_hash
from gol_decouple.features.rois import Regressor
from gol_decouple.progress import Progress

# All that is known of a file before its features are.
Plan = tuple[Header, Mapping[str, SplitLayout]]


def is_written(path: Path, plan: Plan, world: World, progress: Progress, shard: bool = False) -> bool:
    """Whether a finished file of this plan is there; every process calls it.

    Args:
        shard: this process writes a file of its own, so there is none.

    Raises:
        InputError: a file of another plan is there, finished or begun, or a finished one that is damaged.
    """
    if shard:
        _look_at_begun(shard_path(path, world.rank), plan, progress)
        return False
    return world.on_main(lambda: _is_there(path, plan, progress))


def _is_there(path: Path, plan: Plan, progress: Progress) -> bool:
    if not path.exists():
        _look_at_begun(path.with_name(f"{path.name}.partial"), plan, progress)
        return False
    stored = metadata.read(path)
    refuse_other(path, (stored.header, {name: split.layout for name, split in stored.splits.items()}), plan)
    return True


def refuse_other(path: Path, found: Plan, wanted: Plan) -> None:
    """Raise an InputError for a file of another plan, which names what differs."""
    if plan_hash(*found) != plan_hash(*wanted):
        told = f"{path} is of other features than those to be written: {differing_fields(found, wanted)}"
        raise InputError(told, metadata.rebuild_hint(path))


def differing_fields(found: Plan, wanted: Plan) -> str:
    """What two plans that are not equal differ in."""
    differ = belonging.differences(facts(*found), facts(*wanted)) or list(_differing_rows(found, wanted))
    return "; ".join(differ)


def _look_at_begun(path: Path, plan: Plan, progress: Progress) -> None:
    """Refuse a begun file of another plan, which its writer could still finish; one of former weights nobody can, and
    what cannot be read is no loss.
    """
    if not path.exists():
        return
    try:
        found = metadata.read_unfinished(path)
    except InputError:
        return
    before, now = facts(*found), facts(*plan)
    weights = now.get("backbone", {}).get("sha256")
    with_weights = before | {"backbone": before.get("backbone", {}) | {"sha256": weights}}
    if belonging.differences(before, now) and not belonging.differences(with_weights, now):
        progress.warn(f"{path} is of former weights of the model and begun again")
    else:
        refuse_other(path, found, plan)


def _differing_rows(found: Plan, wanted: Plan) -> Iterator[str]:
    """What differs where the facts do not."""
    for name in ("classifier", "regressor"):
        layers: list[LinearWeights | Regressor | None] = [getattr(header, name) for header, _ in (found, wanted)]
        if not _alike(*layers):
            yield f"the {name}'s weights"
    for name, split in wanted[1].items():
        before = found[1][name]
        if before.rows_per_block != split.rows_per_block:
            yield f"{name}: {before.rows_per_block} -> {split.rows_per_block} rows a block"
        elif not _same_rows(before, split):
            yield f"{name}: its labels, its ids or their order"


def _alike(one: LinearWeights | Regressor | None, other: LinearWeights | Regressor | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one.weight, other.weight) and np.array_equal(one.bias, other.bias)


def _same_rows(one: SplitLayout, other: SplitLayout) -> bool:
    if isinstance(one.rows, Samples) and isinstance(other.rows, Samples):
        return np.array_equal(one.rows.labels, other.rows.labels) and np.array_equal(one.rows.ids, other.rows.ids)
    return one.images is not None and other.images is not None and np.array_equal(one.images.ids, other.images.ids)
