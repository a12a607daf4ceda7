"""`python -m astrom3.train ...` that writes the clock at the end of every training step to a file, and may stop early.

python -m experiments.bench.stamp <file> <steps, 0 = all> <arguments of astrom3.train>
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def main() -> None:
    path = sys.argv[1]
    steps = int(sys.argv[2])
    arguments = sys.argv[3:]
    sys.argv = ["astrom3.train", *arguments]
    from astrom3.cli import verbs as cli
    from astrom3.train import train

    def stamped(cfg: Any) -> Any:
        from astrom3.tasks.task import TrainingModule

        def on_train_batch_end(self: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if self.global_rank == 0:
                with open(path, "a") as file:
                    file.write(f"{time.time()}\n")
                if steps and batch_idx + 1 >= steps:
                    os._exit(0)

        TrainingModule.on_train_batch_end = on_train_batch_end  # type: ignore[assignment, method-assign]
        return train(cfg)

    stamped.__module__ = train.__module__
    cli.run_verb("train", stamped, arguments)


if __name__ == "__main__":
    main()
