"""Counters and a histogram in the text form that Prometheus reads (version 0.0.4)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from itertools import accumulate

EDGES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Of the life of a server. Any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._objects = 0
        self._rejected = 0
        self._in_bucket = [0] * (len(EDGES) + 1)
        self._seconds = 0.0

    def count(self, path: str, status: int, seconds: float, objects: int = 0, rejected: int = 0) -> None:
        """One request: its path and status, how long its answer took, its objects and how many were rejected."""
        with self._lock:
            self._requests[path, status] += 1
            self._objects += objects
            self._rejected += rejected
            self._in_bucket[bisect_left(EDGES, seconds)] += 1
            self._seconds += seconds

    def text(self, batches: int, waiting: int) -> str:
        """batches: that went through the network; waiting: objects in the queue."""
        with self._lock:
            lines = head("astrom3_requests_total", "counter", "Requests for classes and embeddings.")
            for (path, status), number in sorted(self._requests.items()):
                lines.append(f'astrom3_requests_total{{path="{path}",status="{status}"}} {number}')
            lines += one("astrom3_objects_total", "counter", "Objects in these requests.", self._objects)
            lines += one("astrom3_rejected_total", "counter", "Objects that could not be used.", self._rejected)
            lines += one("astrom3_batches_total", "counter", "Batches that went through the network.", batches)
            lines += one("astrom3_waiting_objects", "gauge", "Objects in the queue.", waiting)
            name = "astrom3_request_seconds"
            lines += head(name, "histogram", "Time from the head of a request to its answer.")
            up_to = list(accumulate(self._in_bucket))
            for edge, number in zip(EDGES, up_to, strict=False):
                lines.append(f'{name}_bucket{{le="{edge:g}"}} {number}')
            lines.append(f'{name}_bucket{{le="+Inf"}} {up_to[-1]}')
            lines.append(f"{name}_sum {self._seconds:.6f}")
            lines.append(f"{name}_count {up_to[-1]}")
        return "\n".join(lines) + "\n"


def head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def one(name: str, kind: str, about: str, value: int) -> list[str]:
    return [*head(name, kind, about), f"{name} {value}"]
