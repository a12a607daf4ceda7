"""The rows of the leaderboard that stand on frozen inputs: features made by hand, and embeddings of encoders."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from experiments.leaderboard import datasets
from experiments.leaderboard.shop import Shop
from experiments.leaderboard.surveys import BOTH, SEEDS, splits
from experiments.leaderboard.tasks import Task

log = logging.getLogger(__name__)
Inputs = dict[str, np.ndarray]
CURVE_BY_CURVE = ("four features", "hand-made features", "light-curve package", "hand-made + light-curve package")
BY_SURVEY = ", standardised by survey"  # ends the names of such rows
SMALL = 1e-6  # a column with a smaller deviation is constant
MASKED_EPOCHS = 10  # chosen for the time that they take
PART = 2048  # windows whose embeddings are kept together


def four(shop: Shop) -> Inputs:
    """The converter's four features."""
    return {name: datasets.four_columns(values) for name, values in shop.four.items()}


def hand_made(shop: Shop) -> Inputs:
    """The 58 features of astrom3/modalities/variability.py."""

    def make(name: str) -> np.ndarray:
        from astrom3.modalities.ring_view import FEATURES

        return shop.encoded(name, {"features": "variability"}, lambda batch: batch[FEATURES].numpy())

    return shop.inputs("variability", make)


def light_curve(shop: Shop) -> Inputs:
    """Features of the package `light-curve`, where it is installed; it is no dependency of ours."""
    from experiments.leaderboard.surveys import flux_curve
    from experiments.own_survey_recipe import light_curve_features

    def make(name: str) -> np.ndarray:
        survey = shop.surveys[name]
        curves = {str(i): flux_curve(name, curve) for i, curve in enumerate(survey.curves)}
        features = light_curve_features(curves)
        assert features is not None
        rows = [features[str(i)] for i in range(len(survey.ids))]
        return np.nan_to_num(np.array(rows), posinf=0.0, neginf=0.0).clip(-1e6, 1e6)

    return shop.inputs("light-curve", make)


def pretrained(shop: Shop) -> Path:
    """The run of our contrastive pre-training on the curves of both surveys, without labels."""
    return trained(shop, ["model=curves", "mode=clip"], shop.options.epochs)


def masked(shop: Shop) -> Path:
    """The run of a small Astromer 1 that reconstructs hidden points of the same curves."""
    return trained(shop, ["model=astromer1", "mode=masked", "size=small"], MASKED_EPOCHS)


def trained(shop: Shop, wanted: list[str], epochs: int) -> Path:
    """The folder of a pre-training on the curves of both surveys."""
    from astrom3.cli.config import compose
    from astrom3.train import train

    cfg = compose(
        [
            *wanted,
            "trainer=cpu",
            f"seed={SEEDS[0]}",
            f"root={shop.folder}/runs",
            "data=local",
            f"data.path={shop.data(BOTH)}",
            f"data.cache={shop.store}",
            f"epochs={epochs}",
        ]
    )
    train(cfg)
    return Path(cfg.run)


def towers(shop: Shop, key: str, slots: tuple[str, ...], run: Callable[[Shop], Path]) -> Inputs:
    """Outputs of the frozen encoders of a run, side by side."""

    def make(name: str) -> np.ndarray:
        import torch

        from astrom3.encoders.towers import encode
        from astrom3.inference.trained import TrainedModel

        encoders: Any = TrainedModel.load(run(shop)).network.encoders
        views = {slot: encoders[slot].view for slot in slots}

        def batch_of(batch: dict[str, Any]) -> np.ndarray:
            with torch.inference_mode():
                return np.concatenate([encode(encoders[slot], batch).numpy() for slot in slots], axis=1)

        return shop.encoded(name, views, batch_of)

    return shop.inputs(key, make)


def curve(shop: Shop) -> Inputs:
    """Our pre-trained embedding of the folded curve alone."""
    return towers(shop, "clip-curve", ("photometry",), pretrained)


def curve_and_features(shop: Shop) -> Inputs:
    """Our pre-trained embeddings of the folded curve and of its features."""
    return towers(shop, "clip-both", ("photometry", "features"), pretrained)


def astromer(shop: Shop, key: str, source: Callable[[Shop], Path]) -> Inputs:
    """Means over the points of the last block of an Astromer, of the middle window of each object."""

    def make(name: str) -> np.ndarray:
        from astrom3.encoders.towers import encoders_of
        from astrom3.inference.trained import TrainedModel
        from experiments.astromer.inputs import embedded

        encoder = encoders_of(TrainedModel.load(source(shop)).network)["photometry"]
        ids, packed = datasets.everything(shop.curves(name), {"photometry": "astromer"}, shop.store)
        reader = packed.readers["photometry"]
        parts = []
        for start in range(0, len(ids), PART):
            rows = np.arange(start, min(start + PART, len(ids)))
            path = shop.folder / "inputs" / f"{key}-{name}-windows" / f"{start:06d}.npy"
            parts.append(embedded(encoder, middle_windows(reader, rows), path).arrays[0][:, -1].numpy())
        return shop.in_order(name, ids, np.concatenate(parts))

    return shop.inputs(key, make)


