"""Views: one kind of observation in the form that a network wants it.

A modality is what was observed (a light curve, a spectrum, catalogue values). A view is what an encoder reads of it, so
two views of one light curve can stand side by side in a batch. Data flow: checked observations -> `prepare` -> the
store -> `reader` -> `fill` -> the keys of the batch. An encoder names its view in its class attribute `view`.

    view = get_view("astromer")
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from astrom3.errors import UserError
from astrom3.modalities.constants import REFERENCE
from astrom3.modalities.schema import META_COLS, PHOTO_COLS

Arrays = Mapping[str, np.ndarray]
Column = tuple[type, tuple[int, ...]]  # dtype and shape of one row


@dataclass(frozen=True)
class Members:
    """m objects that a reader fills batches for.

    rows (m,) int64: their places in the arrays. positions (m,) int64: their places in the split, which random windows
    and masks are drawn for. features (m, 4) and metadata (m, 34) float32: normalised catalogue values.
    pad_constants: constants of a light curve stand in its padded rows too. periods (m,) float64: the catalogue's [day],
    NaN where unknown, or None. columns (m, c) float32: what a view names in `columns`, 0 where unknown, or None. ids
    (m,) str: by which a view of another package finds the objects in files of its own, "" where unknown, or None.
    """

    rows: np.ndarray
    positions: np.ndarray
    features: np.ndarray
    metadata: np.ndarray
    pad_constants: bool = True
    periods: np.ndarray | None = None
    columns: np.ndarray | None = None
    ids: np.ndarray | None = None


class Reader(ABC):
    """Fills the batch keys of one view for some objects.

    truncation: share of the light curves that are cut to their first points in training (truncation.py), for readers
    that can.
    """

    can_truncate: ClassVar[bool] = False
    truncation: float = 0.0

    @abstractmethod
    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        """Batch keys of the members `at` (B,). `epoch` is None in evaluation, where nothing is drawn by epoch."""

    def windows(self, at: np.ndarray) -> np.ndarray:
        """(B,) int64: in how many consecutive windows the view holds each member. One, unless a view cuts curves."""
        return np.ones(len(at), dtype=np.int64)

    def fill_window(self, at: np.ndarray, number: np.ndarray, seed: int = 0) -> dict[str, Tensor]:
        """Batch keys of the windows `number` (B,) of the members `at` (B,), for evaluation."""
        return self.fill(at, seed)

    def bounds(self, at: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first point of the windows `number` (B,) of members and one past their last, (B,) int64 each, among the
        points that are left of a light curve; of views with `cuts_windows`."""
        raise NotImplementedError(f"{type(self).__name__} cuts no windows")


class View(ABC):
    """name: what encoders and configurations call it. modality: of which kind of observation it is a view.

    keys: batch keys that its reader fills. stored: whether `prepare` makes arrays that the store keeps. draws: whether
    training sees an object differently in every epoch (windows, crops, masks); what is not known to be fixed does.
    """

    name: ClassVar[str]
    modality: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]
    stored: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ()  # of the catalogue, beside those of variable stars, that its reader takes
    limits: ClassVar[tuple[str, ...]] = ()  # sentences of a model card: what inputs the networks of the view know
    file_inputs: ClassVar[Mapping[str, str]] = {}  # key -> name of the input in an exported file, where it has another
    file: ClassVar[str] = ""  # name of its encoder's exported files, where it is not that of the modality
    argument: ClassVar[str] = ""  # of `embed`, by which its observations are given, where it is not the modality's
    usage: ClassVar[str] = ""  # how that looks
    can_reside: ClassVar[bool] = False  # whether its observations can be copied to a device at once, see `resident`
    cuts_windows: ClassVar[bool] = False  # whether its reader gives the `bounds` of windows in a light curve
    uses_metadata: ClassVar[bool] = False  # whether its reader takes the normalised catalogue values of `Members`
    uses_features: ClassVar[bool] = False  # whether the light curve's catalogue features are part of the input

    @property
    def store(self) -> str:
        """Name of the store; views that prepare the same arrays share it."""
        return self.name

    @abstractmethod
    def reader(self, arrays: Arrays, members: Members) -> Reader:
        """A reader of prepared arrays."""

    @property
    def has_own_files(self) -> bool:
        """Whether the observations come neither from the store nor from the catalogue."""
        return not self.stored and not self.uses_metadata and not self.columns

    def available(self, ids: np.ndarray) -> np.ndarray:
        """(n,) bool: which of the objects `ids` (n,) str a view with files of its own has an observation of."""
        raise NotImplementedError(f"{type(self).__name__} does not say whose observations it has")

    def example(self, n: int, generator: torch.Generator, points: int | None = None) -> dict[str, Tensor]:
        """Made-up batch keys of n objects, for tracing an encoder and comparing its export. points: of each light
        curve, None: random. A view of another package defines this where its encoder is to be exported."""
        raise UserError(
            f"the view {self.name} makes no example inputs, which the export to ONNX needs: define its method "
            "`example`, or say onnx=false"
        )

    def resident(self, reader: Any, take: Any) -> Any:
        """What gathers batches from the reader's observations on a device (resident.py), of views with `can_reside`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be copied to a device at once")

    def resident_bytes(self, reader: Any) -> int:
        """Memory that `resident` takes, of views with `can_reside`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be copied to a device at once")

    def without_features(self, batch: dict[str, Any], rows: Tensor) -> dict[str, Any]:
        """The batch in which the objects `rows` (k,) have no catalogue features; as it is where the view has none."""
        return batch


