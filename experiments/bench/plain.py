"""The plain variant: the published algorithm written in the plainest way, to measure against.

Networks: ProbSparse attention that gathers every drawn key (Zhou et al. 2021, section 3), stock `nn.Dropout`, 1x1
convolutions, eager. Data: one object at a time, out of nested lists, preprocessed whenever it is asked for. `adopt`
takes over the weights of our networks; tests/test_bench.py checks that both compute the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from astrom3.encoders.informer import sinusoidal_positions
from astrom3.modalities.catalogue import transform
from astrom3.modalities.schema import ALL_COLS, CLASSES, META_COLS, PHOTO_COLS
from astrom3.places import cache_root


class PlainAttention(nn.Module):
    def __init__(self, width: int, heads: int, factor: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.factor = factor
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, drawn: Tensor | None = None) -> Tensor:
        batch, length, width = x.shape
        split = (batch, length, self.heads, width // self.heads)
        query, key, value = (layer(x).view(split).transpose(1, 2) for layer in (self.query, self.key, self.value))
        u = min(self.factor * math.ceil(math.log(length)), length)
        if drawn is None:
            drawn = torch.randint(length, (length, u), device=x.device)
        copies = key.unsqueeze(2).expand(-1, -1, length, -1, -1)  # (B, H, L, L, D)
        sampled = copies[:, :, torch.arange(length, device=x.device).unsqueeze(1), drawn]  # (B, H, L, U, D)
        scores = (query.unsqueeze(3) @ sampled.transpose(3, 4)).squeeze(3)  # (B, H, L, U)
        top = (scores.max(-1).values - scores.sum(-1) / length).topk(u, sorted=False).indices
        b = torch.arange(batch)[:, None, None]
        h = torch.arange(self.heads)[None, :, None]
        weights = torch.softmax(query[b, h, top] @ key.transpose(2, 3) / math.sqrt(split[-1]), -1)
        context = value.mean(2, keepdim=True).expand(-1, -1, length, -1).clone()
        context[b, h, top] = (weights @ value).to(context.dtype)
        return self.out(context.contiguous().view(batch, length, width))


class PlainLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, p: float) -> None:
        super().__init__()
        self.attention = PlainAttention(width, heads)
        self.expand = nn.Conv1d(width, hidden, 1)
        self.contract = nn.Conv1d(hidden, width, 1)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor, drawn: Tensor | None = None) -> Tensor:
        x = self.norm1(x + self.dropout(self.attention(x, drawn)))
        y = self.dropout(F.gelu(self.expand(x.transpose(1, 2))))
        return self.norm2(x + self.dropout(self.contract(y).transpose(1, 2)))


class PlainInformer(nn.Module):
    inputs = ("photometry", "mask")
    positions: Tensor

    def __init__(
        self,
        channels: int = 9,
        length: int = 200,
        width: int = 128,
        heads: int = 4,
        hidden: int = 512,
        layers: int = 8,
        p: float = 0.1,
    ) -> None:
        super().__init__()
        self.out_features = length * width
        self.embedding = nn.Conv1d(channels, width, 3, padding=1, padding_mode="circular", bias=False)
        self.register_buffer("positions", sinusoidal_positions(length, width))
        self.layers = nn.ModuleList(PlainLayer(width, heads, hidden, p) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(p)

    def forward(self, photometry: Tensor, mask: Tensor, keys: Sequence[Tensor] | None = None) -> Tensor:
        x = self.embedding(photometry.transpose(1, 2)).transpose(1, 2)
        x = self.dropout(x + self.positions)
        for i, layer in enumerate(self.layers):
            x = layer(x, None if keys is None else keys[i])
        return (self.dropout(self.norm(x)) * mask.unsqueeze(-1)).flatten(1)


class PlainGalSpecNet(nn.Module):
    inputs = ("spectra",)

    def __init__(self, channels: Sequence[int] = (3, 64, 64, 32, 32), p: float = 0.0) -> None:
        super().__init__()
        self.out_features = 1184
        self.convolutions = nn.ModuleList(nn.Conv1d(a, b, 3) for a, b in itertools.pairwise(channels))
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions[:-1]:
            x = F.max_pool1d(F.relu(convolution(x)), 4)
        return self.dropout(F.relu(self.convolutions[-1](x)).flatten(1))


class PlainMLP(nn.Module):
    inputs = ("metadata",)

    def __init__(self, columns: int = 34, width: int = 512, p: float = 0.0) -> None:
        super().__init__()
        self.out_features = width
        self.first = nn.Linear(columns, width)
        self.second = nn.Linear(width, width)
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(F.relu(self.second(self.dropout(F.relu(self.first(x))))))


def adopt(plain: nn.Module, ours: nn.Module) -> nn.Module:
    """The weights of our network in the plain one of the same kind."""
    state = {
        name: tensor.unsqueeze(-1) if name.endswith(("expand.weight", "contract.weight")) else tensor
        for name, tensor in ours.state_dict().items()
    }
    plain.load_state_dict(state, strict=False)
    return plain


# --- data -----------------------------------------------------------------------------------------------------------


def light_curve(rows: list[list[float]], features: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Nested lists [time, flux, error] -> x (200, 9), mask (200,)."""
    curve = np.unique(np.array(rows, dtype=np.float64), axis=0)
    curve = curve[np.argsort(curve[:, 0])]
    time, flux, error = curve.T
    mean = flux.mean()
    mad = np.median(np.abs(flux - np.median(flux)))
    span = (time[-1] - time[0]) / 365
    values = np.stack([(time - time[0]) / (time[-1] - time[0]), (flux - mean) / mad, error / mad], axis=1)
    start = max(len(values) - 200, 0) // 2
    values = values[start : start + 200]
    constants = np.tile([*features, np.log10(mad), span], (len(values), 1))
    x = np.zeros((200, 9), np.float32)
    mask = np.zeros(200, np.float32)
    x[: len(values)], mask[: len(values)] = np.hstack([values, constants]), 1
    return x, mask


def spectrum(rows: list[list[float]]) -> np.ndarray:
    """Nested lists [wavelength, flux, ivar] -> (3, 2575)."""
    wavelength, flux, third = np.array(rows, dtype=np.float64).T
    grid = np.arange(3850, 9000, 2)
    flux, third = np.interp(grid, wavelength, flux), np.interp(grid, wavelength, third)
    light = flux[flux != 0]
    mad = np.median(np.abs(light - np.median(light)))
    return np.stack([(flux - flux.mean()) / mad, third / mad, np.full(len(grid), np.log10(mad))]).astype(np.float32)


class PlainObjects(Dataset):
    """The objects of a parquet file in the first hub layout, one at a time, as the `datasets` library gives them."""

    def __init__(self, path: str, statistics: dict):
        self.table = datasets.Dataset.from_parquet(path, cache_dir=str(cache_root() / "bench" / "datasets"))
        self.mean, self.std = (np.array([statistics[k][c] for c in ALL_COLS]) for k in ("mean", "std"))

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: int) -> dict:
        row = self.table[i]  # nested lists
        values = {**row["metadata"]["photo_cols"], **row["metadata"]["meta_cols"]}
        scaled = (transform(np.array([values[c] for c in ALL_COLS], dtype=np.float64))[0] - self.mean) / self.std
        features = scaled[: len(PHOTO_COLS)]
        metadata = scaled[-len(META_COLS) :]
        x, mask = light_curve(row["photometry"], features.tolist())
        return {
            "photometry": x,
            "mask": mask,
            "spectra": spectrum(row["spectra"]),
            "metadata": metadata.astype(np.float32),
            "label": CLASSES.index(row["label"]),
        }
