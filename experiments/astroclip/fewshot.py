"""The published few-shot network: an MLP on embeddings (Parker et al. 2024, section 6.1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HIDDEN = 64
EPOCHS = 10
BATCH = 64
RATE = 1e-3
FEWEST_STEPS = 500  # small surveys are passed through more often, so that the network learns anything


def few_shot(train: np.ndarray, targets: np.ndarray, test: np.ndarray, seed: int = 0) -> np.ndarray:
    """Predict targets (n, T) of test rows (m, D) from an MLP trained on train rows (n, D); (m, T)."""
    torch.manual_seed(seed)
    x, mean_x, scale_x = scaled(train)
    y, mean_y, scale_y = scaled(targets)
    network = nn.Sequential(
        nn.Linear(x.shape[1], HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(HIDDEN, y.shape[1]),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    batches = max(len(x) // BATCH, 1)
    for _ in range(max(EPOCHS, FEWEST_STEPS // batches)):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            F.mse_loss(network(x[rows]), y[rows]).backward()
            optimizer.step()
    network.eval()
    with torch.inference_mode():
        predicted = network((torch.from_numpy(test).float() - mean_x) / scale_x)
    return (predicted * scale_y + mean_y).numpy()


def scaled(array: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An array (n, C) with mean and deviation of its columns taken out, and those."""
    values = torch.from_numpy(array).float()
    mean = values.mean(0)
    deviation = values.std(0, unbiased=False).clamp(min=1e-8)
    return (values - mean) / deviation, mean, deviation
