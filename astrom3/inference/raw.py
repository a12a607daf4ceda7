"""Raw observations through a trained model: what `TrainedModel.embed` and `classify` do with what they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from astrom3.errors import UserError
from astrom3.inference.batches import joined, magnitudes_or_fluxes, rows_of
from astrom3.inference.galaxies import prepare as prepare_galaxies
from astrom3.inference.observations import Options, Prepared, listed_rows, prepare, reason_of
from astrom3.inference.results import Embedded
from astrom3.inference.windows import Windowed, embed_windows, window_slot
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.schema import PHOTO_COLS

if TYPE_CHECKING:
    from astrom3.inference.trained import TrainedModel

CATALOGUE = of_argument("metadata")
CHUNK = 256  # raw objects that go through the network at once


def embed_stars(
    model: TrainedModel, light_curve: Any, spectrum: Any, metadata: Any, options: Mapping[str, Any]
) -> Embedded:
    """Embeddings of light curves, spectra and catalogue values."""
    return embedded(model, prepared_of(model, light_curve, spectrum, metadata, options))


def embed_curves(
    model: TrainedModel, light_curve: Any, metadata: Any, pooling: str, per: str, options: Mapping[str, Any]
) -> Windowed:
    """Vectors of the windows of light curves, pooled. UserError where the only object cannot be used."""
    slot = window_slot(model, pooling)
    prepared = prepared_of(model, light_curve, None, metadata, options)
    present = prepared.batch["present"][slot].numpy()
    if len(present) == 1 and not present[0]:
        raise UserError(f"the {slot} cannot be used: {reason_of(prepared.decisions, slot)}")
    reader = prepared.readers[slot]
    found = embed_windows(model, slot, reader, np.arange(len(present)), present, pooling, per)
    return replace(found, decisions=prepared.decisions, count=len(present))


def prepared_of(
    model: TrainedModel,
    light_curve: Any,
    spectrum: Any,
    metadata: Any,
    options: Mapping[str, Any],
    checked: bool = False,
) -> Prepared:
    """Raw observations as the model reads them. UserError for a modality that it does not have, unless that has been
    checked object by object."""
    for view in model.views.values():
        if view.columns:
            raise UserError(
                f"{model.name} reads the catalogue columns {', '.join(view.columns)}, which cannot be handed in: embed "
                "a data set that has them (python -m astrom3.embed)"
            )
    if not model.uses_features:
        light_curve = magnitudes_or_fluxes(light_curve)
    rows = listed_rows(metadata)
    if not checked:
        refuse_foreign(model, light_curve, spectrum, rows)
    chosen = options_of(model, options)
    return prepare(light_curve, spectrum, rows, model.statistics, model.pad_constants, chosen, model.views)


def refuse_foreign(model: TrainedModel, light_curve: Any, spectrum: Any, rows: Sequence[Any] | None) -> None:
    """UserError for observations of a modality that the model does not have. rows: of the catalogue."""
    given = {of_argument("light_curve"): light_curve, of_argument("spectrum"): spectrum, CATALOGUE: rows}
    features_only = rows is not None and all(of_curve(row) for row in rows)
    for name, value in given.items():
        features = name == CATALOGUE and features_only
        refuse(model, value is not None and name not in model.modalities and not features, name)


def refuse(model: TrainedModel, is_foreign: bool, modality: str) -> None:
    """UserError where observations of this modality are foreign to the model."""
    if is_foreign:
        raise UserError(f"{model.name} knows {', '.join(model.modalities)}, not {modality}: leave it away")


def options_of(model: TrainedModel, options: Mapping[str, Any]) -> Options:
    """The options of a call, checked."""
    try:
        chosen = Options(**options)
    except TypeError:
        raise UserError(f"{', '.join(options)}: the options are {', '.join(f.name for f in fields(Options))}") from None
    if not model.uses_features and chosen.system is None and chosen.zero_point is None:
        return replace(chosen, zero_point=1.0)  # windows are centred on their mean: no zero point is needed
    return chosen


def galaxy_options(options: Mapping[str, Any]) -> bool:
    """Whether wavelengths are those in air, the only option of galaxies."""
    foreign = []
    for name in options:
        if name != "air":
            foreign.append(name)
    if foreign:
        raise UserError(f"{foreign[0]} is no option for galaxies: there is air (wavelengths are those in air)")
    return bool(options.get("air", False))


def embed_galaxies(
    model: TrainedModel, images: Any, spectra: Any, options: Mapping[str, Any], rows: Any = None
) -> Embedded:
    """Embeddings of images and spectra of galaxies, and of magnitudes in rows of a catalogue."""
    air = galaxy_options(options)
    refuse(model, rows is not None and not reads_rows(model), CATALOGUE)
    for argument, value in (("images", images), ("spectrum", spectra)):
        name = of_argument(argument)
        refuse(model, value is not None and name not in model.modalities, name)
    return embedded(model, prepare_galaxies(images, spectra, model.views, air, rows))


def reads_rows(model: TrainedModel) -> bool:
    """Whether a model of galaxies reads magnitudes of the catalogue."""
    return any(view.columns for view in model.views.values())


def embedded(model: TrainedModel, prepared: Any, strict: bool = True) -> Embedded:
    """The embeddings of a prepared batch. strict: UserError where the only object lacks what was given of it."""
    present = {m: prepared.batch["present"][m].numpy() for m in model.modalities}
    size = len(next(iter(present.values())))
    if size == 1 and strict:
        for m in model.modalities:
            handed = prepared.given.get(m, prepared.given.get(model.views[m].modality))
            if handed is not None and handed[0] and not present[m][0]:
                raise UserError(f"the {m} cannot be used: {reason_of(prepared.decisions, m)}")
        if not any(present[m][0] for m in model.modalities):
            reasons = [d.reason for d in prepared.decisions if d.decision == "rejected"]
            raise UserError(f"nothing of the object can be used: {'; '.join(reasons) or 'nothing is given of it'}")

    parts = []
    for i in range(0, size, CHUNK):
        parts.append(model.encode(rows_of(prepared.batch, slice(i, i + CHUNK))))
    there = np.logical_or.reduce(list(present.values()))
    probabilities = None
    if model.has_head:  # nothing can be said of an object without any modality
        probabilities = joined([part.probabilities for part in parts])
        assert probabilities is not None
        probabilities[~there] = np.nan
    numbers = joined([part.numbers for part in parts])
    if numbers is not None:
        numbers[~there] = np.nan

    embeddings = {}
    for modality in model.modalities:
        embeddings[modality] = np.concatenate([part.embeddings[modality] for part in parts])
    return Embedded(
        present,
        embeddings,
        np.concatenate([part.mean for part in parts]),
        probabilities,
        joined([part.points for part in parts]),
        joined([part.novelty for part in parts]),
        numbers,
        prepared.decisions,
    )


def of_curve(row: Any) -> bool:
    """Whether the metadata of an object are features of its light curve alone."""
    return row is None or (isinstance(row, Mapping) and set(row) <= set(PHOTO_COLS))
