"""Maps of embeddings that are degenerate, or of files that do not belong together, in a page and in a large map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_files import write_ours
from made_up_embeddings import clusters
from small_models import rows_with_gaps

from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.explore import raster
from astrom3.explore.__main__ import explore
from astrom3.explore.stored_map import StoredMap
from astrom3.inference.embeddings import MEAN, Embeddings

pytestmark = pytest.mark.slow

CLASSES = ("a", "b", "c")
KINDS = {"page": "one_file=1000", "large map": "one_file=10"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    return write_ours(tmp_path_factory.mktemp("maps") / "survey", rows_with_gaps(60))


def part(first: int = 0, width: int = 4, names: tuple[str, ...] = ("photometry",), heads: int = 0) -> Embeddings:
    """Thirty objects of three classes."""
    vectors, labels = clusters(per_class=10, width=width)
    ids = np.array([f"star {first + number}" for number in range(30)])
    of_all = dict.fromkeys((*names, MEAN), vectors.astype(np.float32))
    present = {name: np.ones(30, bool) for name in names}
    odds = np.full((30, heads), 1 / heads, np.float32) if heads else None
    return Embeddings(ids, labels, np.full(30, "train"), present, of_all, odds, CLASSES, "made up")


def with_vectors(vectors: np.ndarray) -> Embeddings:
    whole = part()
    return replace(whole, vectors={name: vectors.astype(np.float32) for name in whole.vectors})


def shown(place: Path, survey: Path, parts: list[Embeddings], *options: str) -> None:
    for number, some in enumerate(parts):
        some.write(place / "embeddings" / f"train-{number:05d}.parquet")
    given = [f"embeddings={place}/embeddings", "data=local", f"data.path={survey}", f"out={place}/map.html"]
    explore(compose([*given, "map=pca", *options], "explore"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("second", "words"), [
    (part(30), ""),
    (part(30).take(np.arange(0)), ""),
    (part(30, width=5), "are embeddings of different models"),
    (replace(part(30), classes=("c", "b", "a")), "are embeddings of different models"),
    (replace(part(30), model="other"), "are embeddings of different models"),
    (part(30, names=("spectra",)), "are embeddings of different models"),
    (part(30, names=("photometry", "spectra")), "are embeddings of different models"),
    (part(30, heads=3), "are embeddings of different models"),
    (part(15), "twice"),
])  # fmt: skip
def test_files_of_one_folder_belong_together(tmp_path, survey, kind, second, words):
    if not words:
        shown(tmp_path, survey, [part(), second], KINDS[kind])
        return
    with pytest.raises(UserError, match=words):
        shown(tmp_path, survey, [part(), second], KINDS[kind])
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("one", [
    with_vectors(np.zeros((30, 4))), with_vectors(np.ones((30, 4))), with_vectors(1e15 * clusters(10)[0]),
    with_vectors(np.where(np.arange(30)[:, None] < 10, 0, clusters(10)[0])), part(width=1),
    replace(part(), labels=np.full(30, -1)), replace(part(), present={"photometry": np.zeros(30, bool)}),
    replace(part(), classes=(*CLASSES, *map(str, range(2000)))),
])  # fmt: skip
def test_degenerate_embeddings_have_a_map(tmp_path, survey, kind, one):
    shown(tmp_path, survey, [one], KINDS[kind])
    if kind == "page":
        assert "nan%" not in (tmp_path / "map.html").read_text()
        return
    stored = StoredMap(tmp_path / "map.map")
    assert "nan" not in stored.about["how"]
    counts = raster.counted(stored, np.arange(30), "label", stored.about["bounds"], 64, 0.0)
    assert counts.sum() == 30 and len(counts) <= 11


@pytest.mark.parametrize(("change", "options", "words"), [
    ({"ids": np.array([f"x{n}" for n in range(30)])}, [], r"embedded objects (\(first: 'x0'\) )?is in survey"),
    ({"vectors": {name: 1e37 * vectors for name, vectors in part().vectors.items()}}, [], "not finite, or too large"),
    ({"splits": np.full(30, "holdout")}, [], "splits"),
    ({"splits": np.array(["train"] * 3 + ["test"] * 27)}, ["fit=train"], "at least 10|use fit=all"),
])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_asked_for_is_there(tmp_path, survey, kind, change, options, words):
    with pytest.raises(UserError, match=words):
        shown(tmp_path, survey, [replace(part(), **change)], KINDS[kind], *options)
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings"]
