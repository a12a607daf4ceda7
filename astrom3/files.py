"""What the verbs write: files whole or not at all, and folders in which nothing of anybody else is touched.

    OutputFolder(out, "embed", legacy=written_before).open(["train-00000-of-00001.parquet"], overwrite=cfg.overwrite)

A folder is written to when it is new, empty, or this verb's own: `.astrom3.json` in it names the verb and every file
that the verb has written. Anything else is refused with the names of what stands in the way. With overwrite=True files
of the names that are written are replaced, and still nothing else is touched; only named files are ever removed.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from astrom3 import strict_json
from astrom3.errors import UserError, shown
from astrom3.locks import sole_maker
from astrom3.places import check_link

MARK = ".astrom3.json"
LOCKS = (".lock", MARK)  # ours in every folder, and no reason to call it full
LARGEST = 64 * 2**20  # bytes of a text file of ours; beyond, it is not one
Legacy = Callable[[Path], Iterable[str] | None]


class OutputFolder:
    """A folder that the verb `kind` writes. legacy: names of the files in a folder without a manifest, as astrom3 0.1.0
    wrote it, None where it did not; ignored: names that do not count, such as the log that Hydra has opened."""

    def __init__(self, path: Path | str, kind: str, legacy: Legacy | None = None, ignored: Sequence[str] = ()):
        self.path = Path(path)
        self.kind = kind
        self.legacy = legacy
        self.ignored = {*LOCKS, *ignored}

    @property
    def files(self) -> set[str] | None:
        """Names, relative to the folder, of what this verb wrote; None where the folder is not its own."""
        about = read_mark(self.path)
        if about is not None:
            return set(about["files"]) if about["made_by"] == self.kind else None
        found = self.legacy(self.path) if self.legacy is not None and self.path.is_dir() else None
        return None if found is None else set(found)

    @property
    def made_of(self) -> str:
        """What the verb wrote it from, as given to `open`; "" where that is not known."""
        about = read_mark(self.path)
        return str(about.get("made_of", "")) if about is not None else ""

    @property
    def is_own(self) -> bool:
        return self.files is not None

    def foreign(self) -> list[str]:
        """What is in the folder and not named by its manifest, the first level only."""
        if not self.path.is_dir():
            return []
        own = set()
        for name in self.files or ():
            own.add(Path(name).parts[0])
        return sorted(p.name for p in self.path.iterdir() if p.name not in self.ignored and p.name not in own)

    def check(self, names: Iterable[str], overwrite: bool = False, key: str = "out") -> None:
        """Raise UserError where writing `names` would touch what is not this verb's own. key: of the configuration."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{key}={shown(self.path)} is a file: give a folder")
        names = list(names)
        refuse_links(self.path, names)
        if overwrite:
            return
        own = self.files
        if own is None and (others := self.foreign()):
            raise UserError(
                f"{shown(self.path)} holds files that are not of astrom3 {self.kind} ({listed(others)}): give a new or "
                f"empty folder as {key}=, or overwrite=true to write beside them and to replace files of the same name"
            )
        taken = sorted(n for n in names if n not in (own or ()) and os.path.lexists(self.path / n))
        if own is not None and taken:
            raise UserError(
                f"{shown(self.path)} holds files that astrom3 {self.kind} did not write ({listed(taken)}) under names "
                f"that it would: give another folder as {key}=, or overwrite=true to replace them"
            )

    def open(self, names: Iterable[str], overwrite: bool = False, key: str = "out", made_of: str = "") -> None:
        """The same, and then the folder is there and its manifest names them (and those that it named before): before
        they are written, so that what a killed run leaves is known as its own."""
        names = list(names)
        self.check(names, overwrite, key)
        self.path.mkdir(parents=True, exist_ok=True)
        known = self.files
        files = (known or set()) | set(names)
        if files != known or made_of != self.made_of or not (self.path / MARK).is_file():
            self._write_mark(files, made_of)

    @contextmanager
    def staged(
        self, names: Iterable[str], overwrite: bool = False, key: str = "out", made_of: str = ""
    ) -> Iterator[Path]:
        """A temporary folder beside this one to write `names` to. They move here when the block ends; an error in it
        leaves this folder as it was, without a manifest where there was none."""
        names = list(names)
        self.check(names, overwrite, key)
        remove_leftovers(self.path)
        stage = temporary_folder(self.path.absolute())
        with sole_maker(self.path, self.kind, key):
            stage.mkdir(parents=True)
            try:
                yield stage
                self.open(names, overwrite, key, made_of)
                move_into(stage, self.path)
            finally:
                shutil.rmtree(stage, ignore_errors=True)

    def _write_mark(self, files: Iterable[str], made_of: str) -> None:
        about = {"made_by": self.kind, "version": 1, "made_of": made_of, "files": sorted(files)}
        write_json(self.path / MARK, about)

    def remove(self, names: Iterable[str] | None = None) -> None:
        """Remove files that the manifest names (all of them, or those of `names`) and folders that are empty then.
        A name that ends in / is a folder that is this verb's with all that is in it."""
        known = self.files or set()
        chosen = known if names is None else known & set(names)
        for name in sorted(chosen):
            path = inside(self.path, name)
            if path is None:
                continue
            if name.endswith("/") and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif not path.is_dir():
                path.unlink(missing_ok=True)
        for folder in sorted({p for name in chosen for p in Path(name).parents if p != Path(".")}, reverse=True):
            with suppress(OSError):  # something else is in it
                (self.path / folder).rmdir()
        if (self.path / MARK).is_file():
            self._write_mark(known - chosen, self.made_of)


