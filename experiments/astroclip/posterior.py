"""Posteriors of redshift and properties given an embedding, by conditional neural spline flows (Parker et al. 2024).

The flows are those of `zuko` (pip install "astrom3[flows]"). Against the published code the validation loss is averaged
over its own batches and the best weights are copied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from astrom3.errors import UserError
from experiments.astroclip.networks import Fit, Scaling
from experiments.astroclip.settings import GROUPS, TARGETS, Settings
from experiments.astroclip.vectors import Vectors

BINS = 8
SAMPLES = 128  # of the posterior of a galaxy
LEVELS = np.linspace(0.05, 0.95, 19)  # of central intervals
PATIENCE_FROM = 10  # epochs
PATIENCE = 5


def posteriors(vectors: Mapping[str, Vectors], settings: Settings) -> dict[str, dict[str, Any]]:
    """Embedding -> group of targets -> NLL, CRPS and coverage on the test split."""
    return {
        name: {group: posterior(vectors, name, columns, settings) for group, columns in GROUPS.items()}
        for name in vectors["train"].vectors
    }


def posterior(vectors: Mapping[str, Vectors], name: str, columns: list[int], settings: Settings) -> dict[str, Any]:
    """Scores of an ensemble of flows. NLL is in the units of the targets: mean and deviation over the flows, and of
    their mixture."""
    scale_x = Scaling.of(vectors["train"].vectors[name], together=True)
    scale_y = Scaling.of(vectors["train"].targets[:, columns])
    x = {split: scale_x(part.vectors[name]) for split, part in vectors.items()}
    y = {split: scale_y(part.targets[:, columns]) for split, part in vectors.items()}
    how = Fit(5e-4, 25, 128, settings.fewest_steps)
    flows = [fit_flow(make_flow(seed, x["train"].shape[1], len(columns)), x, y, how) for seed in range(settings.flows)]
    with torch.inference_mode():
        log_density = torch.stack([flow(x["test"]).log_prob(y["test"]) for flow in flows])  # (flows, n)
        samples = torch.cat([flow(x["test"]).sample((SAMPLES // len(flows),)) for flow in flows])  # (S, n, T)
    in_units = float(scale_y.deviation.log().sum())
    each = in_units - log_density.mean(1)
    mixture = in_units - (log_density.logsumexp(0) - math.log(len(flows))).mean()
    names = [TARGETS[column] for column in columns]
    truth = vectors["test"].targets[:, columns]
    spread = scale_y.back(samples)
    return {
        "nll": float(mixture),
        "nll_of_flows": [float(each.mean()), float(each.std(unbiased=False))],
        "crps": {name: float(value) for name, value in zip(names, crps(spread, truth), strict=True)},
        "coverage": {name: coverage(spread[..., i], truth[:, i]) for i, name in enumerate(names)},
    }


def make_flow(seed: int, context: int, features: int) -> nn.Module:
    """A conditional spline flow of a size drawn for this seed, as published."""
    try:
        import zuko
    except ImportError:
        raise UserError(
            'posteriors need zuko: pip install "astrom3[flows]", or leave posterior out of tasks='
        ) from None
    random = np.random.default_rng(seed)
    transforms = int(random.uniform(2, 4))
    hidden = math.ceil(math.exp(random.uniform(math.log(16), math.log(32))))
    torch.manual_seed(seed)
    return zuko.flows.NSF(features, context, bins=BINS, transforms=transforms, hidden_features=[hidden] * 3)


def fit_flow(flow: nn.Module, x: Mapping[str, Tensor], y: Mapping[str, Tensor], how: Fit) -> nn.Module:
    """Maximise the likelihood of the train split; the weights of the lowest validation loss are kept."""
    epochs = how.passes(len(y["train"]))
    optimizer = torch.optim.Adam(flow.parameters(), lr=how.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, 1e-6)
    losses: list[float] = []
    best = flow.state_dict()
    for epoch in range(epochs):
        for rows in torch.randperm(len(y["train"])).split(how.batch):
            optimizer.zero_grad()
            (-flow(x["train"][rows]).log_prob(y["train"][rows]).mean()).backward()
            optimizer.step()
        schedule.step()
        with torch.inference_mode():
            losses.append(float(-flow(x["validation"]).log_prob(y["validation"]).mean()))
        if losses[-1] <= min(losses):
            best = deepcopy(flow.state_dict())
        if epoch > PATIENCE_FROM and losses[-1] > np.mean(losses[-PATIENCE:]):
            break
    flow.load_state_dict(best)
    return flow.eval()


def crps(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of samples (S, n, T) for truth (n, T), mean over objects, (T,).

    E|X - y| - E|X - X'| / 2 (Gneiting & Raftery 2007, equation 21), with the second mean taken from sorted samples.
    """
    count = len(samples)
    error = np.abs(samples - truth).mean(0)
    ranked = np.sort(samples, axis=0)
    weights = (2 * np.arange(1, count + 1) - count - 1) / count**2
    spread = np.tensordot(weights, ranked, axes=1)  # E|X - X'| / 2
    return (error - spread).mean(0)


def coverage(samples: np.ndarray, truth: np.ndarray) -> list[float]:
    """Share of truths (n,) within the central intervals of LEVELS of samples (S, n)."""
    low = np.quantile(samples, (1 - LEVELS) / 2, axis=0)  # (levels, n)
    high = np.quantile(samples, (1 + LEVELS) / 2, axis=0)
    return ((truth >= low) & (truth <= high)).mean(1).tolist()
