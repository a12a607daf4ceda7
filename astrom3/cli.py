"""What every verb's command line shares: `run_verb("train", train)` is all its `main` does.

Overrides are checked before anything heavy is imported; a UserError becomes one sentence on standard error and exit
status 2; Ctrl-C becomes status 130. `-m` sweeps, `--help` and `--cfg job` are Hydra's own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from omegaconf import DictConfig

from astrom3 import config
from astrom3.errors import UserError

Verb = Callable[[DictConfig], Any]


def run_verb(name: str, function: Verb, argv: Sequence[str] | None = None) -> None:
    """Compose conf/<name>.yaml with the command line's overrides, check it, and call `function` with it."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _run(name, function, arguments)
    except UserError as error:
        print(f"astrom3 {name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"astrom3 {name}: interrupted", file=sys.stderr)
        sys.exit(130)


def _run(name: str, function: Verb, arguments: list[str]) -> None:
    flags = [a for a in arguments if a.startswith("-")]
    overrides = config.quote_groups([a for a in arguments if not a.startswith("-")])
    sweep = "-m" in flags or "--multirun" in flags
    if not {"--help", "-h", "--hydra-help", "--info", "--version", "--cfg", "-c"} & set(flags):
        for choice in config.sweep_choices(overrides) if sweep else [overrides]:
            cfg = config.compose(choice, name)
            if sweep:
                config.check_sweep(cfg)

    failures: list[UserError] = []

    def task(cfg: DictConfig) -> Any:
        from hydra.core.hydra_config import HydraConfig

        given = list(HydraConfig.get().overrides.task)
        try:
            return function(config.finish(cfg))
        except UserError as error:  # Hydra would print a traceback of its own
            failures.append(error)
            if sweep:
                print(f"astrom3 {name} {' '.join(given)}: {error}", file=sys.stderr)
            return None

    task.__module__ = function.__module__
    main = hydra.main(version_base="1.3", config_path=str(config.CONFIG_DIR), config_name=name)(task)
    before = sys.argv
    sys.argv = [before[0], *config.quote_groups(arguments)]
    try:
        main()
    finally:
        sys.argv = before
    if failures:
        raise failures[0]
