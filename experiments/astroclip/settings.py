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
    that few objects are passed through more often. width, epochs, batch: of the supervised baselines. flows: of a
    posterior."""

    objects: int
    stages: dict[str, tuple[str, ...]]
    fewest_steps: int
    width: int
    epochs: int
    batch: int
    flows: int
    neighbours: int = 64


# Larger rates than those published for many GPUs, which in minutes teach nothing.
SIZES = {
    "tiny": Settings(
        objects=1000,
        stages={
            "masked": ("optim.lr=0.001", "epochs=10"),
            "distil": ("optim.lr=0.001", "epochs=4"),
            "clip": ("optim.lr=0.001", "epochs=20"),
        },
        fewest_steps=400,
        width=8,
        epochs=10,
        batch=32,
        flows=2,
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
