"""Who of a split is used: catalogue values as inputs, which observations there are, why objects are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np

from astrom3.data.layouts.table import Catalogue, Source
from astrom3.data.store import guard
from astrom3.errors import UserError
from astrom3.modalities.catalogue import PERIOD, Normaliser
from astrom3.modalities.catalogue_quality import TOO_FEW, UNKNOWN, check_catalogue
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.quality import Decision
from astrom3.modalities.schema import META_COLS, PHOTO_COLS, UNLABELLED
from astrom3.modalities.view import View

LIGHT = of_argument("light_curve")
CATALOGUE = of_argument("metadata")


@dataclass(frozen=True)
class Selection:
    """Who is used. positions (m,): places in the split's list of ids; counts and decisions as the run reports them."""

    positions: np.ndarray
    counts: dict[str, Any]
    decisions: list[Decision]


@dataclass(frozen=True)
class Inputs:
    """Catalogue of a split as network inputs: photo (n, 4) and metadata (n, 34) float32, normalised, 0 for missing.

    periods (n,) float64 [day], NaN where unknown or where the layout has only z-scores.
    """

    photo: np.ndarray
    metadata: np.ndarray
    has_metadata: np.ndarray
    decisions: list[Decision]
    periods: np.ndarray


def catalogue_inputs(catalogue: Catalogue, normaliser: Normaliser | None, views: Mapping[str, View]) -> Inputs:
    """Check and normalise the catalogue values of a split; decisions are those that concern the views."""
    modalities = set()
    for view in views.values():
        if view.uses_features or view.uses_metadata:
            modalities.add(view.modality)

    values = catalogue.values
    if not modalities and values.strides[0] == 0:  # galaxies: no columns and nobody who reads them
        return no_inputs(len(values))
    if normaliser is None:
        periods = np.full(len(values), np.nan)
        scaled = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
        known = np.isfinite(values[:, len(PHOTO_COLS) :]).sum(axis=1)
        complete = 2 * known >= len(META_COLS)
        decisions = _missing_values(values, catalogue.ids, catalogue.has_metadata)
    else:
        periods = values[:, PERIOD]
        scaled = normaliser.apply(values)
        complete, decisions = check_catalogue(values, catalogue.ids)

    has_metadata = catalogue.has_metadata & complete

    without = set(catalogue.ids[~catalogue.has_metadata])  # absent is not rejected
    kept = []
    for decision in decisions:
        is_absent = decision.modality == CATALOGUE and decision.object_id in without
        if decision.modality in modalities and not is_absent:
            kept.append(decision)

    guard(scaled)
    photo, columns = np.split(scaled, [len(PHOTO_COLS)], axis=1)
    metadata = np.where(has_metadata[:, None], columns, np.float32(0))
    return Inputs(np.ascontiguousarray(photo), metadata, has_metadata, kept, periods)


def no_inputs(n: int) -> Inputs:
    """Of n objects without catalogue columns; one row that stands for all."""
    photo = np.zeros((1, len(PHOTO_COLS)), np.float32)[0]
    metadata = np.zeros((1, len(META_COLS)), np.float32)[0]
    return Inputs(
        np.broadcast_to(photo, (n, len(PHOTO_COLS))),
        np.broadcast_to(metadata, (n, len(META_COLS))),
        np.broadcast_to(np.bool_(False), (n,)),
        [],
        np.broadcast_to(np.float64(np.nan), (n,)),
    )


def _missing_values(values: np.ndarray, ids: np.ndarray, there: np.ndarray) -> list[Decision]:
    """Decisions on values that came normalised (the hub layouts; processed-2 has no PHOTO_COLS here)."""
    photo, metadata = np.split(~np.isfinite(values), [len(PHOTO_COLS)], axis=1)  # what is missing
    decisions = []
    has_photo = not photo.all()
    for row in np.flatnonzero(photo.any(axis=1) & has_photo).tolist():
        columns = ", ".join(compress(PHOTO_COLS, photo[row]))
        decisions.append(Decision(str(ids[row]), LIGHT, "repaired", f"{columns} {UNKNOWN}"))

    for row in np.flatnonzero(metadata.any(axis=1) & there).tolist():
        name = str(ids[row])
        count = int(metadata[row].sum())
        if 2 * count > len(META_COLS):
            decisions.append(Decision(name, CATALOGUE, "rejected", f"{TOO_FEW}: {count}"))
        else:
            columns = ", ".join(compress(META_COLS, metadata[row]))
            reason = f"{columns} {UNKNOWN}"
            decisions.append(Decision(name, CATALOGUE, "repaired", reason))

    return decisions


