"""Checkpoints that survive being killed: written whole or not at all, the one before kept, a damaged one passed over.

best.ckpt       weights of the best validation accuracy
last.ckpt       everything needed to go on, from the end of the last epoch
previous.ckpt   the same from the epoch before, for the case that last.ckpt is damaged
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from astrom3.errors import UserError
from astrom3.files import check_regular
from astrom3.published.checkpoint_file import check_archive, check_filled
from astrom3.published.tensors import check_kinds, check_values, is_plain
from astrom3.training.run import BEST, LAST, PREVIOUS

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a checkpoint to go on from holds, as Lightning writes it.
RESUMED: dict[str, type] = {
    "state_dict": dict,
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is written beside its place and then renamed; what was last.ckpt becomes previous.ckpt. Read are
    tensors and plain values only: a checkpoint from elsewhere cannot run anything."""

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        check_regular(path)
        try:
            check_archive(Path(path))
            found = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except (OSError, UserError):
            raise
        except Exception as error:  # torch raises several kinds for a damaged or foreign file
            raise unreadable(path, type(error).__name__) from None

        kept = found if isinstance(found, dict) else {}
        absent = []
        for key, kind in RESUMED.items():
            if not isinstance(kept.get(key), kind):
                absent.append(key)

        if absent:
            raise unreadable(path, f"it lacks {absent[0]}")
        check_filled(tensors_in(found["state_dict"], path), Path(path))
        return found

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        part = path.with_name(path.name + ".part")
        try:
            with interrupts_after():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(checkpoint, part)
                if path.name == LAST and path.exists():
                    keep_as(path, path.with_name(PREVIOUS))
                os.replace(part, path)
                flush_folder(path.parent)
        except OSError as error:
            part.unlink(missing_ok=True)
            kept = f"{path.name} of an earlier epoch is intact" if path.exists() else "there is no earlier one"
            raise UserError(
                f"the checkpoint {path} cannot be written ({error.strerror or error}); {kept}: make room there and "
                "start the same command again, it goes on from the last epoch that was saved"
            ) from error


@contextmanager
def interrupts_after() -> Iterator[None]:
    """Ctrl-C within the block takes effect at its end: the writer of torch would make an error of its own of it."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        raise KeyboardInterrupt


def unreadable(path: Path | str, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged or no checkpoint of astrom3 ({reason}): remove it, or train the run again with "
        "overwrite=true"
    )


def write_whole(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Through a Python file, so that a full disk is an OSError, and down to the disk before the renaming."""
    failure: list[BaseException] = []
    with open(path, "wb") as file:
        try:
            torch.save(checkpoint, Recorded(file, failure))  # type: ignore[arg-type]
        except RuntimeError as error:  # what torch's zip writer makes of a short write, or of Ctrl-C in it
            raise (failure[0] if failure else OSError(str(error).splitlines()[0])) from None
        file.flush()
        os.fsync(file.fileno())


class Recorded:
    """A binary file that remembers why a write failed: torch's zip writer replaces the reason by one of its own."""

    def __init__(self, file: BinaryIO, failure: list[BaseException]):
        self.file = file
        self.failure = failure

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except BaseException as error:
            self.failure.append(error)
            raise

    def flush(self) -> None:
        self.file.flush()


def keep_as(path: Path, older: Path) -> None:
    """`older` becomes what `path` is now, while `path` stays in its place (where there are hard links)."""
    link = older.with_name(older.name + ".part")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        os.replace(path, older)
    else:
        os.replace(link, older)


def flush_folder(folder: Path) -> None:
    """Make the renaming itself durable (POSIX; not every file system can)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)


def newest_sound(run: Path) -> Path | None:
    """The checkpoint to go on from: last.ckpt, or previous.ckpt where it is damaged, with a warning; else None."""
    folder = run / "checkpoints"
    damaged: list[str] = []
    for name in (LAST, PREVIOUS):
        if not (folder / name).is_file():
            continue
        if sound(folder / name):
            if damaged:
                log.warning("%s is damaged: going on from %s, one epoch earlier", folder / damaged[0], name)
            return folder / name
        damaged.append(name)
    if damaged:
        log.warning("%s: %s damaged, nothing to go on from: starting afresh", folder, " and ".join(damaged))
    return None


def sound(path: Path) -> bool:
    """Whether every part of a checkpoint has the CRC-32 written with it (0.3 s for 190 MB)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        return False


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint, tensors only."""
    check_regular(path)
    if not path.exists():
        raise UserError(f"{path.parent.parent} has no {BEST}: the run ended before its first epoch did")
    check_archive(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several kinds for a damaged file
        raise UserError(
            f"{path} is damaged or of another program ({type(error).__name__}): train the run again with overwrite=true"
        ) from None

    if not sound(path):
        raise UserError(f"{path} is damaged (its checksums differ): train the run again with overwrite=true")

    state = tensors_in(found.get("state_dict") if isinstance(found, dict) else None, path)
    check_filled(state, path)
    check_values(state, str(path))
    return state


def tensors_in(state: Any, path: Path | str) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint, unless it is another thing."""
    whole = isinstance(state, dict)
    for name, tensor in state.items() if isinstance(state, dict) else ():
        whole = whole and isinstance(name, str) and is_plain(tensor)
    if not whole:
        raise UserError(f"{path} holds no weights of astrom3: train the run again with overwrite=true")
    return state


def check_weights(module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """UserError where the weights of a checkpoint are those of another network than `module`."""
    own = module.state_dict()
    differs = sorted(set(own) ^ set(state))
    for name in sorted(set(own) & set(state)):
        if state[name].shape != own[name].shape:
            differs.append(name)
    if differs:
        raise UserError(
            f"{path} holds the weights of another network than config.yaml describes ({differs[0]} differs): copy the "
            "whole run folder again"
        )
    check_kinds(own, state, str(path))
