"""The measures of an analysis: small cases worked out by hand."""

import numpy as np
import pytest
import torch
from made_up_embeddings import clusters, embeddings

from astrom3.analyse.ablation import ablation, check, published_column, scores, through_head
from astrom3.analyse.attention import attending, measure, outputs
from astrom3.analyse.calibration import calibration, reliability, temperature, tempered
from astrom3.analyse.comparison import compare, holm, predicted_names
from astrom3.analyse.fewshot import by_centroid, by_nearest, by_neighbours, by_probe, drawn, few_shot, zero_shot
from astrom3.analyse.outliers import average_precision, disagreement, distances, found_swapped, suspicion
from astrom3.analyse.retrieval import ranks, retrieval
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.errors import UserError
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.schema import UNLABELLED


def test_nearest_centroid_and_neighbours_by_hand():
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 2.0]])
    labels = np.array([0, 0, 2, 2])
    queries = np.array([[5, 1.0], [0.2, 0.3]])
    assert by_centroid(vectors, labels, queries).tolist() == [0, 2]
    assert by_nearest(vectors, labels, queries).tolist() == [0, 2]
    # Two of each class among four neighbours: the nearest decides.
    assert by_neighbours(vectors, labels, queries, k=4).tolist() == [0, 2]
    assert by_probe(vectors, labels, queries).tolist() == [0, 2]


def test_neighbours_equal_a_full_sort():
    vectors, labels = clusters(noise=2.0)
    queries, _ = clusters(seed=5, noise=2.0)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors, queries)]
    near = labels[np.argsort(-(unit[1] @ unit[0].T), axis=1)[:, :1]][:, 0]
    np.testing.assert_array_equal(by_neighbours(vectors, labels, queries, k=1), near)


def test_more_labels_help_and_unlabelled_objects_take_no_part():
    train, labels = clusters(noise=1.2)
    test, truth = clusters(noise=1.2, seed=1)
    one = few_shot(train, labels, test, truth, 1)
    everything = few_shot(train, labels, test, truth, None)
    for method in ("centroid", "nearest", "5 neighbours", "linear probe"):
        assert one[method]["accuracy"] < everything[method]["accuracy"]
        assert everything[method]["accuracy_sd"] == 0 < one[method]["accuracy_sd"]
    hidden = np.where(np.arange(len(labels)) % 2, labels, UNLABELLED)
    half = few_shot(train[1::2], labels[1::2], test, truth, None)
    assert few_shot(train, hidden, test, truth, None) == half
    rows = drawn(labels, 5, 0)
    assert np.bincount(labels[rows]).tolist() == [5, 5, 5] and len(set(rows)) == 15
    assert len(drawn(labels, 1000, 0)) == len(labels)


def test_ranks_by_hand():
    queries = np.array([[1, 0], [0, 1], [1, 1.0]])
    found = np.array([[1, 0.1], [1, 0.2], [0, 1.0]])
    # Own cosine: the largest for query 0, behind the third for query 1, the smallest for query 2.
    assert ranks(queries, found).tolist() == [1, 2, 3]
    same = np.ones((4, 2))
    assert ranks(same, same).tolist() == [4] * 4  # ties count against


def test_retrieval_over_the_objects_that_have_both():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 6))
    there = {"photometry": np.arange(50) < 40, "spectra": np.arange(50) >= 10}
    found = retrieval(embeddings({"photometry": a, "spectra": a + 0.01}, np.zeros(50, int), there))
    assert found["photometry -> spectra"]["n"] == 30 and found["photometry -> spectra"]["recall@1"] == 1
    assert found["photometry -> spectra"]["median_rank"] == 1
    shuffled = retrieval(embeddings({"photometry": a, "spectra": a[rng.permutation(50)]}, np.zeros(50, int)))
    assert shuffled["photometry -> spectra"]["recall@10"] < 0.5


def test_distances_and_swapped_labels():
    vectors, labels = clusters()
    wrong = labels.copy()
    swapped = np.zeros(len(labels), bool)
    swapped[[3, 50, 100]] = True
    wrong[swapped] = (wrong[swapped] + 1) % 3
    objects = embeddings({"photometry": vectors}, wrong)
    found = distances(objects, "photometry")
    assert (found["own"][swapped] > found["other"][swapped]).all()
    assert (found["nearest"][swapped] == labels[swapped]).all()
    for score in suspicion(objects, "mean").values():
        found = found_swapped(score, swapped)
        assert found["recall@n"] == 1 and found["average_precision"] == 1 and found["chance"] == 3 / 120
        worst = found_swapped(-score, swapped)
        assert worst["recall@n"] == 0 and worst["average_precision"] < 0.1
    lacking = embeddings({"photometry": vectors}, wrong, {"photometry": np.arange(len(labels)) != 3})
    assert np.isnan(distances(lacking, "photometry")["own"][3])
    assert np.isnan(suspicion(lacking, "photometry")["neighbours"]).tolist() == [i == 3 for i in range(len(labels))]


