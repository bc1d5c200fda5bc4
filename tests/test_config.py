"""Configs: what is read, what is overridden, what is refused and how the refusal helps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gol_decouple.config import differing_fields, load_config, override_section, to_toml
from gol_decouple.config_files import config_names
from gol_decouple.errors import InputError
from gol_decouple.schedules import lr_factor
from gol_decouple.settings import Config, Stage2Config

MINIMAL = """
[data]
kind = "digits"
[backbone]
name = "resnet32"
[stage1]
epochs = 6
"""


@pytest.fixture
def minimal(tmp_path: Path) -> str:
    path = tmp_path / "minimal.toml"
    path.write_text(MINIMAL)
    return str(path)


def refusal(*arguments: Any, **settings: Any) -> InputError:
    with pytest.raises(InputError) as raised:
        load_config(*arguments, **settings)
    return raised.value


def decays(config: Config) -> list[int]:
    """The epochs, from 0, at whose first step the learning rate falls."""
    stage1 = config.stage1
    assert stage1.recipe_epochs is not None
    shares = [milestone / stage1.recipe_epochs for milestone in stage1.milestones]
    factors = [lr_factor(stage1.schedule, epoch / stage1.epochs, shares, 0.5) for epoch in range(stage1.epochs)]
    return [epoch for epoch in range(1, stage1.epochs) if factors[epoch] < factors[epoch - 1]]


# What is read


@pytest.mark.parametrize("overrides", [[], ["stage1.epochs=12"], ["stage2.q_min=-3", "data.path=x y", "seed=5"]])
@pytest.mark.parametrize("name", config_names())
def test_a_config_written_and_read_again_is_the_same(tmp_path: Path, name: str, overrides: list[str]) -> None:
    config = load_config(name, overrides)
    assert config.name == name
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    again = load_config(str(path))
    assert again == config
    assert differing_fields(again, config) == []


def test_there_are_configs() -> None:
    assert {"cifar100_lt", "cifar10_lt", "digits_lt"} <= set(config_names())


def test_the_shipped_recipe_is_the_papers() -> None:
    config = load_config("cifar100_lt")
    stage1 = config.stage1
    assert (stage1.epochs, stage1.batch_size, stage1.lr, stage1.gamma) == (240, 64, 0.1, 0.01)
    assert (stage1.momentum, stage1.weight_decay, stage1.recipe_epochs) == (0.9, 2e-4, 240)
    assert decays(config) == [200, 220]


@pytest.mark.parametrize(
    ("epochs", "expected"), [(240, [200, 220]), (120, [100, 110]), (12, [10, 11]), (480, [400, 440])]
)
def test_milestones_scale_with_the_epochs(tmp_path: Path, epochs: int, expected: list[int]) -> None:
    config = load_config("cifar100_lt", [f"stage1.epochs={epochs}"])
    assert decays(config) == expected
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert decays(load_config(str(path))) == expected
    assert decays(load_config(str(path), ["stage1.epochs=24"])) == [20, 22]


def test_a_length_that_only_an_override_gives_is_the_recipes(tmp_path: Path) -> None:
    path = tmp_path / "bare.toml"
    path.write_text(MINIMAL.replace("[stage1]\nepochs = 6\n", ""))
    config = load_config(str(path), ["stage1.epochs=12"])
    assert config.stage1.recipe_epochs == 12
    path.write_text(to_toml(config))
    assert differing_fields(load_config(str(path)), config) == []


def test_a_recipes_length_can_be_given(minimal: str) -> None:
    assert load_config(minimal, ["stage1.recipe_epochs=240", "stage1.epochs=12"]).stage1.recipe_epochs == 240
    assert load_config(minimal).stage1.recipe_epochs == 6


def test_what_is_typed_for_the_run_leaves_the_rest_in_the_recipes_proportion(minimal: str) -> None:
    recipe = ["stage1.recipe_epochs=100", "stage1.epochs=10"]
    path = Path(minimal)
    path.write_text(path.read_text() + "warmup_epochs = 5\nmilestones = [60, 80]\n", encoding="utf-8")
    stage1 = load_config(minimal, [*recipe[1:], "stage1.warmup_epochs=2"]).stage1
    assert (stage1.recipe_epochs, stage1.warmup_epochs) == (10, 2)
    assert stage1.milestones == pytest.approx((60 * 10 / 6, 80 * 10 / 6))
    stage1 = load_config(minimal, [*recipe[1:], "stage1.milestones=[3]"]).stage1
    assert (stage1.recipe_epochs, stage1.milestones) == (10, (3,))
    assert stage1.warmup_epochs == pytest.approx(5 * 10 / 6)
    both = load_config(minimal, [*recipe, "stage1.warmup_epochs=2"]).stage1
    assert (both.recipe_epochs, both.warmup_epochs, both.milestones) == (100, 2, (60, 80))


@pytest.mark.parametrize("warmup", [6, 7.5])
def test_a_warm_up_must_end_before_the_training(minimal: str, warmup: float) -> None:
    error = refusal(minimal, [f"stage1.warmup_epochs={warmup}"])
    assert f"warmup_epochs, {float(warmup)}, should be less than the 6 epochs it is written for" in error.message


def test_the_name_is_the_files_unless_given(minimal: str) -> None:
    assert load_config(minimal).name == "minimal"
    assert load_config(minimal, name="other run").name == "other run"
    Path(minimal).write_text(f'name = "own"\n{MINIMAL}')
    assert load_config(minimal).name == "own"
    assert load_config(minimal, ["name=set"], name=None).name == "set"


def test_options_replace_top_level_fields(minimal: str) -> None:
    config = load_config(minimal, ["seed=3"], seed=4, device="cpu")
    assert (config.seed, config.device) == (4, "cpu")
    assert load_config(minimal, ["seed=3"], seed=None).seed == 3


# Overrides


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("stage1.lr=1e-3", "stage1", "lr", 0.001),
        ("stage1.lr=1", "stage1", "lr", 1.0),
        ("stage1.lr=.5", "stage1", "lr", 0.5),
        ("stage1.epochs=1_000", "stage1", "epochs", 1000),
        (" stage1.epochs = 20 ", "stage1", "epochs", 20),
        ("stage1.milestones=[3, 5]", "stage1", "milestones", (3.0, 5.0)),
        ("stage1.milestones=[]", "stage1", "milestones", ()),
        ("transform.mean=[0, 0.5, 1]", "transform", "mean", (0.0, 0.5, 1.0)),
        ("transform.flip=true", "transform", "flip", True),
        ("stage1.schedule=cosine", "stage1", "schedule", "cosine"),
        ("data.path=123", "data", "path", "123"),
        ("data.path=true", "data", "path", "true"),
        ('data.path="quoted"', "data", "path", '"quoted"'),
        ("data.path=a=b.npz", "data", "path", "a=b.npz"),
        ("data.path=[1]", "data", "path", "[1]"),
        ("data.name=2024-01-01", "data", "name", "2024-01-01"),
        ("transform.auto_augment=imagenet", "transform", "auto_augment", "imagenet"),
    ],
)
def test_an_override_is_toml_or_the_text_as_typed(
    minimal: str, override: str, section: str, field: str, value: object
) -> None:
    found = getattr(getattr(load_config(minimal, [override]), section), field)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["true", "123", "1e5", "[x]", "a.b"])
def test_a_run_can_be_called_anything_that_is_a_folders_name(minimal: str, text: str) -> None:
    assert load_config(minimal, [f"name={text}"]).name == text


def test_the_last_override_wins(minimal: str) -> None:
    assert load_config(minimal, ["stage1.epochs=2", "stage1.epochs=3"]).stage1.epochs == 3


def test_a_home_folder_is_filled_in(tmp_path: Path, minimal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(minimal).write_text(MINIMAL.replace('kind = "digits"', 'kind = "npz"\npath = "~/a.npz"'))
    assert load_config(minimal).data.path == os.path.join(tmp_path, "a.npz")


def test_a_section_within_a_section_is_set_and_kept(tmp_path: Path, minimal: str) -> None:
    before = load_config(minimal)
    settings = ["data.lists.train=1.txt", "data.lists.folder=~", "data.kind=list"]
    config = load_config(minimal, settings)
    assert (config.data.lists.train, config.data.lists.folder) == ("1.txt", os.path.expanduser("~"))
    (tmp_path / "again.toml").write_text(to_toml(config))
    assert load_config(str(tmp_path / "again.toml"), name=config.name) == config
    assert "data.lists.train: None -> 1.txt" in differing_fields(before, config)


# Refusals


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("epochs", "--set 'epochs' is not of the form key=value", "--set stage1.epochs=20"),
        ("=3", "--set '=3' is not of the form key=value", "--set stage1.epochs=20"),
        ("stage1=3", "--set stage1=3: stage1 is a section", "--set stage1.KEY=VALUE"),
        ("stage1={epochs = 3}", "stage1 is a section", "--set stage1.KEY=VALUE"),
        ("stage1.epoch=3", "--set stage1.epoch=3: unknown key 'stage1.epoch'", "did you mean 'epochs'?"),
        ("stag1.epochs=3", "--set stag1.epochs=3: unknown key 'stag1'", "did you mean 'stage1'?"),
        ("epochs=3", "--set epochs=3: unknown key 'epochs'", "did you mean stage1.epochs or stage2.epochs?"),
        ("stage1.q_min=-3", "unknown key 'stage1.q_min'", "did you mean stage2.q_min?"),
        ("a.b.c=3", "--set a.b.c=3: unknown key 'a'", "choose from: backbone, data"),
        ("stage1.epochs.x=3", "--set stage1.epochs.x=3: 'epochs' is a value, not a section", None),
        (
            "data.train=a.txt",
            "--set data.train=a.txt: unknown key 'data.train'",
            "did you mean data.lists.train or data.annotations.train?",
        ),
        ("data.lists.trian=a", "--set data.lists.trian=a: unknown key 'data.lists.trian'", "did you mean 'train'?"),
        ("data.lists.skip=a", "--set data.lists.skip=a: unknown key 'data.lists.skip'", "did you mean data.skip?"),
        ("data.list.train=a", "--set data.list.train=a: unknown key 'data.list'", "did you mean 'lists'?"),
        ("data.lists=a.txt", "--set data.lists=a.txt: data.lists is a section", "--set data.lists.KEY=VALUE"),
        ("data.lists.train.x=a", "--set data.lists.train.x=a: input should be a valid string", None),
        ("stage1.epochs=", "--set stage1.epochs=: input should be a valid integer", None),
        ("stage1.epochs=ten", "--set stage1.epochs=ten: input should be a valid integer", None),
        ("stage1.epochs=2.5", "--set stage1.epochs=2.5: input should be a valid integer", None),
        ("stage1.epochs=true", "--set stage1.epochs=true: input should be a finite number", None),
        ("stage1.epochs=[1, 2]", "--set stage1.epochs=[1, 2]: input should be a valid integer", None),
        ("stage1.epochs=1\nx=2", "input should be a valid integer", None),
        ("stage1.batch_size=0", "--set stage1.batch_size=0: input should be greater than 0", None),
        ("stage1.epochs=-3", "input should be greater than or equal to 0", None),
        ("stage1.batch_size=3000000000", "input should be less than 2147483648", None),
        ("stage1.lr=0", "--set stage1.lr=0: input should be greater than 0", None),
        ("stage1.lr=true", "input should be a finite number", None),
        ("stage1.lr=nan", "input should be a finite number", None),
        ("stage1.lr=inf", "input should be a finite number", None),
        ("stage1.lr=1e300", "input should be a finite number, of at most 1e38", None),
        ("stage1.momentum=1", "input should be less than 1", None),
        ("stage1.schedule=cos", "input should be 'constant', 'cosine' or 'step'", None),
        ("data.kind=image", "input should be 'digits', 'cifar10', 'cifar100', 'npz', 'folder', 'list' or 'lvis'", None),
        ("data.imbalance_factor=0.5", "input should be greater than or equal to 1", None),
        ("data.seed=-1", "input should be greater than or equal to 0", None),
        ("data.seed=4294967296", "input should be less than 4294967296", None),
        ("transform.mean=[0.5]", "transform.mean[1] is missing, transform.mean[2] is missing", None),
        ("transform.mean=[nan, 0, 0]", "input should be a finite number", None),
        ("transform.std=[0, 0, 0]", "--set transform.std=[0, 0, 0]: input should be greater than 0", None),
        ("stage2.q_min=1", "input should be less than 0", None),
        ("stage2.q_min=-100", "input should be greater than or equal to -80", None),
        ("name=", "--set name=: input should be the name of a folder, not a path", None),
    ],
)
def test_a_wrong_override_is_named(minimal: str, override: str, message: str, hint: str | None) -> None:
    error = refusal(minimal, [override])
    assert message in error.message
    assert "minimal.toml" not in error.message, "the file is not to blame"
    assert error.message.count("input should be") <= 1, "one mistake is told once"
    if hint is None:
        assert error.hint is None
    else:
        assert hint in str(error.hint)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a/", "../a", "a\nb", "a\x00b"])
def test_a_runs_name_is_a_folders(minimal: str, name: str) -> None:
    assert refusal(minimal, name=name).message == f"--name {name!r}: input should be the name of a folder, not a path"


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("[stage1]\nepochs = 6", "", "minimal.toml: stage1 is missing", "examples lie in"),
        (MINIMAL, "", "minimal.toml: data is missing, backbone is missing, stage1 is missing", "examples lie in"),
        ("epochs = 6", "lr = 1", "minimal.toml: stage1.epochs is missing", "examples lie in"),
        ("epochs = 6", 'epochs = "ten"', "minimal.toml: stage1.epochs = 'ten': input should be a valid integer", None),
        (
            "epochs = 6",
            "epochs = -1",
            "stage1.epochs = -1: input should be greater than or equal to 0",
            None,
        ),
        ("epochs = 6", "epochs = 6\nepoch = 7", "minimal.toml: unknown key 'stage1.epoch'", "did you mean 'epochs'?"),
        ('[data]\nkind = "digits"', "data = 3", "minimal.toml: data is a section, not a value", None),
        ("[data]", "name = 5\n[data]", "minimal.toml: name = 5: input should be a valid string", None),
        ("[data]", "[datas]\n[data]", "minimal.toml: unknown key 'datas'", "did you mean 'data'?"),
        ('"digits"', "digits", "minimal.toml is not valid TOML: Invalid value (at line 3", "texts need quotes"),
        ("epochs = 6", "epochs = [", "minimal.toml is not valid TOML", "examples lie in"),
        ("epochs = 6", f"epochs = {'1' * 5000}", "minimal.toml is not valid TOML", "examples lie in"),
    ],
)
def test_a_wrong_file_is_named(minimal: str, old: str, new: str, message: str, hint: str | None) -> None:
    assert old in MINIMAL
    Path(minimal).write_text(MINIMAL.replace(old, new))
    error = refusal(minimal)
    assert message in error.message
    assert error.message.count("input should be") <= 1, "one mistake is told once"
    if hint is None:
        assert error.hint is None
    else:
        assert hint in str(error.hint)


def test_every_mistake_is_told_at_once(minimal: str) -> None:
    Path(minimal).write_text(MINIMAL.replace("epochs = 6", "epochs = -1\nlr = -1\nfoo = 1"))
    error = refusal(minimal, ["stage2.lr=0"])
    for part in ("stage1.epochs = -1", "stage1.lr = -1", "unknown key 'stage1.foo'", "; --set stage2.lr=0: input"):
        assert part in error.message


def test_bytes_that_are_no_text_are_not_toml(minimal: str) -> None:
    Path(minimal).write_bytes(b"\xff\xfe")
    assert "is not valid TOML" in refusal(minimal).message


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("cifar10_tl", "unknown config 'cifar10_tl'", "did you mean 'cifar10_lt'?"),
        ("nosuch", "unknown config 'nosuch'", "choose from: cifar100_lt, cifar100_lt_mixup, cifar10_lt"),
        (
            "nosuch.toml",
            "config file nosuch.toml does not exist",
            "choose one by name: cifar100_lt, cifar100_lt_mixup, cifar10_lt",
        ),
        ("no/such", "config file no/such does not exist", "choose one by name"),
        ("place", "config 'place' is a folder", "a run's is place/config.toml"),
        ("./place", "config './place' is a folder", "a run's is place/config.toml"),
        ("place.toml", "config 'place.toml' is a folder", "name a TOML file"),
        ("", "config '' is a folder", "name a TOML file"),
        ("text", "text is not valid TOML", "texts need quotes"),
    ],
)
def test_no_such_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str, hint: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "place").mkdir()
    (tmp_path / "place.toml").mkdir()
    (tmp_path / "text").write_text("hello")
    error = refusal(name)
    assert error.message.startswith(message)
    assert hint in str(error.hint)


def test_a_config_of_ours_comes_before_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits_lt").mkdir()
    assert load_config("digits_lt").data.kind == "digits"


# Which runs are the same


@pytest.mark.parametrize("override", ["device=cuda:1", "stage1.num_workers=3", "features.batch_size=7", "name=other"])
def test_where_and_how_fast_a_run_executes_is_no_difference(minimal: str, override: str) -> None:
    assert differing_fields(load_config(minimal), load_config(minimal, [override])) == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=1", "seed: 0 -> 1"),
        ("stage1.lr=0.2", "stage1.lr: 0.1 -> 0.2"),
        ("data.imbalance_factor=10", "data.imbalance_factor: None -> 10.0"),
        ("stage1.milestones=[2]", "stage1.milestones: () -> (2.0,)"),
        ("transform.flip=true", "transform.flip: False -> True"),
    ],
)
def test_differences_are_named_with_both_values(minimal: str, override: str, expected: str) -> None:
    assert differing_fields(load_config(minimal), load_config(minimal, [override])) == [expected]


def test_other_epochs_of_one_recipe_are_one_difference(minimal: str) -> None:
    assert differing_fields(load_config(minimal), load_config(minimal, ["stage1.epochs=3"])) == [
        "stage1.epochs: 6 -> 3"
    ]


# The section that stage two may override


def test_stage_two_overrides_its_section() -> None:
    (section,) = override_section(Stage2Config(lr=0.5, q_min=-3), ["stage2.lr=1e-3", "stage2.start=fresh"], "stage2")
    assert section == Stage2Config(lr=1e-3, q_min=-3, start="fresh")


def test_stage_two_without_overrides_is_as_it_was() -> None:
    section = Stage2Config(epochs=3)
    assert override_section(section, [], "stage2") == [section]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["stage2.lr=[1, 2]"], [{"lr": 1.0}, {"lr": 2.0}]),
        (["stage2.lr=[0.25]"], [{"lr": 0.25}]),
        (['stage2.start=["fresh", "stage_one"]'], [{"start": "fresh"}, {"start": "stage_one"}]),
        (["stage2.start=['fresh']"], [{"start": "fresh"}]),
        (["stage2.lr=[1, 2]", "stage2.lr=3"], [{"lr": 3.0}]),
        (["stage2.lr=3", "stage2.lr=[1, 2]"], [{"lr": 1.0}, {"lr": 2.0}]),
        (
            ["stage2.batch_size=[3, 4]", "stage2.momentum=0.5", "stage2.lr=[2, 1]"],
            [
                {"batch_size": batch_size, "lr": lr, "momentum": 0.5}
                for lr, batch_size in [(2.0, 3), (2.0, 4), (1.0, 3), (1.0, 4)]
            ],
        ),
    ],
)
def test_a_list_makes_a_section_of_each_value_and_of_each_combination(
    overrides: list[str], expected: list[dict[str, Any]]
) -> None:
    sections = override_section(Stage2Config(lr=0.5, q_min=-3), overrides, "stage2")
    assert sections == [Stage2Config.model_validate({"lr": 0.5, "q_min": -3} | point) for point in expected]


def test_a_runs_config_holds_no_grid(minimal: str) -> None:
    assert "--set stage2.lr=[1, 2]: input should be a valid number" in refusal(minimal, ["stage2.lr=[1, 2]"]).message


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("data.seed=3", "--set data.seed=3: only stage2.* can be set here", "--set stage2.lr=1e-3"),
        ("lr=3", "--set lr=3: only stage2.* can be set here", "--set stage2.lr=1e-3"),
        ("stage2=3", "--set stage2=3: stage2 is a section", "--set stage2.KEY=VALUE"),
        ("stage2.lrr=3", "--set stage2.lrr=3: unknown key 'lrr'", "did you mean 'lr'?"),
        ("stage2.x.y=3", "--set stage2.x.y=3: unknown key 'x'", "choose from: alpha"),
        ("stage2.lr.x=3", "--set stage2.lr.x=3: 'lr' is a value, not a section", "None"),
        ("stage2.lr=0", "--set stage2.lr=0: input should be greater than 0", "None"),
        ("stage2.lr=[]", "--set stage2.lr=[]: the list is empty", "--set stage2.lr=[1e-4,1e-3]"),
        ("stage2.start=[]", "--set stage2.start=[]: the list is empty", "--set stage2.lr=[1e-4,1e-3]"),
        ("stage2.lr=[1e-3, -1]", "--set stage2.lr=[1e-3, -1]: input should be greater than 0", "None"),
        ("stage2.lr=[-1, 1e-3]", "--set stage2.lr=[-1, 1e-3]: input should be greater than 0", "None"),
        ('stage2.lr=[1, "a"]', '--set stage2.lr=[1, "a"]: input should be a valid number', "None"),
        ("stage2.lr=[[1, 2], [3]]", "--set stage2.lr=[[1, 2], [3]]: input should be a valid number", "None"),
        ("stage2.lr=[[]]", "--set stage2.lr=[[]]: input should be a valid number", "None"),
        ("stage2.lr=[1, 2", "--set stage2.lr=[1, 2: input should be a valid number", "None"),
        ("stage2.lrr=[1, 2]", "--set stage2.lrr=[1, 2]: unknown key 'lrr'", "did you mean 'lr'?"),
        ('stage2.start=["fresh", "x"]', "input should be 'fresh', 'stage_one' or 'paper'", "None"),
        ("stage2.start=[fresh]", "--set stage2.start=[fresh]: input should be 'fresh', 'stage_one' or 'paper'", "None"),
        ("stage2.schedule=step", "--set stage2.schedule=step: input should be 'constant' or 'cosine'", "None"),
        ("stage2.batch_size=10000000000000000", "input should be less than 2147483648", "None"),
    ],
)
def test_stage_two_refuses_other_keys_and_wrong_values(override: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as raised:
        override_section(Stage2Config(), [override], "stage2")
    assert message in raised.value.message
    assert hint in str(raised.value.hint)


def test_a_checkpoint_replaces_what_the_config_starts_from_and_trains() -> None:
    config = load_config("lvis_v1_maskrcnn_r50", ["stage1.checkpoint=my.pth"])
    assert (config.stage1.epochs, config.backbone.pretrained) == (0, False)
    further = load_config("lvis_v1_maskrcnn_r50", ["stage1.checkpoint=my.pth", "stage1.epochs=2"])
    assert further.stage1.epochs == 2
    typed = load_config("lvis_v1_maskrcnn_r50", ["stage1.checkpoint=my.pth", "backbone.pretrained=true"])
    assert typed.backbone.pretrained, "which is refused later, with both names"
