"""Composing and checking the configuration, before data are read or a device is touched.

    cfg = compose(["mode=photo", "sub=sub10", "seed=0"])

Needs Hydra and OmegaConf only: a mistake is answered in about a second.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from astrom3 import bounds, registry
from astrom3.cli import composing, keys, own_data
from astrom3.cli.shorthand import NUMBERED, check_head, check_protocol, check_task, numbered
from astrom3.errors import UserError
from astrom3.places import CONFIG_DIR

OWN_FOLDERS: list[Path] = []  # given by --config-dir
OF_HYDRA = (HydraException, ValueError, TypeError, LookupError, AttributeError, AssertionError, ImportError)  # hydra.*
TABLES = ("published", "hyper", "hyper_sub", "number")  # other keys take values from them


def compose(overrides: Sequence[str] = (), name: str = "train") -> DictConfig:
    """The configuration of one run, resolved and checked. Raises UserError with the key and what would be right."""
    return finish(compose_unresolved(quote_groups(overrides, name), name))


def compose_unresolved(overrides: Sequence[str], name: str) -> DictConfig:
    """The configuration of one run with Hydra's own node, of values that have the type of their defaults."""
    parsed = parse_overrides(overrides)
    _check_groups(parsed)
    cfg = _compose(name, overrides)
    keys.check_overrides(parsed)
    _check_types(cfg, parsed, overrides, name)
    if any(override.key_or_group == "head" for override in parsed):
        check_head(cfg, [node for _, node in _leaves(cfg)])
    return cfg


def compose_with_hydra(overrides: Sequence[str] = (), name: str = "train") -> DictConfig:
    """The unresolved configuration with Hydra's own node, for the settings of a launcher."""
    return _compose(name, quote_groups(overrides, name))


def finish(cfg: DictConfig) -> DictConfig:
    """Resolve a composed configuration, drop the tables it was looked up in, and check that it makes sense."""
    missing = []
    for key, node in _leaves(cfg):
        if node is not None and node._value() == "???":
            missing.append(key)
    if missing:
        raise UserError(f"{missing[0]} is not given: add {missing[0]}=<value> to the command line")
    try:
        plain = _plain(cfg)
    except (InterpolationResolutionError, MissingMandatoryValue) as error:
        raise UserError(f"the configuration cannot be resolved: {_one_line(error)}") from None
    leave_out_encoders(plain)
    resolved = OmegaConf.create({k: v for k, v in plain.items() if k not in TABLES})
    own_data.adopt(resolved, own_data.given_keys(cfg))
    OmegaConf.set_struct(resolved, True)
    _check_combination(resolved)
    registry.check(resolved, resolved.get("allow"))
    return resolved


def leave_out_encoders(plain: dict[Any, Any]) -> None:
    """Of several encoders those stay, in place, whose modality is among `modalities`."""
    wanted = plain.get("modalities")
    model = plain.get("model")
    if not wanted or not isinstance(model, dict):
        return
    for node in (plain, model, model.get("backbone") or {}):
        encoders = node.get("encoders") if isinstance(node, dict) else None
        if isinstance(encoders, dict) and len(encoders) > 1:
            node["encoders"] = {slot: encoder for slot, encoder in encoders.items() if slot in wanted}


def _plain(cfg: DictConfig) -> dict[Any, Any]:
    """What a configuration says, resolved, without the part that is Hydra's own."""
    values = {key: cfg[key] for key in cfg if key != "hydra"}
    return {k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for k, v in values.items()}


def with_own_folders(arguments: Sequence[str]) -> list[str]:
    """`--config-dir <folder>` adds a user's own folder of YAML files behind the groups of astrom3.

    It becomes the override of Hydra's search path that does the same. UserError where there is no such folder.
    """
    kept = []
    own = []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag not in ("--config-dir", "-cd"):
            kept.append(argument)
            continue
        folder = Path(value if equals else next(rest, "")).expanduser().resolve()
        if not folder.is_dir():
            raise UserError(f"--config-dir={value or folder}: there is no such folder")
        own.append(folder)
    if own:
        OWN_FOLDERS[:] = own
        listed = ",".join(f"'file://{folder}'" for folder in own)
        settings = [place for place, argument in enumerate(kept) if "=" in argument and not argument.startswith("-")]
        place = settings[0] if settings else len(kept)  # argparse wants all settings in one row
        kept.insert(place, f"hydra.searchpath=[{listed}]")
    return kept


def config_groups() -> dict[str, list[str]]:
    """Group -> its options, read from the folders."""
    groups: dict[str, list[str]] = {}
    for root in (CONFIG_DIR, *OWN_FOLDERS):
        folders = [p for p in root.rglob("*") if p.is_dir() and p.relative_to(root).parts[0] != "hydra"]
        for folder in sorted(folders):
            name = str(folder.relative_to(root))
            options = {p.stem for p in folder.glob("*.yaml")}
            if options:
                groups[name] = sorted(options | set(groups.get(name, ())))
    return groups


