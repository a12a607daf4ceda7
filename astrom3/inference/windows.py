"""Vectors of light curves of any length: every window goes through the encoder, by window or by object.

An encoder with `tokens` gives a vector for every point. "mean" and "max" pool them over the points, "sequence" keeps
them. A point that stands in two windows, because the last window is shifted back, counts once, in its first window.
Of a model with several modalities, pooled vectors are projected and have length 1, as its embeddings do; sequences are
those of the encoder. Views that read one window of a curve (that of AstroM3) give this window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from astrom3.errors import UserError
from astrom3.inference.batches import to_device
from astrom3.inference.results import with_names
from astrom3.modalities.quality import Decision
from astrom3.modalities.view import Reader

if TYPE_CHECKING:
    from astrom3.inference.trained import TrainedModel

POOLINGS = ("mean", "max", "sequence")
PER = ("object", "window")
AT_ONCE = 256  # windows that go through the network together


@dataclass(frozen=True)
class Windowed:
    """Vectors of R windows or objects, in the order of the objects.

    objects (R,) int64: the place of a row's object. windows (R,) int64: the number of a row's window in its object, 0
    per object. starts, ends (R,) int64: its first point and one past its last, among the points that were kept.
    vectors: float32 (R, D), or of sequences a list of R arrays (points, D). An object that cannot be used has no rows
    per window; per object its vector is 0 and its sequence empty. decisions: what was repaired or rejected. count: of
    the objects that were handed in; ids: their names, where these were given.
    """

    objects: np.ndarray
    windows: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    vectors: Any
    decisions: list[Decision] = field(default_factory=list)
    count: int = 0
    ids: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self.objects)


@dataclass(frozen=True)
class Chunk:
    """Some windows that follow each other. objects, windows, starts, ends (B,): see `Windowed`. overlaps (B,): how many
    first points the window before holds already. tokens float32 (B, L, D), visible bool (B, L)."""

    objects: np.ndarray
    windows: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    overlaps: np.ndarray
    tokens: np.ndarray
    visible: np.ndarray


def check_choices(pooling: str, per: str) -> None:
    """UserError where a choice does not exist."""
    if pooling not in POOLINGS:
        raise UserError(f"pooling={pooling} does not exist: it is one of {', '.join(POOLINGS)}")
    if per not in PER:
        raise UserError(f"per={per} does not exist: it is one of {', '.join(PER)}")


def encoders_of(model: TrainedModel) -> dict[str, Any]:
    """Slot -> encoder."""
    if model.backbone is not None:
        return dict(model.backbone.encoders.items())
    return {model.modalities[0]: model.encoder}


def window_slot(model: TrainedModel, pooling: str) -> str:
    """The slot of the model whose encoder gives a vector for every point of a light curve; UserError without one, or
    where the model projects all vectors of a window together, and not one that is pooled from them."""
    for slot, encoder in encoders_of(model).items():
        if model.views[slot].cuts_windows and hasattr(encoder, "tokens"):
            together = encoder.out_features != encoder.token_features
            if together and model.backbone is not None and pooling != "sequence":
                raise UserError(
                    f"pooling={pooling}: {model.name} projects the vectors of a window all together, so there is "
                    "nothing to pool: say pooling=sequence, or leave pooling away"
                )
            return slot
    raise UserError(f"{model.name} has no encoder that gives vectors of points of a light curve: leave pooling away")


def embed_windows(
    model: TrainedModel,
    slot: str,
    reader: Reader,
    members: np.ndarray,
    present: np.ndarray,
    pooling: str,
    per: str,
) -> Windowed:
    """Vectors of the members (n,) of a reader. present (n,) bool: which of them have a usable light curve."""
    check_choices(pooling, per)
    chunks = encoded_chunks(model, slot, reader, members, present)
    width: int = encoders_of(model)[slot].token_features
    if per == "window":
        found = by_window(chunks, pooling, width)
    else:
        found = by_object(chunks, pooling, width, len(members))
    if pooling == "sequence" or model.backbone is None:
        return found
    vectors = projected(model, slot, found.vectors)
    if per == "object":
        vectors[~present] = 0
    return Windowed(found.objects, found.windows, found.starts, found.ends, vectors)


def encoded_chunks(
    model: TrainedModel, slot: str, reader: Reader, members: np.ndarray, present: np.ndarray
) -> Iterator[Chunk]:
    """The windows of the members that are present, AT_ONCE at a time."""
    encoder = encoders_of(model)[slot]
    places = np.flatnonzero(present)
    counts = reader.windows(members[places])
    objects = np.repeat(places, counts)
    windows = np.arange(len(objects)) - np.repeat(counts.cumsum() - counts, counts)
    starts, ends = reader.bounds(members[objects], windows)
    before = np.concatenate([[0], ends[:-1]])
    overlaps = np.where(windows > 0, np.maximum(before - starts, 0), 0)
    for first in range(0, len(objects), AT_ONCE):
        rows = slice(first, first + AT_ONCE)
        filled = reader.fill_window(members[objects[rows]], windows[rows])
        batch = to_device(filled, model.device)
        inputs = [batch[key] for key in encoder.inputs]
        with torch.inference_mode():
            tokens, visible = encoder.tokens(*inputs)
        yield Chunk(
            objects[rows],
            windows[rows],
            starts[rows],
            ends[rows],
            overlaps[rows],
            tokens.float().cpu().numpy(),
            (visible > 0).cpu().numpy(),
        )


def by_window(chunks: Iterator[Chunk], pooling: str, width: int) -> Windowed:
    """A row for each window."""
    parts = []
    vectors: list[Any] = []
    for chunk in chunks:
        parts.append((chunk.objects, chunk.windows, chunk.starts, chunk.ends))
        for tokens, visible in zip(chunk.tokens, chunk.visible, strict=True):
            vectors.append(pooled(tokens[visible], pooling))

    columns: Any = [np.empty(0, np.int64)] * 4
    if parts:
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    objects, windows, starts, ends = columns
    if pooling == "sequence":
        return Windowed(objects, windows, starts, ends, vectors)

    whole = np.stack(vectors) if vectors else np.empty((0, width), np.float32)
    return Windowed(objects, windows, starts, ends, whole)


def by_object(chunks: Iterator[Chunk], pooling: str, width: int, n: int) -> Windowed:
    """A row for each of n objects, from its windows one after the other."""
    sums = np.full((n, width), -np.inf if pooling == "max" else 0.0)
    counts = np.zeros(n, np.int64)
    ends = np.zeros(n, np.int64)
    starts = np.zeros(n, np.int64)
    pieces: list[list[np.ndarray]] = [[] for _ in range(n)]
    for chunk in chunks:
        for row, place in enumerate(chunk.objects.tolist()):
            points = chunk.tokens[row][chunk.visible[row]]
            points = points[chunk.overlaps[row] :]
            if not counts[place]:
                starts[place] = chunk.starts[row]
            counts[place] += len(points)
            ends[place] = chunk.ends[row]
            if pooling == "mean":
                sums[place] += points.sum(0, dtype=np.float64)
            elif pooling == "max":
                sums[place] = np.maximum(sums[place], points.max(0, initial=-np.inf))
            else:
                pieces[place].append(points)

    numbers = np.arange(n)
    nothing = np.zeros(n, np.int64)
    if pooling == "sequence":
        empty = np.empty((0, width), np.float32)
        joined = [np.concatenate(parts) if parts else empty for parts in pieces]
        return Windowed(numbers, nothing, starts, ends, joined)
    if pooling == "mean":
        sums /= np.maximum(counts, 1)[:, None]
    sums[counts == 0] = 0
    return Windowed(numbers, nothing, starts, ends, sums.astype(np.float32))


def pooled(points: np.ndarray, pooling: str) -> np.ndarray:
    """Mean or maximum (D,) of the vectors of points (L, D), or these vectors themselves."""
    if pooling == "sequence":
        return points
    if not len(points):
        return np.zeros(points.shape[1], np.float32)
    return points.mean(0, dtype=np.float64).astype(np.float32) if pooling == "mean" else points.max(0)


def projected(model: TrainedModel, slot: str, vectors: np.ndarray) -> np.ndarray:
    """Features (R, D) of an encoder in the common space of the model, of length 1."""
    assert model.backbone is not None
    if not len(vectors):
        return np.empty((0, model.width), np.float32)
    with torch.inference_mode():
        found = model.backbone.projections[slot](torch.from_numpy(vectors).to(model.device))
        return F.normalize(found, dim=-1).float().cpu().numpy()


def named_windows(found: Windowed, ids: Sequence[Any]) -> Windowed:
    """The same with the names of its objects, in its decisions too. UserError where there are too few or too many."""
    return with_names(found, ids, found.count)
