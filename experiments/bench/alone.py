"""A command in a process of its own: how long it takes, and how much memory.

Linux counts the memory of the program that starts another as the other's until it is loaded. The programs that measure
are large, so a small one starts the command here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STARTER = """
import json, resource, subprocess, sys, time

def own(process):
    try:
        with open(f"/proc/{process}/status") as lines:
            return max((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), default=0)
    except OSError:
        return 0

begin = time.monotonic()
running = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
most = 0
while running.poll() is None:
    most = max(most, own(running.pid))
    time.sleep(0.05)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
memory = [1024 * used.ru_maxrss, 1024 * most]
print(json.dumps([time.monotonic() - begin, used.ru_utime + used.ru_stime, *memory]))
sys.exit(running.returncode != 0)
"""


@dataclass(frozen=True)
class Used:
    """Seconds of the wall and of the processors; the largest resident memory in bytes, and the part of it that is the
    command's own (looked at 20 times a second, 0 where the system does not tell). The rest are pages of files, which
    the system takes back when it needs room."""

    wall: float
    processor: float
    memory: int
    own: int


def run_alone(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Used:
    """Run a command to its end; RuntimeError with the end of what it said where it fails."""
    done = subprocess.run(
        [sys.executable, "-c", STARTER, *command],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])}: {done.stderr[-2000:]}")
    return Used(*json.loads(done.stdout))
