"""The native form of a model: `native.json` (classes and arguments) and `native.safetensors`, for every model there is.

A published form is written beside it where an adapter exists (published/astrom3.py). What a folder may construct are
encoders, towers and heads of this package; a class of another package only by name: allow=my_package.MyEncoder.

    save(model, folder)
    model = load(folder, allow=["my_package.MyEncoder"])
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from astrom3 import stored, typed
from astrom3.errors import UserError, shown
from astrom3.files import write_bytes, write_json
from astrom3.published import tensors
from astrom3.registry import names_of

DESCRIPTION = "native.json"
WEIGHTS = "native.safetensors"
FORMAT = 1
OURS = "astrom3.encoders."
DEEPEST = 8  # modules within modules
MOST_MODULES = 100  # in one description, where the largest model has about ten


def save(model: nn.Module, folder: Path | str) -> Path:
    """Write both files; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "network": describe(model)}
    state = {}
    for name, tensor in model.state_dict().items():
        state[name] = tensor.detach().cpu().contiguous().clone()
    write_bytes(folder / WEIGHTS, to_bytes(state, metadata={"format": "pt"}))
    write_json(folder / DESCRIPTION, content)
    return folder


def is_native(folder: Path | str) -> bool:
    """Whether the folder holds a model in the native form."""
    return (Path(folder) / DESCRIPTION).is_file()


def load(folder: Path | str, allow: Iterable[str] | str | None = None) -> nn.Module:
    """The model in a folder, in evaluation mode. UserError where anything is damaged or may not be constructed."""
    folder = Path(folder)
    path = folder / DESCRIPTION
    content = stored.read(path, stored.Native, "copy or fetch the model again")
    if content["format"] != FORMAT:
        raise UserError(
            f"{shown(path)} has format {content['format']}, this program reads {FORMAT}: use a newer version of astrom3"
        )
    if described(content["network"]) > MOST_MODULES:
        raise UserError(f"{shown(path)} describes more than {MOST_MODULES} modules: it was not written by astrom3")
    state = read_tensors(folder)
    allowed = names_of(allow)
    model = tensors.made(lambda: construct(content["network"], allowed, shown(path)), state, shown(path))
    if not isinstance(model, nn.Module):
        raise UserError(f"{shown(path)} describes no network: copy or fetch the model again")
    load_state(model, state, shown(folder / WEIGHTS))
    return model.eval()


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Tensors of the native file."""
    return tensors.read_tensors(folder / WEIGHTS, "copy or fetch the model again")


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put tensors into `model`; each is accounted for by name and shape."""
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    surplus = sorted(set(state) - set(own))
    if missing or surplus:
        parts = []
        for kind, names in (("lacks", missing), ("has surplus", surplus)):
            if names:
                parts.append(f"{kind} {', '.join(names[:3])}")
        raise UserError(f"{source} does not fit its description: it {' and '.join(parts)}")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise UserError(f"{source}: {name} has shape {tuple(tensor.shape)}, not {tuple(own[name].shape)}")
    tensors.check_kinds(own, state, source)
    model.load_state_dict(dict(state))


def describe(value: Any) -> Any:
    """A module as its class and the arguments it was made with, read from the attributes of the same names."""
    if isinstance(value, nn.Module) and not isinstance(value, nn.ModuleDict):
        kind = type(value)
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "arguments": arguments_of(value)}
    if isinstance(value, Mapping | nn.ModuleDict):
        return {"modules": {name: describe(module) for name, module in value.items()}}
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(f"a {type(value).__name__} cannot be kept in a model folder: use numbers, text or modules")


def arguments_of(module: nn.Module) -> dict[str, Any]:
    """Constructor arguments; `configured_x` stands for an argument x whose attribute is something else."""
    arguments = {}
    for name, parameter in list(inspect.signature(type(module).__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        for attribute in (f"configured_{name}", name):
            if hasattr(module, attribute):
                arguments[name] = describe(getattr(module, attribute))
                break
        else:
            if parameter.default is parameter.empty:
                raise UserError(
                    f"{type(module).__name__} does not keep its argument {name} as an attribute, so it cannot be saved"
                )
    return arguments


def described(network: Any) -> int:
    """How many modules a description asks for."""
    count = 0
    left = [network]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            count += "class" in value
            left += value.values()
        elif isinstance(value, list):
            left += value
    return count


def construct(value: Any, allow: set[str], source: str, depth: int = 0) -> Any:
    """What `describe` has described."""
    if depth > 2 * DEEPEST:
        raise UserError(f"{source} nests modules too deeply: it was not written by astrom3")
    if isinstance(value, list):
        return [construct(item, allow, source, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"modules"} and isinstance(value["modules"], dict):
        return {name: construct(item, allow, source, depth + 1) for name, item in value["modules"].items()}
    if set(value) != {"class", "arguments"} or not isinstance(value["arguments"], dict):
        raise UserError(f"{source} is not of the form that astrom3 writes: copy or fetch the model again")
    kind = find_class(value["class"], allow, source)
    arguments = {name: construct(item, allow, source, depth + 1) for name, item in value["arguments"].items()}
    typed.check_arguments(kind, arguments, source)
    return kind(**arguments)


def find_class(name: Any, allow: set[str], source: str) -> type[nn.Module]:
    """A class of encoders, towers or heads of this package, or one that is allowed by name."""
    if not isinstance(name, str) or not (name.startswith(OURS) or name in allow):
        raise UserError(
            f"{source} names {name}, which is not of astrom3: if you trust it, say allow={name} (allow=[...] in Python)"
        )
    module, _, attribute = name.rpartition(".")
    if name in allow and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise UserError(f"{source} names {name}, which does not exist here: install the package that has it") from None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UserError(f"{source} names {name}, which is not a network")
    if name not in allow and not kind.__module__.startswith(OURS):
        raise UserError(f"{source} names {name}, which is not defined by astrom3")
    return kind
