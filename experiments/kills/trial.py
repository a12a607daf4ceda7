"""One trial: a command killed at random moments until its kills are used up, then run to its end and compared."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.kills import processes
from experiments.kills.cases import Case
from experiments.kills.sameness import differences

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# Exit statuses that are right for each of them: Python reports a death by signal as a negative number.
RIGHT = {
    signal.SIGKILL: (-signal.SIGKILL,),
    signal.SIGTERM: (-signal.SIGTERM, 128 + signal.SIGTERM),
    signal.SIGINT: (-signal.SIGINT, 128 + signal.SIGINT),
}


@dataclass
class Outcome:
    """What became of a trial. faults holds everything that was not as it should be, in words."""

    case: str
    number: int
    kills: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)  # seconds after the start
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Place:
    """Folders of a harness: what all cases read, the reference of each case, and its log."""

    root: Path
    environment: dict[str, str]

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    def whole(self, case: Case) -> Path:
        return self.root / "whole" / slug(case.name)

    def log(self, case: Case) -> Path:
        path = self.root / "logs" / f"{slug(case.name)}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, case: Case, out: Path) -> Any:
        out.mkdir(parents=True, exist_ok=True)
        filled = [argument.format(out=out, shared=self.shared) for argument in case.arguments]
        return processes.start(case.verb, filled, self.log(case), self.environment)


def slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def reference(place: Place, case: Case) -> float:
    """Run a case twice without any kill, unless that was done before. Returns the seconds of the second run.

    The first run may prepare data. A RuntimeError says that the two runs do not give the same files.
    """
    out = place.whole(case)
    stamp = out.with_name(f"{out.name}.seconds")
    if stamp.is_file():
        return float(stamp.read_text())
    uninterrupted(place, case, out)
    again = out.with_name(f"{out.name}-again")
    seconds = uninterrupted(place, case, again)
    unlike = differences(case, out, again)
    if unlike:
        raise RuntimeError(f"{case.name} gives something else at every run: {'; '.join(unlike[:3])}")
    shutil.rmtree(again)
    stamp.write_text(f"{seconds}")
    return seconds


def uninterrupted(place: Place, case: Case, out: Path) -> float:
    shutil.rmtree(out, ignore_errors=True)
    begin = time.monotonic()
    status = processes.ended(place.start(case, out))
    seconds = time.monotonic() - begin
    if status:
        raise RuntimeError(f"{case.name} fails without any kill, with status {status}: see {place.log(case)}")
    return seconds


def run(place: Place, case: Case, number: int, kills: int, length: float, seed: int) -> Outcome:
    """length is how many seconds the command takes when nothing kills it."""
    draws = random.Random(f"{seed}/{case.name}/{number}")
    outcome = Outcome(case.name, number)
    out = place.root / "broken" / f"{slug(case.name)}-{number}"
    shutil.rmtree(out, ignore_errors=True)
    begin = time.monotonic()
    is_whole = False
    while len(outcome.kills) < kills and not is_whole:
        is_whole = not killed_once(place, case, out, draws, length, outcome)
    status = 0 if is_whole else processes.ended(place.start(case, out))  # a verb may refuse to do again what is done
    if status:
        outcome.faults.append(f"the rerun ends with status {status}")
    else:
        outcome.faults += differences(case, place.whole(case), out)
    outcome.seconds = round(time.monotonic() - begin, 1)
    if not outcome.faults:
        shutil.rmtree(out)
    return outcome


def killed_once(place: Place, case: Case, out: Path, draws: random.Random, length: float, outcome: Outcome) -> bool:
    """Start the command and kill it. False where it ended before, which is the end of the trial."""
    process = place.start(case, out)
    moment = draws.uniform(0.03, 0.95) * length
    how = draws.choice(SIGNALS)
    process.join(moment)
    group = process.pid or 0
    if process.exitcode is None:
        try:
            if how == signal.SIGINT:  # a terminal sends it to the whole group
                os.killpg(group, how)
            else:
                os.kill(group, how)
        except ProcessLookupError:  # it was faster
            pass
    status = processes.ended(process)
    if status == 0:
        if not outcome.kills:
            outcome.kills.append("none, it had ended")
        return False
    if status not in RIGHT[how]:
        outcome.faults.append(f"{how.name} after {moment:.1f} s ends it with status {status}")
    members = processes.left_over(group)
    if members:
        outcome.faults.append(f"{len(members)} processes outlive {how.name} after {moment:.1f} s")
    outcome.kills.append(how.name)
    outcome.moments.append(round(moment, 2))
    return True
