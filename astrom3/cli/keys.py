"""What keys of the command line hold where their default, null or ???, does not say it, and which of them are text.

A name of digits alone is a name: without quotes Hydra would read id=0012 as 12 and out=1e5 as 100000.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from hydra.core.override_parser.types import Override, QuotedString
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from astrom3 import bounds
from astrom3.errors import UserError, printable
from astrom3.places import expanded
from astrom3.typed import Mismatch, compare

MISSING = "???"
# Texts that name a file or a folder, or a model by its folder: those that are written, and those that are read.
WRITTEN = (
    "out", "run", "root", "study", "index", "data.cache", "data.root", "datamodule.cache", "hydra.run.dir",
    "hydra.sweep.dir",
)  # fmt: skip
READ = (
    "model", "statistics", "embeddings", "other", "project", "swapped", "catalogue", "light_curve", "spectrum", "image",
    "raw", "table", "data.path", "data.statistics", "data.origin.path", "data.origin.root", "datamodule.statistics",
    "init.path", "match.table",
)  # fmt: skip
PATHS = (*WRITTEN, *READ, "metadata")  # whose kind is not checked
NAMES = (
    "id", "system", "by", "find", "where", "label", "name", "band", "title", "licence", "push", "host", "fit", "map",
    "pooling", "data.repo", "data.revision", "data.id", "data.label", "data.light_curve", "data.band",
    "data.origin.partition", "data.origin.band", "data.origin.repo", "init.repo", "light_curves.band",
    "light_curves.system", "match.ra", "match.dec",
)  # fmt: skip
ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://")  # a folder of that name would be made without a word
Text = str | None
Column = str | int | None  # a name, or a position in a table without names
Texts = str | list[str | int | float] | None
Count = int | None
Number = float | None

KINDS: dict[str, Any] = dict.fromkeys((*WRITTEN, *READ, *NAMES), Text)
KINDS |= dict.fromkeys(("allow", "what", "observations", "classes", "data.classes", "match.id", "match.own_id"), Texts)
KINDS |= {"unseen": list[str | int | float], "freeze": list[str], "target": str | list[str] | None}
KINDS |= dict.fromkeys(("shard", "shards", "bits", "limit", "points", "num_heads", "workers"), Count)
KINDS |= dict.fromkeys(("coverage", "zero_point", "light_curves.zero_point"), Number)
KINDS |= dict.fromkeys(("approximate", "exact"), bool | None)
KINDS |= {"labels": dict[str, Any] | None, "targets": str | list[str] | dict[str, Any] | None}
KINDS |= dict.fromkeys(("light_curves.wavelengths", "data.wavelengths"), dict[str, float] | None)
# Lists that must name something, and lists that name nothing twice.
SOME = ("splits", "what", "modes", "subs", "inits", "split_fractions", "targets", "modalities")
ONCE = (
    "splits", "what", "modes", "subs", "inits", "seeds", "unseen", "classes", "target", "targets", "early.points",
    "early.days", "modalities",
)  # fmt: skip
CHOICES = {
    "schedule.kind": ("warmup_plateau", "cosine", "constant", "noam"),
    "schedule.per": ("step", "epoch"),
    "optim.kind": ("adam", "adamw"),
    "head_merge": ("published", "usual"),
    "evaluation": ("sampled", "fixed", "full"),
    "clamp": ("forward", "parameter"),
    "fusion": ("avg", "concat"),
    "activation": ("gelu", "relu"),
    "balance": ("none", "sampling", "weights"),
    "windows": ("one", "every"),
}
OR_AUTO = ("keep", "data.on_device")  # true, false or auto
OF_FILES = ("light_curves.columns.", "spectra.columns.")
# Keys with a default that null takes away.
MAY_BE_NULL = ("tune.failures", "early_stopping.patience")
NEVER_NULL = ("trainer.max_epochs", "trainer.num_nodes", "trainer.devices")  # Lightning's own would be taken
MAY_BE_NULL_BELOW = ("trainer.", "datamodule.", "tune.space.", "hyper.", "number.", "logger.", "views.")
# What constructors have a default for, and what is one of several.
SUBFOLDER = ".hydra"  # of a run folder, where Hydra keeps its own files if it is told to
MAY_BE_TAKEN_AWAY = (
    *MAY_BE_NULL_BELOW,
    "encoders.",
    "model.",
    "module.",
    "heads.",
    "hydra",
    "light_curves.",
    "spectra.",
)
SEVERAL_KINDS = ("trainer.devices", "data.on_device", "keep", "model.frozen")  # a number, true, "auto", or a list
BEYOND_HYDRA = re.compile(r"[^\w/\-\\+.$%*@?|: ]", re.ASCII)  # what it takes only in quotes, as in out=größe&farbe
TOO_MANY_DIGITS = re.compile(r"[\d_]{4300}")  # of Python
LOOKS_LIKE_NO_TEXT = re.compile(r"[-+]?[\d._]+(e[-+]?\d+)?|[-+]?(nan|inf)|true|false", re.IGNORECASE)


def kind_of(key: str) -> Any:
    """The type of what a key holds, None where only its default says it."""
    if key.startswith(OF_FILES):
        return Column
    if key.startswith("columns."):
        return Text
    return KINDS.get(key)


def is_text(key: str) -> bool:
    """Whether a value of this key is text and nothing else."""
    kind = kind_of(key)
    return kind is str or set(get_args(kind)) == {str, type(None)}


def takes_text(key: str) -> bool:
    """Whether text is among what this key takes, as the name of a column."""
    kind = kind_of(key)
    return kind is str or str in get_args(kind)


def quoted_text(key: str, value: str) -> str:
    """The value of a text with quotes where Hydra would take it for a number, several of a sweep (a,b) each."""
    value = at_home(key, value)
    if (key in PATHS and BEYOND_HYDRA.search(value)) or (takes_text(key) and not value.isascii()):
        value = in_quotes(value)
    parts = value.split(",")
    if not is_text(key) or not any(LOOKS_LIKE_NO_TEXT.fullmatch(part.strip()) for part in parts):
        return value
    if any(mark in value for mark in "'\"[](){}\\$"):
        return value
    return ",".join(f"'{part.strip()}'" for part in parts)


def at_home(key: str, value: str) -> str:
    """The value of a path with the home folder for ~, as the shell has it before words that begin with it."""
    quote = value[:1] if value[:1] in ("'", '"') else ""
    if key not in PATHS or not value[len(quote) :].startswith("~"):
        return value
    return quote + str(expanded(value[len(quote) :]))


def in_quotes(value: str) -> str:
    """The name of a file in quotes, unless it has them, or is several values, or holds what Hydra has to work out."""
    if value[:1] in ("'", '"') or any(mark in value for mark in "[](){}\\$,"):
        return value
    quote = '"' if "'" in value else "'"
    return value if quote in value else f"{quote}{value}{quote}"


def check_leaves(leaves: Sequence[tuple[str, Any]]) -> None:
    """UserError for names of files and lists of choices that cannot be. leaves: (key, value) of a configuration."""
    check_choices(leaves)
    check_paths(leaves)
    check_lists(leaves)


def check_choices(leaves: Iterable[tuple[str, Any]]) -> None:
    """UserError where a key takes some words alone and has another one, or a number."""
    for key, value in leaves:
        allowed = CHOICES.get(key) or CHOICES.get(key.rpartition(".")[2])
        if allowed and isinstance(value, str | int | float) and not isinstance(value, bool) and value not in allowed:
            raise UserError(f"{key}={shortened(value)} does not exist: it is one of {', '.join(allowed)}")
        if key in OR_AUTO and not isinstance(value, bool) and value != "auto":
            raise UserError(f"{key}={shortened(value)} does not exist: it is true, false or auto")
        if key in ("prefix", "suffix") and "/" in str(value):
            raise UserError(f"{key}={shortened(value)} holds a /, which begins another folder: give root=<folder>")


def check_paths(leaves: Iterable[tuple[str, Any]]) -> None:
    """UserError where the name of a file or a folder is empty, or holds what no name can hold."""
    for key, value in leaves:
        if key not in PATHS or not isinstance(value, str):
            continue
        if not value.strip():
            raise UserError(f"{key}= is empty: give a name, or leave {key} away")
        if "\0" in value:
            raise UserError(f"{key}={shortened(value)} holds a NUL, which no name of a file can: give another name")
        if key in WRITTEN and ADDRESS.match(value):
            raise UserError(f"{key}={shortened(value)} is an address: give a folder or file of this machine")


def check_lists(leaves: Iterable[tuple[str, Any]]) -> None:
    """UserError where a list of choices names one twice, or has to name one and is empty."""
    for key, value in leaves:
        if not isinstance(value, list):
            continue
        if key in SOME and not value:
            raise UserError(f"{key}=[] names nothing: name at least one, or leave {key} away")
        if key in ONCE and (twice := [item for item in value if value.count(item) > 1]):
            raise UserError(f"{key} names {shortened(twice[0])} twice: name it once")


def check_open(key: str, value: Any) -> None:
    """UserError where a plain value is not of the kind that the key takes."""
    kind = kind_of(key)
    if kind is None:
        return
    try:
        compare(value, kind, key)
    except Mismatch as error:
        raise UserError(f"{error}") from None


def check_null(key: str, default: Any, words: str) -> None:
    """UserError where null takes away what has to be there."""
    may_be = key in MAY_BE_NULL or (key.startswith(MAY_BE_NULL_BELOW) and key not in NEVER_NULL)
    if default is None or may_be:
        return
    raise UserError(f"{key}=null: it has to be {words}, leave it away or give another value")


def check_overrides(parsed: Iterable[Override]) -> None:
    """UserError where `~key` takes away what has to be there, and for settings of Hydra's own that cannot be."""
    for override in parsed:
        key = override.key_or_group
        value = override.value()
        if override.is_delete() and not key.startswith(MAY_BE_TAKEN_AWAY):
            raise UserError(f"~{key}: this key has to be there, give it another value instead")
        if isinstance(value, str | QuotedString):
            check_paths([(key, value.text if isinstance(value, QuotedString) else value)] if "hydra" in key else [])
        if key.startswith("hydra.launcher.") and isinstance(value, int | float) and not isinstance(value, bool):
            bounds.check_number(key, value)
        if key == "hydra.output_subdir" and value not in (None, SUBFOLDER):
            raise UserError(f"{key}={shortened(value)}: give {SUBFOLDER}, or leave it away")
        if key == "hydra.mode" and value != "RUN":
            raise UserError(f"{key}={shortened(value)} is not taken: a sweep is asked for with -m")


