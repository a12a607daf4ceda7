"""An application on a port until Ctrl-C or SIGTERM, which let what is in flight be answered first."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from astrom3.errors import UserError
from astrom3.extras import need

log = logging.getLogger(__name__)
BACKLOG = 2048  # connections that may wait
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to this address; port 0 takes any free one. UserError where there is none to be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a name of this machine"
        raise UserError(f"host={host} port={port} cannot be used ({reason}): give another, or port=0") from None
    return found


def listen(found: socket.socket) -> str:
    """From now on connections wait until `serve` answers them. Returns http://host:port."""
    found.listen(BACKLOG)
    host, port = found.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(application: Any, found: socket.socket, seconds: float) -> None:
    """Until a signal; then answers are waited for, `seconds` at most. A second signal does not wait."""
    uvicorn = need("uvicorn", "serve", "serving")

    class Server(uvicorn.Server):  # type: ignore[misc, name-defined]
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Without raising the signal once more at the end, so that a wanted stop is exit status 0."""
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    config = uvicorn.Config(
        application,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=int(max(1, seconds)),
    )
    Server(config).run(sockets=[found])
