"""Facts about the groups of like curves that pre-training tells, and the pieces that features are cut into."""

from __future__ import annotations

import pytest
import torch

from astrom3.encoders.ring import Pieces, VariabilityEncoder
from astrom3.errors import UserError
from astrom3.modalities.variability import COUNT, NAMES
from astrom3.tasks.grouping import LEFT_OUT, Ranks, draw_groupings, k_means, measured, numbers_of_groups


def test_ranks_are_normal_scores_whatever_the_unit_and_equal_values_share_one():
    values = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    ranks = Ranks(values.sort(dim=0).values)
    scores = ranks(values)
    assert abs(float(scores.mean())) < 0.02 and abs(float(scores.std()) - 1) < 0.02
    stretched = Ranks((values.exp()).sort(dim=0).values)
    torch.testing.assert_close(stretched(values.exp()), scores)
    flat = Ranks(torch.zeros(9, 1))
    assert flat(torch.zeros(3, 1)).abs().max() < 1e-6
    assert float(ranks(torch.tensor([[1e9]]))) == 3.0


def test_k_means_finds_far_clusters_and_new_curves_get_their_groups():
    generator = torch.Generator().manual_seed(3)
    places = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    points = (places[:, None] + 0.1 * torch.randn(3, 40, 2, generator=generator)).flatten(0, 1)
    for seed in range(20):
        centres = k_means(points, 3, torch.Generator().manual_seed(seed))
        if (torch.cdist(places, centres).amin(1) < 0.2).all():
            break
    else:
        pytest.fail("no start of twenty found the three clusters")
    groups = numbers_of_groups(points, [(torch.tensor([0, 1]), centres)])
    assert groups.shape == (120, 1) and len(set(groups.flatten().tolist())) == 3


def test_groupings_are_those_of_their_seed_and_read_nothing_that_tells_nothing():
    scores = torch.randn(200, COUNT, generator=torch.Generator().manual_seed(1))
    one, two, other = (draw_groupings(scores, 12, 4, seed) for seed in (5, 5, 6))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))
    read = {NAMES[k] for columns, _ in one for k in columns.tolist()}
    assert not read & set(LEFT_OUT) and "log_period" in read


def test_pieces_add_up_to_the_value_itself():
    pieces = Pieces(2, 12)
    values = torch.tensor([[-1.3, 0.4], [0.0, 2.0]])
    widths = pieces.log_width.exp()
    told = (pieces(values).view(2, 2, 12) * widths).sum(2) + pieces.begin[:, 0]
    torch.testing.assert_close(told, values)
    assert VariabilityEncoder(out_features=8, steps=12)(torch.randn(4, COUNT)).shape == (4, 8)


def test_streamed_data_are_refused():
    with pytest.raises(UserError, match="streamed data"):
        measured(object())
