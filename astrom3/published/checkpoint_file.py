"""Reading PyTorch checkpoint files of others without running anything in them.

Files of AstroCLIP hold pickled classes. They are read with `weights_only=True`, where every class but the few that
torch itself knows is replaced by an inert one that only keeps its attributes.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from astrom3.errors import UserError, shown
from astrom3.published.tensors import REAL, check_values, is_plain

# Packages whose classes are in the published files and in those that the published trainers leave.
EXPECTED = (
    "astroclip",
    "dinov2",
    "lightning",
    "lightning_fabric",
    "pytorch_lightning",
    "torch",
    "torchvision",
    "omegaconf",
)
LARGEST_PICKLE = 1 << 21  # bytes; a model of 2,000 tensors and its optimiser need half of that
EXPECTED_NAMES = ("__builtin__.set", "builtins.set", "collections.defaultdict", "pathlib.PosixPath")


class Inert:
    """Stands for an object of a class that is not loaded; it only keeps the attributes it had."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dictionary in a checkpoint file, with its tensors mapped from the file, on the CPU.

    A file that is damaged, or asks for anything no such checkpoint holds, raises UserError.
    """
    check_archive(path)
    try:
        names = get_unsafe_globals_in_checkpoint(path)
        with safe_globals([(_placeholder(name, path), name) for name in names]):  # type: ignore[list-item]
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UserError:
        raise
    except pickle.UnpicklingError:
        raise UserError(f"{shown(path)} holds something that is not read from checkpoints: fetch it again") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(f"{shown(path)} is damaged ({type(error).__name__}): fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{shown(path)} holds a {type(content).__name__}, not the dictionary of a checkpoint")
    return content


def check_archive(path: Path) -> None:
    """UserError where a file is no archive of torch, is compressed, or asks for memory that it does not fill: torch
    itself lets a pickle of some bytes make a bytearray of any length."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = []
            pickles = []
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    packed.append(entry.filename)
                elif entry.filename.endswith("/data.pkl"):
                    if entry.file_size > LARGEST_PICKLE:
                        raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes")
                    pickles.append(archive.read(entry))
    except FileNotFoundError:
        raise UserError(f"there is no file {shown(path)}") from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise UserError(f"{shown(path)} is damaged or not a PyTorch checkpoint ({error}): fetch it again") from None
    if packed:
        raise UserError(f"{shown(path)} is compressed ({packed[0]}), which PyTorch checkpoints are not: fetch it again")
    if any(b"bytearray" in content for content in pickles):
        raise UserError(f"{shown(path)} asks for a bytearray, which no checkpoint needs, so it is not read")


def check_sizes(state: Mapping[str, Tensor], path: Path) -> None:
    """UserError where tensors have more numbers than their file: one number can stand for any amount of them."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > path.stat().st_size:
        raise UserError(f"{shown(path)} claims weights of {size:,} bytes, more than the file has: fetch it again")


def check_filled(state: Mapping[str, Tensor], path: Path) -> None:
    """The same of each tensor and its own memory: in a run, two names may share one tensor."""
    for name, tensor in state.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UserError(f"{shown(path)}: tensor {name} claims more numbers than the file has: train the run again")


def _placeholder(name: str, path: Path) -> type:
    """The harmless class that stands for `name` of a pickle."""
    package = name.split(".")[0]
    if package not in EXPECTED and name not in EXPECTED_NAMES:
        raise UserError(
            f"{shown(path)} asks for {name[:100]}, which no AstroCLIP checkpoint needs, so it is not read: fetch it "
            "from where it was published"
        )
    if name.endswith(".AttributeDict"):
        return dict
    if name in ("__builtin__.set", "builtins.set"):
        return set
    return type("Inert", (Inert,), {})


def tensors_of(state: Any, path: Path) -> dict[str, Tensor]:
    """A checkpoint's weights by name, as float32 and finite, none larger than its file."""
    if not isinstance(state, Mapping) or not state:
        raise UserError(f"{shown(path)} holds no weights where an AstroCLIP checkpoint has them")
    tensors = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not is_plain(tensor) or tensor.dtype not in REAL:
            raise UserError(f"{shown(path)} holds {name!r}, which is not a tensor of real numbers, among its weights")
        tensors[name] = tensor
    check_sizes(tensors, path)
    found = {name: tensor.float() for name, tensor in tensors.items()}
    check_values(found, shown(path))
    return found


def attribute(holder: Any, *path: str) -> Any:
    """The attribute or child module at `path` of an inert object, or none where there is no such thing."""
    for name in path:
        own = getattr(holder, "__dict__", {})
        children = own.get("_modules")
        if name in own:
            holder = own[name]
        elif isinstance(children, Mapping) and name in children:
            holder = children[name]
        else:
            return None
    return holder
