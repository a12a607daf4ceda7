"""What a configuration may construct. A run folder from elsewhere is data: its `_target_` must not run anybody's code.

Constructed are the classes that our own configuration names, encoders and other networks, data modules and what is
registered with @constructible in this package, Lightning's Trainer, loggers and strategies, torch's optimisers; more
only by name: allow=package.Class on the command line, `allow=` of astrom3.load. The whole configuration is looked
through before anything in it is constructed.

Imports nothing heavy by itself, so that a command line is checked in a second.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from astrom3.errors import UserError, first_line, shown
from astrom3.files import read_text
from astrom3.places import CONFIG_DIR

PACKAGE = "astrom3"
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
LOGGERS = ("CSVLogger", "TensorBoardLogger", "WandbLogger")
STRATEGIES = ("DDPStrategy", "FSDPStrategy", "SingleDeviceStrategy")
LIGHTNING = {"lightning.Trainer", "lightning.pytorch.Trainer"}
LIGHTNING |= {f"lightning.pytorch.loggers.{name}" for name in LOGGERS}
LIGHTNING |= {f"lightning.pytorch.strategies.{name}" for name in STRATEGIES}
BASES = (("torch.nn.modules.module", "Module"), ("lightning.pytorch.core.datamodule", "LightningDataModule"))
MOVED = {  # where a class was before -> where it is, for the run folders of then
    "astrom3.data.origins.Simulated": "astrom3.simulate.origin.Simulated",
    "astrom3.models.multimodal.Classifier": "astrom3.encoders.towers.Classifier",
    "astrom3.models.multimodal.MultimodalModel": "astrom3.encoders.towers.MultimodalModel",
    "astrom3.models.multimodal.MultimodalClassifier": "astrom3.encoders.towers.MultimodalClassifier",
    "astrom3.models.informer.InformerEncoder": "astrom3.encoders.informer.InformerEncoder",
    "astrom3.models.galspecnet.GalSpecNet": "astrom3.encoders.galspecnet.GalSpecNet",
    "astrom3.models.mlp.MetadataMLP": "astrom3.encoders.mlp.MetadataMLP",
    "astrom3.training.classification.ClassificationModule": "astrom3.tasks.classification.ClassificationModule",
    "astrom3.training.contrastive.ContrastiveModule": "astrom3.tasks.contrastive.ContrastiveModule",
}
# What a constructor raises that was given what it cannot use. Errors of the system and of memory are none of these.
OF_CONSTRUCTION = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError, ImportError)
_registered: list[Any] = []
Kind = TypeVar("Kind")


def constructible(found: Kind) -> Kind:
    """Decorator: a class or function of this package that a configuration may name."""
    _registered.append(found)
    return found


def check(cfg: Any, allow: Iterable[str] | str | None = None, source: str = "the configuration") -> None:
    """Raise UserError where anything in `cfg`, however deep, names something that may not be constructed.

    cfg: a plain or OmegaConf mapping or list, resolved; allow: names beyond the registry.
    """
    allowed = names_of(allow)
    for key, target in targets(plain(cfg)):
        if not may_construct(target, allowed):
            raise UserError(
                f"{source} wants to construct {target!r} ({key}), which astrom3 does not construct by itself: if you "
                f"trust that code, add allow={target} to the command line"
            )


def names_of(allow: Iterable[str] | str | None) -> set[str]:
    """allow=a.B, allow=[a.B,c.D] or null as a set of names."""
    if allow is None:
        return set()
    names: list[Any] = [allow]
    if isinstance(allow, Iterable) and not isinstance(allow, str | Mapping):
        names = list(allow)
    for name in names:
        if not isinstance(name, str) or not DOTTED.fullmatch(name):
            raise UserError(f"allow={name} is not the name of a class: it is like package.module.Class")
    return set(names)


def plain(cfg: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg


def flat(cfg: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`a.b.c` and value of everything in a configuration that is no group of keys."""
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(cfg) if OmegaConf.is_config(cfg) else cfg
    for key, value in content.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def targets(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of every `_target_` in nested mappings and lists."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            here = f"{path}.{key}" if path else str(key)
            if key == "_target_":
                yield here, value
            else:
                yield from targets(value, here)
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from targets(value, f"{path}[{number}]")


@functools.cache
def shipped() -> frozenset[str]:
    """Every `_target_` of our own configuration files."""
    pattern = re.compile(r"^\s*_target_:\s*([\w.]+)", re.MULTILINE)
    found: set[str] = set()
    for path in Path(CONFIG_DIR).rglob("*.yaml"):
        found.update(pattern.findall(path.read_text(encoding="utf-8")))
    return frozenset(found)


def may_construct(target: Any, allowed: Iterable[str] = ()) -> bool:
    """Whether `target`, the value of a `_target_`, is in the registry or allowed by name."""
    if not isinstance(target, str) or not DOTTED.fullmatch(target):
        return False
    if target in allowed or target in shipped() or target in LIGHTNING:
        return True
    if target.startswith(f"{PACKAGE}."):
        return is_ours(located(target))
    if re.fullmatch(r"torch\.optim\.[A-Z]\w*", target):
        from torch.optim import Optimizer

        found = located(target)
        return isinstance(found, type) and issubclass(found, Optimizer)
    return False


def located(target: str) -> Any:
    """What Hydra would construct; None where there is no such thing."""
    from hydra._internal.utils import _locate

    try:
        return _locate(target)
    except Exception:  # whatever an import that does not succeed raises
        return None


def is_ours(found: Any) -> bool:
    """A registered object, or a class of a constructible kind that is defined in this package. A name such as
    astrom3.x.os.system is neither."""
    if any(found is known for known in _registered):
        return True
    if not isinstance(found, type) or not found.__module__.startswith(f"{PACKAGE}."):
        return False
    return any((base.__module__, base.__name__) in BASES for base in found.__mro__)


def instantiate(node: Any, allow: Iterable[str] | str | None = None, **given: Any) -> Any:
    """Hydra's instantiate, after the check. An error of a constructor is not wrapped in Hydra's: what can be said to a
    user is raised as it is, and anything else becomes a UserError with the key and the class that cannot be made."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as construct

    check(node, allow)
    try:
        return construct(node, **given)
    except InstantiationException as error:
        cause = root_cause(error)
        if cause is not error and not isinstance(cause, OF_CONSTRUCTION):
            raise cause from error
        raise UserError(f"{described(error, node)} cannot be constructed: {first_line(cause)}") from error


def described(error: BaseException, node: Any) -> str:
    """The innermost object that could not be made, with its key where Hydra says it."""
    content = plain(node)
    target = str(content.get("_target_", "?")) if isinstance(content, Mapping) else "?"
    key = ""
    while True:
        found = re.search(r"target '([\w.]+)'", str(error))
        place = re.search(r"full_key: (\S+)", str(error))
        target = found[1] if found else target
        key = place[1] if place else key
        if error.__cause__ is None:
            break
        error = error.__cause__
    return f"{key} ({target})" if key else target


def root_cause(error: BaseException) -> BaseException:
    """The error at the end of the chain of `raise ... from ...`."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


# --- stored configurations ------------------------------------------------------------------------------------------


def read_stored(path: Path | str, allow: Iterable[str] | str | None = (), checked: bool = True) -> Any:
    """The configuration that a run folder keeps, as a DictConfig. It was resolved when it was written, so anything
    that looks something up (${...}), and aliases of YAML, are refused; checked: see `check`."""
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = Path(path)
    text = read_text(path)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.events.AliasEvent):
                raise UserError(f"{shown(path)} has aliases of YAML (*{event.anchor}): astrom3 never writes any")
        cfg = OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError, AssertionError) as error:
        raise UserError(f"{shown(path)} is damaged (no YAML: {first_line(error)})") from None
    if not isinstance(cfg, DictConfig):
        raise UserError(f"{shown(path)} holds no configuration: it is a {type(cfg).__name__}")
    found: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, value in strings(found):
        if "${" in value:
            raise UserError(f"{shown(path)} looks values up ({key}: {value}): astrom3 writes none such")
    renamed = moved(found)
    if checked:
        check(renamed, allow, shown(path))
    return cfg if renamed == found else OmegaConf.create(renamed)


def strings(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of every string in nested mappings and lists, the keys' own included."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from strings(value, f"{path}.{key}" if path else str(key))
            if isinstance(key, str) and "${" in key:
                yield path, key
    elif isinstance(node, Sequence):
        for number, value in enumerate(node):
            yield from strings(value, f"{path}[{number}]")


def moved(node: Any) -> Any:
    """The same configuration with the classes of earlier versions under their names of today."""
    if isinstance(node, dict):
        renamed = {key: moved(value) for key, value in node.items()}
        if isinstance(renamed.get("_target_"), str):
            renamed["_target_"] = MOVED.get(renamed["_target_"], renamed["_target_"])
        return renamed
    if isinstance(node, list):
        return [moved(value) for value in node]
    return node
