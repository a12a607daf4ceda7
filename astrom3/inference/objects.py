"""Objects one by one, as a server gets them: each is checked alone, and many are embedded in one batch.

    observed = {"light_curve": {"time": ..., "flux": ..., "flux_err": ...}, "metadata": {"period": 0.56}}
    check(model, observed, {})
    found = embed(model, [observed, other], {})                 # Embedded

An object is a mapping with the observations that it has: light_curve, spectrum, metadata and image. Options are those
of `TrainedModel.embed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from astrom3.inference import galaxies, observations, raw
from astrom3.inference.batches import magnitudes_or_fluxes
from astrom3.inference.results import Embedded
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.galaxy_views import reads_galaxies
from astrom3.modalities.kinds import modality, of_argument

METADATA = "metadata"  # the key of an object's catalogue values
SPECTRA = of_argument("spectrum")
KINDS = ("light_curve", "spectrum", METADATA, "image")
Observed = Mapping[str, Any]


def kinds_of(model: TrainedModel) -> tuple[str, ...]:
    """The observations that a model reads."""
    found = []
    for slot, view in model.views.items():
        argument = view.argument or modality(slot).argument
        found.append("image" if argument == "images" else argument)
    if "light_curve" in found and model.uses_features and METADATA not in found:
        found.append(METADATA)  # the catalogue features of the light curve
    return tuple(found)


def check(model: TrainedModel, observed: Observed, options: Mapping[str, Any]) -> None:
    """Raise UserError where an object holds what the model does not know, or what cannot be read."""
    light_curve = observed.get("light_curve")
    spectrum = observed.get("spectrum")
    metadata = observed.get(METADATA)
    image = observed.get("image")
    if reads_galaxies(model.views):
        raw.refuse(model, light_curve is not None, "light curves")
        raw.refuse(model, metadata is not None and not raw.reads_rows(model), METADATA)
        raw.refuse(model, image is not None and "images" not in model.modalities, "images")
        raw.refuse(model, spectrum is not None and SPECTRA not in model.modalities, SPECTRA)
        galaxies.check_galaxy(image, spectrum, raw.galaxy_options(options), metadata, model.views)
        return

    raw.refuse(model, image is not None, "images")
    if not model.uses_features:
        light_curve = magnitudes_or_fluxes(light_curve)
    raw.refuse_foreign(model, light_curve, spectrum, observations.listed_rows(metadata))
    observations.check_object(light_curve, spectrum, metadata, raw.options_of(model, options))


def embed(model: TrainedModel, objects: Sequence[Observed], options: Mapping[str, Any]) -> Embedded:
    """Embeddings of objects that `check` has passed. What of them cannot be used is listed in `decisions`."""
    columns = {}
    for kind in KINDS:
        columns[kind] = [one.get(kind) for one in objects]
    if reads_galaxies(model.views):
        air = raw.galaxy_options(options)
        rows = columns[METADATA]
        prepared = galaxies.prepare(columns["image"], columns["spectrum"], model.views, air, rows)
        return raw.embedded(model, prepared, strict=False)
    light_curves, spectra, metadata = columns["light_curve"], columns["spectrum"], columns[METADATA]
    prepared = raw.prepared_of(model, light_curves, spectra, metadata, options, checked=True)
    return raw.embedded(model, prepared, strict=False)
