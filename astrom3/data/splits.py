"""Who is in which split: 80/10/10 by seed, not stratified, and the class-capped subsets sub50, sub25 and sub10.

A subset caps every class at one common threshold, separately in train, validation and test, so that its total comes
close to n/2, n/4, n/10. Which objects of a class stay is drawn from the seed, and nested: sub10 is within sub25,
within sub50, within full.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from astrom3.data.schema import SPLITS, SUB_FRACTION
from astrom3.errors import UserError

FRACTIONS = (0.8, 0.1, 0.1)
CAP_TOLERANCE = 0.05  # how far below its target the published cap may leave a subset, see class_cap


def check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Three positive shares of train, validation and test that sum to 1, or a UserError."""
    shares = tuple(float(f) for f in fractions)
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise UserError(
            f"split_fractions={list(shares)} must be three positive shares (train, validation, test) that sum to 1, "
            "such as [0.8,0.1,0.1]."
        )
    return shares[0], shares[1], shares[2]


def split_80_10_10(n: int, seed: int, fractions: Sequence[float] = FRACTIONS) -> np.ndarray:
    """Split name of each of n objects, (n,) of str; the same n and seed give the same splits.

    Validation and test hold at least one object each as soon as there are three.
    """
    shares = check_fractions(fractions)
    n_validation, n_test = (max(round(n * share), 1) for share in shares[1:])
    if n < 3:
        n_validation = n_test = 0
    elif n_validation + n_test >= n:
        n_validation = n_test = 1
    order = np.random.default_rng([seed, n]).permutation(n)
    names = np.full(n, SPLITS[0], dtype="<U10")
    names[order[:n_validation]] = SPLITS[1]
    names[order[n_validation : n_validation + n_test]] = SPLITS[2]
    return names


def class_cap(counts: Sequence[int], target: float) -> int:
    """Largest number of objects any class may keep so that the total comes close to `target`.

    The published thresholds (1209/516/166 in train, 149/64/21, 160/69/22) follow from one rule: keep the k smallest
    classes whole, share the rest of the target among the others, and take the first k >= 1 for which that share does
    not exceed the next class. The smallest class is always counted whole, even where it is capped in the end: so the
    train part of sub10 has 1660 objects and not 1700. With few or balanced classes that rule would leave far too few
    objects; where it misses the target by more than 5%, the cap is the largest one whose total stays within it.
    """
    sizes = np.sort(np.asarray([c for c in counts if c > 0], dtype=np.int64))
    if not len(sizes):
        return 0

    def total(cap: int) -> int:
        return int(np.minimum(sizes, cap).sum())

    for k in range(1, len(sizes)):
        cap = int((target - sizes[:k].sum()) // (len(sizes) - k))
        if cap <= sizes[k]:
            if target * (1 - CAP_TOLERANCE) <= total(cap) <= target:
                return cap
            break
    low, high = 1, int(sizes[-1])  # every class keeps at least one object
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= target else (low, middle - 1)
    return low


def cap_subset(labels: Sequence[str | None] | np.ndarray, fraction: int, seed: int = 0) -> np.ndarray:
    """Ascending indices of the objects that stay when the classes are capped to about n / fraction in total.

    `labels` of one split; None (unlabelled) never stays in a subset, and n counts labelled objects only. With
    fraction 1 everything stays, unlabelled objects too.
    """
    names = np.asarray(labels, dtype=object)
    if fraction == 1:
        return np.arange(len(names))
    labelled = np.array([i for i, label in enumerate(names) if label is not None], dtype=np.int64)
    if not len(labelled):
        return labelled
    _, ids = np.unique(names[labelled].astype(str), return_inverse=True)
    counts = np.bincount(ids)
    cap = class_cap(counts.tolist(), len(labelled) / fraction)
    order = np.random.default_rng([seed, len(names)]).permutation(len(labelled))
    keep = [members[:cap] for c in range(len(counts)) if len(members := order[ids[order] == c])]
    return np.sort(labelled[np.concatenate(keep)])


def make_splits(
    labels: Sequence[str | None], sub: str, seed: int, fractions: Sequence[float] = FRACTIONS
) -> np.ndarray:
    """Split name of every object, "" for those outside the subset; (n,) of str."""
    names = split_80_10_10(len(labels), seed, fractions)
    objects = np.asarray(labels, dtype=object)
    result = np.full(len(names), "", dtype=names.dtype)
    for split in SPLITS:
        members = np.flatnonzero(names == split)
        chosen = members[cap_subset(objects[members], SUB_FRACTION[sub], seed)]
        result[chosen] = split
    return result
