"""The calls of a trained model that take raw observations, as users hold them in their hands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from astrom3.errors import UserError
from astrom3.inference.results import Classified, Embedded, Predicted, named
from astrom3.inference.windows import named_windows
from astrom3.modalities.galaxy_views import reads_galaxies

if TYPE_CHECKING:
    from astrom3.inference.trained import TrainedModel


class TakesObservations:
    """The part of TrainedModel that its users call."""

    @property
    def _model(self) -> TrainedModel:
        return cast("TrainedModel", self)

    def embed(
        self,
        light_curve: Any = None,
        spectrum: Any = None,
        metadata: Any = None,
        images: Any = None,
        spectra: Any = None,
        ids: Sequence[Any] | None = None,
        pooling: str | None = None,
        per: str = "object",
        **options: Any,
    ) -> Any:
        """Embeddings of raw observations, of one object or of lists of n; see observations.py for what may be given of
        stars, and its Options for system, zero_point, air, features and band, and galaxies.py for images and spectra of
        galaxies. `spectra` is another name of `spectrum`. ids: names of the objects, integers or text, for the results.

        pooling: of light curves, "mean", "max" or "sequence" (a vector for each point) over all windows of a curve of
        any length, by `per`: one row per "object" or per "window". The result is then a `Windowed` (windows.py). Else
        it is an `Embedded`, and a curve counts with its central window, as in `classify`.

        Raises UserError for units, columns and values that do not fit, for a modality that the model does not have,
        and where the only object cannot be used; of many, those are listed in `decisions`.
        """
        from astrom3.inference import raw

        spectrum = one_of_two(spectrum, spectra)
        if pooling is not None:
            if spectrum is not None or images is not None:
                raise UserError(f"pooling={pooling} is of light curves: leave spectra and images away")
            windows = raw.embed_curves(self._model, light_curve, metadata, pooling, per, options)
            return windows if ids is None else named_windows(windows, ids)
        if per != "object":
            raise UserError(f"per={per} needs pooling=mean, max or sequence")
        return self._observed(light_curve, spectrum, metadata, images, ids, options)

    def classify(
        self,
        light_curve: Any = None,
        spectrum: Any = None,
        metadata: Any = None,
        coverage: float | None = None,
        ids: Sequence[Any] | None = None,
        images: Any = None,
        spectra: Any = None,
        **options: Any,
    ) -> Classified:
        """Class probabilities of raw observations; needs a model with a class head. As `embed` otherwise.

        coverage: how often, of each class, the set of classes holds the true one, such as 0.9. Sets need a model with a
        confidence.json, which training writes; without it probabilities are those of the network, and `calibrated` is
        false.
        """
        self._model.check_classes(coverage)
        spectrum = one_of_two(spectrum, spectra)
        return self._model.classified(self._observed(light_curve, spectrum, metadata, images, ids, options), coverage)

    def predict(
        self,
        light_curve: Any = None,
        spectrum: Any = None,
        metadata: Any = None,
        ids: Sequence[Any] | None = None,
        images: Any = None,
        spectra: Any = None,
        **options: Any,
    ) -> Predicted:
        """The numbers that a regression was trained on (target=redshift), of raw observations, in the survey's units.
        As `embed` otherwise. UserError where the model predicts none."""
        regression = self._model.regression
        if regression is None:
            raise UserError(f"{self._model.name} predicts no numbers: load a run that was trained with target=<column>")
        spectrum = one_of_two(spectrum, spectra)
        found = self._observed(light_curve, spectrum, metadata, images, ids, options)
        assert found.numbers is not None
        return Predicted(regression.names, regression.units, found.numbers, found.decisions, found.ids)

    def _observed(
        self,
        light_curve: Any,
        spectrum: Any,
        metadata: Any,
        images: Any,
        ids: Sequence[Any] | None,
        options: Mapping[str, Any],
    ) -> Embedded:
        """Raw observations, encoded."""
        from astrom3.inference import raw

        model = self._model
        if reads_galaxies(model.views):
            if light_curve is not None:
                raise UserError(f"{model.name} reads images and spectra of galaxies: leave light curves away")
            return named(raw.embed_galaxies(model, images, spectrum, options, metadata), ids)
        if images is not None:
            raise UserError(f"{model.name} knows {', '.join(model.modalities)}, not images: leave them away")
        return named(raw.embed_stars(model, light_curve, spectrum, metadata, options), ids)


def one_of_two(spectrum: Any, spectra: Any) -> Any:
    """What was given by either name of the argument; UserError where both were."""
    if spectrum is not None and spectra is not None:
        raise UserError("spectrum= and spectra= are two names of one argument: give one of them")
    return spectra if spectrum is None else spectrum
