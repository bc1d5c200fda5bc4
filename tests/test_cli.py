"""The command line: what it says, where it says it, and the exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RunCli

import gol_decouple
from gol_decouple.config_files import config_names

ROOT = Path(gol_decouple.__file__).parents[1]
LAUNCHERS = {
    "module": [sys.executable, "-m", "gol_decouple"],
    "cli.py": [sys.executable, str(ROOT / "cli.py")],
}


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and bytes of every file below."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def program(launcher: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    command = [*LAUNCHERS[launcher], *(str(argument) for argument in arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def own_run(tmp_path: Path, finished_run: Path) -> Path:
    """A copy of the finished run, `runs/colours`, that a test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / finished_run.name))


# Help, version, and what is imported for them


@pytest.mark.parametrize("arguments", [("--help",), ()])
def test_help_names_the_commands(run_cli: RunCli, arguments: tuple[str, ...]) -> None:
    outcome = run_cli(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    for command in ("stage1", "stage2", "check", "report", "demo"):
        assert command in outcome.out
    assert "gol-decouple" in outcome.out


@pytest.mark.parametrize(
    ("command", "texts"),
    [
        ("stage1", ["CONFIG", *config_names(), "--set", "--data-root", "--device", "--seed", "--runs-dir", "--name"]),
        (
            "stage2",
            [
                "RUN",
                "--activation",
                "--method",
                "--seeds",
                "--seed",
                "--set",
                "--device",
                "--overwrite",
                "--deterministic",
            ],
        ),
        ("check", ["CONFIG", "ANNOTATIONS.json", *config_names(), "--set", "--data-root"]),
        ("convert", ["INPUT", "OUTPUT", "--frequencies-from", "--overwrite"]),
        ("report", ["RUN", "--format", "--baseline", "--runs-dir"]),
        ("predict", ["RUN", "IMAGE", "--method", "--seed", "--top-k", "--format", "--device"]),
        ("evaluate", ["ANNOTATIONS", "RESULTS", "--iou-type", "--evaluator", "--fixed-ap", "--format", "--per-class"]),
        ("export", ["RUN", "--out", "--method", "--seed", "--format", "safetensors", "checkpoint", "onnx"]),
        ("demo", ["--device", "--runs-dir", "--deterministic"]),
        ("tune", ["RUN", "--deterministic"]),
        ("rerun", ["RUN", "--out", "--device"]),
    ],
)
def test_a_commands_help_names_its_arguments(run_cli: RunCli, command: str, texts: list[str]) -> None:
    outcome = run_cli(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    for text in texts:
        assert text in outcome.out


def test_version(run_cli: RunCli) -> None:
    outcome = run_cli("--version")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{gol_decouple.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["report", "RUN"], ["predict", "--help"]),
        *(["stage2", "RUN", "--activation", "gumble"], ["predict", "RUN", "a.png", "--method", "gumble"]),
        ["export", "RUN", "--out", "x", "--method", "gumble"],
    ],
)
def test_light_commands_do_not_wait_for_torch(finished_run: Path, arguments: list[str]) -> None:
    arguments = [str(finished_run) if argument == "RUN" else argument for argument in arguments]
    script = (
        "import sys\n"
        f"sys.argv = {['gol-decouple', *arguments]!r}\n"
        "from gol_decouple.cli import main\n"
        "code = main()\n"
        "heavy = {'torch', 'torchvision', 'h5py', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == (2 if "gumble" in arguments else 0), done.stderr
    assert "imported" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["stage1"]])
def test_every_way_to_start_it_behaves_the_same(tmp_path: Path, arguments: list[str]) -> None:
    module, launcher = (program(name, *arguments, cwd=tmp_path) for name in LAUNCHERS)
    assert (module.returncode, module.stdout, module.stderr) == (launcher.returncode, launcher.stdout, launcher.stderr)
    assert "gol-decouple" in module.stdout + module.stderr
    assert "__main__" not in module.stdout + module.stderr


