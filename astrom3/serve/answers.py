"""What the model gave for a request, as JSON: one entry for each object, in the order of the request."""

from __future__ import annotations

from typing import Any

import numpy as np

from astrom3.inference.results import Embedded
from astrom3.inference.trained import TrainedModel
from astrom3.serve.batcher import Outcome
from astrom3.serve.request import Request

DIGITS = 6  # of probabilities and novelty, significant
NOTHING = "nothing usable is left of it"


def answer(model: TrainedModel, request: Request, outcome: Outcome, classes: bool) -> tuple[dict[str, Any], int]:
    """The answer and the status of HTTP. outcome: of the objects of the request that could be read, in their order.
    classes: whether probabilities are asked for, else embeddings."""
    places = list(request.objects)
    entries: dict[int, dict[str, Any]] = {}
    for place, reason in request.rejected.items():
        entries[place] = {"rejected": reason}
    for k, reason in outcome.rejected.items():
        entries[places[k]] = {"rejected": reason}
    about: dict[str, Any] = {"model": model.name}
    for rows, found in outcome.pieces:
        made, shared = classes_of(model, request, found) if classes else (numbers_of(model, found), {})
        about |= shared
        for i, k in enumerate(rows.tolist()):
            entries[places[k]] = entry(made[i], found, i, request.embedding or not classes)
    objects = []
    for place, name in enumerate(request.ids):
        objects.append({"id": name} | entries[place])
    rejected = []
    for one in objects:
        if "rejected" in one:
            rejected.append(one["rejected"])
    about["objects"] = objects
    about["rejected"] = len(rejected)
    if len(rejected) < len(objects):
        return about, 200
    others = f" (and {len(rejected) - 1} more objects cannot be used)" if len(rejected) > 1 else ""
    status = 500 if outcome.faults else 422
    return {"error": rejected[0] + others, "objects": objects, "rejected": len(rejected)}, status


def classes_of(model: TrainedModel, request: Request, found: Embedded) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Of each object its class, probabilities, set and novelty; and what is true of all of them."""
    result = model.classified(found, request.coverage)
    entries: list[dict[str, Any]] = []
    sets = result.sets
    for i, (label, probabilities) in enumerate(zip(result.labels, result.as_dicts(), strict=True)):
        one: dict[str, Any] = {"class": label}
        one["probabilities"] = {name: short(p) for name, p in probabilities.items()}
        if sets is not None:
            one["set"] = list(sets[i])
        if result.novelty is not None:
            one["novelty"] = short(result.novelty[i])
        if result.novelty_quantile is not None:
            one["novelty_quantile"] = short(result.novelty_quantile[i])
        entries.append(one)
    shared: dict[str, Any] = {"calibrated": result.calibrated}
    if result.coverage is not None:
        shared["coverage"] = result.coverage
        shared["vouched"] = {name: short(share) for name, share in result.vouched.items()}
    return entries, shared


def numbers_of(model: TrainedModel, found: Embedded) -> list[dict[str, Any]]:
    """Of each object what a regression predicts, nothing of other models."""
    if model.regression is None or found.numbers is None:
        return [{} for _ in found.mean]
    entries = []
    for row in found.numbers:
        told = {name: short(value) for name, value in zip(model.regression.names, row, strict=True)}
        entries.append({"predicted": told})
    return entries


def entry(made: dict[str, Any], found: Embedded, i: int, embedding: bool) -> dict[str, Any]:
    """The entry of the i-th object of a piece: what was made of it, or why it is rejected; notes on its input."""
    reasons = []
    notes = []
    for decision in found.decisions:
        if decision.object_id == str(i):
            reasons += [decision.reason] if decision.decision == "rejected" else []
            notes.append(f"{decision.modality} {decision.decision}: {decision.reason}")
    present = []
    for modality, there in found.present.items():
        if there[i]:
            present.append(modality)
    if not present:
        return {"rejected": "; ".join(reasons) or NOTHING}
    one = dict(made)
    one["modalities"] = present
    if embedding:
        one["embedding"] = [float(value) for value in found.mean[i]]
    if notes:
        one["notes"] = notes
    return one


def short(value: float | np.floating) -> float | None:
    """Six significant digits, None where the value is not finite: JSON has no NaN."""
    if not np.isfinite(value):
        return None
    return float(f"{float(value):.{DIGITS}g}")
