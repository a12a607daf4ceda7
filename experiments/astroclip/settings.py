"""What is trained and told, how long, by size of the networks."""

from __future__ import annotations

from dataclasses import dataclass

TARGETS = ("redshift", "log_mass", "log_ssfr", "metallicity", "age")
PROPERTIES = TARGETS[1:]
# Told together, as published: the redshift by itself, and the four properties.
GROUPS = {"redshift": [0], "properties": [1, 2, 3, 4]}
MODES = ("masked", "distil", "clip")
TASKS = ("properties", "baselines", "posterior", "morphology")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Settings:
    """objects: of the simulated survey. stages: further overrides by mode. fewest_steps: of networks on embeddings, so
    that few objects are passed through more often. width, epochs, batch, rate: of the supervised baselines. Those on
    spectra and magnitudes take at least twice the fewest steps. flows: of a posterior."""

    objects: int
    stages: dict[str, tuple[str, ...]]
    fewest_steps: int
    width: int
    epochs: int
    batch: int
    flows: int
    rate: float = 5e-4
    neighbours: int = 64


# Tokens of 60 pixels that overlap by 20 (195 of a spectrum, not 778) cost a seventh of the published ones at tiny size,
# so that a few hundred steps take a minute; as many pixels are hidden (12 tokens of 40 pixels for 50 of 10).
COARSE = ("encoders.spectra.slice_section_length=60", "encoders.spectra.slice_overlap=20", "module.width=12")
# Larger rates and shorter warm-ups than those published for many GPUs and weeks, which in minutes teach nothing.
SIZES = {
    "tiny": Settings(
        objects=1000,
        stages={
            "masked": (*COARSE, "optim.lr=0.002", "schedule.warmup_epochs=2", "data.batch_size=32", "epochs=20"),
            "distil": (
                "optim.lr=0.001",
                "schedule.warmup_epochs=1",
                "module.momentum=[0.96,1.0]",
                "module.drop_path=0.1",
                "epochs=2",
            ),
            "clip": (*COARSE, "optim.lr=0.001", "schedule.warmup_epochs=1", "epochs=10"),
        },
        fewest_steps=400,
        width=8,
        epochs=8,
        batch=32,
        flows=2,
        rate=2e-3,
    ),
    "small": Settings(
        objects=10_000,
        stages={
            "masked": ("optim.lr=0.0003", "epochs=40"),
            "distil": ("optim.lr=0.0005", "epochs=40"),
            "clip": ("optim.lr=0.0003", "epochs=40"),
        },
        fewest_steps=1000,
        width=64,
        epochs=50,
        batch=128,
        flows=5,
    ),
    "published": Settings(
        objects=200_000,
        stages={mode: () for mode in MODES},
        fewest_steps=0,
        width=64,
        epochs=50,
        batch=128,
        flows=10,
    ),
}
