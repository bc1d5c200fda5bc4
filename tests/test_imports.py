"""Imports run one way, the light modules stay light, and the public names stay."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gol_decouple

PACKAGE = Path(gol_decouple.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module may import from its own row and from the rows below it.
ROWS = (
    ("__main__", "cli"),
    ("export", "doctor"),
    ("analyses", "reproduction"),
    ("stages", "report"),
    ("detection",),
    ("features",),
    ("data", "backbones"),
    ("losses", "classifiers", "samplers", "posthoc"),
    ("activations",),
    ("methods", "bootstrap", "predictions", "metrics", "class_stats", "schedules", "reported_ap"),
    ("belonging", "targets"),
    ("config", "runs", "distributed", "runtime", "lanes", "sealed_tensors", "determinism", "provenance"),
    ("settings", "progress", "files", "zip_files", "stopping", "launch", "locks", "zipped_arrays", "toml_texts"),
    ("detector_settings",),
    ("setting_types",),
    ("limits", "plain_text", "config_files"),
    ("errors", "__init__"),
)
ROW_OF = {part: row for row, parts in enumerate(ROWS) for part in parts}
WITHOUT_TORCH = (
    "reproduction.tables",
    *("report.collected", "report.written", "report.latex", "report.markdown", "report.per_class_tables"),
    *("cli", "report.rows", "report.gains", "report.tables", "report.study_tables", "methods", "bootstrap"),
    *("predictions", "metrics"),
    *("class_stats", "detection"),
    *("config", "runs", "errors", "launch", "stopping", "zip_files", "provenance"),
)
HEAVY = {"torch", "h5py", "sklearn", "torchvision", "lvis", "cv2", "pycocotools", "matplotlib"}
ONLY_IN = {
    "rich": ("cli/", "progress/", "report/"),
    "typer": ("cli/",),
    "h5py": ("features/",),
    "lvis": ("detection/",),
    "jinja2": ("report/page/",),
    "markupsafe": ("report/page/",),
    "matplotlib": ("analyses/", "report/figures/"),
    "pycocotools": ("detection/", "data/"),
    "timm": ("backbones/",),
    "torchvision": ("data/", "backbones/"),
    "sklearn": ("data/",),
}


def imported(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(dotted: str) -> str:
    """`gol_decouple.features.store.read` -> `features`; the package itself -> `__init__`."""
    pieces = dotted.split(".")
    return pieces[1] if len(pieces) > 1 and pieces[1] in ROW_OF else "__init__"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(module: Path) -> None:
    own = module.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return  # lazy: names what it offers, imports nothing
    assert own in ROW_OF, f"{own} has no row"
    for name in imported(module):
        if name.split(".")[0] == "gol_decouple":
            assert ROW_OF[part(name)] >= ROW_OF[own], f"{own} imports {name}"


@pytest.mark.parametrize("library", list(ONLY_IN))
def test_libraries_stay_where_they_belong(library: str) -> None:
    for module in MODULES:
        name = str(module.relative_to(PACKAGE))
        if any(dotted.split(".")[0] == library for dotted in imported(module)):
            assert name.startswith(ONLY_IN[library]), f"{name} imports {library}"


def test_light_modules_do_not_import_torch() -> None:
    lines = [f"import gol_decouple.{name}" for name in WITHOUT_TORCH]
    lines += [
        "import sys",
        f"assert not {HEAVY} & set(sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_a_report_reads_no_settings_and_no_data() -> None:
    """Their imports take as long as all the others of a report."""
    lines = [f"import gol_decouple.{name}" for name in ("cli", "report.collected", "report.written")]
    lines += ["import sys", "heavy = {'gol_decouple.settings', 'gol_decouple.data', 'PIL', 'gol_decouple.detection'}"]
    lines += ["assert not heavy & set(sys.modules), heavy & set(sys.modules)"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_public_names_stay() -> None:
    for name in ("activations", "detection", "losses", "features", "retrain", "evaluate", "__version__"):
        assert name in dir(gol_decouple)
        assert getattr(gol_decouple, name) is not None
    for name in ("write", "open", "RoiWriter"):
        assert callable(getattr(gol_decouple.features, name))
    for name in ("evaluate_lvis", "prepare"):
        assert callable(getattr(gol_decouple.detection, name))
    with pytest.raises(AttributeError, match="has no attribute 'retrian'"):
        _ = gol_decouple.retrian


def test_no_file_is_where_everything_ends_up() -> None:
    for module in MODULES:
        assert len(module.read_text(encoding="utf-8").splitlines()) <= 320, module
