"""A process that runs one case, a turn for each line it is told: python -m experiments.bench.worker '<json>'.

Answers one JSON line each: seconds (wall) and cpu (seconds of all threads) of one repetition, and at the start what the
case is. A turn repeats a short case until TURN has passed. A single step of a few milliseconds would measure how fast
the threads wake up, and whatever else ran in that moment.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

TURN = 0.3  # seconds


def main() -> None:
    spec = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")  # whatever a library prints goes to stderr
    os.dup2(2, 1)

    def say(**content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    if spec.get("ours", True):
        from astrom3.cli.verbs import calm_threads

        calm_threads()
    import torch

    if spec.get("threads"):
        torch.set_num_threads(spec["threads"])
    from experiments.bench import astromer, cases, galaxies

    known = cases.CASES | galaxies.CASES | astromer.CASES
    case = known[spec["case"]](**{k: v for k, v in spec.items() if k not in ("case", "threads")})
    say(objects=case.objects, flops=case.flops)
    for _ in sys.stdin:
        wall = time.perf_counter()
        cpu = time.process_time()
        repetitions = 0
        while repetitions == 0 or time.perf_counter() - wall < TURN:
            case.once()
            repetitions += 1
        seconds = (time.perf_counter() - wall) / repetitions
        processor = (time.process_time() - cpu) / repetitions
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        say(seconds=seconds, cpu=processor, peak_gb=peak / 1e6)


if __name__ == "__main__":
    main()
