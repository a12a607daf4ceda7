"""Recurrent cells of the ASTROMER classifiers, run over the visible points of a window.

A masked step of the originals leaves every state as it is, so it is the same to leave the step out. The visible points
are moved to the front of the window, and the state after the last of them is the result.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

HEAD_NORM_EPS = 1e-3  # the Keras default, in every head


def visible_first(x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Steps (B, L, D) with the visible ones (B, L) in front, in their order, cut to the longest; and how many, (B,)."""
    counts = (visible > 0).sum(1)
    longest = max(int(counts.max()), 1)
    order = (visible <= 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1])), counts


def state_at_end(states: Tensor, counts: Tensor) -> Tensor:
    """The state (B, U) after the last of `counts` (B,) steps of (B, L, U); 0, the initial one, where there is none."""
    last = (counts - 1).clamp(min=0)
    state = states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)
    return state * (counts > 0).unsqueeze(1).to(state.dtype)


class LSTMCell(nn.Module):
    """LSTM over all steps, (B, L, D) -> (B, L, U), initial states 0. One bias; gates in the order i, f, g, o."""

    def __init__(self, features: int, units: int):
        super().__init__()
        self.units = units
        self.weight_ih = nn.Parameter(torch.empty(4 * units, features))
        self.weight_hh = nn.Parameter(torch.empty(4 * units, units))
        self.bias = nn.Parameter(torch.zeros(4 * units))
        keras_recurrent(self.weight_ih, self.weight_hh)
        with torch.no_grad():
            self.bias[units : 2 * units] = 1  # of the forget gate

    def forward(self, x: Tensor) -> Tensor:
        start = x.new_zeros(1, x.shape[0], self.units)
        weights = [self.weight_ih, self.weight_hh, self.bias, torch.zeros_like(self.bias)]
        states, _, _ = torch.lstm(
            x,
            (start, start),
            weights,
            True,
            1,
            0.0,
            self.training,
            False,
            True,
        )
        return states


class TwoCells(nn.Module):
    """LSTM, LayerNorm on its output, LSTM: (B, L, D), visible (B, L) -> the last state (B, U) of the second (v1)."""

    def __init__(self, features: int, units: int):
        super().__init__()
        self.cell0 = LSTMCell(features, units)
        self.norm = nn.LayerNorm(units, eps=HEAD_NORM_EPS)
        self.cell1 = LSTMCell(units, units)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        steps, counts = visible_first(x, visible)
        states = self.cell1(self.norm(self.cell0(steps)))
        return state_at_end(states, counts)


class GRU(nn.Module):
    """GRU: (B, L, D), visible (B, L) -> its last state (B, U). Gates in the order z, r, n of Keras; row 0 of `biases`
    goes with the input, row 1 with the state, inside the reset gate's product."""

    def __init__(self, features: int, units: int):
        super().__init__()
        self.units = units
        self.weight_ih = nn.Parameter(torch.empty(3 * units, features))
        self.weight_hh = nn.Parameter(torch.empty(3 * units, units))
        self.biases = nn.Parameter(torch.zeros(2, 3 * units))
        keras_recurrent(self.weight_ih, self.weight_hh)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        steps, counts = visible_first(x, visible)
        start = steps.new_zeros(1, steps.shape[0], self.units)
        weights = []
        for w in (self.weight_ih, self.weight_hh, self.biases[0], self.biases[1]):
            weights.append(self._reset_first(w))
        states, _ = torch.gru(
            steps,
            start,
            weights,
            True,
            1,
            0.0,
            self.training,
            False,
            True,
        )
        return state_at_end(states, counts)

    def _reset_first(self, weight: Tensor) -> Tensor:
        """Gates in torch's order r, z, n."""
        update, reset, new = weight.chunk(3)
        return torch.cat([reset, update, new])


def keras_recurrent(weight_ih: Tensor, weight_hh: Tensor) -> None:
    """Initial values of Keras: Glorot uniform with the input, orthogonal with the state (Keras draws the (U, 4 U) or
    (U, 3 U) matrix at once, so its rows are orthonormal)."""
    bound = math.sqrt(6 / (weight_ih.shape[0] + weight_ih.shape[1]))
    nn.init.uniform_(weight_ih, -bound, bound)
    nn.init.orthogonal_(weight_hh)
