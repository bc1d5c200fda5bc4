"""Features files: finished ones, by all their blocks, and those that are being written."""

from __future__ import annotations

from pathlib import Path

from gol_decouple import runs
from gol_decouple.doctor.findings import Finding, State, examined
from gol_decouple.errors import InputError
from gol_decouple.features import FeaturesFile, open_features
from gol_decouple.features.logs import is_shard, logs_of
from gol_decouple.features.verification import damage, read_unfinished_blocks
from gol_decouple.progress import Progress

KIND = "features file"


def features_file(path: Path, progress: Progress) -> Finding:
    """What stage two would find on opening it and reading every block."""

    def read() -> str:
        features = open_features(path)
        errors = list(damage(features, progress))
        if errors:
            more = f"; so are {len(errors) - 1:,} more blocks" if len(errors) > 1 else ""
            raise InputError(f"{errors[0].message}{more}", errors[0].hint)
        return _describe(features)

    return examined(path, KIND, read)


def unfinished_file(path: Path, continues: str) -> Finding:
    """A file that is being written, or was as its process was stopped; or one process's share of it.

    Args:
        continues: the command that goes on with it.
    """
    kind = "share of a features file" if is_shard(path) else "unfinished features file"
    found = examined(path, kind, lambda: "")
    if found.state is not State.in_order:
        return found
    try:
        blocks = read_unfinished_blocks(path)
    except InputError as error:
        # A process that is killed as it makes the file leaves one that HDF5 cannot open.
        told = f"{path} was not begun to the end ({error.message.removeprefix(f'{path} ')}), and is begun anew"
        return Finding(path, kind, State.unfinished, told, continues)
    told = f"{path} has {blocks.done:,} of {blocks.total:,} blocks"
    if blocks.damaged:
        told += f"; {blocks.damaged:,} more are not as they were written, and are written again"
    if is_shard(path) and blocks.damaged:
        return Finding(path, kind, State.damaged, told, f"continue with: {continues}")
    return Finding(path, kind, State.unfinished, told, f"continue with: {continues}")


def lost_logs(folder: Path) -> list[Finding]:
    """Logs of files that are not there any more."""
    partial = folder / f"{runs.FEATURES}.partial"
    return [
        Finding(log, "log of an unfinished features file", State.left_over, f"{log} is of no file", f"remove {log}")
        for log in logs_of(partial)
        if not partial.exists()
    ]


def _describe(features: FeaturesFile) -> str:
    what = "RoIs" if features.is_detection else "samples"
    splits = []
    for name in features.splits:
        views, count, _ = features[name].features.shape
        splits.append(f"{name} {f'{views} x ' if views > 1 else ''}{count:,}")
    checked = "every block as written" if features.checked else "no checksums, as it was written elsewhere"
    return f"{', '.join(splits)} {what}, {len(features.classes):,} classes, {checked}"
