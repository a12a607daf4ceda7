"""The image encoder: a vision Transformer as DINOv2 builds it (Oquab et al. 2023, arXiv:2304.07193).

It takes g, r, z cutouts in nanomaggies and makes the network image itself, so that a GPU does it. Tensor names are
those of the published file, except that blocks are numbered plainly (`astrom3.published.astroclip` renames them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.encoders.transformer import ImageBlock
from astrom3.errors import UserError
from astrom3.modalities.cutout import network_image

POSITION_OFFSET = 0.1  # patches; added before the size ratio is taken, as DINOv2 did up to 2023


class Features(NamedTuple):
    """Normed class token (B, D), normed patch tokens (B, N, D), and all tokens before the norm (B, 1 + N, D)."""

    cls: Tensor
    patches: Tensor
    before_norm: Tensor


class PatchEmbedding(nn.Module):
    """Images (B, C, H, W) -> patches (B, H / patch * W / patch, D), row by row."""

    def __init__(self, patch_size: int, embed_dim: int, channels: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, embed_dim, patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)


def resize_positions(table: Tensor, rows: int, columns: int) -> Tensor:
    """Position table (1, 1 + M * M, D) for rows x columns patches, (1, 1 + rows * columns, D).

    The patch part is resized as an image: bicubic, not antialiased, with the scale factors (rows + 0.1) / M and
    (columns + 0.1) / M themselves in the coordinate map. The row of the class token is unchanged.
    """
    count = table.shape[1] - 1
    side = math.isqrt(count)
    if count == rows * columns and rows == columns:
        return table
    grid = table[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, M, M)
    factors = ((rows + POSITION_OFFSET) / side, (columns + POSITION_OFFSET) / side)
    grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
    resized = grid.permute(0, 2, 3, 1).flatten(1, 2)  # (1, rows * columns, D)
    return torch.cat([table[:, :1], resized.to(table.dtype)], dim=1)


class VisionTransformer(nn.Module):
    """Cutouts (B, 3, S, S) in nanomaggies -> embedding (B, embed_dim), the normed class token.

    The published size is the default (ViT-L/12 at 144 pixels, 302,954,496 parameters).
    """

    view = "cutout"
    inputs = ("cutout/flux",)
    pretraining_only = ("mask_token",)

    def __init__(
        self,
        img_size: int = 144,
        patch_size: int = 12,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        layer_scale: float = 1e-5,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise UserError(f"embed_dim={embed_dim} of the image encoder is not a multiple of num_heads={num_heads}")
        if img_size % patch_size:
            raise UserError(f"img_size={img_size} of the image encoder is not a multiple of patch_size={patch_size}")
        if not 0 <= drop_path < 1:
            raise UserError(f"drop_path={drop_path} of the image encoder must be at least 0 and below 1")
        self.img_size = img_size
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.depth = depth
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.layer_scale = layer_scale
        self.drop_path = drop_path
        self.out_features = embed_dim
        self.token_features = embed_dim
        side = img_size // patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, embed_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))
        self.patch_embed = PatchEmbedding(patch_size, embed_dim)
        self.blocks = nn.ModuleList(
            [ImageBlock(embed_dim, num_heads, mlp_ratio, layer_scale, drop_path) for _ in range(depth)]
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial weights of DINOv2; the patch convolution keeps PyTorch's own."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.zeros_(self.mask_token)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def prepare(self, flux: Tensor) -> Tensor:
        """Cutouts (B, 3, S, S) g, r, z in nanomaggies -> network images (B, 3, img_size, img_size) z, r, g."""
        return network_image(flux, self.img_size)

    def embed(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Network images (B, 3, H, W) -> class and patch tokens with positions (B, 1 + N, D).

        Patches where `mask`, bool (B, N), is true are replaced by the mask token.
        """
        rows, columns = self._grid(image)
        x = self.patch_embed(image)  # (B, N, D)
        if mask is not None:
            x = torch.where(mask.unsqueeze(-1), self.mask_token.to(x.dtype).unsqueeze(0), x)
        cls = self.cls_token.expand(x.shape[0], -1, -1).to(x.dtype)
        return torch.cat([cls, x], dim=1) + resize_positions(self.pos_embed, rows, columns)

    def _grid(self, image: Tensor) -> tuple[int, int]:
        height, width = image.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise UserError(f"an image of {height} x {width} pixels does not divide into patches of {self.patch_size}")
        return height // self.patch_size, width // self.patch_size

    def features(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        orders: Sequence[Tensor] | None = None,
    ) -> Features:
        """Network images (B, 3, H, W) -> all features.

        `orders`, for stochastic depth, are the 2 * depth random orders of the B images, attention and MLP of each
        block in turn; they are drawn where not given.
        """
        x = self.embed(image, mask)
        for index, block in enumerate(self.blocks):
            pair = None if orders is None else (orders[2 * index], orders[2 * index + 1])
            x = block(x, pair)
        normed = self.norm(x)
        return Features(normed[:, 0], normed[:, 1:], x)

    def last_layers(self, image: Tensor, count: int) -> list[tuple[Tensor, Tensor]]:
        """Normed class token (B, D) and patch tokens (B, N, D) after each of the last `count` blocks."""
        x = self.embed(image)
        outputs = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index >= self.depth - count:
                normed = self.norm(x)
                outputs.append((normed[:, 0], normed[:, 1:]))
        return outputs

    def position_free(self, image: Tensor) -> Tensor:
        """Network images -> normed patch tokens (B, N, D) without class token and positions.

        This is what the published image tower reads by mistake, and its weights need it.
        """
        self._grid(image)
        x = self.patch_embed(image)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def encode(self, image: Tensor) -> Tensor:
        """Network images (B, 3, H, W) -> all normed tokens (B, 1 + N, D), the class token first."""
        features = self.features(image)
        return torch.cat([features.cls.unsqueeze(1), features.patches], dim=1)

    def tokens(self, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Cutouts (B, 3, S, S) -> normed tokens (B, 1 + N, D) and which are valid, bool (B, 1 + N), here all."""
        encoded = self.encode(self.prepare(flux))
        return encoded, torch.ones(encoded.shape[:2], dtype=torch.bool, device=encoded.device)

    def forward(self, flux: Tensor) -> Tensor:
        """Cutouts (B, 3, S, S) in nanomaggies -> embedding (B, embed_dim)."""
        return self.features(self.prepare(flux)).cls


class Size(TypedDict):
    """What differs between the sizes."""

    embed_dim: int
    depth: int
    num_heads: int


SIZES: dict[str, Size] = {
    "published": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
    "small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "tiny": {"embed_dim": 96, "depth": 3, "num_heads": 3},
}
