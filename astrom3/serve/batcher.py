"""Micro-batches: requests that arrive within a few milliseconds of each other go through the network together.

One thread does all the reading and computing, so the model is never used twice at a time. Where a batch fails, its
objects are tried one by one, so that an object of one client never spoils the answer of another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from astrom3.cli import wall
from astrom3.errors import UserError
from astrom3.inference.objects import embed, kinds_of
from astrom3.inference.results import Embedded
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.galaxy_views import SIZE
from astrom3.modalities.schema import META_COLS

log = logging.getLogger(__name__)
MADE_UP_POINTS = 200
FEW = 8  # objects that are not worth two batches


class Busy(Exception):
    """More objects wait than may, or the server is stopping."""


@dataclass
class Outcome:
    """Of n objects: pieces, each the places (k,) of objects and their embeddings; rejected: place -> why there are
    none. faults: places among them where the fault is ours."""

    pieces: list[tuple[np.ndarray, Embedded]] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    faults: set[int] = field(default_factory=set)


@dataclass
class Job:
    """Objects of one request. arrived: on the monotonic clock [s]."""

    objects: Sequence[Mapping[str, Any]]
    options: dict[str, Any]
    arrived: float
    answer: Future[Outcome] = field(default_factory=Future)


class Batcher:
    """size: objects of a batch; wait: seconds that the first object waits for others; most: objects that may wait."""

    def __init__(self, model: TrainedModel, size: int, wait: float, most: int):
        self.model = model
        self.size = size
        self.wait = wait
        self.most = most
        self.batches = 0
        self.waiting = 0  # objects
        self.latest = 0  # objects of the latest batch
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, objects: Sequence[Mapping[str, Any]], options: dict[str, Any]) -> Future[Outcome]:
        """Queue the objects of a request. Raises Busy where there is no room for them."""
        job = Job(objects, options, time.monotonic())
        with self._changed:
            is_full = self.waiting > 0 and self.waiting + len(objects) > self.most
            if self._closed or is_full:
                raise Busy
            self._jobs.append(job)
            self.waiting += len(objects)
            self._changed.notify()
        return job.answer

    def close(self) -> None:
        """Answer what is waiting, take nothing more, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while jobs := self._gather():
            self.batches += 1
            groups: dict[str, list[Job]] = {}
            for job in jobs:
                if job.answer.set_running_or_notify_cancel():
                    groups.setdefault(repr(sorted(job.options.items())), []).append(job)
            for group in groups.values():
                try:
                    self._answer(group)
                except Exception as error:  # the thread must live on
                    wall.show(error)
                    for job in group:
                        if not job.answer.done():
                            job.answer.set_exception(error)

    def _gather(self) -> list[Job]:
        """The jobs of the next batch; none where the batcher is closed and nothing waits."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return []
                self._changed.wait()
            deadline = self._jobs[0].arrived + self.wait
            while self.waiting < self.limit() and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            jobs = [self._jobs.popleft()]
            count = len(jobs[0].objects)
            most = self.limit()
            while self._jobs and count + len(self._jobs[0].objects) <= most:
                jobs.append(self._jobs.popleft())
                count += len(jobs[-1].objects)
            self.waiting -= count
            self.latest = count
            return jobs

    def limit(self) -> int:
        """Objects of the next batch: half of those that are on their way, so that one half is read and answered while
        the other one computes. Those of the latest batch are taken to come again."""
        half = -(-(self.waiting + self.latest) // 2)
        return min(max(half, FEW), self.size)

    def _answer(self, jobs: Sequence[Job]) -> None:
        """All jobs have the same options."""
        objects: list[Mapping[str, Any]] = []
        for job in jobs:
            objects += job.objects
        outcome = self._computed(objects, jobs[0].options)
        start = 0
        for job in jobs:
            stop = start + len(job.objects)
            job.answer.set_result(cut(outcome, start, stop))
            start = stop

    def _computed(self, objects: Sequence[Mapping[str, Any]], options: dict[str, Any]) -> Outcome:
        if not objects:
            return Outcome()
        try:
            return Outcome([(np.arange(len(objects)), embed(self.model, objects, options))])
        except Exception as error:
            if len(objects) == 1:
                return refusal(error)
        outcome = Outcome()
        for place, one in enumerate(objects):
            alone = self._computed([one], options)
            outcome.pieces += [(np.array([place]), found) for _, found in alone.pieces]
            if alone.rejected:
                outcome.rejected[place] = alone.rejected[0]
            if alone.faults:
                outcome.faults.add(place)
        return outcome


def warm(batcher: Batcher) -> None:
    """Send two made-up objects through the model, so that the first client does not wait for what is compiled."""
    kinds = kinds_of(batcher.model)
    batcher.submit([{kind: MADE_UP[kind]() for kind in kinds}] * 2, {}).result()
    batcher.batches = 0


def made_up_curve() -> dict[str, np.ndarray]:
    time = 2457000.0 + 1.7 * np.arange(MADE_UP_POINTS)
    return {"time": time, "flux": 10 + np.sin(time), "flux_err": np.full(MADE_UP_POINTS, 0.1)}


def made_up_spectrum() -> dict[str, np.ndarray]:
    wavelength = np.linspace(3600.0, 9800.0, 8 * MADE_UP_POINTS)
    return {"wavelength": wavelength, "flux": 100 + np.sin(wavelength), "ivar": np.ones(len(wavelength))}


def made_up_metadata() -> dict[str, float]:
    """One value is enough for pyarrow to import pandas, which takes most of a second."""
    return {META_COLS[0]: 1.0}


def made_up_image() -> dict[str, np.ndarray]:
    plane = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
    return {"g": plane, "r": plane, "z": plane}


MADE_UP: dict[str, Callable[[], dict[str, Any]]] = {
    "light_curve": made_up_curve,
    "spectrum": made_up_spectrum,
    "metadata": made_up_metadata,
    "image": made_up_image,
}


def refusal(error: Exception) -> Outcome:
    """Of the only object of a batch."""
    if isinstance(error, UserError):
        return Outcome(rejected={0: str(error)})
    wall.show(error)
    sentence, _ = wall.answer(error)
    log.error("%s", sentence)
    return Outcome(rejected={0: sentence}, faults={0})


def cut(outcome: Outcome, start: int, stop: int) -> Outcome:
    """The objects from start to stop, with places that begin at 0."""
    found = Outcome()
    for places, embedded in outcome.pieces:
        rows = np.flatnonzero((places >= start) & (places < stop))
        if len(rows):
            found.pieces.append((places[rows] - start, rows_of(embedded, rows)))
    found.rejected = {k - start: reason for k, reason in outcome.rejected.items() if start <= k < stop}
    found.faults = {k - start for k in outcome.faults if start <= k < stop}
    return found


def rows_of(found: Embedded, rows: np.ndarray) -> Embedded:
    """Some objects of a batch. Their decisions are those of the batch, with the places among `rows`."""
    place = {}
    for i, row in enumerate(rows.tolist()):
        place[str(row)] = str(i)
    return Embedded(
        {m: there[rows] for m, there in found.present.items()},
        {m: vectors[rows] for m, vectors in found.embeddings.items()},
        found.mean[rows],
        None if found.probabilities is None else found.probabilities[rows],
        None if found.points is None else found.points[rows],
        None if found.novelty is None else found.novelty[rows],
        None if found.numbers is None else found.numbers[rows],
        [d._replace(object_id=place[d.object_id]) for d in found.decisions if d.object_id in place],
    )
