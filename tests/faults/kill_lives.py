"""Lives of the program: commands that are killed, and started again, until they have done what they were to do."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kill_checks import DONE, differences, progress, unreadable
from kill_moments import Stroke

KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
# What a program is killed by, and how often: signals in turn, and whether its process group gets them, as by a
# cluster, which sends a second one to what does not end, or from a terminal.
WAYS: dict[tuple[tuple[int, ...], bool], int] = {
    ((KILL,), False): 8,
    ((KILL,), True): 2,
    ((TERM,), False): 4,
    ((TERM,), True): 2,
    ((TERM, KILL), False): 2,
    ((TERM, KILL), True): 1,
    ((INT,), False): 1,
    ((INT,), True): 2,
}
GRACE = (0.3, 12)  # within so many seconds, or operations on files, the second signal follows the first
STARTS = 40  # of a command that is killed again and again; more would mean that it does not end
# Said of files that nobody but the program itself has touched.
ACCUSING = re.compile(r"Traceback|damaged|cannot be read|left aside|trained from its start|Exception ignored")
CONTINUES = re.compile(r"continuing stage one after epoch (\d+)")


@dataclass(frozen=True)
class Command:
    """One command of a life.

    Attributes:
        arguments: with `{data}` for the folder of the data.
        continues: whether it goes on where it was; otherwise it begins anew, and says nothing of going on.
        again: what is started after a kill, if that is not the same.
    """

    arguments: Sequence[str]
    continues: bool = True
    again: Sequence[str] | None = None


@dataclass(frozen=True)
class Scenario:
    """What is run, from where.

    Attributes:
        start: the scenario whose result is there at the beginning.
        slow: it takes too long for the fast tests.
    """

    name: str
    commands: Sequence[Command]
    start: str | None = None
    slow: bool = False


@dataclass(frozen=True)
class Start:
    """One start of the program: what it was told to die of, and what became of it.

    Attributes:
        seen: its operations on files, by their names; None if it did not come to the end of its work.
    """

    arguments: Sequence[str]
    by_moments: bool
    strokes: Sequence[Stroke]
    code: int
    seconds: float
    out: str
    err: str
    seen: Mapping[str, int] | None

    @property
    def was_killed(self) -> bool:
        return self.code != 0

    @property
    def signals(self) -> str:
        told = " ".join(signal.Signals(stroke.number).name for stroke in self.strokes)
        return f"{told} to the group" if any(stroke.group for stroke in self.strokes) else told

    def __str__(self) -> str:
        at = ", ".join(f"{stroke.at:g}{' midway' if stroke.midway else ''}" for stroke in self.strokes)
        when = f"at operation {at}" if self.by_moments else f"after {at} s"
        told = f"{self.signals or 'no signal'} {when if self.strokes else ''}".rstrip()
        return f"{' '.join(self.arguments)}: {told}: code {self.code} after {self.seconds:.2f} s"


class Server:
    """Runs the program in processes forked from one that has imported it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts = 0

    def __enter__(self) -> Self:
        script = Path(__file__).with_name("kill_server.py")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([sys.executable, str(script)], text=True, **pipes)
        self._answer()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(
        self, folder: Path, arguments: Sequence[str], strokes: Sequence[Stroke] = (), by_moments: bool = False
    ) -> Start:
        """Start the program in a folder; back when its main process has ended."""
        self._starts += 1
        printed = {name: self._folder / f"{self._starts}.{name}" for name in ("out", "err", "seen")}
        answer = self._ask(
            {
                "folder": str(folder),
                "arguments": list(arguments),
                "strokes": [asdict(stroke) for stroke in strokes],
                "by_moments": by_moments,
                **{name: str(path) for name, path in printed.items()},
            }
        )
        assert not answer["hung"], f"{' '.join(arguments)} did not end"
        out, err = (printed[name].read_text(encoding="utf-8") for name in ("out", "err"))
        seen = json.loads(printed["seen"].read_text() or "null") if printed["seen"].exists() else None
        for path in printed.values():
            path.unlink(missing_ok=True)
        return Start(arguments, by_moments, strokes, answer["code"], answer["seconds"], out, err, seen)

    def bury(self) -> None:
        """End the processes that programs have left."""
        self._ask(None)

    def _ask(self, request: Mapping[str, Any] | None) -> dict[str, Any]:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        assert line, "the server has ended"
        return json.loads(line)


@dataclass
class Whole:
    """A life without a kill: its folder, and of each command its start."""

    folder: Path
    starts: list[Start] = field(default_factory=list)


