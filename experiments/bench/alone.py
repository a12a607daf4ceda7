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
begin = time.monotonic()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([time.monotonic() - begin, used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss]))
sys.exit(status != 0)
"""


@dataclass(frozen=True)
class Used:
    """Seconds of the wall and of the processors, and the largest resident memory in bytes."""

    wall: float
    processor: float
    memory: int


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
    wall, processor, memory = json.loads(done.stdout)
    return Used(wall, processor, memory)