def test_swapped_labels_are_found_better_than_by_chance_where_classes_overlap():
    vectors, labels = clusters(noise=1.0)
    swapped = np.random.default_rng(3).random(len(labels)) < 0.1
    objects = embeddings({"photometry": vectors}, np.where(swapped, (labels + 1) % 3, labels))
    for score in suspicion(objects, "photometry").values():
        found = found_swapped(score, swapped)
        assert found["average_precision"] > 3 * found["chance"] and found["recall@n"] > 3 * found["chance"]


def test_average_precision_by_hand():
    assert average_precision(np.array([3.0, 2, 1, 0]), np.array([True, False, True, False])) == pytest.approx(5 / 6)
    assert average_precision(np.array([1.0, 1, 1, 1]), np.array([True, False, False, False])) == 0.25  # no luck in ties
    last = average_precision(np.array([3.0, np.nan]), np.array([False, True]))
    assert last == 0.5 and np.isnan(average_precision(np.array([1.0]), np.array([False])))


def test_distances_by_hand():
    vectors = np.array([[1, 0], [0, 1], [3, 0], [0, 2.0]])
    found = distances(embeddings({"photometry": vectors}, [0, 0, 1, 2]), "photometry")
    # The centroid of class 0 is along (1, 1): cosine 0.7071 with both of its objects.
    np.testing.assert_allclose(found["own"], [1 - 0.5**0.5, 1 - 0.5**0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found["other"], [0, 0, 1 - 0.5**0.5, 1 - 0.5**0.5], atol=1e-12)
    assert found["nearest"].tolist() == [1, 2, 0, 0]


def test_disagreement_by_hand():
    angles = np.radians([0, 10, 20, 90, 100])
    objects = embeddings({"photometry": np.column_stack([np.cos(angles), np.sin(angles)])}, [0, 1, 0, 1, UNLABELLED])
    # The two nearest others, the object itself and the one without label left out.
    found = disagreement(objects, "photometry", k=2)
    np.testing.assert_array_equal(found, [0.5, 1.0, 0.5, 0.5, np.nan])


def test_calibration_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    found = calibration(probabilities, labels)
    assert found["ece"] == pytest.approx((2 * abs(0.5 - 0.9) + 2 * abs(1 - 0.6)) / 4)
    assert found["brier"] == pytest.approx((2 * 0.01 + 2 * 0.81 + 4 * 0.16) / 4)
    assert found["nll"] == pytest.approx(-np.log([0.9, 0.1, 0.6, 0.6]).mean())
    assert reliability(probabilities, labels)["count"].sum() == 4
    assert reliability(np.array([[1.0, 0.0]]), np.array([0]))["count"][-1] == 1


def test_the_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (honest.cumsum(1) > rng.random(4000)[:, None]).argmax(1)
    bold = tempered(honest, 1 / 3)
    found = temperature(bold, labels)
    assert found == pytest.approx(3, rel=0.15)
    assert calibration(tempered(bold, found), labels)["ece"] < calibration(bold, labels)["ece"] / 3


def test_comparison_by_hand():
    labels = np.zeros(20, int)
    first = np.array([0] * 10 + [1] * 10)
    second = np.array([0] * 10 + [0] * 8 + [1] * 2)
    found = compare(first, second, labels)
    assert (found["only_first"], found["only_second"]) == (0, 8) and found["difference"] == pytest.approx(0.4)
    assert found["p"] == pytest.approx(2 * 0.5**8) and 0 < found["low"] < 0.4 < found["high"]
    assert compare(first, first, labels)["p"] == 1


def test_predictions_without_a_head_are_by_centroids():
    vectors, labels = clusters()
    train = embeddings({"photometry": vectors}, labels)
    query, truth = clusters(seed=4)
    there = {"photometry": np.arange(len(truth)) != 0}
    found = predicted_names(embeddings({"photometry": query}, truth, there), train)
    assert found[0] == "" and (found[1:] == np.array(["a", "b", "c"])[truth[1:]]).all()


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_zero_shot_is_as_good_as_the_spaces_are_aligned():
    a, labels = clusters()
    rng = np.random.default_rng(1)
    turned = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    aligned = embeddings({"photometry": a, "spectra": a + 0.01 * rng.normal(size=a.shape)}, labels)
    apart = embeddings({"photometry": a, "spectra": -a @ turned}, labels)
    assert zero_shot(aligned, aligned)["photometry"]["spectra"]["accuracy"] > 0.95
    assert zero_shot(apart, apart)["photometry"]["spectra"]["accuracy"] < 0.8
    assert zero_shot(apart, apart)["spectra"]["spectra"]["accuracy"] > 0.95


def trimodal(seed=0):
    torch.manual_seed(seed)
    encoders = {m: MetadataMLP(input_dim=3, hidden_dim=4, dropout=0.0) for m in ("photometry", "spectra")}
    return MultimodalClassifier(MultimodalModel(encoders, hidden_dim=6), num_classes=3).eval()


def test_the_head_is_given_the_mean_of_the_chosen_modalities():
    network = trimodal()
    rng = np.random.default_rng(0)
    vectors = {m: rng.normal(size=(9, 6)).astype(np.float32) for m in ("photometry", "spectra")}
    there = {"photometry": np.ones(9, bool), "spectra": np.arange(9) > 2}
    vectors["spectra"][:3] = 0
    objects = embeddings(vectors, np.arange(9) % 3, there)
    weight, bias = (p.detach().numpy() for p in network.head.parameters())

    def by_hand(means):
        logits = means @ weight.T + bias
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    both = np.where(there["spectra"][:, None], (vectors["photometry"] + vectors["spectra"]) / 2, vectors["photometry"])
    np.testing.assert_allclose(
        through_head(network, objects, ["photometry"]), by_hand(vectors["photometry"]), atol=1e-6
    )
    np.testing.assert_allclose(through_head(network, objects, list(there)), by_hand(both), atol=1e-6)
    found = ablation(network, objects)
    assert {k: v["n"] for k, v in found.items()} == {"photometry": 9, "spectra": 6, "photometry + spectra": 9}
    right = by_hand(vectors["spectra"])[3:].argmax(1) == np.arange(3, 9) % 3
    assert found["spectra"]["accuracy"] == pytest.approx(right.mean())
    own = embeddings(vectors, np.arange(9) % 3, there, through_head(network, objects, list(there)))
    check(network, own)
    with pytest.raises(UserError, match="not made by this model"):
        check(trimodal(seed=1), own)


def test_scores_and_columns_of_the_published_ablation():
    found = scores(np.array([0, 0, 1, 2]), np.array([0, 0, 0, 2]), ("a", "b", "c"))
    assert found["accuracy"] == 0.75 and found["recall"] == pytest.approx({"a": 2 / 3, "c": 1.0})
    assert found["macro_recall"] == pytest.approx(5 / 6)
    assert [published_column(c) for c in ("photometry", "spectra + metadata", "photometry + metadata")] == [0, 4, 5]
    assert published_column("photometry + spectra + metadata") == 6 and published_column("images") is None


def test_attention_measured_by_hand():
    labels, reference = np.array([0, 1, 1, 0]), np.array([0, 1, 1, 1])
    first, second = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 1])
    vectors = np.eye(4)
    found = measure(labels, [first, second], [vectors, vectors[::-1]], reference, vectors)
    assert found["accuracy"] == pytest.approx(0.75) and found["accuracy_sd"] == pytest.approx(0.5 * 0.5**0.5)
    assert found["flipped"] == pytest.approx(0.25) and found["flipped_between"] == pytest.approx(0.5)
    assert found["cosine"] == pytest.approx(0.5) and found["draws"] == 2


