"""One file of the Hugging Face hub, or an error within seconds where the hub cannot be reached.

huggingface_hub asks five times for a file before it says so, which takes half a minute. Whether anything answers at
the hub's address is found out first. Where something does, all of its retries stay.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

ENDPOINT = "https://huggingface.co"
PATIENCE = 5.0  # seconds in which a hub must take a connection
PAUSE = 1.0  # seconds between two attempts
PORTS = {"https": 443, "http": 80}
OF_THE_NETWORK = ("httpx", "httpcore", "requests", "urllib3")  # packages whose errors are of a connection


def download(repo: str, name: str, *, revision: str | None = None, kind: str = "model") -> Path:
    """The file `name` of a repository, fetched or from the cache; kind: model or dataset. Raises what
    huggingface_hub raises."""
    from huggingface_hub import hf_hub_download

    endpoint = os.environ.get("HF_ENDPOINT")  # read now: huggingface_hub reads it when it is imported
    is_there = takes_connections(endpoint or ENDPOINT)
    path = hf_hub_download(
        repo, name, repo_type=kind, revision=revision, endpoint=endpoint, local_files_only=not is_there
    )
    return Path(path)


def takes_connections(endpoint: str, patience: float = PATIENCE) -> bool:
    """Whether something answers at an address, which is taken for granted where a proxy is in between."""
    if getproxies():
        return True
    address = urlsplit(endpoint)
    end = time.monotonic() + patience
    while True:
        try:
            port = address.port or PORTS.get(address.scheme, 443)
            socket.create_connection((address.hostname or "", port), timeout=patience).close()
            return True
        except (OSError, ValueError):  # ValueError: a port that is none
            if time.monotonic() + PAUSE > end:
                return False
        time.sleep(PAUSE)


def is_of_network(error: BaseException) -> bool:
    """Whether an error is of a connection to the hub."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    package = type(error).__module__.partition(".")[0]
    return isinstance(error, LocalEntryNotFoundError | HfHubHTTPError | OSError) or package.startswith(OF_THE_NETWORK)
