"""The sections of an analysis report: each takes what was embedded and gives numbers, text and a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from astrom3.analysis import calibration as calibrated
from astrom3.analysis import outliers as suspicious
from astrom3.analysis.comparison import compare as compared
from astrom3.analysis.fewshot import by_centroid, few_shot
from astrom3.analysis.retrieval import retrieval as retrieved
from astrom3.data.schema import PAPER_ORDER, UNLABELLED
from astrom3.errors import UserError
from astrom3.inference.embeddings import MEAN, Embeddings
from astrom3.inference.trained import TrainedModel
from astrom3.models.informer import InformerEncoder
from astrom3.models.multimodal import MultimodalClassifier
from astrom3.training.plots import save

PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())
SHOTS = (1, 5, 20, 100, None)
UMAP = {"n_neighbors": 45, "min_dist": 0.7, "metric": "cosine", "random_state": 42}  # of the paper, section 4.2


@dataclass
class Context:
    """splits: name -> embeddings; embed: makes those of the test split with another model; other: predictions of a
    second model on the test split, or None; swapped: ids whose label was swapped on purpose (simulated survey)."""

    model: TrainedModel | None
    splits: dict[str, Embeddings]
    out: Path
    embed: Callable[[TrainedModel], Embeddings] | None = None
    other: Embeddings | None = None
    swapped: frozenset[str] = frozenset()

    def labelled(self, split: str) -> Embeddings:
        found = self.splits[split]
        return found.take(found.labels != UNLABELLED)

    @property
    def names(self) -> list[str]:
        """Modalities and, where there are several, their mean."""
        modalities = self.splits["test"].modalities
        return [*modalities, MEAN] if len(modalities) > 1 else list(modalities)


@dataclass
class Section:
    title: str
    numbers: dict[str, Any]
    lines: list[str]


class NotPossible(Exception):
    """Why an analysis is left out."""


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows]]


def fewshot(context: Context) -> Section:
    train, test = context.labelled("train"), context.labelled("test")
    numbers: dict[str, Any] = {}
    for name in context.names:
        a, b = (e.take(e.present[name]) if name in e.present else e for e in (train, test))
        numbers[name] = {
            str(shots or "all"): few_shot(a.vectors[name], a.labels, b.vectors[name], b.labels, shots)
            for shots in SHOTS
        }
    figure = Figure(figsize=(3.2 * len(numbers), 3))
    axes = np.atleast_1d(figure.subplots(1, len(numbers), sharey=True))
    for axis, (name, by_shots) in zip(axes, numbers.items(), strict=True):
        for method in ("centroid", "neighbours", "probe"):
            values = [(100 * s[method]["accuracy"], 100 * s[method]["accuracy_sd"]) for s in by_shots.values()]
            axis.errorbar(range(len(values)), *zip(*values, strict=True), marker=".", capsize=2, label=method)
        axis.set_xticks(range(len(by_shots)), list(by_shots))
        axis.set_title(name)
        axis.set_xlabel("labels per class")
    axes[0].set_ylabel("test accuracy [%]")
    axes[0].legend(frameon=False)
    save(figure, context.out / "fewshot.png")
    rows = [
        [name, method, *(f"{100 * s[method]['accuracy']:.1f} +- {100 * s[method]['accuracy_sd']:.1f}"
                         for s in by_shots.values())]
        for name, by_shots in numbers.items() for method in ("centroid", "neighbours", "probe")
    ]  # fmt: skip
    lines = table(["embedding", "method", *(f"{s or 'all'} per class" for s in SHOTS)], rows)
    note = "Test accuracy in percent; mean and deviation over 5 draws. Published, all labels, real data: centroid "
    note += ", ".join(f"{k} {v:.1f}" for k, v in PUBLISHED["frozen"]["centroid"].items())
    return Section("Few labels on frozen embeddings", numbers, [note + ".", "", *lines])


def retrieval(context: Context) -> Section:
    numbers = retrieved(context.splits["test"])
    if not numbers:
        raise NotPossible("needs a model of several modalities")
    figure = Figure(figsize=(7, 2.8))
    axis = figure.subplots()
    axis.barh(range(len(numbers)), [100 * v["recall@10"] for v in numbers.values()], color="0.6", label="at 10")
    axis.barh(range(len(numbers)), [100 * v["recall@1"] for v in numbers.values()], color="0.2", label="at 1")
    axis.set_yticks(range(len(numbers)), list(numbers))
    axis.set_xlabel("recall [%]")
    axis.legend(frameon=False)
    save(figure, context.out / "retrieval.png")
    rows = [
        [k, *(f"{100 * v[f'recall@{t}']:.1f}" for t in (1, 5, 10)), f"{v['median_rank']:.0f}", str(v["n"]),
         f"{100 * v['chance@10']:.1f}"] for k, v in numbers.items()
    ]  # fmt: skip
    head = ["direction", "recall at 1 [%]", "at 5", "at 10", "median rank", "among", "chance at 10"]
    return Section("Cross-modal retrieval, test split", numbers, table(head, rows))


def ablation(context: Context) -> Section:
    model, test = context.model, context.labelled("test")
    network = model.network if model is not None else None
    if not isinstance(network, MultimodalClassifier):
        raise NotPossible("needs a model of mode=all")
    assert model is not None
    modalities: tuple[str, ...] = model.modalities
    numbers: dict[str, Any] = {}
    with torch.inference_mode():
        for size in range(1, len(modalities) + 1):
            for chosen in combinations(modalities, size):
                there = {m: torch.from_numpy(test.present[m] & (m in chosen)) for m in modalities}
                vectors = {m: torch.from_numpy(test.vectors[m]) * there[m].unsqueeze(1) for m in modalities}
                keep = torch.stack([there[m] for m in chosen]).any(0).numpy()
                head = network.head.to("cpu")
                predicted = head(network.fuse(vectors, there)).argmax(1).numpy()[keep]
                labels = test.labels[keep]
                recall = {c: float((predicted[labels == k] == k).mean()) for k, c in enumerate(test.classes)
                          if (labels == k).any()}  # fmt: skip
                numbers[" + ".join(chosen)] = {
                    "n": int(keep.sum()), "accuracy": float((predicted == labels).mean()), "recall": recall,
                    "macro_recall": float(np.mean(list(recall.values()))),
                }  # fmt: skip
        network.head.to(model.device)
    classes = [c for c in PAPER_ORDER if c in test.classes] + [c for c in test.classes if c not in PAPER_ORDER]
    rows = [
        [name, str(v["n"]), f"{100 * v['accuracy']:.1f}", f"{100 * v['macro_recall']:.1f}",
         *(f"{100 * v['recall'][c]:.0f}" if c in v["recall"] else "-" for c in classes)] for name, v in numbers.items()
    ]  # fmt: skip
    published = PUBLISHED["ablation"]
    means = [float(np.mean([published[c][i] for c in PAPER_ORDER])) for i in range(7)]
    note = (
        "Recall in percent through the shared head. Published macro recall (real data, sub50, seed 42): "
        + ", ".join(f"{c} {m:.1f}" for c, m in zip(published["columns"], means, strict=True))
    )
    figure = Figure(figsize=(7, 2.8))
    axis = figure.subplots()
    axis.barh(range(len(numbers)), [100 * v["accuracy"] for v in numbers.values()], color="0.4")
    axis.set_yticks(range(len(numbers)), list(numbers))
    axis.set_xlabel("test accuracy [%]")
    save(figure, context.out / "ablation.png")
    lines = table(["modalities", "n", "accuracy", "macro recall", *classes], rows)
    return Section("Modality ablation", numbers, [note + ".", "", *lines])


def outliers(context: Context) -> Section:
    objects = Embeddings.concatenate([context.splits[s] for s in context.splits])
    numbers: dict[str, Any] = {}
    found = {name: suspicious.distances(objects, name) for name in context.names}
    main = context.names[-1]
    doubt = found[main]["own"] - found[main]["other"]
    order = np.argsort(-np.nan_to_num(doubt, nan=-np.inf), kind="stable")
    with open(context.out / "outliers.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["object_id", "label", "split", "nearest_other", "suspicion",
                         *(f"distance_{n}" for n in found)])  # fmt: skip
        for i in order[np.isfinite(doubt[order])]:
            other = objects.classes[found[main]["nearest"][i]] if found[main]["nearest"][i] >= 0 else ""
            writer.writerow([objects.ids[i], objects.classes[objects.labels[i]], objects.splits[i], other,
                             f"{doubt[i]:.5f}", *(f"{d['own'][i]:.5f}" for d in found.values())])  # fmt: skip
    figure = Figure(figsize=(3.2 * len(found), 2.8))
    for axis, (name, d) in zip(np.atleast_1d(figure.subplots(1, len(found))), found.items(), strict=True):
        known = np.isfinite(d["own"])
        axis.hist(d["own"][known], 60, histtype="step", label="own class")
        axis.hist(d["other"][known & np.isfinite(d["other"])], 60, histtype="step", label="nearest other")
        axis.set_title(name)
        axis.set_xlabel("1 - cosine to the centroid")
        axis.legend(frameon=False)
        nearer = float((d["own"][known] > d["other"][known]).mean())
        numbers[name] = {"median_own": float(np.median(d["own"][known])), "another_class_nearer": nearer}
    save(figure, context.out / "outliers.png")
    rows = [[k, f"{v['median_own']:.3f}", f"{100 * v['another_class_nearer']:.1f}"] for k, v in numbers.items()]
    lines = table(["embedding", "median distance to own class", "another class is nearer [%]"], rows)
    lines += ["", "All objects with their distances, the likeliest wrong labels first: outliers.csv."]
    if context.swapped:
        swapped = np.isin(objects.ids, list(context.swapped))
        numbers["swapped"] = recall = suspicious.recall_of_swapped(doubt, swapped)
        lines.append(
            f"Of {recall['swapped']} labels swapped on purpose {100 * recall['recall@k']:.0f} % are among as many "
            f"objects at the top of that list, {100 * recall['recall@2k']:.0f} % among twice as many (by chance "
            f"{100 * recall['chance']:.1f} %); average precision {recall['average_precision']:.2f}."
        )
    return Section("Outliers and labels that look wrong", numbers, lines)


def map(context: Context) -> Section:  # named after what a user asks for: what=[map]
    from astrom3.analysis.projection import fit, picture

    return fit_and_draw(context, fit, picture)


def fit_and_draw(context: Context, fit: Callable[..., Any], picture: Callable[..., Any]) -> Section:
    name = context.names[-1]
    coordinates = fit(context.splits, name, UMAP)
    rows = {}
    for split, xy in coordinates.items():
        e = context.splits[split]
        rows[split] = len(xy)
        np.savetxt(context.out / f"map-{split}.csv", np.column_stack([e.ids, xy.astype(str)]), "%s", ",",
                   header="object_id,x,y", comments="")  # fmt: skip
    picture(context.splits, coordinates, context.out / "map.png")
    text = f"UMAP of {name} ({', '.join(f'{k} {v}' for k, v in UMAP.items())}), fitted on the training split; the "
    return Section(
        "Map", {"objects": rows, "settings": UMAP}, [text + "others are projected into it: map-<split>.csv."]
    )


def calibration(context: Context) -> Section:
    test, validation = context.labelled("test"), context.labelled("validation")
    if test.probabilities is None or validation.probabilities is None:
        raise NotPossible("needs a model with a class head")
    t = calibrated.temperature(validation.probabilities, validation.labels)
    kinds = {"as it is": test.probabilities, f"temperature {t:.2f}": calibrated.tempered(test.probabilities, t)}
    numbers: dict[str, Any] = {k: calibrated.calibration(p, test.labels) for k, p in kinds.items()}
    figure = Figure(figsize=(3.4, 3.2))
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.7", lw=1)
    for kind, probabilities in kinds.items():
        bins = calibrated.reliability(probabilities, test.labels)
        axis.plot(bins["confidence"], bins["accuracy"], marker="o", ms=3, label=kind)
    axis.set_xlabel("confidence")
    axis.set_ylabel("accuracy")
    axis.legend(frameon=False)
    save(figure, context.out / "calibration.png")
    rows = [[k, f"{100 * v['ece']:.2f}", f"{v['nll']:.3f}", f"{v['brier']:.3f}"] for k, v in numbers.items()]
    lines = table(["probabilities", "calibration error [%]", "neg. log likelihood", "Brier score"], rows)
    return Section("Calibration, test split", numbers | {"temperature": t}, [*lines, "", "The temperature is fitted on "
                   "the validation split."])  # fmt: skip


def compare(context: Context) -> Section:
    if context.other is None:
        raise NotPossible("needs a second model: other=<run>")
    test, other = context.labelled("test"), context.other
    if test.probabilities is None or other.probabilities is None:
        raise NotPossible("both models need a class head")
    at = {name: i for i, name in enumerate(other.ids)}
    both = np.array([name in at for name in test.ids])
    if not both.any():
        raise UserError("the two models share no test object: give the same data, sub and seed")
    rows = np.array([at[name] for name in test.ids[both]])
    names = np.array([*other.classes, ""])
    first = np.array(test.classes)[test.predicted[both]]
    labels = np.array(test.classes)[test.labels[both]]
    numbers: dict[str, Any] = compared(first, names[other.predicted[rows]], labels)
    numbers["per_class"] = {
        c: float((names[other.predicted[rows]] == c)[labels == c].mean() - (first == c)[labels == c].mean())
        for c in test.classes if (labels == c).any()
    }  # fmt: skip
    figure = Figure(figsize=(5, 2.6))
    axis = figure.subplots()
    axis.bar(list(numbers["per_class"]), [100 * v for v in numbers["per_class"].values()], color="0.4")
    axis.axhline(0, color="0.2", lw=0.8)
    axis.set_ylabel("difference of recall [points]")
    save(figure, context.out / "compare.png")
    n = numbers
    text = (
        f"On {n['n']} common test objects: {context.splits['test'].model} {100 * n['first']:.2f} %, {other.model} "
        f"{100 * n['second']:.2f} %; difference {100 * n['difference']:+.2f} points (95 % of the bootstrap draws "
        f"{100 * n['low']:+.2f} to {100 * n['high']:+.2f}); only the first is right for {n['only_first']}, only the "
        f"second for {n['only_second']}, McNemar's exact p = {n['p']:.3g}."
    )
    return Section("Comparison of two models", numbers, [text])


def attention(context: Context) -> Section:
    model = context.model
    if model is None or context.embed is None or not informers(model):
        raise NotPossible("needs a model with a light-curve encoder, and its data")
    numbers: dict[str, Any] = {}
    own: Any = informers(model)[0].layers[0].attention.head_merge  # type: ignore[union-attr]
    wrong = "usual" if own == "published" else "published"
    base: Embeddings | None = None
    kinds = [("fixed", own), ("full", own), *[("sampled", own)] * 3, ("fixed", wrong)]
    for i, (evaluation, merge) in enumerate(kinds):
        set_attention(model, evaluation, merge)
        found = context.embed(model)
        found = found.take((found.labels != UNLABELLED) & found.present["photometry"])
        base = found if base is None else base
        a, b = base.vectors["photometry"], found.vectors["photometry"]
        cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
        predicted, first = predictions(context, found), predictions(context, base)
        key = f"{evaluation}, {merge} merge" + (f", draw {i - 1}" if evaluation == "sampled" else "")
        numbers[key] = {
            "accuracy": float((predicted == found.labels).mean()), "changed": int((predicted != first).sum()),
            "n": len(found), "cosine": float(cosine.mean()),
        }  # fmt: skip
    set_attention(model, "fixed", own)
    rows = [[k, f"{100 * v['accuracy']:.2f}", f"{v['changed']} of {v['n']}", f"{v['cosine']:.5f}"]
            for k, v in numbers.items()]  # fmt: skip
    head = ["evaluation", "test accuracy [%]", "predictions unlike the first", "cosine of the light-curve embeddings"]
    text = (
        f"The same weights, trained with the {own} merge of the heads; accuracy by the class head, or by centroids of "
    )
    return Section(
        "Attention", numbers, [text + "the training embeddings where there is none.", "", *table(head, rows)]
    )


def predictions(context: Context, found: Embeddings) -> np.ndarray:
    if found.probabilities is not None:
        return found.predicted
    train = context.labelled("train")
    train = train.take(train.present["photometry"])
    return by_centroid(train.vectors["photometry"], train.labels, found.vectors["photometry"])


def informers(model: TrainedModel) -> list[InformerEncoder]:
    return [m for m in model.network.modules() if isinstance(m, InformerEncoder)]


def set_attention(model: TrainedModel, evaluation: str, merge: str) -> None:
    for encoder in informers(model):
        encoder.evaluation = evaluation
        for layer in encoder.layers:
            layer.attention.head_merge = merge  # type: ignore[union-attr, assignment]


SECTIONS: dict[str, Callable[[Context], Section]] = {
    "fewshot": fewshot, "retrieval": retrieval, "ablation": ablation, "outliers": outliers, "map": map,
    "calibration": calibration, "compare": compare, "attention": attention,
}  # fmt: skip