def quote_groups(overrides: Sequence[str], name: str = "train") -> list[str]:
    """`seed=42` chooses the option "42" of the group seed, but Hydra takes only strings there: quote the numbers.

    `model=astromer2` is another way to say `family=astromer2`. As a group, `model` would take the key of that name
    from the verbs that load a model. The seed of a simulation is a plain number, `simulation_seed`.
    """
    groups = config_groups()
    quoted = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if key == "model" and all(option in groups["family"] for option in value.split(",")):
            key = "family"
        if name == "simulate" and key == "seed":
            key = "simulation_seed"
        values = [v.strip() for v in value.split(",")]
        if equals and key in ("target", *NUMBERED) and value:
            quoted += [o for o in numbered(key, values, groups) if o not in overrides or o == text]
        elif equals and key in groups and re.fullmatch(r"[\d,\s]+", value):
            quoted.append(f"{key}=" + ",".join(f'"{v}"' for v in values))
        else:
            quoted.append(key + equals + keys.quoted_text(key, value))
    return quoted


# --- composing, with Hydra's complaints in one sentence --------------------------------------------------------------


def _compose(name: str, overrides: Sequence[str]) -> DictConfig:
    with _one_sentence(name, overrides):
        return composing.composed(name, overrides, config_groups())


@contextmanager
def _one_sentence(name: str, overrides: Sequence[str]) -> Iterator[None]:
    """What Hydra raises becomes a UserError."""
    try:
        yield
    except OverrideParseException as error:
        raise UserError(keys.no_setting(str(error.override))) from None
    except (ConfigCompositionException, MissingConfigException, OmegaConfBaseException) as error:
        raise UserError(explain(error, name, overrides)) from None
    except composing.UNREADABLE as error:
        raise UserError(composing.of_files(error)) from None
    except OF_HYDRA as error:
        what = "Hydra finds no " if isinstance(error, KeyError) else ""
        raise UserError(what + _one_line(error)) from None


def explain(error: Exception, name: str, overrides: Sequence[str]) -> str:
    """Which override is at fault, and what would be right."""
    groups = config_groups()
    if "'encoder/photometry'. No match" in str(error):
        asked = "recipe=survey" if chosen_option("recipe", overrides) == "survey" else "encoder/photometry"
        return f"{asked} is about light curves, and this mode has none: choose mode=photo, clip or all"
    if of_one := keys.of_hydra(str(error)):
        return of_one
    pair = re.search(r"Could not find '(published|objective)/(\w+)-(\w+)'", str(error))
    if pair is not None:
        able = [option.partition("-")[0] for option in groups["published"] if option.endswith(f"-{pair[3]}")]
        if not able:
            file = f"{pair[1]}/{pair[2]}-{pair[3]}.yaml"
            return f"mode={pair[3]} has no file {file}: add it to your folder (--config-dir)"
        chosen_family = chosen_option("family", overrides) or pair[2]
        return f"mode={pair[3]} is not a task of model={chosen_family}: choose model={' or model='.join(able)}"
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key in groups and isinstance(override.value(), str) and override.value() not in groups[key]:
            return f"{key}={override.value()} does not exist: {key} is one of {', '.join(groups[key])}"
    chosen = _choices(overrides, groups)
    known = list(_leaves(_defaults(name, chosen))) if len(chosen) < len(overrides) else []
    names = [*groups, *(k for k, _ in known if k.partition(".")[0] not in TABLES)]
    nodes = {k.rpartition(".")[0] for k in names} - {""}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key == "folds":
            return "folds is the number of folds, of which fold=<number> chooses one: add it to the command line"
        if key not in names and key not in nodes and not override.is_add() and not key.startswith("hydra"):
            owners = [f"{group}={option}" for group, option in _owners(key, groups)]
            if owners:
                return f"{key} belongs to {' or '.join(owners)}, which is not chosen: add it to the command line"
            return f"there is no key {key}{_near(key, names)}"
    return _one_line(error)


