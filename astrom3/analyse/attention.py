"""The light-curve encoder's two liberties, on the same weights: which keys are drawn, and how the heads are merged.

The published network draws keys anew at every call ("sampled"), so its answers vary; "fixed" draws them once, "full"
lets every query attend. Its head merge is not the usual one (models/informer.py); with the other merge the same weights
are another network, and this says how far away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from astrom3.analyse.ablation import through_head
from astrom3.analyse.fewshot import by_centroid
from astrom3.analyse.section import Context, NotPossible, Section, labelled, percent, table
from astrom3.encoders.informer import EVALUATIONS, HEAD_MERGES, InformerEncoder
from astrom3.encoders.towers import MultimodalClassifier
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.neighbours import unit
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.kinds import of_argument
from astrom3.plots import save

DRAWS = 5
MODALITY = of_argument("light_curve")


def informers(model: TrainedModel) -> list[InformerEncoder]:
    return [m for m in model.network.modules() if isinstance(m, InformerEncoder)]


def trained_merge(model: TrainedModel) -> str:
    """Head merge of the model's light-curve encoder."""
    return str(informers(model)[0].head_merge)


@contextmanager
def attending(model: TrainedModel, evaluation: str, merge: str) -> Iterator[None]:
    """The model with that kind of attention; afterwards it is as before."""
    encoders = informers(model)
    before = []
    for encoder in encoders:
        merges = [layer.attention.head_merge for layer in encoder.layers]  # type: ignore[union-attr]
        before.append((encoder.evaluation, merges))

    try:
        for encoder in encoders:
            encoder.evaluation = evaluation
            for layer in encoder.layers:
                layer.attention.head_merge = merge  # type: ignore[union-attr, assignment]
        yield
    finally:
        for encoder, (kind, merges) in zip(encoders, before, strict=True):
            encoder.evaluation = kind
            for layer, own in zip(encoder.layers, merges, strict=True):
                layer.attention.head_merge = own  # type: ignore[union-attr]


def outputs(
    model: TrainedModel, embed: Callable[[], Embeddings], evaluation: str, merge: str, draws: int = DRAWS
) -> list[Embeddings]:
    """What `embed` gives with that attention: once, or `draws` times with different keys where they are sampled."""
    found = []
    with attending(model, evaluation, merge):
        for draw in range(draws if evaluation == "sampled" else 1):
            with torch.random.fork_rng():
                torch.manual_seed(draw)
                found.append(embed())
    return found


def measure(
    labels: np.ndarray,
    predicted: Sequence[np.ndarray],
    vectors: Sequence[np.ndarray],
    reference: np.ndarray,
    reference_vectors: np.ndarray,
) -> dict[str, float]:
    """Draws of predictions (n,) and embeddings (n, D) against the labels and against a reference.

    accuracy, accuracy_sd: mean and deviation (ddof 1) over draws; flipped: share of predictions unlike the reference's;
    flipped_between: share unlike each other, mean over pairs of draws; cosine, cosine_5: mean and 5th percentile of the
    cosine of the embeddings with the reference's.
    """
    accuracy = [float((p == labels).mean()) for p in predicted]
    pairs = []
    for a, b in combinations(predicted, 2):
        pairs.append(float((a != b).mean()))
    directions = unit(reference_vectors)
    cosine = np.concatenate([(unit(drawn) * directions).sum(1) for drawn in vectors])
    return {
        "draws": len(predicted),
        "accuracy": float(np.mean(accuracy)),
        "accuracy_sd": float(np.std(accuracy, ddof=1)) if len(accuracy) > 1 else 0.0,
        "flipped": float(np.mean([(p != reference).mean() for p in predicted])),
        "flipped_between": float(np.mean(pairs)) if pairs else 0.0,
        "cosine": float(cosine.mean()),
        "cosine_5": float(np.percentile(cosine, 5)),
    }


def predictions(model: TrainedModel, found: Embeddings, train: Embeddings | None) -> dict[str, np.ndarray]:
    """Predicted labels (n,) by what the model has: its head with all modalities and with the light curve alone, or
    class centroids of the training objects' light curves (embedded with the model as it was trained)."""
    if isinstance(model.network, MultimodalClassifier):
        alone = through_head(model.network, found, [MODALITY])
        return {"all modalities": found.predicted, "light curve": alone.argmax(1)}
    if found.probabilities is not None:
        return {"light curve": found.predicted}
    assert train is not None
    return {"light curve, by centroid": by_centroid(train.vectors[MODALITY], train.labels, found.vectors[MODALITY])}