def check_group(key: str, value: Any, options: Sequence[str]) -> None:
    """UserError where the value of a group is no name of an option."""
    if value is None or isinstance(value, bool | float | dict | list) or value == "":
        raise UserError(f"{key}={shortened(value)} does not exist: {key} is one of {', '.join(options)}")


def shortened(value: Any, most: int = 80) -> str:
    """A value as the command line has it, of which the end is left out where it is long."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = printable(text)
    return text if len(text) <= most else text[: most - 3] + "..."


def no_setting(text: str) -> str:
    """What is said of an argument that Hydra does not understand."""
    hint = "" if text.isascii() else ": put names with letters beyond ASCII in quotes, as in classes=\"['ä','b']\""
    return f"{shortened(text)!r} is not of the form key=value{hint}"


def of_hydra(complaint: str) -> str:
    """What is said where Hydra cannot do one override, "" where its complaint is about something else."""
    absent = re.search(r"Could not override '([^']+)'. No match", complaint)
    if absent is not None:
        return f"there is no {absent[1]} to choose here: leave {absent[1]}= away"
    unknown = re.search(
        r"Could not find '(hydra/\w+)/([^']*)'.*Available options in '[^']*':(.*?)Config search", complaint, re.S
    )
    if unknown is not None:
        return f"{unknown[1]}={shortened(unknown[2])} does not exist: it is one of {', '.join(unknown[3].split())}"
    unlike = re.search(r"Error merging override ([^=]+)=(.*)", complaint)
    if unlike is not None:
        return f"{unlike[1]}={shortened(unlike[2])} is no value of this key: --cfg job shows what it looks like"
    return ""


def no_number(overrides: Iterable[str], error: ValueError) -> str:
    """What is said where Python does not take a number, as it does not take whole ones of thousands of digits."""
    for text in overrides:
        if TOO_MANY_DIGITS.search(text):
            return f"{shortened(text)!r} holds a number of thousands of digits: give one that can be meant"
    return shortened(str(error))


def elements_agree(default: Iterable[Any], value: Iterable[Any]) -> bool:
    """Whether the members of a list are of the kinds of the default's members, where it has any."""
    kinds = {kind for item in default for kind in ((int, float) if isinstance(item, float) else (type(item),))}
    return not kinds or all(type(item) in kinds or (str in kinds and type(item) in (int, float)) for item in value)


