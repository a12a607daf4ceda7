"""An encoder of light curves, and a modality of its own with its file, view and encoder: all outside the package."""

from pathlib import Path

import numpy as np
import torch

from astrom3.modalities.view import Reader, View, register
from astrom3.modalities.views import AstromerView

register(AstromerView("short-windows", window=32))


class Moments(torch.nn.Module):
    """Mean, spread and skewness of the magnitudes of a short window, and a linear layer."""

    view = "short-windows"
    inputs = ("astromer/magnitudes", "astromer/valid")

    def __init__(self, width: int = 8):
        super().__init__()
        self.width = width
        self.out_features = width
        self.linear = torch.nn.Linear(3, width)

    def forward(self, magnitudes, valid):
        count = valid.sum(1).clamp(min=1)
        moments = [(magnitudes**k * valid).sum(1) / count for k in (1, 2, 3)]
        return self.linear(torch.stack(moments, dim=1))


SOUNDS = Path(__file__).with_name("sounds.npz")  # ids (n,) str and levels (n, 12) float32
LEVELS = 12


class SoundReader(Reader):
    """The levels of every object, 0 where it has none."""

    def __init__(self, ids):
        place = {name: i for i, name in enumerate(ids.tolist())}
        self.levels = np.zeros((len(ids), LEVELS), np.float32)
        with np.load(SOUNDS) as file:
            for name, levels in zip(file["ids"].tolist(), file["levels"], strict=True):
                if name in place:
                    self.levels[place[name]] = levels

    def fill(self, at, seed=0, epoch=None):
        return {"sound/levels": torch.from_numpy(self.levels[at])}


class SoundView(View):
    """Twelve levels of sound from a file of one's own."""

    name = "sound"
    modality = "sound"
    keys = ("sound/levels",)
    stored = False
    draws = False

    def available(self, ids):
        with np.load(SOUNDS) as file:
            return np.isin(ids, file["ids"])

    def reader(self, arrays, members):
        return SoundReader(members.ids)

    def example(self, n, generator, points=None):
        return {"sound/levels": torch.randn(n, LEVELS, generator=generator)}


register(SoundView())


class Horn(torch.nn.Module):
    """A linear layer and a ReLU."""

    view = "sound"
    inputs = ("sound/levels",)

    def __init__(self, width: int = 8):
        super().__init__()
        self.width = width
        self.out_features = width
        self.linear = torch.nn.Linear(LEVELS, width)

    def forward(self, levels):
        return self.linear(levels).relu()