def known_present(views: Mapping[str, View], ids: np.ndarray, inputs: Inputs) -> dict[str, np.ndarray]:
    """Slot -> (n,) bool: which objects have an observation, as far as the catalogue and the views' own files say.

    Of views that the store keeps nothing is known here, so every object counts.
    """
    found: dict[str, np.ndarray] = {}
    for slot, view in views.items():
        if view.stored:
            found[slot] = np.ones(len(ids), dtype=bool)
        elif view.has_own_files:
            found[slot] = view.available(ids.astype(str))
        else:
            found[slot] = inputs.has_metadata
    return found


def columns_present(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Slot -> (n,) bool: which objects have all of the catalogue columns (n, c) that its view names."""
    found = {}
    for slot, values in columns.items():
        found[slot] = np.isfinite(values).all(axis=1)
    return found


def columns_of(columns: Mapping[str, np.ndarray], members: np.ndarray) -> dict[str, np.ndarray]:
    """Slot -> its catalogue columns (m, c) float32 of some objects, 0 where unknown."""
    found = {}
    for slot, values in columns.items():
        found[slot] = np.nan_to_num(values[members]).astype(np.float32)
    return found


def names_for(views: Mapping[str, View], ids: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """Ids (m,) str of some objects, where a view looks them up in files of its own."""
    wanted = any(view.has_own_files for view in views.values())
    return ids[rows].astype(str) if wanted else None


def view_columns(source: Source, split: str, views: Mapping[str, View]) -> dict[str, np.ndarray]:
    """Slot -> catalogue columns (n, c) float64 that its view names, NaN where unknown; slots without such are left out.

    UserError where the data have no such column.
    """
    found = {}
    for slot, view in views.items():
        absent = []
        for name in view.columns:
            if name not in source.table(split).target_names:
                absent.append(name)
        if absent:
            raise UserError(
                f"{source.root} has no column {absent[0]}, which {slot} (view {view.name}) reads: leave {slot} away "
                "from modalities"
            )
        if view.columns:
            found[slot] = source.targets(split, view.columns)

    return found


def select(
    catalogue: Catalogue,
    present: dict[str, np.ndarray],
    decisions: list[Decision],
    labelled_only: bool,
    min_modalities: int,
    targets: np.ndarray | None = None,
) -> Selection:
    """Leave out unknown classes, unlabelled objects (where labels are needed), those without any target (n, T), where
    there are targets, and those with too few modalities."""
    n = len(catalogue.ids)
    has = np.zeros(n, int)
    for there in present.values():
        has += there
    unlabelled = (catalogue.labels == UNLABELLED) & ~catalogue.unknown
    keep = ~catalogue.unknown & (has >= min_modalities)
    if labelled_only:
        keep &= ~unlabelled
    aimless = np.zeros(n, bool) if targets is None else ~np.isfinite(targets).any(axis=1)
    keep &= ~aimless
    rows = of_what_is_there(decisions, catalogue.ids, present)
    for i in np.flatnonzero(~keep).tolist():
        if catalogue.unknown[i]:
            reason = f"unknown class {catalogue.unknown_names.get(i, '')}".rstrip()
        elif labelled_only and unlabelled[i]:
            reason = "no label"
        elif aimless[i]:
            reason = "no target"
        else:
            reason = too_few(min_modalities, present, i)
        rows.append(Decision(str(catalogue.ids[i]), "object", "rejected", reason))

    counts: dict[str, Any] = {
        "objects": n,
        "used": int(keep.sum()),
        "left_out": int((~keep).sum()),
        "unlabelled": int(unlabelled.sum()),
        "present": {},
        "missing": {},
        **counted(rows),
    }
    for modality, there in present.items():
        counts["present"][modality] = int((there & keep).sum())
        counts["missing"][modality] = int((~there & keep).sum())
    return Selection(np.flatnonzero(keep), counts, rows)


def of_what_is_there(
    decisions: Iterable[Decision], ids: np.ndarray, present: Mapping[str, np.ndarray]
) -> list[Decision]:
    """What was repaired of a modality that is not there anyhow (say, the period without a light curve) is no news."""
    absent = {modality: set(ids[~there]) for modality, there in present.items()}
    rows = []
    for decision in decisions:
        if decision.decision != "repaired" or decision.object_id not in absent.get(decision.modality, ()):
            rows.append(decision)
    return rows


def too_few(needed: int, present: Mapping[str, np.ndarray], i: int) -> str:
    """Why object i is left out that has fewer modalities than needed."""
    usable = [modality for modality, there in present.items() if there[i]]
    return f"{needed} of {', '.join(present)} needed, usable: {', '.join(usable) or 'none'}"


def counted(decisions: Iterable[Decision]) -> dict[str, dict[str, int]]:
    """How many observations of each modality were rejected, and how many repaired."""
    counts: dict[str, Counter] = {"rejected": Counter(), "repaired": Counter()}
    for row in decisions:
        if row.decision in counts:  # a copy of an object is left out, which is neither
            counts[row.decision][row.modality] += 1
    return {decision: dict(found) for decision, found in counts.items()}
