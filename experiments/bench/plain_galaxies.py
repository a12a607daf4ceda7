"""The plain variant of AstroCLIP's parts: numpy image by image, attention with its whole matrix, stock layers.

Parker et al. 2024 (MNRAS 531, 4990). tests/test_bench_galaxies.py checks that both compute the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.transformer import SpectrumBlock
from astrom3.modalities.crops import Crop, CropSettings

SCALES = {0: (2, 6.0), 1: (1, 3.4), 2: (0, 2.2)}  # band -> plane, per nanomaggy
M = 0.03
Q = 20.0


def stretch(flux: np.ndarray) -> np.ndarray:
    """Flux (3, H, W) g, r, z in nanomaggies -> colour image (H, W, 3) in [0, 1], planes z, r, g."""
    brightness = np.zeros_like(flux[0])
    for band, (_, scale) in SCALES.items():
        brightness = brightness + np.maximum(0, flux[band] * scale + M)
    brightness = brightness / len(SCALES)
    factor = np.arcsinh(Q * brightness) / np.sqrt(Q)
    brightness += (brightness == 0.0) * 1e-6
    image = np.zeros((*flux.shape[1:], 3), np.float32)
    for band, (plane, scale) in SCALES.items():
        image[:, :, plane] = (flux[band] * scale + M) * factor / brightness
    return np.clip(image, 0, 1)


def cutouts(images: np.ndarray, size: int = 144) -> Tensor:
    """Images (B, 3, H, W) -> network images (B, 3, size, size), one after the other, stacked."""
    made = []
    for flux in images:
        image = torch.from_numpy(stretch(flux).transpose(2, 0, 1).copy())
        edge = (image.shape[-1] - size) // 2
        made.append(image[:, edge : edge + size, edge : edge + size])
    return torch.stack(made)


def crop(flux: np.ndarray, crop: Crop, random: np.random.Generator) -> np.ndarray:
    """One crop as a network image (3, size, size): window, flips, blur, noise, stretch."""
    part = flux[:, crop.top : crop.top + crop.size, crop.left : crop.left + crop.size]
    if crop.hflip:
        part = part[:, :, ::-1]
    if crop.vflip:
        part = part[:, ::-1]
    part = part.copy()
    if crop.blur is not None:
        for band, sigma in enumerate(crop.blur):
            part[band] = gaussian_filter(part[band], sigma) if sigma > 0 else part[band]
    if crop.noise is not None:
        for band, sigma in enumerate(crop.noise):
            if sigma > 0:
                part[band] += random.normal(0, sigma, part[band].shape)
    return stretch(part).transpose(2, 0, 1)


def crops(flux: np.ndarray, settings: CropSettings, random: np.random.Generator) -> list[np.ndarray]:
    """Two global and eight local crops of an image (3, H, W)."""
    return [crop(flux, one, random) for one in settings.draw(random)]


class PlainSpecFormer(nn.Module):
    """SpecFormer with stock layers and attention by its whole matrix, on the weights of ours."""

    def __init__(self, ours: SpecFormer) -> None:
        super().__init__()
        self.ours = ours

    def attend(self, block: SpectrumBlock, x: Tensor) -> Tensor:
        """The attention branch of a block, x (B, T, D)."""
        width = x.shape[-1]
        heads = self.ours.num_heads
        parts = block.attention.attention(x).split(width, dim=-1)
        query, key, value = (part.view(*x.shape[:2], heads, width // heads).transpose(1, 2) for part in parts)
        weights = (query @ key.transpose(-2, -1) / math.sqrt(width // heads)).softmax(dim=-1)
        attended = (weights @ value).transpose(1, 2).contiguous().view(x.shape)
        return block.attention.projection(attended)

    def encode(self, tokens: Tensor) -> Tensor:
        """Network tokens (B, T, W) -> normed tokens (B, T, D)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.ours.data_embed(tokens) + self.ours.position_embed(positions)
        for block in self.ours.blocks:
            assert isinstance(block, SpectrumBlock)
            x = x + self.attend(block, block.layernorm1(x))
            y = block.layernorm2(x)
            x = x + block.mlp.decoder(F.gelu(block.mlp.encoder(y)))
        return self.ours.final_layernorm(x)

    def reconstruct(self, tokens: Tensor) -> Tensor:
        return self.ours.head(self.encode(tokens))

    def prepare(self, flux: Tensor) -> Tensor:
        return self.ours.prepare(flux)