def check_type(key: str, default: Any, cfg: DictConfig) -> None:
    """UserError where the value of one key, or of a key in it, is of another kind. default: of the key, resolved."""
    try:
        value = OmegaConf.select(cfg, key, throw_on_missing=True)
    except OmegaConfBaseException:  # said where the whole is resolved
        return
    if value is None:
        check_null(key, default, kind_word(default))
        return
    if default is None or default in ([], MISSING):
        check_open(key, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)
        return
    if key not in SEVERAL_KINDS and not same_kind(default, value):
        raise UserError(f"{key}={shortened(value)} is not {kind_word(default)}{example(key, default)}")
    if isinstance(default, DictConfig) and isinstance(value, DictConfig):
        for inner in value:
            check_type(f"{key}.{inner!s}", value_of(default, str(inner)), cfg)


def example(key: str, default: Any) -> str:
    """`, as top=5 is`, where the default is no group of keys."""
    return "" if isinstance(default, DictConfig) else f", as {key}={shortened(default)} is"


def value_of(cfg: DictConfig, key: str) -> Any:
    """The value of a key, ??? where it has to be given, None where it cannot be had yet."""
    try:
        return OmegaConf.select(cfg, key, throw_on_missing=True)
    except MissingMandatoryValue:
        return MISSING
    except OmegaConfBaseException:  # an interpolation that only other overrides make resolvable
        return None


def same_kind(default: Any, value: Any) -> bool:
    """Numbers for numbers, true or false for true or false, and what a list holds for what it held."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, ListConfig) and isinstance(value, ListConfig):
        return elements_agree(default, value)
    if isinstance(default, DictConfig | ListConfig):
        return isinstance(value, type(default))
    if isinstance(default, str) and isinstance(value, int | float):
        return True  # a name that looks like a number
    return isinstance(value, type(default))


def kind_word(value: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text", ListConfig: "a list"}
    return kinds.get(type(value), "a group of keys")
