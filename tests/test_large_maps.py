"""Maps of more objects than one file holds: tiles, filters and objects from a real server, in a real browser."""

import io
import json

import httpx
import numpy as np
import pytest
from browser import Browser, executable
from data_files import write_ours
from PIL import Image
from serving import server
from small_models import rows_with_gaps

from astrom3.analyse.outliers import distances, ranking
from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.explore import raster
from astrom3.explore.__main__ import explore
from astrom3.explore.projecting import SAMPLE, pca
from astrom3.explore.stored_map import Shown, StoredMap
from astrom3.inference.embeddings import MEAN, Embeddings
from astrom3.modalities.schema import CLASSES

pytestmark = pytest.mark.slow

pytest.importorskip("uvicorn", reason="serving needs astrom3[serve]")
N = 60_000
REAL = 90  # of them are in the data set
WIDTH = 16


def made_up(first, last):
    """Ten clouds of embeddings; every thirteenth object has no label, every fifth no spectrum."""
    draws = np.random.default_rng(first)
    numbers = np.arange(first, last)
    cloud = numbers % len(CLASSES)
    labels = np.where(numbers % 13 == 4, -1, cloud)
    centres = 3 * np.random.default_rng(0).normal(size=(len(CLASSES), WIDTH))
    vectors = (centres[cloud] + draws.normal(size=(len(numbers), WIDTH))).astype(np.float32)
    present = {"photometry": np.ones(len(numbers), bool), "spectra": numbers % 5 != 2}
    spectra = np.where(present["spectra"][:, None], vectors[:, ::-1], 0).astype(np.float32)
    probabilities = draws.dirichlet(np.ones(len(CLASSES)), len(numbers)).astype(np.float32)
    ids = np.array([f"star {i}" for i in numbers])
    splits = np.where(numbers % 4 == 0, "test", "train")
    vectors_of = {"photometry": vectors, "spectra": spectra, MEAN: vectors}
    return Embeddings(ids, labels, splits, present, vectors_of, probabilities, CLASSES, "made up")


@pytest.fixture(scope="module")
def embeddings():
    return made_up(0, N)


