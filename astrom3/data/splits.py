"""Who is in which split: 80/10/10 by seed, not stratified, and the class-capped subsets sub50, sub25 and sub10.

A subset caps every class at one common threshold, separately in train, validation and test, so that its total comes
close to n/2, n/4, n/10. Which objects of a class stay is drawn from the seed, and nested: sub10 is within sub25,
within sub50, within full.

Two further protocols need no files, because they follow from ids, labels and seed wherever a full split is known:
`shot20` keeps 20 labels per class in train, nested for growing numbers, and `fold1of3` makes three stratified folds
(Donoso-Oliva et al. 2023, A&A 670, A54, section 3.5, use both). `shot20-fold1of3` is a name of both together.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from astrom3.draws import draw
from astrom3.errors import UserError
from astrom3.modalities.schema import SPLITS, SUB_FRACTION

SHOTS = 5  # purposes of draws, beside those of sampler.py and streaming.py
FOLDS = 6
SHOTS_PER_VALIDATION = 4  # labels per class in train for one in validation: the 80/20 of the ASTROMER papers
FOLD_VALIDATION = 5  # of the objects of a fold that are not tested, one in so many validates
PROTOCOL = re.compile(r"(?:shot(?P<shots>\d+)|(?P<subset>.+?))(?:-fold(?P<fold>\d+)of(?P<folds>\d+))?")
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

    low = 1  # every class keeps at least one object
    high = int(sizes[-1])
    while low < high:
        middle = (low + high + 1) // 2
        if total(middle) <= target:
            low = middle
        else:
            high = middle - 1

    return low


def cap_subset(labels: Sequence[str | None] | np.ndarray, fraction: int, seed: int = 0) -> np.ndarray:
    """Ascending indices of the objects that stay when the classes are capped to about n / fraction in total.

    `labels` of one split; None (unlabelled) never stays in a subset, and n counts labelled objects only. With
    fraction 1 everything stays, unlabelled objects too.
    """
    names = np.asarray(labels, dtype=object)
    if fraction == 1:
        return np.arange(len(names))
    labelled = np.flatnonzero(names != np.array(None))
    if not len(labelled):
        return labelled
    _, ids = np.unique(names[labelled].astype(str), return_inverse=True)
    counts = np.bincount(ids)
    cap = class_cap(counts.tolist(), len(labelled) / fraction)
    order = np.random.default_rng([seed, len(names)]).permutation(len(labelled))
    keep = [order[ids[order] == number][:cap] for number in range(len(counts))]
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


@dataclass(frozen=True)
class Protocol:
    """Which objects a run takes: a subset or `shots` labels per class, of the data set's own split or of one fold.

    subset: full, sub50, sub25, sub10, or another for which the data set has a file. fold: 1 ... folds, None without.
    """

    subset: str = "full"
    shots: int | None = None
    fold: int | None = None
    folds: int = 3

    def __post_init__(self) -> None:
        if self.shots == 0:
            raise UserError("shots=0 leaves no labels: give the number of labels per class, such as shots=20.")
        if self.fold is None:
            return
        if self.folds < 2:
            raise UserError(f"folds={self.folds} is no cross-validation: there must be two or more.")
        if not 1 <= self.fold <= self.folds:
            raise UserError(f"fold={self.fold} does not exist: the {self.folds} folds are numbered 1 to {self.folds}.")

    @classmethod
    def parse(cls, name: str) -> Protocol:
        """The protocol of a name such as full, sub10, shot20 or shot100-fold1of3."""
        found = PROTOCOL.fullmatch(name)
        if found is None:
            raise UserError(f"sub={name!r} is no subset: choose full, sub50, sub25, sub10 or shot20.")
        shots = found["shots"]
        fold = found["fold"]
        return cls(
            found["subset"] or "full",
            None if shots is None else int(shots),
            None if fold is None else int(fold),
            3 if fold is None else int(found["folds"]),
        )

    @property
    def name(self) -> str:
        """What `parse` reads; part of the names of run folders."""
        subset = self.subset if self.shots is None else f"shot{self.shots}"
        return f"{subset}-{self.fold_name}" if self.fold is not None else subset

    @property
    def fold_name(self) -> str:
        """fold1of3, or nothing without a fold."""
        return "" if self.fold is None else f"fold{self.fold}of{self.folds}"

    @property
    def base(self) -> str:
        """The subset of the data set that this is made of."""
        return self.subset if self.shots is None and self.fold is None else "full"


def id_keys(ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """A hash of every id, (n,) uint64: what is drawn by it does not depend on the order of the objects."""
    digests = []
    for name in ids:
        digests.append(hashlib.blake2b(str(name).encode(), digest_size=8).digest())
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def ranks_in_class(labels: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Place of every object within its class (n,), 0 for the smallest key. labels: ids of classes (n,) int64."""
    order = np.lexsort((keys, labels))
    ordered = labels[order]
    first = np.searchsorted(ordered, ordered, side="left")
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - first
    return ranks


def shot_members(labels: np.ndarray, ids: Sequence[str] | np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Ascending places of at most `shots` objects per class; more shots keep those of fewer shots.

    labels: ids of classes (n,) int64; objects without a label (negative ids) never stay.
    """
    keys = draw(seed, 0, SHOTS, id_keys(ids))
    return np.flatnonzero((ranks_in_class(labels, keys) < shots) & (labels >= 0))


def fold_splits(labels: np.ndarray, ids: Sequence[str] | np.ndarray, fold: int, folds: int, seed: int) -> np.ndarray:
    """Split name of each object, (n,) of str, where part number `fold` of `folds` equal parts is tested.

    Every object is tested in exactly one fold. The parts share out each class evenly, objects without a label too. Of
    the objects that are not tested, one in five of each class validates and the rest trains. labels: ids of classes
    (n,) int64.
    """
    keys = draw(seed, 0, FOLDS, id_keys(ids))
    order = np.lexsort((keys, labels))  # class after class, each in a drawn order
    part = np.empty(len(labels), dtype=np.int64)
    part[order] = np.arange(len(labels)) % folds
    tested = part == fold - 1
    names = np.where(tested, SPLITS[2], SPLITS[0]).astype("<U10")
    rest = np.flatnonzero(~tested)
    ranks = ranks_in_class(labels[rest], keys[rest])
    names[rest[ranks % FOLD_VALIDATION == FOLD_VALIDATION - 1]] = SPLITS[1]
    if len(rest) > 1 and not (names == SPLITS[1]).any():
        names[rest[ranks.argmax()]] = SPLITS[1]  # only classes of fewer than five: one object of the largest
    return names
