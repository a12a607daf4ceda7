"""Cross-modal retrieval: the spectrum of a light curve among all spectra, and so on in every direction."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from matplotlib.figure import Figure

from astrom3.analyse.section import ASKED, COMPARED, Context, NotPossible, Section, drawn_rows, percent, table
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.neighbours import unit
from astrom3.plots import save

TOP = (1, 5, 10)


def ranks(queries: np.ndarray, found: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Rank (m,) from 1 of row i of `found` (n, D) among all of them by cosine to row i of `queries`, for every i in
    `rows` (m,), or for all; ties count against it."""
    rows = np.arange(len(queries)) if rows is None else rows
    queries = unit(queries[rows])
    found = unit(found).T
    out = np.empty(len(rows), dtype=np.int64)
    step = max(COMPARED // found.shape[1], 1)
    for i in range(0, len(rows), step):
        cosine = queries[i : i + step] @ found
        own = cosine[np.arange(len(cosine)), rows[i : i + step]]
        out[i : i + step] = (cosine >= own[:, None]).sum(1)
    return out


def retrieval(objects: Embeddings) -> dict[str, dict[str, float]]:
    """ "photometry -> spectra" and so on: recall at 1, 5, 10, median rank and number of the objects that have both, and
    what an arbitrary order would give."""
    out = {}
    for a, b in permutations(objects.modalities, 2):
        both = objects.present[a] & objects.present[b]
        n = int(both.sum())
        if n == 0:
            continue
        found = ranks(objects.vectors[a][both], objects.vectors[b][both], drawn_rows(n))
        scores: dict[str, float] = {"n": n}
        for k in TOP:
            scores[f"recall@{k}"] = float((found <= k).mean())
        scores["median_rank"] = float(np.median(found))
        for k in TOP:
            scores[f"chance@{k}"] = min(k / n, 1.0)
        scores["chance_median_rank"] = (n + 1) / 2
        out[f"{a} -> {b}"] = scores
    return out


def section(context: Context) -> Section:
    test = context.splits["test"]
    if len(test.modalities) < 2:
        raise NotPossible("needs a model of several modalities")
    numbers = retrieval(test)
    if not numbers:
        raise NotPossible("no test object has two modalities")
    picture(context, numbers)
    rows = []
    for direction, scores in numbers.items():
        cells = [direction, str(scores["n"])]
        for k in TOP:
            cells.append(f"{percent(scores[f'recall@{k}'])} ({percent(scores[f'chance@{k}'])})")
        cells.append(f"{scores['median_rank']:.0f} ({scores['chance_median_rank']:.0f})")
        rows.append(cells)
    head = ["direction", "among", *(f"recall at {k} [%]" for k in TOP), "median rank"]
    text = "Test objects that have both modalities, labelled or not; in brackets what an arbitrary order would give."
    if max(scores["n"] for scores in numbers.values()) > ASKED:
        text += f" Of more than {ASKED:,} objects, so many are drawn and looked for among all."
    return Section("Cross-modal retrieval, test split", numbers, [text, "", *table(head, rows)])


def picture(context: Context, numbers: dict[str, dict[str, float]]) -> None:
    figure = Figure(figsize=(7, 3))
    axis = figure.subplots()
    rows = np.arange(len(numbers))[::-1]
    for k, shade in zip(TOP[::-1], ("0.75", "0.5", "0.2"), strict=True):
        recalls = [100 * scores[f"recall@{k}"] for scores in numbers.values()]
        axis.barh(rows, recalls, color=shade, label=f"at {k}")
    chances = [100 * scores["chance@10"] for scores in numbers.values()]
    axis.plot(chances, rows, "r|", ms=12, label="at 10, by chance")
    axis.set_yticks(rows, list(numbers))
    axis.set_xlabel("recall [%]")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, context.out / "retrieval.png")