def compare_kinds(
    model: TrainedModel, embed: Callable[[], Embeddings], train: Embeddings | None, draws: int = DRAWS
) -> dict[str, dict[str, dict[str, float]]]:
    """Way of predicting -> "<evaluation>, <merge> merge" -> measure() of it; the reference is "fixed" with the merge
    that the model was trained with. Labelled objects that have a light curve."""
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    reference: Embeddings | None = None
    for merge in with_first(trained_merge(model), HEAD_MERGES):
        for evaluation in with_first("fixed", EVALUATIONS):
            drawn = []
            for embedded in outputs(model, embed, evaluation, merge, draws):
                objects = labelled(embedded)
                drawn.append(objects.take(objects.present[MODALITY]))
            if reference is None:
                reference = drawn[0]
            base = predictions(model, reference, train)
            every = [predictions(model, objects, train) for objects in drawn]
            vectors = [objects.vectors[MODALITY] for objects in drawn]
            for way, expected in base.items():
                predicted = [one[way] for one in every]
                scores = measure(drawn[0].labels, predicted, vectors, expected, reference.vectors[MODALITY])
                by_kind = numbers.setdefault(way, {})
                by_kind[f"{evaluation}, {merge} merge"] = scores

    return numbers


def with_first(first: str, names: Iterable[str]) -> list[str]:
    """The names, the first of them as given and the others in their order."""
    return [first, *(name for name in names if name != first)]


def section(context: Context) -> Section:
    model = context.model
    if model is None or not informers(model):
        raise NotPossible("needs a model with the Informer of light curves: give it as model=")
    if context.embed is None:
        raise NotPossible("needs the data to embed them again: leave embeddings= away")

    train = context.labelled("train")
    train = train.take(train.present[MODALITY])
    if not len(train) or not context.labelled("test").present[MODALITY].any():
        raise NotPossible("needs labelled training and test objects with a light curve")

    numbers: dict[str, Any] = compare_kinds(model, context.embed, train)
    picture(context, numbers)
    own = trained_merge(model)
    head = [
        "predicted from",
        "attention",
        "test accuracy [%]",
        "predictions changed [%]",
        "between draws [%]",
        "cosine of the embeddings",
        "5th percentile",
    ]
    rows = []
    for way, kinds in numbers.items():
        for kind, scores in kinds.items():
            rows.append([way, kind, *cells(scores)])

    text = (
        f"The same weights, trained with the {own} merge of the heads. Changed: against fixed keys and that merge. "
        f"Sampled: {DRAWS} draws, mean and deviation."
    )
    return Section("Attention: drawn keys and head merge", numbers, [text, "", *table(head, rows)])


def cells(scores: dict[str, float]) -> list[str]:
    """A row of the table."""
    accuracy = percent(scores["accuracy"], 2)
    between = "-"
    if scores["draws"] > 1:
        accuracy += f" +- {percent(scores['accuracy_sd'], 2)}"
        between = percent(scores["flipped_between"], 2)
    return [
        accuracy,
        percent(scores["flipped"], 2),
        between,
        f"{scores['cosine']:.4f}",
        f"{scores['cosine_5']:.4f}",
    ]


def picture(context: Context, numbers: dict[str, dict[str, dict[str, float]]]) -> None:
    figure = Figure(figsize=(7, 0.8 + 0.9 * len(numbers) + 1.2))
    axis = figure.subplots()
    kinds = list(next(iter(numbers.values())))
    places = np.arange(len(kinds))[::-1]
    middle = (len(numbers) - 1) / 2
    for number, (way, by_kind) in enumerate(numbers.items()):
        accuracy = [100 * scores["accuracy"] for scores in by_kind.values()]
        spread = [100 * scores["accuracy_sd"] for scores in by_kind.values()]
        rows = places + 0.2 * (number - middle)
        axis.errorbar(accuracy, rows, xerr=spread, fmt="o", ms=4, capsize=2, label=way)

    axis.set_yticks(places, kinds)
    axis.set_xlabel("test accuracy [%]")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, context.out / "attention.png")
