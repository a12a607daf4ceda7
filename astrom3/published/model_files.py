"""The files of a published model, in a folder or in a zip archive that is never unpacked.

Nothing here trusts what it reads: sizes are limited before anything is read, names in an archive may not leave it, and
whatever is wrong becomes one sentence.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from astrom3.errors import UserError, shown
from astrom3.places import expanded

MOST_MEMBERS = 10_000
LARGEST = 1 << 30  # bytes of one file
LARGEST_RATIO = 200  # of a compressed member; weights hardly shrink at all
UNSUSPICIOUS = 1 << 22  # bytes: below it no ratio is suspicious
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


def is_hub_id(source: object) -> bool:
    """Whether this is owner/name as the hub has them."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) is None:
        return False
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(str(source))
    except HFValidationError:
        return False
    return True


def refuse_file(path: Path) -> None:
    """UserError where something is there that is no folder: the hub cannot be meant."""
    if os.path.lexists(path):
        raise UserError(
            f"{shown(path)} is no model: give a run folder, a model folder, a file of released weights or a hub id"
        )


class ModelFiles:
    """The files of one model: `source` as the user gave it, and `names` of its files without their folder."""

    def __init__(
        self,
        source: Path,
        names: dict[str, str],
        archive: Path | None,
    ):
        self.source = source
        self.names = names  # name -> path in the folder or archive
        self.archive = archive

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def read(self, name: str, limit: int = LARGEST) -> bytes:
        """The bytes of a file of at most `limit` bytes. Raises UserError where it is absent, larger or damaged."""
        if name not in self.names:
            raise UserError(f"{shown(self.source)} has no file {name}; a complete copy of the model is needed.")
        if self.archive is None:
            return self._read_file(Path(self.names[name]), limit)
        return self._read_member(self.names[name], limit)

    def _read_file(self, path: Path, limit: int) -> bytes:
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise UserError(f"{shown(path)} cannot be read ({error.strerror}).") from None
        if len(data) > limit:
            raise UserError(f"{shown(path)} is larger than the {limit} bytes that such a file can have.")
        return data

    def _read_member(self, member: str, limit: int) -> bytes:
        place = f"{member} in {shown(self.source)}"
        try:
            with zipfile.ZipFile(self.archive) as archive:  # type: ignore[arg-type]
                info = archive.getinfo(member)
                suspicious = info.file_size > max(LARGEST_RATIO * info.compress_size, UNSUSPICIOUS)
                if info.file_size > limit or suspicious:
                    raise UserError(
                        f"{place} claims {info.file_size} bytes, more than such a file can have; fetch the archive "
                        "again from its source."
                    )
                with archive.open(info) as file:
                    return file.read(limit + 1)
        except DAMAGED as error:
            raise UserError(f"{place} is damaged ({type(error).__name__}); fetch the archive again.") from None


def open_model(source: str | Path, markers: tuple[str, ...]) -> ModelFiles:
    """The files of the model at `source`: a folder, a file in it, or a zip archive.

    The model's folder is the one that holds one of `markers`, and may lie inside the given folder or archive. Raises
    UserError where there is none or more than one.
    """
    path = expanded(source)
    if path.is_file() and zipfile.is_zipfile(path):
        return _choose(
            path,
            _members(path),
            markers,
            path,
        )
    if path.is_file() and path.suffix != ".zip":
        path = path.parent
    if path.is_file():
        raise UserError(f"{shown(path)} is not a zip archive, or it is damaged; fetch it again.")
    if not path.is_dir():
        raise UserError(f"There is no folder or archive {shown(path)}; check the path.")
    is_model = any((path / marker).is_file() for marker in markers)
    files = {}
    for folder in [path] if is_model else sorted(path.iterdir()):
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.is_file():
                files[str(file)] = file.name
    return _choose(path, files, markers, None)


def _members(path: Path) -> dict[str, str]:
    """Path in the archive -> name, of all files in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except DAMAGED as error:
        raise UserError(f"{shown(path)} is damaged ({type(error).__name__}); fetch it again.") from None
    if len(infos) > MOST_MEMBERS:
        raise UserError(f"{shown(path)} has {len(infos)} files, more than a model can have.")
    members = {}
    for info in infos:
        parts = PurePosixPath(info.filename.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise UserError(f"{shown(path)} has a file named {info.filename!r}, which points outside; do not trust it.")
        if info.filename in members:
            raise UserError(f"{shown(path)} has two files named {info.filename!r}; fetch it again from its source.")
        if not info.is_dir():
            members[info.filename] = parts.name
    return members


def _choose(
    source: Path,
    files: dict[str, str],
    markers: tuple[str, ...],
    archive: Path | None,
) -> ModelFiles:
    """The files beside the only marker, or beside the one that lies highest."""
    listed = " or ".join(markers)
    by_folder: dict[str, dict[str, str]] = {}
    folders = set()
    for file, name in files.items():
        folder = str(Path(file).parent)
        by_folder.setdefault(folder, {})[name] = file
        if name in markers:
            folders.add(folder)
    if not folders:
        raise UserError(f"{shown(source)} has no {listed}, so it is not a model of this kind; give its folder or zip.")
    depth = min(len(Path(folder).parts) for folder in folders)
    highest = sorted(folder for folder in folders if len(Path(folder).parts) == depth)
    if len(highest) > 1:
        names = ", ".join(Path(folder).name for folder in highest)
        raise UserError(f"{shown(source)} holds several models ({names}); give the folder of one of them.")
    return ModelFiles(source, by_folder[highest[0]], archive)
