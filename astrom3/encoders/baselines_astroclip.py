"""Supervised baselines and small heads of AstroCLIP's downstream tasks (Parker et al. 2024, section 5).

The names of tensors are those of the reference. `heads` take frozen embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.modalities.cutout import network_image


class SpectrumBaseline(nn.Module):
    """Convolutions and attention along the spectrum: raw flux (B, L) -> values (B, outputs), 28,860 parameters for 4.

    The second half of the channels weighs the first half along the spectrum (Melchior et al. 2023, arXiv:2211.07890).
    """

    view = "specformer"
    inputs = ("specformer/flux",)

    def __init__(self, outputs: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.outputs = outputs
        self.dropout = dropout
        self.out_features = outputs
        self.conv1 = _convolution(1, 8, 5, dropout)
        self.conv2 = _convolution(8, 16, 10, dropout)
        self.conv3 = _convolution(16, 16, 20, dropout)
        self.conv4 = _convolution(16, 32, 40, dropout)
        self.mlp = nn.Sequential(
            nn.Linear(16, 32),
            nn.PReLU(32),
            nn.Dropout(dropout),
            nn.Linear(32, 32),
            nn.PReLU(32),
            nn.Dropout(dropout),
            nn.Linear(32, outputs),
        )

    def forward(self, flux: Tensor) -> Tensor:
        x = flux.reshape(len(flux), 1, -1)  # (B, 1, L)
        x = F.max_pool1d(self.conv1(x), 5, padding=2)
        x = F.max_pool1d(self.conv2(x), 10, padding=5)
        x = F.max_pool1d(self.conv3(x), 20, padding=10)
        values, scores = self.conv4(x).chunk(2, dim=1)  # (B, 16, l) each
        return self.mlp((values * scores.softmax(dim=-1)).sum(dim=-1))


def _convolution(inside: int, outside: int, kernel: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inside, outside, kernel, padding=kernel // 2),
        nn.InstanceNorm1d(outside),
        nn.PReLU(outside),
        nn.Dropout(dropout),
    )


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut, (B, inside, H, W) -> (B, outside, H / stride, W / stride)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        return F.relu(branch + self.downsample(x))


class ImageBaseline(nn.Module):
    """ResNet-18 (He et al. 2016): cutouts (B, 3, S, S) in nanomaggies -> values (B, outputs).

    At the published width of 64 it has 11,178,564 parameters for 4 outputs.
    """

    view = "cutout"
    inputs = ("cutout/flux",)

    def __init__(self, outputs: int = 4, width: int = 64, img_size: int = 144) -> None:
        super().__init__()
        self.outputs = outputs
        self.width = width
        self.img_size = img_size
        self.out_features = outputs
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, 1)
        self.layer2 = _stage(width, 2 * width, 2)
        self.layer3 = _stage(2 * width, 4 * width, 2)
        self.layer4 = _stage(4 * width, 8 * width, 2)
        self.fc = nn.Linear(8 * width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def classify(self, image: Tensor) -> Tensor:
        """Network images (B, 3, H, W) -> values (B, outputs)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))

    def forward(self, flux: Tensor) -> Tensor:
        return self.classify(network_image(flux, self.img_size))


def _stage(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(inside, outside, stride), ResidualBlock(outside, outside, 1))


def photometry_mlp(outputs: int = 4, inputs: int = 3) -> nn.Sequential:
    """Standardised magnitudes (B, 3) -> values (B, outputs), 4676 parameters for 4."""
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs))


def few_shot_mlp(inputs: int, outputs: int, hidden: tuple[int, ...] = (64, 64), dropout: float = 0.1) -> nn.Sequential:
    """Embeddings (B, inputs) -> values (B, outputs); published hidden widths are 64, 64, and 32 for image redshifts."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)


class MorphologyHead(nn.Module):
    """Embeddings (B, inputs) -> logits of the answers to one Galaxy Zoo question (B, classes)."""

    def __init__(self, inputs: int, classes: int, hidden: int = 256, dropout: float = 0.2) -> None:
        super().__init__()
        self.inputs = inputs
        self.classes = classes
        self.hidden = hidden
        self.dropout = dropout
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Linear(inputs, hidden), nn.Dropout(dropout), nn.ReLU()]
            inputs = hidden
        layers.append(nn.Linear(inputs, classes))
        self.layers = nn.Sequential(*layers)

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.layers(embeddings)


def morphology_loss(logits: Tensor, fractions: Tensor, compat: bool = False) -> Tensor:
    """Cross-entropy of logits (B, classes) against vote fractions (B, classes).

    With `compat` the softmax is applied twice, as the reference does by mistake.
    """
    scores = logits.softmax(dim=-1) if compat else logits
    return F.cross_entropy(scores, fractions)


def one_hot_maximum(values: Tensor) -> Tensor:
    """1 where a row (B, classes) has its maximum, else 0; a tie gives several ones."""
    return (values == values.amax(dim=-1, keepdim=True)).to(torch.int64)
