"""Short names of released ASTROMER weights, and how they are found: in a folder, in the cache, or at their address.

The weights belong to the ASTROMER project (https://github.com/astromer-science/weights, MIT licence), and no copy of
them comes with this package.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from astrom3.errors import UserError, shown
from astrom3.files import write_bytes
from astrom3.places import expanded

FOLDER_VARIABLE = "ASTROM3_WEIGHTS"
TIMEOUT = 30  # seconds
LARGEST_DOWNLOAD = 1 << 28  # bytes


@dataclass(frozen=True)
class Release:
    """An archive of released weights: its file's name, its address, and its SHA-256 where that is known."""

    file: str
    url: str
    sha256: str | None = None


RELEASES = {
    "astromer1-macho": Release(
        "macho_a0.zip",
        "https://github.com/astromer-science/weights/raw/main/macho_a0.zip",
        "76a204a37a0d47bfd722477f55231624c0c56cf9eea3369b5f22ff445d95158b",
    ),
    "astromer2-macho": Release(
        "macho_a1.zip",
        "https://github.com/astromer-science/weights/raw/main/macho_a1.zip",
    ),
}


def fetch(name: str, cache: Path | None = None) -> Path:
    """The archive of a release: from $ASTROM3_WEIGHTS, from the folder `cache` (default: astrom3's cache), or fetched
    into that. Raises UserError where it cannot be reached or is not the release."""
    release = RELEASES[name]
    own = os.environ.get(FOLDER_VARIABLE)
    if own and (expanded(own) / release.file).is_file():
        return _checked(name, release, expanded(own) / release.file)
    cache = cache or _cache()
    path = cache / release.file
    if not path.is_file():
        _download(name, release, path)
    return _checked(name, release, path)


def _cache() -> Path:
    from astrom3.places import cache_root

    return cache_root() / "weights"


def _download(name: str, release: Release, path: Path) -> None:
    try:
        with urllib.request.urlopen(release.url, timeout=TIMEOUT) as response:
            data = response.read(LARGEST_DOWNLOAD)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"The weights {name} cannot be fetched from {release.url} ({reason}); fetch {release.file} on a machine "
            f"that can, and give the path of the file, or set {FOLDER_VARIABLE} to the folder that holds it."
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)


def _checked(name: str, release: Release, path: Path) -> Path:
    """The path, where its content has the release's checksum."""
    if release.sha256 is None:
        return path
    if hashlib.sha256(path.read_bytes()).hexdigest() != release.sha256:
        raise UserError(f"{shown(path)} is not the released file of {name} (another SHA-256); remove it and try again.")
    return path