class StoredView(View):
    """A view whose prepared form is kept in the store. `arrays` gives that form of a piece in memory."""

    values: ClassVar[Column]  # of the prepared values
    extras: ClassVar[Mapping[str, Column]] = {}  # further columns, by attribute of the prepared data
    words: ClassVar[tuple[Sequence[str], Sequence[str]] | None] = None  # its own rejections and repairs, in words
    several_bands: ClassVar[bool] = False  # `check` takes the wavelength of each point's band as a fourth column
    ragged: ClassVar[bool]  # objects of unequal lengths, with offsets; else fixed, with a slot for each object

    @abstractmethod
    def check(self, offsets: np.ndarray, *columns: np.ndarray) -> Any:
        """Repair or reject raw ragged columns; gives a `Checked`."""

    @abstractmethod
    def prepare(self, checked: Any) -> Any:
        """Prepared objects with `values`, `verdict` and the extras, and `offsets` (ragged) or `present` (fixed)."""

    def present(self, arrays: Arrays) -> np.ndarray:
        """(n,) bool: which objects have a usable observation."""
        if self.ragged:
            return np.diff(arrays["offsets"]) > 0
        return np.asarray(arrays["slot"]) >= 0

    def example(self, n: int, generator: torch.Generator, points: int | None = None) -> dict[str, Tensor]:
        """Made-up observations of the view's modality, checked and prepared as real ones are."""
        from astrom3.modalities.examples import OBSERVATIONS, periods

        if self.modality not in OBSERVATIONS:
            return super().example(n, generator, points)
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        offsets, *columns = OBSERVATIONS[self.modality](n, points, rng)
        if self.several_bands:
            columns.append(np.full(len(columns[0]), REFERENCE))
        arrays = self.arrays(self.prepare(self.check(offsets, *columns)))
        everyone = np.arange(n)
        features = rng.normal(size=(n, len(PHOTO_COLS))).astype(np.float32)
        nothing = np.zeros((n, len(META_COLS)), np.float32)
        members = Members(everyone, everyone, features, nothing, periods=periods(n, rng))
        return self.reader(arrays, members).fill(everyone)

    def arrays(self, data: Any) -> dict[str, np.ndarray]:
        """The arrays of a store, of prepared objects in memory."""
        out = {}
        for name in ("values", *self.extras):
            if getattr(data, name) is not None:
                out[name] = getattr(data, name)
        if self.ragged:
            return out | {"offsets": data.offsets}
        return out | {"slot": np.where(data.present, np.arange(len(data.present)), -1)}


_VIEWS: dict[str, View] = {}


def register(view: View) -> View:
    """Make a view known by its name; a view of another package is registered by the module of its encoder."""
    _VIEWS[view.name] = view
    return view


def get_view(view: str | View) -> View:
    """The view of this name; UserError that names the known ones."""
    if isinstance(view, View):
        return view
    import astrom3.modalities.bands_view
    import astrom3.modalities.galaxy_views
    import astrom3.modalities.ring_view
    import astrom3.modalities.scaled_view
    import astrom3.modalities.views  # noqa: F401  they register the views of this package

    if view not in _VIEWS:
        raise UserError(f"there is no view {view!r}: an encoder's view is one of {', '.join(sorted(_VIEWS))}")
    return _VIEWS[view]


def stored_view(view: str | View) -> StoredView:
    """The same for a view that the store keeps."""
    found = get_view(view)
    if not isinstance(found, StoredView):
        raise UserError(f"the view {found.name} is made of catalogue columns and has no store")
    return found


def views_of(slots: Sequence[str] | Mapping[str, str | View]) -> dict[str, View]:
    """Slot -> view. A slot given by name alone has the view of the same name, as AstroM3's encoders want it."""
    if isinstance(slots, Mapping):
        return {slot: get_view(view) for slot, view in slots.items()}
    return {slot: get_view(slot) for slot in slots}
