"""Composing through Hydra, quickly: the files once for each choice of groups, the other values in a copy of the result.

Hydra reads some twenty YAML files for one configuration, which takes 0.15 s. A command composes its configuration to
check it, to know the types of the defaults and to run. A search composes the same files for each of its trials.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import configure_log, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

from astrom3.errors import UserError, first_line, shown
from astrom3.places import CONFIG_DIR

OF_A_USER = re.compile(r"file://([^'\"\],]+)")  # folders of a search path
MOST_VALUES = 10_000  # of a file with aliases
UNFINISHED = -1  # number of the values of a node that are still counted
UNREADABLE = (yaml.YAMLError, UnicodeDecodeError, RecursionError)  # what files of others lead to


def composed(name: str, overrides: Sequence[str], groups: Collection[str]) -> DictConfig:
    """What Hydra composes of conf/<name>.yaml, unresolved and with Hydra's own node. Raises what Hydra raises.

    groups: the names of the groups of the configuration.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    choices = []
    values = []
    for override in parsed:
        if str(override.input_line).partition("=")[0] in groups:
            choices.append(override)
        else:
            values.append(override)
    if not all(_sets_a_value(override, groups) for override in values):
        return _from_files(name, overrides)
    if any(override.is_sweep_override() for override in choices):
        return _from_files(name, overrides)
    cfg = copy.deepcopy(of_groups(name, tuple(str(override.input_line) for override in choices)))
    if values:
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
        _tell_hydra(cfg, parsed)
    return cfg


@lru_cache(maxsize=128)
def of_groups(name: str, choices: tuple[str, ...]) -> DictConfig:
    """What those options of the groups compose to. Only read: a sweep and a search ask for the same ones many times."""
    return _from_files(name, choices)


def run(composed: DictConfig, task: Callable[[DictConfig], Any]) -> None:
    """What hydra.main does with a configuration that is composed already: folder, log, callbacks, and the task."""
    with initialize_config_dir(str(CONFIG_DIR), job_name=composed.hydra.job.name, version_base="1.3"):
        configure_log(composed.hydra.hydra_logging, composed.hydra.verbose)
        composed.hydra.mode = RunMode.RUN
        callbacks = Callbacks(composed)
        config_name = composed.hydra.job.config_name
        callbacks.on_run_start(config=composed, config_name=config_name)
        context = HydraContext(GlobalHydra.instance().config_loader(), callbacks)
        result = run_job(task, composed, "hydra.run.dir", None, context)
        callbacks.on_run_end(config=composed, config_name=config_name, job_return=result)
        _ = result.return_value  # raises what the task has raised


def _from_files(name: str, overrides: Sequence[str]) -> DictConfig:
    check_own_files(overrides)
    with warnings.catch_warnings(), initialize_config_dir(str(CONFIG_DIR), job_name=name, version_base="1.3"):
        warnings.filterwarnings("error", ".*hydra.searchpath.* is not available", UserWarning)
        try:
            return hydra_compose(name, list(overrides), return_hydra_config=True)
        except UserWarning as absent:
            folder = str(absent).partition("path=")[2].removesuffix(" is not available.")
            raise UserError(f"hydra.searchpath={folder}: there is no such folder, give one that is there") from None


def check_own_files(overrides: Sequence[str]) -> None:
    """UserError where a file in the folders of a user would take for ever to read."""
    for override in overrides:
        if override.startswith("hydra.searchpath="):
            for folder in OF_A_USER.findall(override):
                check_aliases(Path(folder))


@lru_cache(maxsize=8)
def check_aliases(folder: Path) -> None:
    """UserError where aliases of YAML let a file of a user's folder stand for far more than it holds."""
    for path in sorted(folder.rglob("*.yaml")):
        if not path.is_file() or b"*" not in path.read_bytes():
            continue
        with suppress(yaml.YAMLError, UnicodeDecodeError, RecursionError):  # which are said when the file is composed
            with path.open("rb") as file:
                node = yaml.compose(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            if values_of(node, {}) > MOST_VALUES:
                raise UserError(
                    f"the aliases (*name) of {shown(path)} stand for more than {MOST_VALUES} values: write out what "
                    "is meant"
                )


def values_of(node: Any, known: dict[int, int]) -> int:
    """Values below a node of YAML with each alias written out. known: of nodes that were counted before."""
    if known.get(id(node)) == UNFINISHED:  # it stands in itself
        raise UserError(of_files(RecursionError()))
    if id(node) in known:
        return known[id(node)]
    inner: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        inner = [value for _, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    known[id(node)] = UNFINISHED
    known[id(node)] = 1 + sum(values_of(value, known) for value in inner)
    return known[id(node)]


def _sets_a_value(override: Override, groups: Collection[str]) -> bool:
    """Whether an override only sets a key, so that it has no part in which files are composed."""
    key = override.key_or_group
    if override.is_sweep_override() or override.package is not None:
        return False
    return key not in groups and "/" not in key and not key.startswith("hydra")


def _tell_hydra(cfg: DictConfig, parsed: Sequence[Override]) -> None:
    """What Hydra notes of the command line in its own node."""
    naming = cfg.hydra.job.config.override_dirname
    left_out = [str(key) for key in naming.exclude_keys]
    with open_dict(cfg.hydra):
        cfg.hydra.overrides.task = [override.input_line for override in parsed]
        cfg.hydra.job.override_dirname = get_overrides_dirname(
            overrides=list(parsed),
            exclude_keys=left_out,
            item_sep=naming.item_sep,
            kv_sep=naming.kv_sep,
        )


def of_files(error: BaseException) -> str:
    """The sentence for files of a configuration that cannot be read."""
    if isinstance(error, RecursionError):
        return "files of your configuration name each other in a circle (defaults:) or nest too deeply: mend them"
    if isinstance(error, UnicodeDecodeError):
        return f"a file of your configuration is no text in UTF-8 ({first_line(error)}): mend it"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or first_line(error)
    where = "a file of your configuration" if mark is None else f"{shown(mark.name)}, line {mark.line + 1},"
    return f"{where} is no YAML ({problem}): mend it"