@pytest.fixture(scope="module")
def place(tmp_path_factory, embeddings):
    """A survey of 90 objects, embeddings of 60,000 in three files, and their map."""
    root = tmp_path_factory.mktemp("large")
    write_ours(root / "survey", rows_with_gaps(REAL))
    for k in range(3):
        rows = np.arange(k * N // 3, (k + 1) * N // 3)
        embeddings.take(rows).write(root / "embeddings" / f"train-{k:05d}.parquet")
    explore(compose(options(root), "explore"))
    return root


def options(root, *more):
    return [f"embeddings={root}/embeddings", "data=local", f"data.path={root}/survey", "map=pca",
            f"out={root}/explore.html", *more]  # fmt: skip


@pytest.fixture(scope="module")
def stored(place):
    return StoredMap(place / "explore.map")


@pytest.fixture(scope="module")
def address(place, tmp_path_factory):
    output = tmp_path_factory.mktemp("served") / "log"
    with server("explore", options(place, "serve=true"), output) as (found, _):
        yield found
    said = output.read_text()
    assert "holds this map already" in said and "Traceback" not in said


@pytest.fixture(scope="module")
def browser():
    executable()
    with Browser() as one:
        yield one


@pytest.fixture(scope="module")
def rows(stored, embeddings):
    """Row of the map of each embedding."""
    place = {name: row for row, name in enumerate(stored.ids.to_pylist())}
    return np.array([place[name] for name in embeddings.ids.tolist()])


def test_every_column_is_that_of_the_embeddings(stored, embeddings, rows):
    assert len(stored) == N
    np.testing.assert_array_equal(stored.columns["label"][rows], embeddings.labels)
    np.testing.assert_array_equal(stored.columns["predicted"][rows], embeddings.predicted)
    np.testing.assert_array_equal(np.array(stored.about["splits"])[stored.columns["split"][rows]], embeddings.splits)
    assert (stored.columns["table"][rows[:REAL]] == 0).all() and (stored.columns["table"][rows[REAL:]] == -1).all()
    for name in embeddings.vectors:
        expected = distances(embeddings, name)
        np.testing.assert_allclose(stored.columns[f"own-{name}"][rows], expected["own"], atol=1e-5)
        np.testing.assert_allclose(stored.columns[f"other-{name}"][rows], expected["other"], atol=1e-5)
    sample = np.random.default_rng(0).random(N) * N < SAMPLE
    project, _ = pca(embeddings.vectors[MEAN][sample & (embeddings.splits == "train")])
    assert np.abs(stored.columns["xy"][rows] - project(embeddings.vectors[MEAN])).max() < 1e-3
    assert "training objects" in stored.about["how"]


def test_a_part_of_the_map_holds_the_objects_that_lie_there(stored):
    xy = np.asarray(stored.columns["xy"])
    left, lower = np.quantile(xy, 0.4, axis=0)
    right, upper = np.quantile(xy, 0.5, axis=0)
    inside = (xy >= [left, lower]).all(1) & (xy <= [right, upper]).all(1)
    found = stored.window(left, lower, right, upper)
    assert set(np.flatnonzero(inside)) <= set(found.tolist()) and len(found) < 3 * inside.sum()
    assert len(stored.window(1e6, 1e6, 2e6, 2e6)) == 0


def test_tiles_hold_every_object_once(stored):
    """Four tiles of zoom 1 are the tile of zoom 0, and no object is lost."""
    left, lower, side = stored.about["bounds"]
    whole = raster.counted(stored, np.arange(N), "label", (left, lower, side), 512, 0)
    assert whole.sum() == N
    np.testing.assert_array_equal(
        whole.sum((1, 2)), np.bincount(np.asarray(stored.columns["label"], int) % (len(CLASSES) + 1))
    )
    half = side / 2
    upper_right = raster.counted(stored, np.arange(N), "label", (left + half, lower + half, half), 256, 0)
    np.testing.assert_array_equal(upper_right, whole[:, :256, 256:])


def test_a_tile_is_coloured_by_the_classes_that_pass(stored):
    every = pixels(raster.tile(stored, 0, 0, 0, "label", Shown()))
    hidden = frozenset(range(-1, len(CLASSES))) - {CLASSES.index("EW")}
    alone = pixels(raster.tile(stored, 0, 0, 0, "label", Shown(hidden=hidden)))
    assert 0 < (alone[..., 3] > 0).sum() < (every[..., 3] > 0).sum()
    np.testing.assert_array_equal(
        alone[alone[..., 3] > 0][:, :3], np.tile([63, 144, 218], ((alone[..., 3] > 0).sum(), 1))
    )
    assert not pixels(raster.tile(stored, 0, 0, 0, "label", Shown(hidden=frozenset(range(-1, 10)))))[..., 3].any()


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


def test_neighbours_and_outliers_are_exact(stored, embeddings, rows):
    vectors = embeddings.vectors["spectra"].astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    for number in (0, 41, 59_999):
        cosine = vectors @ vectors[number]
        cosine[[number, *np.flatnonzero(~embeddings.present["spectra"])]] = -np.inf
        found, similar = stored.near(rows[number], "spectra", "spectra", 5)
        np.testing.assert_allclose(similar, np.sort(cosine)[::-1][:5], atol=1e-6)
        assert set(found.tolist()) == set(rows[np.argsort(-cosine)[:5]].tolist())
    assert len(stored.near(rows[2], "spectra", "spectra", 5)[0]) == 0  # it has none
    listed, known = stored.outliers(MEAN, "own", Shown(), 50)
    order = ranking(distances(embeddings, MEAN)["own"])
    assert known == len(order) and listed[:5] == rows[order[:5]].tolist()


def test_a_second_call_makes_nothing_again_and_foreign_folders_are_left_alone(place, tmp_path):
    before = (place / "explore.map" / "map.json").stat().st_mtime_ns
    explore(compose(options(place), "explore"))
    assert (place / "explore.map" / "map.json").stat().st_mtime_ns == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not of astrom3 explore"):
        explore(compose([*options(place), f"out={tmp_path}/mine"], "explore"))
    with pytest.raises(UserError, match="limit=55000 is more than fits"):
        explore(compose(options(place, "limit=55000"), "explore"))
    with pytest.raises(UserError, match="fits into a file"):
        explore(compose(options(place, "limit=100", "serve=true", f"out={tmp_path}/page.html"), "explore"))


@pytest.mark.parametrize(
    "path, status",
    [
        ("/tiles/0/0/0.png?by=label", 200),
        ("/tiles/3/1/2.png?by=predicted&hide=1,2&wrong=1", 200),
        ("/tiles/0/1/0.png", 404),
        ("/tiles/99/0/0.png", 404),
        ("/tiles/0/0/0.png?by=row", 400),
        ("/tiles/0/0/0.png?hide=x", 400),
        ("/hit?x=1", 400),
        ("/object/60000", 404),
        ("/object/x", 404),
        ("/outliers?of=nothing", 404),
        ("/../../etc/passwd", 404),
    ],
)
def test_paths_of_the_server(address, path, status):
    answer = httpx.get(address + path, trust_env=False, timeout=60)
    assert answer.status_code == status
    assert answer.headers["content-type"] == ("image/png" if status == 200 else "application/json")


def test_pages_of_other_names_cannot_ask(address):
    answer = httpx.get(f"{address}/object/1", headers={"Host": "evil.example"}, trust_env=False, timeout=60)
    assert answer.status_code == 400


def test_the_page_shows_sixty_thousand_objects(browser, address, stored, rows, embeddings):
    browser.open(f"{address}/")
    browser.wait("astrom3.map.firstPaint > 0 && astrom3.map.complete")
    assert browser.js("astrom3.n") == N
    browser.wait("document.querySelectorAll('#outlier-rows tr').length === 200")
    assert browser.js("document.getElementById('count').textContent") == "60,000 objects"
    place = json.dumps(stored.columns["xy"][123].tolist())
    at = browser.js(f"""(() => {{ const m = astrom3.map, b = m.canvas.getBoundingClientRect();
        const [x, y] = m.toScreen({place}); return [b.x + x, b.y + y]; }})()""")
    browser.click(*at)
    browser.wait("astrom3.drawn >= 0")
    assert browser.errors == []
    # A real object: what is shown are its observations.
    browser.js(f"astrom3.choose({int(rows[0])}, true)")
    row = rows_with_gaps(REAL)[0]
    assert browser.js("document.querySelector('#head .id').textContent") == "star 0"
    curve = browser.js("astrom3.data.lightCurve(astrom3.at).then((c) => [[...c.time], [...c.flux]])")
    np.testing.assert_allclose(curve[0], row["light_curve"]["time"], atol=1e-5)
    np.testing.assert_allclose(curve[1], row["light_curve"]["flux"], atol=np.ptp(row["light_curve"]["flux"]) / 65535)
    period = float(browser.js("document.getElementById('period').value"))
    assert period == pytest.approx(row["photo_cols"]["period"], rel=1e-5)
    spectrum = browser.js("astrom3.data.spectrum(astrom3.at).then((s) => s.flux.length)")
    assert spectrum == len(row["spectrum"]["flux"])
    assert min(drawn(browser, canvas) for canvas in ("map", "curve", "folded", "spectrum")) > 3
    near = browser.js("[...document.querySelectorAll('#near button')].map((e) => astrom3.about.ids[e.dataset.index])")
    expected, _ = stored.near(rows[0], MEAN, MEAN, 5)
    assert near == stored.names(expected.tolist())
    # To a neighbour, by search, and with a class hidden.
    browser.click_on("#near button")
    browser.wait(f"astrom3.drawn === {int(expected[0])}")
    browser.click_on("#query")
    browser.type("star 5999")
    browser.wait("document.querySelectorAll('#matches li').length > 1")
    browser.key("Enter")
    browser.wait("document.querySelector('#head .id').textContent.startsWith('star 5999')")
    browser.js("[...document.querySelectorAll('#legend button')].find((b) => b.textContent.includes('RRAB')).click()")
    rest = N - int((embeddings.labels == CLASSES.index("RRAB")).sum())
    browser.wait(f"document.getElementById('count').textContent === '{rest:,} of 60,000 shown'")
    assert browser.errors == [] and all(request.startswith(f"{address}/") for request in browser.requests)


def drawn(browser, canvas):
    """Number of different colours on a canvas."""
    return browser.js(f"""(() => {{ const c = document.getElementById('{canvas}'), to = c.getContext('2d');
        const pixels = to.getImageData(0, 0, c.width, c.height).data.buffer;
        return new Set(new Uint32Array(pixels)).size; }})()""")
