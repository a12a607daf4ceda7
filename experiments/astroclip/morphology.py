"""Morphology from image embeddings: the answers of the Galaxy Zoo decision tree (Parker et al. 2024, section 6.4).

Against the published code the network gives logits, not the softmax of a softmax, and the best weights are copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.astroclip.networks import Fit, Scaling
from experiments.astroclip.questions import Question, questions
from experiments.astroclip.settings import SPLITS, Settings
from experiments.astroclip.vectors import Vectors

FEWEST = 10  # galaxies that a question needs in every split
RATE = 1e-3
EPOCHS = 25
BATCH = 256


def morphology(data: Any, vectors: Mapping[str, Vectors], settings: Settings) -> dict[str, Any]:
    """Embedding -> question -> accuracy and F1 on the test split, with the share of the most frequent answer."""
    asked = {split: questions(data, split, vectors[split].ids.tolist()) for split in SPLITS}
    names = [name for name in vectors["train"].vectors if name.startswith("image")]
    found: dict[str, Any] = {name: {} for name in names}
    for place, question in enumerate(asked["train"]):
        of_split = {split: asked[split][place] for split in SPLITS}
        if min(int(part.asked.sum()) for part in of_split.values()) < FEWEST:
            continue
        for name in names:
            found[name][question.name] = one_question(of_split, vectors, name, settings)
    return found


def one_question(
    of_split: Mapping[str, Question], vectors: Mapping[str, Vectors], name: str, settings: Settings
) -> dict[str, float]:
    """Train the published network on one question and score it."""
    from astrom3.tasks.neighbours import one_hot_accuracy, weighted_f1

    scale = Scaling.of(vectors["train"].vectors[name])
    x = {split: scale(vectors[split].vectors[name][part.asked]) for split, part in of_split.items()}
    y = {split: torch.from_numpy(part.fractions[part.asked]).float() for split, part in of_split.items()}
    how = Fit(RATE, EPOCHS, min(BATCH, max(len(y["train"]) // 4, 2)), settings.fewest_steps // 2)
    logits = answer(x, y, how)
    truth = largest(y["test"])
    guess = largest(logits)
    usual = y["train"].mean(0).argmax()
    return {
        "accuracy": one_hot_accuracy(truth, guess),
        "f1": weighted_f1(truth, guess),
        "most frequent": float(truth[:, usual].mean()),
        "n": len(truth),
    }


def largest(values: Tensor) -> np.ndarray:
    """1 where a row has its maximum, the first of several, else 0; int64 (n, classes)."""
    return torch.nn.functional.one_hot(values.argmax(dim=1), values.shape[1]).numpy()


def answer(x: Mapping[str, Tensor], y: Mapping[str, Tensor], how: Fit) -> Tensor:
    """Logits (n, classes) of the test split by a network fitted to the train split."""
    from astrom3.encoders.baselines_astroclip import MorphologyHead, morphology_loss

    torch.manual_seed(how.seed)
    network = MorphologyHead(x["train"].shape[1], y["train"].shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=how.rate)
    weights = y["train"].max(dim=1).values
    best = (float("inf"), network.state_dict())
    for _ in range(how.passes(len(weights))):
        network.train()
        for rows in torch.multinomial(weights, len(weights), replacement=True).split(how.batch):
            optimizer.zero_grad()
            morphology_loss(network(x["train"][rows]), y["train"][rows]).backward()
            optimizer.step()
        network.eval()
        with torch.inference_mode():
            loss = float(morphology_loss(network(x["validation"]), y["validation"]))
        if loss < best[0]:
            best = (loss, deepcopy(network.state_dict()))
    network.load_state_dict(best[1])
    with torch.inference_mode():
        return network(x["test"])
