"""Light curves as they are, as encoders: what the baselines of the ASTROMER papers put before a recurrent network.

Both take the view "astromer" and give tokens, so that every head of `astrom3.encoders.heads` works on them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from astrom3.encoders.astromer import INPUTS, check_choice, pooled, visible_points
from astrom3.encoders.astromer_blocks import glorot, positional_features

ORDERS = ("magnitude_time", "time_magnitude")


class CurveEncoder(nn.Module):
    """What both have in common: `every_layer` gives one tensor (B, L, D), features are its mean over visible points."""

    view = "astromer"
    inputs = INPUTS
    out_features: int
    token_features: int

    def every_layer(
        self,
        times: Tensor,
        magnitudes: Tensor,
        valid: Tensor,
        hidden: Tensor | None = None,
    ) -> list[Tensor]:
        """The tokens of all steps, padding included, as a list of one (B, L, D)."""
        raise NotImplementedError

    def tokens(
        self,
        times: Tensor,
        magnitudes: Tensor,
        valid: Tensor,
        hidden: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, L, D), 0 on padding, and which points are visible, (B, L) bool."""
        tokens = self.every_layer(times, magnitudes, valid, hidden)[-1]
        return tokens * valid.unsqueeze(-1), visible_points(valid, hidden) > 0

    def forward(self, times: Tensor, magnitudes: Tensor, valid: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Mean of the tokens over the visible points, (B, D)."""
        tokens = self.every_layer(times, magnitudes, valid, hidden)[-1]
        return pooled(tokens, visible_points(valid, hidden), "mean")


class RawCurve(CurveEncoder):
    """Time and magnitude of every point, (B, L, 2), in the order that the baseline's published weights expect."""

    def __init__(self, order: str = "magnitude_time"):
        super().__init__()
        check_choice("order", order, ORDERS)
        self.order = order
        self.out_features = 2
        self.token_features = 2

    def every_layer(
        self,
        times: Tensor,
        magnitudes: Tensor,
        valid: Tensor,
        hidden: Tensor | None = None,
    ) -> list[Tensor]:
        """Time and magnitude side by side."""
        channels = [magnitudes, times] if self.order == "magnitude_time" else [times, magnitudes]
        return [torch.stack(channels, dim=-1)]


class CurveEmbedding(CurveEncoder):
    """The input embedding of an Astromer encoder without its blocks, (B, L, d_model)."""

    def __init__(self, d_model: int = 256):
        super().__init__()
        self.d_model = d_model
        self.out_features = d_model
        self.token_features = d_model
        self.embed = nn.Linear(1, d_model)
        glorot(self)

    def every_layer(
        self,
        times: Tensor,
        magnitudes: Tensor,
        valid: Tensor,
        hidden: Tensor | None = None,
    ) -> list[Tensor]:
        """A linear map of the magnitude plus the features of its time."""
        return [self.embed(magnitudes.unsqueeze(-1)) + positional_features(times, self.d_model)]