# Mistakes in the arguments


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["stage3"], "no such command 'stage3'", "gol-decouple --help"),
        (["stage1"], "missing argument 'CONFIG'", "gol-decouple stage1 --help"),
        (["stage2"], "missing argument 'RUN'", "gol-decouple stage2 --help"),
        (["stage1", "digits_lt", "more"], "unexpected extra argument", "gol-decouple stage1 --help"),
        (["stage1", "digits_lt", "--sed", "3"], "no such option", "gol-decouple stage1 --help"),
        (["stage1", "digits_lt", "--set"], "'--set' requires an argument", "--help"),
        (["stage1", "digits_lt", "--seed", "x"], "'--seed'", "gol-decouple stage1 --help"),
        (["stage1", "digits_lt", "--seed", "-1"], "'--seed'", "gol-decouple stage1 --help"),
        (["stage2", "RUN", "--activation", "gumbel", "--seeds", "0"], "'--seeds'", "gol-decouple stage2 --help"),
        (["stage2", "RUN", "--activation", "gumbel", "--seed", "-1"], "'--seed'", "gol-decouple stage2 --help"),
        (["report", "--format", "pdf"], "'pdf' is not one of 'table', 'markdown'", "gol-decouple report --help"),
        (["stage1", "cifar10_tl"], "unknown config 'cifar10_tl'", "did you mean 'cifar10_lt'?"),
        (["stage1", "missing.toml"], "config file missing.toml does not exist", "choose one by name"),
        (["stage1", "digits_lt", "--set", "epochs"], "--set 'epochs' is not of the form key=value", "--set stage1."),
        (["stage1", "digits_lt", "--set", "stage1.epochs=-1"], "--set stage1.epochs=-1: input should be", None),
        (["stage1", "digits_lt", "--name", "a/b"], "--name 'a/b': input should be the name of a folder", None),
        (["stage1", "SMALL", "--set", "backbone.name=resnet23"], "unknown backbone 'resnet23'", "'resnet32'"),
        (["stage1", "SMALL", "--device", "gpu"], "device 'gpu' cannot be used", "--device auto, cpu or cuda"),
        (["stage2", "RUN"], "stage2 needs something to train", "--activation gumbel"),
        (["stage2", "RUN", "--activation", "gumble"], "unknown activation 'gumble'", "did you mean 'gumbel'?"),
        (["stage2", "RUN", "--activation", ""], "unknown activation ''", "choose from: gumbel"),
        (["stage2", "RUN", "--activation", "gumbel_paper"], "unknown activation", "--method gumbel_paper"),
        (["stage2", "RUN", "--method", "gumbell"], "unknown method 'gumbell'", "did you mean 'gumbel'?"),
        (["stage2", "RUN", "--method", "gumbel", "--device", "gpu"], "device 'gpu' cannot be used", "--device auto"),
        (["stage2", "RUN", "--method", "gumbel", "--set", "data.seed=1"], "only stage2.* can be set here", "stage2.lr"),
        (["stage2", "nowhere", "--method", "gumbel"], "nowhere is neither a run folder nor a features file", "stage1"),
        (["stage2", ".", "--method", "gumbel"], "is no run: it has no config.toml", "gol-decouple stage1 CONFIG"),
        (
            ["stage2", "text.txt", "--method", "gumbel"],
            "text.txt is neither a run folder nor a features file",
            "stage1",
        ),
        (["report"], "runs does not exist", "--runs-dir names another folder"),
        (["report", "nowhere"], "nowhere does not exist", "--runs-dir names another folder"),
        (["report", "."], "no finished run in .", "gol-decouple stage1 CONFIG"),
        (["report", "text.txt"], "text.txt is neither a run folder nor a features file", "gol-decouple stage1"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_a_mistake_is_an_error_with_a_hint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished_run: Path,
    small_config: Path,
    run_cli: RunCli,
    arguments: list[str],
    message: str,
    hint: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("hello")
    before = snapshot(finished_run)
    real = {"RUN": finished_run, "SMALL": small_config}
    outcome = run_cli(*(real.get(argument, argument) for argument in arguments))
    assert outcome.code == 2
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    if hint is None:
        assert len(lines) == 1
    else:
        assert lines[1].startswith("hint: ")
        assert hint in lines[1]
        assert len(lines) == 2
    assert snapshot(finished_run) == before
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"], "nothing is left behind"


def test_a_runs_dir_that_is_a_file(tmp_path: Path, small_config: Path, run_cli: RunCli) -> None:
    (tmp_path / "runs").write_text("")
    outcome = run_cli("stage1", small_config, "--runs-dir", tmp_path / "runs")
    assert (outcome.code, outcome.out) == (2, "")
    assert f"error: --runs-dir {tmp_path / 'runs'} is not a folder\n" in outcome.err


def test_a_setting_that_acts_on_none_of_the_methods_is_a_warning(
    tmp_path: Path, finished_run: Path, run_cli: RunCli
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    one = run_cli("stage2", run, "--method", "softmax", "--set", "stage2.q_min=-3", "--set", "stage2.epochs=1")
    assert one.code == 0
    assert "warning: stage2.q_min has no effect on softmax\n" in one.err
    both = ("--method", "softmax", "--method", "gumbel")
    assert "warning" not in run_cli("stage2", run, *both, "--set", "stage2.q_min=-3", "--set", "stage2.epochs=1").err


# Runs that are there already


def test_the_same_config_again_keeps_everything(own_run: Path, small_config: Path, run_cli: RunCli) -> None:
    before = snapshot(own_run)
    for more in ([], ["--device", "cpu"], ["--set", "stage1.num_workers=1"]):
        outcome = run_cli("stage1", small_config, "--runs-dir", own_run.parent, *more)
        assert outcome.code == 0, outcome.err
        assert f"{own_run} is finished and kept as it is (--overwrite trains it again)" in outcome.err
        assert f"next: gol-decouple stage2 {own_run} --activation gumbel" in outcome.err
        assert "softmax" in outcome.out
    assert snapshot(own_run) == before


def test_another_config_of_the_same_name_is_refused(own_run: Path, small_config: Path, run_cli: RunCli) -> None:
    before = snapshot(own_run)
    overrides = ["--set", "stage1.lr=0.2", "--set", "transform.flip=false"]
    outcome = run_cli("stage1", small_config, "--runs-dir", own_run.parent, "--seed", 3, *overrides)
    assert (outcome.code, outcome.out) == (2, "")
    for difference in ("seed: 0 -> 3", "stage1.lr: 0.01 -> 0.2", "transform.flip: True -> False"):
        assert difference in outcome.err
    assert "hint: choose another --name or --runs-dir, or replace the run" in outcome.err
    assert "--overwrite" in outcome.err
    assert snapshot(own_run) == before


def test_another_name_makes_another_run(own_run: Path, small_config: Path, run_cli: RunCli) -> None:
    before = snapshot(own_run)
    arguments = ["--runs-dir", own_run.parent, "--name", "my run", "--set", "stage1.epochs=1"]
    outcome = run_cli("stage1", small_config, *arguments)
    assert outcome.code == 0, outcome.err
    assert f"next: gol-decouple stage2 '{own_run.parent / 'my run'}' --activation gumbel" in outcome.err
    assert (own_run.parent / "my run" / "manifest.json").is_file()
    assert snapshot(own_run) == before


def test_overwrite_replaces_a_run_and_what_was_retrained_on_it(
    own_run: Path, small_config: Path, run_cli: RunCli
) -> None:
    assert run_cli("stage2", own_run, "--activation", "gumbel", "--set", "stage2.epochs=1").code == 0
    arguments = ["stage1", small_config, "--runs-dir", own_run.parent, "--overwrite", "--set", "stage1.epochs=1"]
    outcome = run_cli(*arguments)
    assert outcome.code == 0, outcome.err
    assert f"replacing the run in {own_run} (--overwrite)" in outcome.err
    assert "epochs = 1\n" in (own_run / "config.toml").read_text()
    assert len((own_run / "log.csv").read_text().splitlines()) == 2
    assert not (own_run / "stage2").exists()


def test_overwriting_with_a_mistake_loses_nothing(own_run: Path, small_config: Path, run_cli: RunCli) -> None:
    before = snapshot(own_run)
    for mistake in (["--data-root", "missing.npz"], ["--set", "backbone.name=x"], ["--device", "gpu"]):
        outcome = run_cli("stage1", small_config, "--runs-dir", own_run.parent, "--overwrite", *mistake)
        assert (outcome.code, outcome.out) == (2, ""), outcome.err
        assert snapshot(own_run) == before


def test_features_that_were_removed_are_made_again(own_run: Path, small_config: Path, run_cli: RunCli) -> None:
    features = (own_run / "features.h5").read_bytes()
    (own_run / "features.h5").unlink()
    refused = run_cli("stage2", own_run, "--activation", "gumbel")
    assert (refused.code, refused.out) == (2, "")
    assert f"stage one of {own_run} is not finished" in refused.err
    command = refused.err.split("continue it: gol-decouple ")[1].split()
    outcome = run_cli(*command)
    assert outcome.code == 0, outcome.err
    assert "stage one:" not in outcome.err, "the training was done"
    assert len((own_run / "features.h5").read_bytes()) == len(features)
    assert run_cli("stage2", own_run, "--activation", "gumbel", "--set", "stage2.epochs=1").code == 0


# Stage two


def test_classifiers_that_are_there_are_kept(own_run: Path, run_cli: RunCli) -> None:
    first = run_cli("stage2", own_run, "--activation", "gumbel", "--set", "stage2.epochs=1")
    assert first.code == 0, first.err
    before = snapshot(own_run)
    both = ["--activation", "gumbel", "--method", "gumbel", "--activation", "softmax"]
    second = run_cli("stage2", own_run, *both, "--set", "stage2.epochs=1")
    assert second.err.count("is finished and kept as it is") == 1, "a method named twice is one classifier"
    after = snapshot(own_run)
    assert {path: after[path] for path in before} == before
    assert len(list((own_run / "stage2").iterdir())) == 2


def test_overwrite_trains_a_classifier_again(own_run: Path, run_cli: RunCli) -> None:
    arguments = ["stage2", own_run, "--activation", "gumbel", "--set", "stage2.epochs=1"]
    assert run_cli(*arguments).code == 0
    (folder,) = (own_run / "stage2").iterdir()
    before = snapshot(folder)
    outcome = run_cli(*arguments, "--overwrite")
    assert "kept as it is" not in outcome.err
    after = snapshot(folder)
    assert all(after[path][0] > before[path][0] for path in before), "every file is new"
    weights = str(folder / "classifier.safetensors")
    assert after[weights][1] == before[weights][1], "and the same, as the seed is"


def test_settings_of_the_runs_config_hold_and_set_comes_before_them(own_run: Path, run_cli: RunCli) -> None:
    config = own_run / "config.toml"
    config.write_text(config.read_text().replace("[stage2]", "[stage2]\nlr = 0.5\nepochs = 2"))
    outcome = run_cli("stage2", own_run, "--activation", "softmax", "--set", "stage2.epochs=1", "--seed", 4)
    assert outcome.code == 0, outcome.err
    (folder,) = (own_run / "stage2").iterdir()
    assert folder.name.startswith("softmax-epochs1-lr0.5-seed4-")


def test_a_features_file_outside_a_run(
    tmp_path: Path, own_run: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.move(own_run / "features.h5", "dino.h5")
    outcome = run_cli("stage2", "dino.h5", "--activation", "softmax", "--set", "stage2.epochs=1", "--runs-dir", "out")
    assert outcome.code == 0, outcome.err
    assert [path.name.split("-seed")[0] for path in (tmp_path / "out" / "dino" / "stage2").iterdir()] == [
        "softmax-epochs1"
    ]
    rows = json.loads(run_cli("report", "dino.h5", "--runs-dir", "out", "--format", "json").out)
    assert [(row["run"], row["stage"], row["method"]) for row in rows] == [("dino", 2, "softmax")]


# Reports


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"stage": ', "is not readable JSON"),
        ("[]", "does not hold a JSON object"),
        ("{}", "is not a manifest of a run"),
    ],
)
def test_a_damaged_manifest_is_named(own_run: Path, run_cli: RunCli, text: str, message: str) -> None:
    (own_run / "manifest.json").write_text(text)
    outcome = run_cli("report", own_run)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {own_run / 'manifest.json'} {message}")


def test_a_damaged_manifest_can_be_made_again(own_run: Path, small_config: Path, run_cli: RunCli) -> None:
    manifest = own_run / "manifest.json"
    manifest.write_text("{")
    refused = run_cli("report", own_run)
    assert f"hint: remove {manifest} and repeat the command that made it" in refused.err
    manifest.unlink()
    outcome = run_cli("stage1", small_config, "--runs-dir", own_run.parent)
    assert outcome.code == 0, outcome.err
    assert "stage one:" not in outcome.err, "nothing is trained again"
    assert manifest.is_file()


def test_results_go_to_stdout_and_everything_else_to_stderr(own_run: Path, run_cli: RunCli) -> None:
    outcome = run_cli("stage2", own_run, "--activation", "gumbel", "--set", "stage2.epochs=1")
    assert "top-1" in outcome.out
    assert "next:" not in outcome.out
    assert "gumbel (lr 1e-05, seed 0): " in outcome.err
    assert f"next: gol-decouple report {own_run} --format markdown" in outcome.err
    assert "top-1" not in outcome.err


@pytest.mark.parametrize("format_", ["table", "json"])
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path, finished_run: Path, format_: str) -> None:
    script = (
        "import os, sys\n"
        "read, write = os.pipe()\n"
        "os.dup2(write, 1); os.close(read); os.close(write)\n"
        f"sys.argv = ['gol-decouple', 'report', {str(finished_run)!r}, '--format', {format_!r}]\n"
        "from gol_decouple.cli import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
