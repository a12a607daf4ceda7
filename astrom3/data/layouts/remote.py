"""Files of a data set on the hub, read in ranges: nothing is downloaded as a whole, nothing is kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, TypeVar

from astrom3.errors import UserError

ATTEMPTS = 5
PAUSE = 1.0  # seconds before the second attempt, doubled before each further one
Found = TypeVar("Found")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set repository at one commit. `size` [bytes] and `stamp` tell one version from another."""

    repo: str
    path: str  # inside the repository
    revision: str
    endpoint: str
    size: int
    stamp: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    def __str__(self) -> str:
        return f"{self.repo}/{self.path} at {self.endpoint}"

    def open(self) -> IO[bytes]:
        """A seekable file that asks for the ranges that are read, no more, several times where the hub does not answer.

        UserError where it never does.
        """
        return Ranges(self)  # type: ignore[return-value]


class Ranges:
    """A file as pyarrow reads it; every read is one request."""

    closed = False

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        start = (0, self.at, self.file.size)[whence]
        self.at = start + offset
        return self.at

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, all that are left where it is negative."""
        end = self.file.size if size is None or size < 0 else min(self.at + size, self.file.size)
        if end <= self.at:
            return b""
        content = fetched(self.file, self.at, end)
        self.at = end
        return content

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        self.closed = True


def fetched(file: RemoteFile, start: int, end: int) -> bytes:
    """Bytes start ... end - 1 of a file."""
    pause = PAUSE
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause)
            pause *= 2
        try:
            return request(file, start, end)
        except Exception as error:  # httpx, OSError: whatever fails between here and the bytes
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    raise UserError(
        f"{file} could not be read in {ATTEMPTS} attempts ({reason}): start again, which resumes the run, or download "
        "the data set and use data=local data.path=<folder>."
    )


def request(file: RemoteFile, start: int, end: int) -> bytes:
    """One range, by huggingface_hub's session with its token and its proxies."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session

    url = hf_hub_url(file.repo, file.path, repo_type="dataset", revision=file.revision, endpoint=file.endpoint)
    headers = build_hf_headers() | {"Range": f"bytes={start}-{end - 1}"}
    answer: Any = get_session().get(url, headers=headers, follow_redirects=True, timeout=60)
    answer.raise_for_status()
    content = answer.content
    if answer.status_code == 200:  # a server that knows no ranges
        content = content[start:end]
    if len(content) != end - start:
        raise OSError(f"{len(content)} bytes came where {end - start} were asked for")
    return content
