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


def ranks(queries: np.ndarray, answers: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Rank int64 (m,) from 1 of row i of `answers` (n, D) among all of them by cosine to row i of `queries` (n, D).

    rows (m,): the i that are looked for, None: all. Ties count against the right answer.
    """
    rows = np.arange(len(queries)) if rows is None else rows
    asked = unit(queries[rows])
    told = unit(answers).T
    found = np.empty(len(rows), dtype=np.int64)
    step = max(COMPARED // len(answers), 1)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        cosine = asked[part] @ told
        right = cosine[np.arange(len(cosine)), rows[part]]
        found[part] = (cosine >= right[:, None]).sum(1)
    return found


def retrieval(objects: Embeddings) -> dict[str, dict[str, float]]:
    """Scores of every direction, such as "photometry -> spectra".

    They are recall at 1, 5, 10, the median rank, the number of the objects that have both modalities, and what an
    arbitrary order would give.
    """
    numbers = {}
    for query, answer in permutations(objects.modalities, 2):
        both = objects.present[query] & objects.present[answer]
        n = int(both.sum())
        if n == 0:
            continue
        found = ranks(objects.vectors[query][both], objects.vectors[answer][both], drawn_rows(n))
        scores: dict[str, float] = {"n": n}
        for k in TOP:
            scores[f"recall@{k}"] = float((found <= k).mean())
        scores["median_rank"] = float(np.median(found))
        for k in TOP:
            scores[f"chance@{k}"] = min(k / n, 1.0)
        scores["chance_median_rank"] = (n + 1) / 2
        numbers[f"{query} -> {answer}"] = scores

    return numbers


def section(context: Context) -> Section:
    """The table and the picture of retrieval on the test split. NotPossible without two modalities."""
    test = context.splits["test"]
    if len(test.modalities) < 2:
        raise NotPossible("needs a model of several modalities")

    numbers = retrieval(test)
    if not numbers:
        raise NotPossible("no test object has two modalities")

    picture(context, numbers)

    rows = [table_row(direction, scores) for direction, scores in numbers.items()]
    recalls = [f"recall at {k} [%]" for k in TOP]
    head = ["direction", "among", *recalls, "median rank"]
    text = "Test objects that have both modalities, labelled or not; in brackets what an arbitrary order would give."
    if max(scores["n"] for scores in numbers.values()) > ASKED:
        text += f" Of more than {ASKED:,} objects, so many are drawn and looked for among all."
    return Section("Cross-modal retrieval, test split", numbers, [text, "", *table(head, rows)])


def table_row(direction: str, scores: dict[str, float]) -> list[str]:
    """Cells of one direction: its name, the number of objects, every recall, the median rank."""
    cells = [direction, str(scores["n"])]
    for k in TOP:
        recall = percent(scores[f"recall@{k}"])
        chance = percent(scores[f"chance@{k}"])
        cells.append(f"{recall} ({chance})")
    median = scores["median_rank"]
    chance_median = scores["chance_median_rank"]
    cells.append(f"{median:.0f} ({chance_median:.0f})")
    return cells


def picture(context: Context, numbers: dict[str, dict[str, float]]) -> None:
    """Bars of recall at 1, 5 and 10 for every direction, with a mark where chance would be."""
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
