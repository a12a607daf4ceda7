"""How distinctive each query of ProbSparse attention is: max(score) - sum(score) / L over its drawn keys.

Zhou et al. 2021 (arXiv:2012.07436), equation 4 over a sample. On the CPU a compiled loop computes the drawn scores only
(U = 6 of 200 keys for each query): measured at a tenth of the time of all scores as a matrix product and a gather,
which took 63 % of a float32 inference of the light-curve encoder. Elsewhere it is that product and that gather.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from astrom3.encoders import informer
from astrom3.encoders.cpu.bfloat16 import array, wide
from astrom3.encoders.cpu.threads import share
from astrom3.kernel import summing_kernel

OBJECTS = 4  # a thread takes at a time


class Distinctiveness(informer.Distinctiveness):
    """query, key (B, L, H D), keys (L, U) int64 positions drawn for each query -> (B, H, L), at least float32."""

    @torch.no_grad()
    def forward(self, query: Tensor, key: Tensor, keys: Tensor) -> Tensor:
        if query.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(query, key, keys)
        return drawn_scores(query, key, keys, self.n_heads)


def drawn_scores(query: Tensor, key: Tensor, keys: Tensor, n_heads: int) -> Tensor:
    """The same of tensors on the CPU."""
    batch, length, _ = query.shape
    out = torch.empty(batch, n_heads, length, dtype=torch.promote_types(query.dtype, torch.float32))
    if query.dtype not in (torch.bfloat16, out.dtype):
        query, key = query.to(out.dtype), key.to(out.dtype)
    q, k, drawn, target = (array(t) for t in (query, key, keys, out))

    def part(start: int, stop: int) -> None:
        _drawn_scores(q[start:stop], k[start:stop], drawn, target[start:stop])

    share(part, batch, OBJECTS)
    return out


@summing_kernel
def _drawn_scores(query: np.ndarray, key: np.ndarray, keys: np.ndarray, out: np.ndarray) -> None:
    batch, length, width = query.shape
    q = np.empty((length, width), out.dtype)
    k = np.empty((length, width), out.dtype)
    heads = out.shape[1]
    dim = width // heads
    for b in range(batch):
        for i in range(length):
            for d in range(width):
                q[i, d], k[i, d] = wide(query[b, i, d]), wide(key[b, i, d])
        for i in range(length):
            for h in range(heads):
                best = -np.inf
                total = np.float32(0)
                for j in range(keys.shape[1]):
                    at = keys[i, j]
                    score = np.float32(0)
                    for d in range(dim):
                        score += q[i, h * dim + d] * k[at, h * dim + d]
                    total += score
                    if score > best:
                        best = float(score)
                out[b, h, i] = best - total / length
