"""The contrastive objective against a naive one, with and without missing modalities."""

import torch
from torch.nn import functional as F

from astrom3.tasks.losses import contrastive_loss, matching_accuracy, pair_logits
from astrom3.tasks.metrics import centroid_accuracy, classification_scores

PAIRS = [("photometry", "spectra"), ("spectra", "metadata"), ("metadata", "photometry")]


def embeddings(n, seed=0, dim=8):
    generator = torch.Generator().manual_seed(seed)
    return {
        m: F.normalize(torch.randn(n, dim, generator=generator, dtype=torch.float64), dim=-1)
        for m in ("photometry", "spectra", "metadata")
    }


def naive(emb, present, scale):
    total = 0.0
    for a, b in PAIRS:
        rows = [i for i in range(len(emb[a])) if present[a][i] and present[b][i]]
        for source, target in ((a, b), (b, a)):
            terms = []
            for i in rows:
                scores = torch.stack([scale * emb[source][i] @ emb[target][j] for j in rows])
                terms.append(torch.logsumexp(scores, 0) - scores[rows.index(i)])
            total = total + torch.stack(terms).mean()
    return total


def everything(n):
    return {m: torch.ones(n, dtype=torch.bool) for m in ("photometry", "spectra", "metadata")}


def test_equals_the_naive_loss():
    emb = embeddings(7)
    scales = {p: torch.tensor(9.0, dtype=torch.float64) for p in PAIRS}
    for present in ({}, everything(7)):
        loss = contrastive_loss(emb, present, scales)["loss"]
        torch.testing.assert_close(loss, naive(emb, everything(7), 9.0))


def test_missing_modalities_leave_the_pairs_that_exist():
    emb, present = embeddings(9), everything(9)
    present["spectra"][[1, 4, 5]] = False
    present["metadata"][[4, 8]] = False
    scales = {p: torch.tensor(9.0, dtype=torch.float64) for p in PAIRS}
    torch.testing.assert_close(contrastive_loss(emb, present, scales)["loss"], naive(emb, present, 9.0))


def test_a_pair_nobody_has_contributes_nothing_and_keeps_the_graph():
    emb, present = embeddings(4), everything(4)
    for e in emb.values():
        e.requires_grad_()
    present["spectra"][:] = False
    scales = {p: torch.tensor(2.0, dtype=torch.float64, requires_grad=True) for p in PAIRS}
    losses = contrastive_loss(emb, present, scales)
    assert losses["loss/photometry_spectra"] == 0
    losses["loss"].backward()
    assert torch.isfinite(emb["photometry"].grad).all() and not emb["spectra"].grad.any()


def test_identical_embeddings_are_matched_and_shuffled_ones_are_not():
    emb = {m: torch.eye(6) for m in ("photometry", "spectra", "metadata")}
    scales = {p: torch.tensor(100.0) for p in PAIRS}
    right, of = matching_accuracy(emb, {}, scales)
    assert (int(right), int(of)) == (6, 6)
    shuffled = {m: e.roll(1, 0) if m == "spectra" else e for m, e in emb.items()}
    shuffled["metadata"] = emb["metadata"].roll(2, 0)
    assert int(matching_accuracy(shuffled, {}, scales)[0]) < 6


def test_logits_are_float32_under_autocast():
    a = torch.randn(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = pair_logits(a.bfloat16(), a.bfloat16(), torch.tensor(2.0))
    assert logits.dtype == torch.float32


def test_scores_of_a_known_confusion_matrix():
    scores = classification_scores(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]), ("A", "B", "C"))
    assert scores["accuracy"] == 5 / 6
    assert scores["recall"] == {"A": 0.75, "B": 1.0, "C": None}
    assert abs(scores["macro_f1"] - (6 / 7 + 4 / 5) / 2) < 1e-12
    assert scores["n"] == 6


def test_centroids_ignore_unlabelled_and_absent_objects():
    eye = torch.eye(2)
    train = {"a": torch.cat([eye, -eye]), "present/a": torch.tensor([True, True, True, False]),
             "label": torch.tensor([0, 1, -1, 0])}  # fmt: skip
    test = {"a": eye, "present/a": torch.tensor([True, True]), "label": torch.tensor([0, 1])}
    assert centroid_accuracy(train, test, "a", 3).diagonal().tolist() == [1, 1, 0]
