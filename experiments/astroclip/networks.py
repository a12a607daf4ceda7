"""Training of the small networks of the downstream tasks: few-shot heads and supervised baselines."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Inputs = Callable[[np.ndarray, bool], Tensor]  # rows (B,), whether to augment -> inputs of the network


@dataclass(frozen=True)
class Fit:
    """How a network is fitted: Adam at `rate` for `epochs` of batches, at least `fewest_steps` steps in all. `decayed`:
    the rate falls as a cosine to 1e-6."""

    rate: float
    epochs: int
    batch: int
    fewest_steps: int = 0
    decayed: bool = False
    seed: int = 0

    def passes(self, rows: int) -> int:
        """Number of epochs."""
        batches = max(rows // self.batch, 1)
        return max(self.epochs, -(-self.fewest_steps // batches))


@dataclass(frozen=True)
class Scaling:
    """Mean and biased deviation of columns, taken out and put back."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, array: np.ndarray, together: bool = False) -> Scaling:
        """Of the columns of an array (n, C), or of all its numbers together."""
        values = torch.from_numpy(np.asarray(array)).double()
        if together:
            return cls(values.mean().float(), values.std(unbiased=False).clamp(min=1e-8).float())
        return cls(values.mean(0).float(), values.std(0, unbiased=False).clamp(min=1e-8).float())

    def __call__(self, array: np.ndarray) -> Tensor:
        return (torch.from_numpy(np.asarray(array)).float() - self.mean) / self.deviation

    def back(self, scaled: Tensor) -> np.ndarray:
        return (scaled * self.deviation + self.mean).double().numpy()


def fit(
    network: nn.Module,
    inputs: Inputs,
    targets: Tensor,
    how: Fit,
    validation: tuple[Inputs, Tensor] | None = None,
) -> nn.Module:
    """Fit by mean squares to targets (n, T); with a validation set the weights of its lowest loss are kept."""
    torch.manual_seed(how.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=how.rate)
    epochs = how.passes(len(targets))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, 1e-6) if how.decayed else None
    best = (float("inf"), network.state_dict())
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(targets)).split(how.batch):
            if len(rows) < 2:  # batch statistics need two
                continue
            optimizer.zero_grad()
            F.mse_loss(network(inputs(rows.numpy(), True)), targets[rows]).backward()
            optimizer.step()
        if schedule is not None:
            schedule.step()
        if validation is not None:
            loss = float(F.mse_loss(predict(network, validation[0], len(validation[1]), how.batch), validation[1]))
            if loss < best[0]:
                best = (loss, deepcopy(network.state_dict()))
    if validation is not None:
        network.load_state_dict(best[1])
    return network.eval()


@torch.inference_mode()
def predict(network: nn.Module, inputs: Inputs, rows: int, batch: int = 128) -> Tensor:
    """Outputs (n, T) for all rows."""
    network.eval()
    parts = [network(inputs(np.arange(first, min(first + batch, rows)), False)) for first in range(0, rows, batch)]
    return torch.cat(parts)


def of_array(scaled: Tensor) -> Inputs:
    """Rows of an array in memory as inputs."""
    return lambda rows, augmented: scaled[torch.from_numpy(rows)]
