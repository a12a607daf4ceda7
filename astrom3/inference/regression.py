"""The head of a trained regression: numbers such as a redshift or a metallicity from what its encoders say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from astrom3 import stored
from astrom3.errors import UserError
from astrom3.inference.preprocessing import PREPROCESSING


@dataclass(frozen=True)
class Regression:
    """network: encoders with their head, whose outputs (B, T) are standardised. names (T,) of the targets, units in
    words or None, and mean and std (T,) of the training objects."""

    network: nn.Module
    names: tuple[str, ...]
    units: tuple[str | None, ...]
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, network: nn.Module, scales: Sequence[stored.TargetScale]) -> Regression:
        """scales: as preprocessing.json has them."""
        names = []
        units = []
        mean = []
        std = []
        for scale in scales:
            names.append(scale["name"])
            units.append(scale.get("unit"))
            mean.append(scale["mean"])
            std.append(scale["std"])
        return cls(network, tuple(names), tuple(units), np.array(mean), np.array(std))

    @property
    def scales(self) -> list[dict[str, Any]]:
        """As preprocessing.json has them."""
        rows = zip(self.names, self.units, self.mean.tolist(), self.std.tolist(), strict=True)
        return [{"name": name, "unit": unit, "mean": mean, "std": std} for name, unit, mean, std in rows]

    def numbers(self, outputs: Tensor) -> np.ndarray:
        """Outputs (B, T) in the units of the targets, float32."""
        return (outputs.double().cpu().numpy() * self.std + self.mean).astype(np.float32)


def scales_of(folder: Path) -> list[stored.TargetScale]:
    """The targets of the model in a folder, none of a classifier or of encoders alone."""
    path = folder / PREPROCESSING
    if not path.exists():
        return []
    return list(stored.read(path, stored.Preprocessing).get("targets") or ())


def without_head(network: nn.Module, scales: Sequence[stored.TargetScale], folder: Path) -> nn.Module:
    """The encoders of a regression. UserError where it has not as many outputs as targets."""
    outputs = getattr(network, "num_classes", len(scales))
    if outputs != len(scales):
        raise UserError(
            f"{folder / PREPROCESSING} names {len(scales)} targets, the head has {outputs}: it belongs to another model"
        )
    inner: Any = getattr(network, "encoder", None)
    return getattr(network, "backbone", network) if inner is None else inner
