"""A process that runs one case, a repetition for each line it is told: python -m experiments.bench.worker '<json>'.

Answers one JSON line each: seconds (wall), cpu (seconds of all threads), and at the start what the case is.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any


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
        case.once()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        say(seconds=time.perf_counter() - wall, cpu=time.process_time() - cpu, peak_gb=peak / 1e6)


if __name__ == "__main__":
    main()
