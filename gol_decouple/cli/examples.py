"""What helps to choose a command and to use it: its place in the list of all, a line on it, and commands to copy.

Commands stand here as they are typed, of 78 characters at most, so that no terminal of 80 columns breaks them.
"""

from __future__ import annotations

from typing import NamedTuple

START = """\
Start here, with images that come with the program:

  gol-decouple stage1 digits_lt
  gol-decouple stage2 runs/digits_lt --activation gumbel

gol-decouple COMMAND --help ends with examples of each command."""


class Shown(NamedTuple):
    """A command in the help: the panel it stands in, a line of 60 characters at most, and (what, command line)."""

    panel: str
    line: str
    examples: tuple[tuple[str, str], ...]


TRAIN, REPORT, USE, DATA = "Train", "Report", "Use", "Data, configs and methods"

COMMANDS: dict[str, Shown] = {
    "demo": Shown(
        TRAIN,
        "Both stages and the report on bundled digits, offline.",
        (
            ("All of it, in a minute or a few", "gol-decouple demo"),
            ("Into a folder of its own, again from the start", "gol-decouple demo --runs-dir trial --overwrite"),
        ),
    ),
    "stage1": Shown(
        TRAIN,
        "Train a Softmax model, or load one; cache its features.",
        (
            ("A config that comes with the program", "gol-decouple stage1 cifar100_lt"),
            (
                "The same with another tail",
                "gol-decouple stage1 cifar100_lt --set data.imbalance_factor=50 --name if50",
            ),
            (
                "Your own images, a folder for each class",
                "gol-decouple stage1 folder --data-root my_images --name mine",
            ),
            (
                "A model of yours instead of training",
                "gol-decouple stage1 folder --data-root my_images --checkpoint model.pth",
            ),
        ),
    ),
    "stage2": Shown(
        TRAIN,
        "Retrain classifiers on cached features, in seconds.",
        (
            ("One method", "gol-decouple stage2 runs/cifar100_lt --activation gumbel"),
            ("Every method that fits, with three seeds", "gol-decouple stage2 runs/cifar100_lt --method all --seeds 3"),
            (
                "The best of some learning rates, by val",
                "gol-decouple stage2 runs/cifar100_lt --method crt --set stage2.lr=[0.01,0.1]",
            ),
        ),
    ),
    "tune": Shown(
        TRAIN,
        "Search methods and settings; say which to ship and why.",
        (
            ("Ten minutes over all methods", "gol-decouple tune runs/cifar100_lt"),
            (
                "Longer, over some of them",
                "gol-decouple tune runs/cifar100_lt --minutes 30 --method 'balanced_*'",
            ),
        ),
    ),
    "merge": Shown(
        TRAIN,
        "Join the shards that stage1 --shards wrote.",
        (
            ("Finish a run", "gol-decouple merge runs/imagenet_lt_resnet50"),
            ("The same on the CPU", "gol-decouple merge runs/imagenet_lt_resnet50 --device cpu"),
        ),
    ),
    "rerun": Shown(
        TRAIN,
        "Repeat a run: does it come out the same, bit by bit?",
        (
            ("A whole run", "gol-decouple rerun runs/digits_lt"),
            ("Into another folder, for a program", "gol-decouple rerun runs/digits_lt --out again --json"),
        ),
    ),
    "reproduce": Shown(
        TRAIN,
        "Make a paper's table again, its figures beside ours.",
        (
            ("The GOL paper's, with one model for each column", "gol-decouple reproduce table4 --dataset cifar100_lt"),
            (
                "One column of it, its results kept as JSON",
                "gol-decouple reproduce table4 --dataset cifar100_lt --only if100 --out results",
            ),
        ),
    ),
    "report": Shown(
        REPORT,
        "Print the results of all finished runs, and the gains.",
        (
            ("All below runs/", "gol-decouple report"),
            ("One run for a README", "gol-decouple report runs/cifar100_lt --format markdown"),
            ("Gains over another method", "gol-decouple report runs/cifar100_lt --baseline crt"),
            ("Runs that a pattern names, the best first", "gol-decouple report 'runs/cifar*' --sort few"),
            ("For your paper, with the papers' figures", "gol-decouple report --format latex --paper -o table.tex"),
            ("As a page to read and to send", "gol-decouple report --format html -o report.html"),
            ("As figures", "gol-decouple report runs/cifar100_lt --figures figures"),
        ),
    ),
    "compare": Shown(
        REPORT,
        "Say what moved between two studies, and if beyond noise.",
        (
            ("Reports of a colleague and of yours, as JSON", "gol-decouple compare colleague.json mine.json"),
            (
                "Folders of runs, for a pull request",
                "gol-decouple compare runs/before runs/after --format markdown -o moved.md",
            ),
        ),
    ),
    "analyze": Shown(
        REPORT,
        "Draw the papers' analyses, with their numbers.",
        (
            ("All that a run has", "gol-decouple analyze runs/cifar100_lt"),
            ("The activations' curves, which need no run", "gol-decouple analyze --what curves --out curves"),
        ),
    ),
    "evaluate": Shown(
        REPORT,
        "Print LVIS's AP of anyone's detections.",
        (
            ("Boxes", "gol-decouple evaluate lvis_v1_val.json results.json"),
            (
                "Masks",
                "gol-decouple evaluate lvis_v1_val.json results.json --iou-type segm",
            ),
        ),
    ),
    "predict": Shown(
        USE,
        "Show images to a run: classes, or objects with boxes.",
        (
            ("One image and a folder", "gol-decouple predict runs/mine photo.jpg holiday/ --method gumbel"),
            ("For a program", "gol-decouple predict runs/mine holiday/ --method gumbel --format json"),
        ),
    ),
    "export": Shown(
        USE,
        "Write a model that works without this program.",
        (
            ("With a retrained classifier", "gol-decouple export runs/mine --method gumbel --out exported"),
            ("As ONNX", "gol-decouple export runs/mine --method gumbel --out onnx --format onnx"),
        ),
    ),
    "doctor": Shown(
        USE,
        "Say what is wrong with files, and what to do.",
        (
            ("A run and all in it", "gol-decouple doctor runs/mine"),
            ("A file, for a program", "gol-decouple doctor my_features.h5 --format json"),
        ),
    ),
    "check": Shown(
        DATA,
        "Decode every image; print what is missing or damaged.",
        (
            ("A folder of images", "gol-decouple check folder --data-root my_images"),
            ("Annotations and their images", "gol-decouple check lvis_v1_train.json --data-root coco"),
        ),
    ),
    "convert": Shown(
        DATA,
        "Write COCO-format annotations in LVIS's format.",
        (
            ("Train annotations", "gol-decouple convert instances_train.json lvis_train.json"),
            (
                "Val annotations, with the frequencies of train",
                "gol-decouple convert val.json lvis_val.json --frequencies-from train.json",
            ),
        ),
    ),
    "configs": Shown(
        DATA,
        "List the configs of stage one, or print one.",
        (
            ("All, a line each", "gol-decouple configs --short"),
            ("The beginning of one of your own", "gol-decouple configs folder > mine.toml"),
        ),
    ),
    "methods": Shown(
        DATA,
        "List the methods of stage two.",
        (
            ("All, a line each", "gol-decouple methods --short"),
            ("Some, with paper, parts and settings", "gol-decouple methods gumbel 'balanced_*'"),
        ),
    ),
}


def text_of(command: str) -> str:
    """The examples of a command, below each other; nothing where there are none."""
    shown = COMMANDS.get(command)
    if shown is None:
        return ""
    lines = [f"# {what}\n  {line}" for what, line in shown.examples]
    return "\n\n".join(["Examples:", *(f"  {each}" for each in lines)])
