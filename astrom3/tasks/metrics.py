"""Scores of a classification, from its confusion matrix, and of frozen embeddings, from class centroids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def classification_scores(confusion: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """confusion (C, C), rows true, columns predicted, counts -> plain numbers.

    accuracy, macro_f1 and macro_recall (means over the classes that occur as truth), recall per class (None where the
    class does not occur), and the matrix itself.
    """
    matrix = confusion.double()
    right = matrix.diagonal()
    true = matrix.sum(1)
    predicted = matrix.sum(0)
    occurs = true > 0
    recall = right / true.clamp(min=1)
    f1 = 2 * right / (true + predicted).clamp(min=1)
    n = int(matrix.sum())
    recall_of: dict[str, float | None] = dict.fromkeys(classes)
    for number in occurs.nonzero().flatten().tolist():
        recall_of[classes[number]] = float(recall[number])
    return {
        "n": n,
        "accuracy": float(right.sum() / max(n, 1)),
        "macro_f1": float(f1[occurs].mean()) if n else 0.0,
        "macro_recall": float(recall[occurs].mean()) if n else 0.0,
        "recall": recall_of,
        "classes": list(classes),
        "confusion": confusion.long().tolist(),
    }


def mean_embedding(parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean of the unit embeddings each object has, (N, D), and which objects have any, (N,)."""
    embeddings = []
    present = []
    for name in parts:
        if f"present/{name}" in parts:
            embeddings.append(parts[name])
            present.append(parts[f"present/{name}"])
    total = torch.stack(embeddings).sum(0)
    count = torch.stack(present).sum(0)
    return total / count.clamp(min=1).unsqueeze(-1), count > 0


def centroid_accuracy(
    train: Mapping[str, Tensor], test: Mapping[str, Tensor], name: str, num_classes: int
) -> Tensor | None:
    """Confusion matrix (C, C) of the nearest class centroid, by cosine, of one modality or of their "mean".

    Centroids are means of the labelled training embeddings. None where no class or no test object has the modality.
    """
    x, y = _labelled(train, name)
    queries, truth = _labelled(test, name)
    if not len(x) or not len(queries):
        return None
    sums = torch.zeros(num_classes, x.shape[1], dtype=x.dtype).index_add_(0, y, x)
    centroids = F.normalize(sums, dim=-1)
    similarity = F.normalize(queries, dim=-1) @ centroids.T
    known = torch.bincount(y, minlength=num_classes) > 0
    predicted = similarity.masked_fill(~known, -2.0).argmax(-1)  # -2 is below any cosine
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.long)
    ones = torch.ones(len(truth), dtype=torch.long)
    return confusion.index_put_((truth, predicted), ones, accumulate=True)


def _labelled(parts: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Embeddings (n, D) and labels (n,) of the objects that have both; of one modality, or of their "mean"."""
    if name == "mean":
        embeddings, present = mean_embedding(parts)
    else:
        embeddings = parts[name]
        present = parts[f"present/{name}"]
    rows = present.bool() & (parts["label"] >= 0)
    return embeddings[rows], parts["label"][rows]
