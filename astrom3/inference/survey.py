"""The data module of a configuration for a trained model: its modalities, its statistics, every usable object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from astrom3 import registry
from astrom3.data.layouts.table import Source
from astrom3.data.origins import Origin, open_origin
from astrom3.errors import UserError
from astrom3.modalities.catalogue import Normaliser

if TYPE_CHECKING:
    from astrom3.inference.trained import TrainedModel


@dataclass(frozen=True)
class WithStatistics:
    """An origin whose raw catalogue values are normalised with the model's statistics, not with its own. needed:
    whether the model reads any of these values; without that it does with its own statistics or none."""

    origin: Origin
    normaliser: Normaliser | None
    needed: bool = True

    def open(self, sub: str, seed: int) -> Source:
        return self._normalised(self.origin.open(sub, seed))

    def stream(self, sub: str, seed: int) -> Source:
        """The same, of which nothing is copied where the origin can do that."""
        return self._normalised(open_origin(self.origin, sub, seed, True))

    def _normalised(self, source: Source) -> Source:
        if source.normaliser is None:
            return source  # normalised beforehand
        if self.normaliser is None and not self.needed:
            return source
        if self.normaliser is None:
            raise UserError(
                f"the catalogue values in {source.root} are raw, and the model has no statistics to normalise them "
                "with: give the info.json of the data that it was trained on as statistics=<file>"
            )
        return replace(source, normaliser=self.normaliser)


def data_of(
    model: TrainedModel, cfg_data: Any, sub: str, seed: int, allow: Sequence[str] | str | None = None, **options: Any
) -> Any:
    """The data module of a configuration's `data` group, for this model: its modalities, its statistics, every object
    with at least one modality, with or without label. Prepared, not set up. allow: classes beyond the registry;
    options: more of AstroM3DataModule's."""
    from astrom3.data.datamodule import AstroM3DataModule

    given = {
        "modalities": model.modalities,
        "views": model.views,
        "labelled_only": False,
        "min_modalities": 1,
        "cache": cfg_data.cache,
        "streaming": cfg_data.streaming,
        "batch_size": cfg_data.batch_size,
        "eval_batch_size": cfg_data.eval_batch_size,
    }
    needed = any(view.uses_features or view.uses_metadata for view in model.views.values())
    origin = WithStatistics(registry.instantiate(cfg_data.origin, allow), model.normaliser, needed)
    data = AstroM3DataModule(origin, sub, seed, **(given | options))
    data.prepare_data()
    return data