def test_kinds_of_attention_are_applied_and_undone():
    torch.manual_seed(0)
    encoder = InformerEncoder(d_model=16, d_ff=16, e_layers=2, seq_len=50, evaluation="fixed").eval()
    network = Classifier(encoder, num_classes=3).eval()
    model = TrainedModel("made up", network, ("a", "b", "c"), None)
    batch = {"photometry": 3 * torch.randn(20, 50, 9), "mask": torch.ones(20, 50)}

    def embed():
        found = model.encode(batch)
        return embeddings({"photometry": found.embeddings["photometry"]}, np.zeros(20, int), None, found.probabilities)

    before = embed().vectors["photometry"]
    kinds = {
        (e, m): outputs(model, embed, e, m, 3) for e in ("fixed", "sampled", "full") for m in ("published", "usual")
    }
    assert [len(k) for k in kinds.values()] == [1, 1, 3, 3, 1, 1]
    draws = [e.vectors["photometry"] for e in kinds["sampled", "published"]]
    assert not np.array_equal(draws[0], draws[1])
    again = outputs(model, embed, "sampled", "published", 3)  # the same draws again
    np.testing.assert_array_equal(draws[2], again[2].vectors["photometry"])
    np.testing.assert_array_equal(kinds["fixed", "published"][0].vectors["photometry"], before)
    assert not np.allclose(kinds["fixed", "usual"][0].vectors["photometry"], before)
    usual = InformerEncoder(d_model=16, d_ff=16, e_layers=2, seq_len=50, evaluation="full", head_merge="usual").eval()
    usual.load_state_dict(encoder.state_dict())
    other = TrainedModel("made up", Classifier(usual, num_classes=3).eval(), ("a", "b", "c"), None).encode(batch)
    full = kinds["full", "usual"][0].vectors["photometry"]
    np.testing.assert_allclose(full, other.embeddings["photometry"], atol=1e-5)
    with pytest.raises(RuntimeError, match="stop"), attending(model, "full", "usual"):
        raise RuntimeError("stop")
    assert encoder.evaluation == "fixed" and encoder.layers[1].attention.head_merge == "published"
    np.testing.assert_array_equal(embed().vectors["photometry"], before)
