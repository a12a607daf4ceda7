"""Redshift and properties from embeddings, zero-shot and few-shot, and from observations by supervised baselines.

Parker et al. 2024, section 6.1 and 6.2, with their settings, except that validation objects are those of our split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.astroclip.networks import Fit, Inputs, Scaling, fit, of_array, predict
from experiments.astroclip.settings import GROUPS, TARGETS, Settings
from experiments.astroclip.vectors import RAW, Vectors

HIDDEN = (64, 64)
HIDDEN_IMAGE_REDSHIFT = (32,)
BLUR = 3  # pixels of the kernel of the image baseline's augmentation


def told(vectors: Mapping[str, Vectors], settings: Settings) -> dict[str, dict[str, np.ndarray]]:
    """Embedding -> "zero-shot" and "few-shot" -> predictions (n, T) of the test split."""
    from astrom3.tasks.neighbours import neighbour_regression

    train = vectors["train"]
    test = vectors["test"]
    neighbours = min(settings.neighbours, max(len(train.targets) // 4, 1))
    found = {}
    for name, array in train.vectors.items():
        zero = np.empty_like(test.targets)
        few = np.empty_like(test.targets)
        for group, columns in GROUPS.items():
            known = train.targets[:, columns]
            near = neighbour_regression(array, known, test.vectors[name], neighbours)
            zero[:, columns] = near.reshape(len(test.targets), -1)
            few[:, columns] = few_shot(array, known, test.vectors[name], settings, hidden_of(name, group))
        found[name] = {"zero-shot": zero, "few-shot": few}
    return found


def hidden_of(name: str, group: str) -> tuple[int, ...]:
    """Widths of the few-shot network, as published."""
    return HIDDEN_IMAGE_REDSHIFT if name.startswith("image") and group == "redshift" else HIDDEN


def few_shot(
    train: np.ndarray, known: np.ndarray, test: np.ndarray, settings: Settings, hidden: tuple[int, ...] = HIDDEN
) -> np.ndarray:
    """Predict targets (m, T) of test rows (m, D) by an MLP fitted to train rows (n, D)."""
    from astrom3.encoders.baselines_astroclip import few_shot_mlp

    torch.manual_seed(0)
    scale_x = Scaling.of(train)
    scale_y = Scaling.of(known)
    network = few_shot_mlp(train.shape[1], known.shape[1], hidden)
    how = Fit(rate=1e-3, epochs=10, batch=64, fewest_steps=settings.fewest_steps)
    fit(network, of_array(scale_x(train)), scale_y(known), how)
    return scale_y.back(predict(network, of_array(scale_x(test)), len(test)))


def supervised(data: Any, vectors: Mapping[str, Vectors], settings: Settings) -> dict[str, np.ndarray]:
    """Baseline -> predictions (n, T) of the test split, one network for the redshift and one for the properties."""
    from astrom3.encoders.baselines_astroclip import ImageBaseline, SpectrumBaseline, photometry_mlp

    magnitudes = Scaling.of(vectors["train"].vectors[RAW], together=True)
    observed = {name: magnitudes(vectors[name].vectors[RAW]) for name in vectors}
    baselines: dict[str, tuple[Callable[[int], nn.Module], Callable[[str], Inputs]]] = {
        "image, ResNet18, supervised": (
            lambda outputs: ImageBaseline(outputs, settings.width),
            lambda split: of_split(data, split, "cutout/flux", augment),
        ),
        "spectrum, Conv+Att, supervised": (SpectrumBaseline, lambda split: of_split(data, split, "specformer/flux")),
        "photometry, MLP, supervised": (photometry_mlp, lambda split: of_array(observed[split])),
    }
    found = {}
    for name, (make, inputs) in baselines.items():
        steps = 0 if name.startswith("image") else 2 * settings.fewest_steps
        how = Fit(settings.rate, settings.epochs, settings.batch, steps)
        predictions = np.empty_like(vectors["test"].targets)
        for columns in GROUPS.values():
            scale = Scaling.of(vectors["train"].targets[:, columns])
            known = {split: scale(vectors[split].targets[:, columns]) for split in ("train", "validation")}
            torch.manual_seed(0)
            network = fit(
                make(len(columns)), inputs("train"), known["train"], how, (inputs("validation"), known["validation"])
            )
            predictions[:, columns] = scale.back(predict(network, inputs("test"), len(predictions)))
        found[name] = predictions
    return found


def of_split(data: Any, split: str, key: str, change: Callable[[Tensor], Tensor] | None = None) -> Inputs:
    """Observations of a split's galaxies as inputs, read from the prepared store."""
    reader = next(r for slot, r in data.splits[split].readers.items() if key in data.views[slot].keys)

    def inputs(rows: np.ndarray, augmented: bool) -> Tensor:
        values = reader.fill(rows)[key]
        return change(values) if change is not None and augmented else values

    return inputs


def augment(images: Tensor) -> Tensor:
    """Flips, half of the time each, and a slight blur of random strength, as published for the baseline."""
    if torch.rand(()) < 0.5:
        images = images.flip(-1)
    if torch.rand(()) < 0.5:
        images = images.flip(-2)
    sigma = 0.1 + 1.9 * torch.rand(())
    line = torch.exp(-0.5 * (torch.arange(BLUR) - BLUR // 2).square() / sigma**2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    weights = kernel.expand(images.shape[1], 1, BLUR, BLUR)
    return nn.functional.conv2d(images, weights, padding=BLUR // 2, groups=images.shape[1])


def scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """R2 by target, and bias, scatter and outlier share of the redshift."""
    from astrom3.tasks.neighbours import r2, redshift_scores

    values = r2(truth, predicted)
    found: dict[str, Any] = {"r2": {name: float(value) for name, value in zip(TARGETS, values, strict=True)}}
    return found | {"redshift": redshift_scores(truth[:, 0], predicted[:, 0])}