def _choices(overrides: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Overrides that decide which files are composed."""
    keys = {"hydra.searchpath", *groups}
    return [override for override in overrides if override.partition("=")[0] in keys]


def chosen_option(group: str, overrides: Sequence[str]) -> str | None:
    """Option of a group on the command line."""
    values = []
    for text in overrides:
        if text.partition("=")[0] == group:
            values.append(text.partition("=")[2])
    return values[-1] if values else None


def _owners(key: str, groups: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Options of the key's group that define the key."""
    group, _, rest = key.partition(".")
    for option in groups.get(group, []):
        loaded = OmegaConf.load(CONFIG_DIR / group / f"{option}.yaml")
        if isinstance(loaded, DictConfig) and rest in list(loaded):  # `in` alone is false for ???
            yield group, option


def _near(key: str, names: Sequence[str]) -> str:
    """`; did you mean ...`, comparing the whole key and its last part."""
    last = key.rpartition(".")[2]
    near = difflib.get_close_matches(key, names, 3, 0.7)
    near += [n for n in names if difflib.get_close_matches(last, [n.rpartition(".")[2]], 1, 0.75) and n not in near]
    return f": did you mean {' or '.join(near[:3])}?" if near else " (see `--cfg job` for all keys)"


def _one_line(error: Exception) -> str:
    kept = []
    for line in str(error).splitlines():
        if line.strip() and not any(mark in line for mark in OF_THE_LIBRARY):
            kept.append(line.strip())
    return keys.shortened(" ".join(kept) or type(error).__name__, 500)


# --- checks -----------------------------------------------------------------------------------------------------------


def _leaves(cfg: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that holds a value, a list or an interpolation, with its value (interpolations not followed)."""
    for key in cfg:
        path = f"{prefix}{key}"
        if path == "hydra":
            continue
        if not OmegaConf.is_interpolation(cfg, key) and OmegaConf.is_dict(cfg._get_node(key)):
            yield path, None
            yield from _leaves(cfg[key], path + ".")
        else:
            yield path, cfg._get_node(key)


def _check_groups(parsed: Sequence[Override]) -> None:
    """A group takes the name of an option, or a list of them."""
    groups = config_groups()
    for override in parsed:
        key = override.key_or_group
        if override.is_delete() and (CONFIG_DIR / key).is_dir():
            raise UserError(f"~{key}: one has to be chosen: {key} is one of {', '.join(groups[key])}")
        if key in groups and not override.is_sweep_override() and not override.is_delete():
            keys.check_group(key, override.value(), groups[key])


def _check_types(cfg: DictConfig, parsed: Sequence[Override], overrides: Sequence[str], name: str) -> None:
    """An overridden value must have the type of the default, or the one that the key takes where that is null."""
    groups = config_groups()
    changed = []
    for o in parsed:
        of_hydra = o.key_or_group.startswith("hydra")
        if o.key_or_group not in groups and not of_hydra and not o.is_add() and not o.is_delete():
            changed.append(o.key_or_group)
    if not changed:
        return
    defaults = _defaults(name, _choices(overrides, groups))
    for key in changed:
        keys.check_type(key, keys.value_of(defaults, key), cfg)


def _defaults(name: str, choices: Sequence[str]) -> DictConfig:
    """What those options of the groups compose to. Only read: it is kept for the next call."""
    with _one_sentence(name, choices):
        return composing.of_groups(name, tuple(choices))


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """What Hydra understands. UserError where it understands nothing."""
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise UserError(keys.no_setting(str(error.override))) from None
    except ValueError as error:
        raise UserError(keys.no_number(overrides, error)) from None


OF_THE_LIBRARY = ("HYDRA_FULL", "full_key:", "object_type=", "reference_type=")  # lines of errors that say nothing
POSITIVE = ("optim.lr", "data.batch_size", "data.eval_batch_size", "epochs", "schedule.factor", "hidden_dim")


def _check_combination(cfg: DictConfig) -> None:
    """What no single key can say: combinations that make no sense, numbers out of range."""
    for key in POSITIVE:
        value = OmegaConf.select(cfg, key)
        if value is not None and value <= 0:
            raise UserError(f"{key}={value} must be greater than 0")
    found: Any = OmegaConf.to_container(cfg, resolve=True)  # keys as users give them first, since others repeat them
    own = sorted(leaves_of(found), key=lambda leaf: leaf[0].startswith(("datamodule.", "model.")))
    bounds.check_numbers(own)
    keys.check_leaves(own)
    for key in ("data.batch_size", "data.eval_batch_size"):
        if cfg.get("mode") == "clip" and (OmegaConf.select(cfg, key) or 2) < 2:
            raise UserError(f"{key}=1: mode=clip compares the objects of a batch with each other, so give at least 2")
    if cfg.get("recipe") == "survey" and cfg.get("family") != "astrom3":
        raise UserError(f"recipe=survey has its own light-curve network: leave model={cfg.family} away")
    check_protocol(cfg)
    check_task(cfg)
    if cfg.get("mode") == "clip" and OmegaConf.select(cfg, "init.name") == "clip":
        raise UserError(
            "mode=clip init=clip starts a pre-training from the pre-training it would write: use init=scratch, or "
            "init=file init.path=<folder> to go on from other weights"
        )


def leaves_of(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of everything in nested dicts that is no dict."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves_of(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