def read_mark(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder, None where there is none; UserError where it is damaged."""
    path = folder / MARK
    if not path.is_file():
        return None
    about = read_json(path)
    files = about.get("files")
    has_maker = isinstance(about.get("made_by"), str)
    if not has_maker or not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise UserError(f"{shown(path)} is damaged: remove it, or give another folder")
    return about


def inside(folder: Path, name: str) -> Path | None:
    """The path of `name` in the folder; None where it would lead out of it."""
    path = folder / name
    if os.path.isabs(name) or ".." in Path(name).parts:
        return None
    real = path.parent.resolve()
    return path if real == folder.resolve() or folder.resolve() in real.parents else None


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """UserError where a link in the folder would lead what is written under one of the names out of it: a folder from
    elsewhere could name any file of this machine."""
    for name in names:
        path = Path(name)
        for part in (path, *path.parents[:-1]):
            link = folder / part
            if link.is_symlink() and not link.resolve().is_relative_to(folder.resolve()):
                raise UserError(f"{shown(link)} is a link to {link.readlink()}, outside the folder: put a copy there")


def listed(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`"""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# --- whole folders ----------------------------------------------------------------------------------------------------


def maker() -> str:
    """This process of this machine, as temporary names carry it."""
    return f"{host()}-{os.getpid()}-{secrets.token_hex(4)}"


def host() -> str:
    return re.sub(r"\W", "", platform.node()) or "host"


def temporary_folder(root: Path) -> Path:
    """A hidden name beside `root` for what will take its place; it says which process of which machine works there."""
    check_link(root)
    return root.parent / f".{root.name}.{maker()}.tmp"


def remove_leftovers(root: Path) -> None:
    """Remove what killed processes of this machine left beside `root`; a folder that one of them had moved out of the
    way without putting another in its place takes its name again."""
    for path, kind in left_by_the_dead(root):
        if kind == "old" and not root.exists():
            os.replace(path, root)
        elif kind in ("old", "tmp"):
            shutil.rmtree(path, ignore_errors=True)


def move_into(stage: Path, folder: Path) -> None:
    """Every file of a folder to the same place in another."""
    for path in sorted(path for path in stage.rglob("*") if not path.is_dir()):
        target = folder / path.relative_to(stage)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)


def left_by_the_dead(place: Path) -> list[tuple[Path, str]]:
    """Temporary names for `place` of processes of this machine that have ended, and their kind: tmp, old or part."""
    pattern = re.compile(re.escape(f".{place.name}.{host()}-") + r"(\d+)-[0-9a-f]{8}\.(tmp|old|part)")
    if not place.parent.is_dir():
        return []
    found = []
    for entry in os.scandir(place.parent):
        match = pattern.fullmatch(entry.name)
        if match is not None and not alive(int(match[1])):
            found.append((Path(entry.path), match[2]))
    return found


def alive(process: int) -> bool:
    """Whether a process of this machine is there. One that has ended and that nobody has asked about yet is not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # not Linux
        return True
    return state not in ("Z", "X")


def carry_over(old: Path, new: Path, own: Iterable[str]) -> None:
    """Every file of `old` that is not `own` gets a place in `new` too, as a link or a copy, unless one of that name is
    there: `old` can then go without losing anything of anybody else."""
    named = {*own, MARK}
    for path in sorted(old.rglob("*")):
        name = str(path.relative_to(old))
        target = new / name
        if name in named or os.path.lexists(target):
            continue
        if path.is_dir() and not path.is_symlink():
            target.mkdir()
        elif path.is_symlink():
            target.symlink_to(os.readlink(path))
        else:
            try:
                os.link(path, target)
            except OSError:
                shutil.copy2(path, target)


def check_file(path: Path, is_own: Callable[[Path], bool], overwrite: bool, key: str = "out") -> None:
    """Raise UserError where one file is to be written and something is there that this verb has not written, of which
    is_own tells."""
    if path.is_dir():
        raise UserError(f"{key}={shown(path)} is a folder: give the name of a file")
    check_link(path)
    check_regular(path)
    if path.exists() and not overwrite and not is_own(path):
        raise UserError(
            f"{key}={shown(path)} is there already and is not of this verb: give another name, or overwrite=true to "
            "replace it"
        )


# --- files ----------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` when the block ends, and goes where that fails."""
    path = Path(path).absolute()  # pyarrow takes a:b for an address and ~ for the home folder
    temporary = path.with_name(f".{path.name}.{maker()}.part")
    for left, kind in left_by_the_dead(path):
        if kind == "part":
            left.unlink(missing_ok=True)
    try:
        yield temporary
        if temporary.exists() or not path.exists():  # else the block has renamed it itself
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """A reader, or a process killed here, finds the old file or the new one, never half of one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: Path | str, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path | str, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_text(path: Path | str) -> str:
    """The text of a small regular file; UserError where it is another kind of file, too large or not text."""
    path = check_regular(path)
    if path.stat().st_size > LARGEST:
        raise UserError(f"{shown(path)} has {path.stat().st_size / 2**20:.0f} MB: it is not a file of astrom3")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{shown(path)} is damaged (no text: {error.reason} at byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read ({error.strerror}): copy or fetch it again") from None


def check_regular(name: Path | str) -> Path:
    """The path, unless what is there is no regular file: a pipe would block for ever and a device never ends."""
    path = Path(name)
    if path.exists() and not path.is_file():
        raise UserError(f"{shown(path)} is no regular file: give a file")
    return path


def read_json(path: Path | str) -> dict[str, Any]:
    """A JSON object; UserError where the file holds none."""
    try:
        found = strict_json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown(path)} is damaged (no JSON: {error}): copy or fetch it again") from None
    if not isinstance(found, dict):
        raise UserError(
            f"{shown(path)} holds a {type(found).__name__} where an object of JSON should be: fetch it again"
        )
    return found