class Lives:
    """Makes lives of scenarios, and asks of each that it lost nothing and ended like the one without a kill.

    Args:
        data: the folder that `{data}` in arguments stands for.
        seed: of all that is drawn; a life depends on it, the scenario and its own number only.
    """

    def __init__(self, server: Server, scenarios: Sequence[Scenario], folder: Path, data: Path, seed: int) -> None:
        self.kills: Counter[tuple[str, str, str]] = Counter()
        self.lives = 0
        self._server = server
        self._scenarios = {scenario.name: scenario for scenario in scenarios}
        self._folder = folder
        self._life = folder / "life"  # one place for all: manifests tell where it is
        self._data = data
        self._seed = seed
        self._wholes: dict[str, Whole] = {}

    def whole(self, name: str) -> Whole:
        """The life of a scenario without a kill, made once."""
        if name not in self._wholes:
            scenario, whole = self._scenarios[name], Whole(self._folder / f"{name} whole")
            self._begin(scenario)
            for command in scenario.commands:
                start = self._server.run(self._life, self._given(command.arguments))
                assert start.code == 0, start.err
                whole.starts.append(start)
            self._life.rename(whole.folder)
            self._wholes[name] = whole
        return self._wholes[name]

    def live(self, name: str, number: int) -> int:
        """One life of a scenario, killed now and then; returns how often.

        Raises:
            AssertionError: something was lost, or the result is another; told with all that happened.
        """
        scenario, whole = self._scenarios[name], self.whole(name)
        draws = random.Random(f"{self._seed} {name} {number}")
        folder, told = self._life, [f"life {number} of {name!r}, seed {self._seed}"]
        self._begin(scenario)
        try:
            killed = 0
            for place, command in enumerate(scenario.commands):
                killed += self._do(scenario, place, command, folder, draws, told)
            self._server.bury()
            _refuse("the result differs", differences(folder, whole.folder))
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *told, f"see {folder}"])) from None
        shutil.rmtree(folder)
        self.lives += 1
        return killed

    def table(self) -> str:
        """How many kills there were, of what, by what."""
        lines = [f"{self.kills.total()} kills in {self.lives} lives, all bit-equal (seed {self._seed})"]
        for part, what in ((0, "of"), (1, "by"), (2, "at")):
            counts: Counter[str] = Counter()
            for key, count in self.kills.items():
                counts[key[part]] += count
            lines.append(f"  {what} " + ", ".join(f"{name}: {count}" for name, count in counts.most_common()))
        return "\n".join(lines)

    def _do(
        self, scenario: Scenario, place: int, command: Command, folder: Path, draws: random.Random, told: list[str]
    ) -> int:
        """A command until it is done; returns how often it was killed."""
        whole, arguments = self.whole(scenario.name), command.arguments
        left, killed = draws.randint(1, 4), 0
        for _ in range(STARTS):
            by_moments, strokes = self._plan(scenario.name, place, draws) if left else (False, [])
            before = progress(folder / "runs")
            start = self._server.run(folder, self._given(arguments), strokes, by_moments)
            told.append(str(start))
            try:
                check_end(start, command)
                check_progress(start, before, progress(folder / "runs"), arguments)
                _refuse("not whole", unreadable(folder, whole.folder))
            except AssertionError as error:
                raise AssertionError(f"{error}\n{start.err}") from None
            if not start.was_killed:
                assert start.out == whole.starts[place].out, f"printed\n{start.out}"
                return killed
            self.kills[scenario.name, start.signals, "operations" if by_moments else "times"] += 1
            left, killed = left - 1, killed + 1
            arguments = command.again or command.arguments
        raise AssertionError("it does not end")

    def _plan(self, name: str, place: int, draws: random.Random) -> tuple[bool, list[Stroke]]:
        """What the next start dies of: whether moments are operations on files, and the signals."""
        start = self.whole(name).starts[place]
        operations = sum((start.seen or {}).values())
        (signals, group), by_moments = draws.choices(list(WAYS), list(WAYS.values()))[0], draws.random() < 0.7
        by_moments &= operations > 0
        at = float(draws.randint(1, operations)) if by_moments else draws.uniform(0.0, start.seconds)
        strokes = []
        for number in signals:
            midway = by_moments and number == KILL and draws.random() < 0.5
            strokes.append(Stroke(round(at, 3), number, group, midway))
            at += draws.randint(1, GRACE[1]) if by_moments else draws.uniform(0.0, GRACE[0])
        return by_moments, strokes

    def _begin(self, scenario: Scenario) -> None:
        """A life's folder, as it is before the first command."""
        if scenario.start is None:
            self._life.mkdir()
        else:
            shutil.copytree(self.whole(scenario.start).folder, self._life)

    def _given(self, arguments: Sequence[str]) -> list[str]:
        return [argument.replace("{data}", str(self._data)) for argument in arguments]


def check_end(start: Start, command: Command) -> None:
    """What a program says and how it ends, by the signals it got."""
    numbers = {stroke.number for stroke in start.strokes}
    codes = {0, *(128 + number for number in numbers - {KILL}), *(-number for number in numbers & {KILL})}
    if start.seen is not None:  # Python, which takes itself down, no longer answers for signals
        codes |= {-number for number in numbers}
    assert start.code in codes, f"code {start.code}"
    accusing = [line for line in start.err.splitlines() if ACCUSING.search(line)]
    assert not accusing, f"it says {accusing[0]!r}"
    errors = [line for line in start.err.splitlines() if line.startswith(("error:", "hint:"))]
    if start.code > 0:
        assert errors[:1] == ["error: stopped"], f"it says {errors}"
        assert bool(errors[1:]) == command.continues, f"it says {errors}"
    elif start.code == 0:
        assert not errors, f"it says {errors}"


def check_progress(
    start: Start, before: Mapping[str, float], after: Mapping[str, float], arguments: Sequence[str]
) -> None:
    """Ask that nothing that was saved is gone, or computed again."""
    if "--overwrite" in arguments:
        return
    for path, done in before.items():
        assert after.get(path, 0) >= done, f"{path} was at {done}, and is at {after.get(path, 0)}"
    if start.was_killed or arguments[0] != "stage1":
        return
    epochs = [done for path, done in before.items() if path.endswith("last.pt") and 0 < done < DONE]
    continued = CONTINUES.search(start.err)
    assert not epochs or (continued and int(continued[1]) >= epochs[0]), f"{epochs} epochs were done"


def _refuse(what: str, wrong: Sequence[str]) -> None:
    assert not wrong, f"{what}: {'; '.join(wrong)}"
