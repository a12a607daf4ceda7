"""Spectrum encoder: GalSpecNet, a one-dimensional convolutional network (Wu et al. 2024, MNRAS 527, 1163).

encoder = GalSpecNet()
features = encoder(spectra)                 # (B, 3, 2575) -> (B, 1184)
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class GalSpecNet(nn.Module):
    """Spectrum (B, channels, pixels) -> features (B, out_features), float32.

    Convolutions without padding, ReLU after each, max-pooling after all but the last, then dropout.
    """

    view = "spectra"
    inputs = ("spectra",)

    def __init__(
        self,
        conv_channels: Sequence[int] = (3, 64, 64, 32, 32),
        kernel_size: int = 3,
        mp_kernel_size: int = 4,
        dropout: float = 0.0,
        pixels: int = 2575,
    ):
        super().__init__()
        self.conv_channels = tuple(conv_channels)
        self.kernel_size = kernel_size
        self.mp_kernel_size = mp_kernel_size
        self.configured_dropout = dropout
        self.pixels = pixels
        steps = list(zip(self.conv_channels[:-1], self.conv_channels[1:], strict=True))
        self.convolutions = nn.ModuleList(nn.Conv1d(c_in, c_out, kernel_size) for c_in, c_out in steps)
        self.pool = nn.MaxPool1d(mp_kernel_size)
        self.dropout = nn.Dropout(dropout)
        length = pixels
        for i in range(len(steps)):
            length -= kernel_size - 1
            if i < len(steps) - 1:
                length //= mp_kernel_size
        if length < 1:
            raise ValueError(f"{pixels} pixels are too few for {len(steps)} convolutions with pooling {mp_kernel_size}")
        self.out_features = length * self.conv_channels[-1]

    def forward(self, spectra: Tensor) -> Tensor:
        x = spectra
        for convolution in self.convolutions[:-1]:
            x = self.pool(convolution(x)).relu()  # (B, C, pixels); the maximum of ReLUs is the ReLU of the maximum
        x = self.convolutions[-1](x).relu()
        return self.dropout(x.flatten(1))