def middle_windows(reader: Any, rows: np.ndarray) -> Any:
    """The middle 200 points, or all where there are fewer, of some objects of a reader."""
    import torch

    from astrom3.modalities import astromer_view
    from experiments.astromer.inputs import Rows

    starts = np.maximum(reader.lengths[rows] - astromer_view.WINDOW, 0) // 2
    batch = astromer_view.empty_batch(len(rows))
    astromer_view.fill_windows(reader.points, reader.offsets, reader.rows[rows], starts, batch)
    return Rows(tuple(torch.from_numpy(batch[key]) for key in astromer_view.INPUTS), rows)


def joined(*parts: Callable[[Shop], Inputs]) -> Callable[[Shop], Inputs]:
    """Several inputs side by side."""

    def make(shop: Shop) -> Inputs:
        made = [part(shop) for part in parts]
        return {name: np.concatenate([inputs[name] for inputs in made], axis=1) for name in made[0]}

    return make


def by_survey(part: Callable[[Shop], Inputs]) -> Callable[[Shop], Inputs]:
    """Every column with mean 0 and deviation 1 over the curves of its own survey that are in no test fold. No label is
    looked at, so whoever has the curves of a new survey can do the same. What the classes of both surveys do not share
    and how often each occurs still differ, and that is taken for a difference of the surveys."""

    def make(shop: Shop) -> Inputs:
        changed = {}
        for name, values in part(shop).items():
            seen = values[splits(shop.surveys[name], SEEDS[0]) != "test"].astype(np.float64)
            deviation = seen.std(axis=0)
            deviation[deviation < SMALL] = 1.0
            changed[name] = ((values - seen.mean(axis=0)) / deviation).astype(np.float32)
        return changed

    return make


def of_needed(shop: Shop, make: Callable[[Shop], Inputs], chosen: Mapping[str, np.ndarray]) -> Inputs:
    """Inputs of the chosen curves, by mask (n,) of each survey, and NaN for the others, which are not computed.
    A survey of which none is chosen is left out."""
    whole = {}
    for name, values in make(shop.part(chosen)).items():
        whole[name] = np.full((len(chosen[name]), values.shape[1]), np.nan, dtype=np.float32)
        whole[name][chosen[name]] = values
    return whole


def is_asked(row: str, task: Task) -> bool:
    """Whether a row says anything new about a task. Within a survey its own statistics change nothing that the
    classifiers, which standardise, do not change themselves."""
    return BY_SURVEY not in row or task.train != task.test


def frozen_rows(shop: Shop) -> dict[str, Callable[[Shop], Inputs]]:
    """Row -> what gives its inputs. Rows whose package or weights are missing are left out with a word in the log."""
    rows: dict[str, Callable[[Shop], Inputs]] = {"four features": four, "hand-made features": hand_made}
    try:
        import light_curve as _unused  # noqa: F401

        rows["light-curve package"] = light_curve
        rows["hand-made + light-curve package"] = joined(hand_made, four, light_curve)
    except ImportError:
        log.info("the package light-curve is not installed: its rows are left out")
    rows["ours, curve"] = curve
    rows["ours, curve and features"] = curve_and_features
    rows["ours, masked pre-training"] = partial(astromer, key="masked", source=masked)
    rows["ours, embedding + hand-made features"] = joined(curve_and_features, hand_made, four)
    rows["ours, curve + hand-made features"] = joined(curve, hand_made)
    for row in ("hand-made features", "ours, curve", "ours, curve + hand-made features"):
        rows[row + BY_SURVEY] = by_survey(rows[row])
    for number in (1, 2):
        found = released(shop.options.weights, number)
        if found is None:
            log.info("no released weights of Astromer %d: its rows are left out", number)
            continue
        key = f"astromer{number}"
        rows[f"Astromer {number}, MACHO weights"] = partial(astromer, key=key, source=at(found))
    return rows


def at(path: Path) -> Callable[[Shop], Path]:
    """Where weights lie that need no training."""
    return lambda _: path


def source_of(row: str, shop: Shop) -> str:
    """The package or the file of weights that the inputs of a row come from, empty where they are all our own."""
    words = []
    if "light-curve package" in row:
        words.append(f"light-curve {version('light-curve')}")
    for number in (1, 2):
        path = released(shop.options.weights, number)
        if row.startswith(f"Astromer {number}") and path is not None:
            words.append(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:8]}, one window")
    return ", ".join(words)


def released(weights: Path | None, number: int) -> Path | None:
    """The zip of released weights of a version of Astromer under the folder, None where there is none."""
    if weights is None:
        return None
    names = {1: "macho_a0.zip", 2: "macho_a1.zip"}
    found = sorted(weights.rglob(names[number]))
    return found[0] if found else None
