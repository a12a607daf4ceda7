"""Which patches of an image and which tokens of a spectrum are hidden during pre-training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from astrom3.draws import draw
from astrom3.errors import UserError

TOKEN_DRAW = 9  # purpose of draws, beside those of data/sampler.py and of the views
TRIES = 10  # rectangles drawn before a mask is left as it is


@dataclass(frozen=True)
class BlockMasks:
    """Rectangles of masked patches on a rows x columns grid (BEiT, Bao et al. 2021, arXiv:2106.08254, algorithm 1).

    `largest` is the most patches one rectangle is drawn for; none means half of the grid.
    """

    rows: int = 12
    columns: int = 12
    smallest: int = 4
    largest: int | None = None
    aspect: float = 0.3

    def draw(self, random: Random, wanted: int) -> np.ndarray:
        """A mask, bool (rows, columns), with `wanted` masked patches, or sometimes a few fewer."""
        mask = np.zeros((self.rows, self.columns), dtype=bool)
        count = 0
        while count < wanted:
            added = self._add_rectangle(random, mask, wanted - count)
            if added == 0:
                break
            count += added
        return mask

    def _add_rectangle(self, random: Random, mask: np.ndarray, missing: int) -> int:
        """Mask one more rectangle, which must add 1 to `missing` patches; returns how many it added, 0 for none."""
        largest = self.rows * self.columns // 2 if self.largest is None else self.largest
        missing = min(missing, largest)
        limit = math.log(self.aspect)
        for _ in range(TRIES):
            area = random.uniform(self.smallest, missing)
            aspect = math.exp(random.uniform(limit, -limit))
            height = round(math.sqrt(area * aspect))
            width = round(math.sqrt(area / aspect))
            if height >= self.rows or width >= self.columns:
                continue
            top = random.randint(0, self.rows - height)
            left = random.randint(0, self.columns - width)
            rectangle = mask[top : top + height, left : left + width]
            added = rectangle.size - int(rectangle.sum())
            if 0 < added <= missing:
                rectangle[:] = True
                return added
        return 0


def crop_masks(
    random: Random,
    crops: int,
    blocks: BlockMasks = BlockMasks(),
    probability: float = 0.5,
    ratio: tuple[float, float] = (0.1, 0.5),
) -> Tensor:
    """Masks, bool (crops, rows * columns), for the global crops of a batch.

    A share `probability` of the crops is masked. The masked share of their patches is spread evenly over `ratio`, and
    the crops are shuffled at the end.
    """
    masked = int(crops * probability)
    edges = np.linspace(*ratio, masked + 1).tolist()
    patches = blocks.rows * blocks.columns
    masks = []
    for index in range(masked):
        share = random.uniform(edges[index], edges[index + 1])
        masks.append(blocks.draw(random, int(patches * share)))
    for _ in range(crops - masked):
        masks.append(blocks.draw(random, 0))
    random.shuffle(masks)
    return torch.from_numpy(np.stack(masks)).flatten(1)


@dataclass(frozen=True)
class ChunkMasks:
    """`chunks` runs of `width` hidden tokens, one in each of `chunks` equal parts of a spectrum.

    The published configuration hides 6 runs of 50 of 778 tokens, the workshop model 6 runs of 30.
    """

    chunks: int = 6
    width: int = 50

    def bases(self, tokens: int) -> Tensor:
        """First token of each part, int64 (chunks,)."""
        return torch.arange(self.chunks) * tokens // self.chunks

    def offset_count(self, tokens: int) -> int:
        """Number of offsets a run may have within its part; raises where the runs do not fit."""
        count = tokens // self.chunks - self.width
        if (2 * self.chunks - 1) * self.width > tokens or count < 1:
            raise UserError(
                f"{self.chunks} masked runs of {self.width} tokens do not fit into a spectrum of {tokens} tokens: "
                "choose fewer or shorter ones"
            )
        return count

    def draw_for(self, objects: Tensor, tokens: int, seed: int, epoch: int) -> Tensor:
        """Offsets, int64 (B, chunks), of the objects (B,): a function of (seed, epoch, object) alone."""
        places = np.arange(self.chunks) + self.chunks * objects.cpu().numpy()[:, None]
        drawn = draw(seed, epoch, TOKEN_DRAW, places) % np.uint64(self.offset_count(tokens))
        return torch.from_numpy(drawn.astype(np.int64))

    def draw(self, batch: int, tokens: int, generator: torch.Generator | None = None) -> Tensor:
        """Random offsets, int64 (batch, chunks), drawn on the CPU."""
        return torch.randint(self.offset_count(tokens), (batch, self.chunks), generator=generator)

    def hidden(self, offsets: Tensor, tokens: int) -> Tensor:
        """Which tokens are hidden, bool (batch, tokens), for offsets (batch, chunks)."""
        starts = self.bases(tokens).to(offsets.device) + offsets
        positions = torch.arange(tokens, device=offsets.device)
        distance = positions - starts.unsqueeze(-1)  # (batch, chunks, tokens)
        return ((distance >= 0) & (distance < self.width)).any(dim=1)

    def positions(self, offsets: Tensor, tokens: int) -> Tensor:
        """Which tokens are hidden, their positions in order, int64 (batch, chunks * width)."""
        starts = self.bases(tokens).to(offsets.device) + offsets
        steps = torch.arange(self.width, device=offsets.device)
        return (starts.unsqueeze(-1) + steps).flatten(1)

    def apply(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """Spectrum tokens (B, T, W) with the hidden ones zero in all features."""
        hidden = self.hidden(offsets, tokens.shape[1])
        return tokens.masked_fill(hidden.unsqueeze(-1), 0)
