"""Light-curve encoders Astromer 1 and 2: Transformers over the points of a window of one band.

Donoso-Oliva et al. 2023 (A&A 670, A54) and 2026 (A&A 707, A170). Inputs are those of the view "astromer": times [day],
magnitudes, and 1 for points or 0 for padding, (B, L) each.

    encoder = Astromer(version=1, layers=2, d_ff=128)
    features = encoder(times, magnitudes, valid)                        # (B, 256), mean over the visible points
    tokens, visible = encoder.tokens(times, magnitudes, valid)          # (B, L, 256), (B, L) bool
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from astrom3.encoders.astromer_blocks import Block, Reconstruction, glorot, positional_features
from astrom3.encoders.buckets import Bucket, make_buckets, scatter

INPUTS = ("astromer/times", "astromer/magnitudes", "astromer/valid")  # of the view "astromer"
BLOCKED = -1e9  # added to the logit of a hidden point
OUTSIDE = -2e9  # of padding: in a window of hidden points alone these attend to each other, and padding stays outside
CHOICES: dict[str, tuple] = {
    "version": (1, 2),
    "pool": ("mean", "max"),
    "compat": (None, "v1", "v2"),
    "hidden_value": ("token", "zero", "true"),
    "mask_format": ("key", "plus_one", "query", "either", "none"),
}


class Astromer(nn.Module):
    """A window of a light curve -> features (B, d_model), the mean or maximum of the last block over visible points.

    version: the architecture, 1 without residual connections, 2 with learned ones.
    compat: None hides what is hidden, so that no output depends on a hidden magnitude. "v1" and "v2" reproduce the
    originals for their weights and numbers. There hidden magnitudes stay in the input, and with "v1" hidden points and
    padding get a bonus of 1 in the logits of visible points, so results depend on how far a window is padded.
    hidden_value: what stands in place of hidden magnitudes: a learned "token", "zero", or the "true" magnitude.
    mask_format: "key" (hidden points and padding are not attended to), "plus_one" (version 1), "query",
    "either" and "none" (options of the original's configurations). Both follow from compat where they are None.
    temperature: another divisor of the logits, 0 for none. window: points of a window.
    """

    view = "astromer"
    inputs = INPUTS

    def __init__(
        self,
        version: int = 2,
        layers: int = 6,
        d_model: int = 256,
        n_heads: int = 4,
        d_ff: int = 512,
        window: int = 200,
        dropout: float = 0.1,
        pool: str = "mean",
        compat: str | None = None,
        hidden_value: str | None = None,
        mask_format: str | None = None,
        temperature: float = 0.0,
    ):
        super().__init__()
        hidden_value = hidden_value or ("true" if compat else "token")
        mask_format = mask_format or ("plus_one" if compat == "v1" else "key")
        if d_model % n_heads:
            raise ValueError(f"d_model={d_model} is not a multiple of n_heads={n_heads}")
        self.version = version
        self.layers = layers
        self.d_model = d_model
        self.n_heads = n_heads
        self.d_ff = d_ff
        self.window = window
        self.dropout = dropout
        self.pool = pool
        self.compat = compat
        self.hidden_value = hidden_value
        self.mask_format = mask_format
        self.temperature = temperature
        self.out_features = d_model
        self.token_features = d_model
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        self.embed = nn.Linear(1, d_model)
        self.blocks = nn.ModuleList(Block(version, d_model, n_heads, d_ff, dropout, temperature) for _ in range(layers))
        self.drop = nn.Dropout(dropout)
        self.mask_token = nn.Parameter(torch.zeros(1, 1)) if hidden_value == "token" else None
        glorot(self)

    @property
    def padding_matters(self) -> bool:
        """Whether results depend on how far a window is padded."""
        return self.mask_format != "key"

    def forward(self, times: Tensor, magnitudes: Tensor, valid: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Features (B, d_model), 0 where nothing is visible. `hidden` (B, L): 1 where a magnitude must not be seen."""
        if not self._buckets_pay(times):
            last = self.every_layer(times, magnitudes, valid, hidden)[-1]
            return pooled(last, visible_points(valid, hidden), self.pool)
        buckets = make_buckets(times, magnitudes, valid, hidden)
        parts = [pooled(self._last(bucket), bucket.visible, self.pool) for bucket in buckets]
        rows = torch.cat([bucket.rows for bucket in buckets])
        return torch.cat(parts)[rows.argsort()]

    def tokens(
        self,
        times: Tensor,
        magnitudes: Tensor,
        valid: Tensor,
        hidden: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The last block's output (B, L, d_model), 0 on padding, and which points are visible, (B, L) bool."""
        visible = visible_points(valid, hidden) > 0
        if self._buckets_pay(times):
            buckets = make_buckets(times, magnitudes, valid, hidden)
            parts = [self._last(bucket) for bucket in buckets]
            return scatter(parts, buckets, (times.shape[0], times.shape[1])), visible
        last = self.every_layer(times, magnitudes, valid, hidden)[-1]
        return last * valid.unsqueeze(-1).to(last.dtype), visible

    def every_layer(
        self,
        times: Tensor,
        magnitudes: Tensor,
        valid: Tensor,
        hidden: Tensor | None = None,
    ) -> list[Tensor]:
        """The input embedding (before dropout) and the output of every block at all L steps, (B, L, d_model) each."""
        visible = visible_points(valid, hidden)
        embedding = self.embedding(times, magnitudes, visible)
        bias = self._bias(visible, valid)
        states = [embedding]
        x = self.drop(embedding)
        for block in self.blocks:
            x = block(x, x, bias)
            states.append(x)
        return states

    def reconstruct(
        self,
        head: Reconstruction,
        times: Tensor,
        magnitudes: Tensor,
        valid: Tensor,
        hidden: Tensor | None = None,
        probed: Tensor | None = None,
    ) -> Tensor:
        """The magnitude (B, L) that `head` reads from each token; 0 on padding.

        With `probed` (B, L) only probed points are sure to be computed: the last block, which nothing attends to,
        leaves out the points before them.
        """
        if not self._buckets_pay(times):
            return head(self.every_layer(times, magnitudes, valid, hidden)[-1]) * valid
        buckets = make_buckets(times, magnitudes, valid, hidden, probed)
        parts = [head(self._last(bucket, bucket.first)) for bucket in buckets]
        return scatter(parts, buckets, (times.shape[0], times.shape[1]))

    def embedding(self, times: Tensor, magnitudes: Tensor, visible: Tensor) -> Tensor:
        """Input embedding (B, L, d_model): a linear map of the magnitude plus the features of its time."""
        if self.hidden_value != "true":
            substitute = torch.zeros(1, 1).to(magnitudes) if self.mask_token is None else self.mask_token
            magnitudes = torch.where(visible > 0, magnitudes, substitute.to(magnitudes.dtype))
        return self.embed(magnitudes.unsqueeze(-1)) + positional_features(times, self.d_model)

    def _buckets_pay(self, times: Tensor) -> bool:
        """On a GPU the sizes of buckets would have to be waited for, a graph has fixed shapes, and of no windows there
        are no buckets."""
        if self.padding_matters or times.device.type != "cpu" or torch.compiler.is_compiling():
            return False
        return len(times) > 0

    def _last(self, bucket: Bucket, first: int = 0) -> Tensor:
        """The last block's output (b, n - first, d_model) at the columns of a bucket from `first` on."""
        bias = self._bias(bucket.visible[:, : bucket.keys], bucket.valid[:, : bucket.keys])
        x = self.drop(self.embedding(bucket.times, bucket.magnitudes, bucket.visible))
        for i, block in enumerate(self.blocks):
            start = first if i == len(self.blocks) - 1 else 0
            x = block(x[:, start:], x[:, : bucket.keys], bias)
        return x

    def _bias(self, visible: Tensor, valid: Tensor) -> Tensor | None:
        """What is added to the logits, (B, 1, L or 1, L or 1), of points (B, L)."""
        masked = 1 - visible
        if self.mask_format == "none":
            return None
        if self.mask_format in ("plus_one", "either"):
            either = (masked.unsqueeze(2) + masked.unsqueeze(1)).clamp(max=1)  # (B, L, L)
            return either.unsqueeze(1) * (1 if self.mask_format == "plus_one" else BLOCKED)
        if self.mask_format == "query":
            length = visible.shape[1]
            return (BLOCKED * masked)[:, None, :, None].expand(
                -1,
                -1,
                -1,
                length,
            )
        bias = BLOCKED * masked
        if self.compat is None:
            bias = bias + (OUTSIDE - BLOCKED) * (1 - valid)
        return bias[:, None, None, :]


class MaskedAstromer(nn.Module):
    """An encoder with the head that reconstructs magnitudes, for masked pre-training.

    `inputs` names the batch keys of forward's arguments.
    """

    inputs = (*INPUTS, "astromer/hidden", "astromer/probed")

    def __init__(self, encoder: Astromer, head: Reconstruction | None = None):
        super().__init__()
        self.encoder = encoder
        self.head = head or Reconstruction(encoder.d_model)

    def forward(
        self,
        times: Tensor,
        magnitudes: Tensor,
        valid: Tensor,
        hidden: Tensor,
        probed: Tensor | None = None,
    ) -> Tensor:
        """Reconstructed magnitudes (B, L), of probed points at least; see `Astromer.reconstruct`."""
        return self.encoder.reconstruct(self.head, times, magnitudes, valid, hidden, probed)


def visible_points(valid: Tensor, hidden: Tensor | None) -> Tensor:
    """1 where there is a point whose magnitude may be seen, else 0, (B, L)."""
    return valid if hidden is None else valid * (1 - hidden)


def pooled(tokens: Tensor, visible: Tensor, pool: str) -> Tensor:
    """Mean or maximum (B, D) of tokens (B, L, D) over the visible steps (B, L); 0 where none is visible."""
    weight = visible.unsqueeze(-1).to(tokens.dtype)
    if pool == "mean":
        return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
    highest = tokens.masked_fill(weight == 0, -torch.inf).amax(1)
    return torch.where(weight.sum(1) > 0, highest, torch.zeros_like(highest))


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Raise ValueError where `value` is not one of `choices`."""
    if value not in choices:
        listed = ", ".join(str(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {listed}, not {value!r}")
