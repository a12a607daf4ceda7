"""The page of python -m astrom3.explore, in a real browser: what it shows are the numbers of the data and the model."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import processes
import pytest
from browser import Browser, executable, outside
from data_files import make_rows, write_current, write_first, write_ours
from raw_layout import build_raw
from small_models import rows_with_gaps, save_model

from astrom3.cli.config import compose
from astrom3.data.layouts import open_source
from astrom3.explore import content as contents
from astrom3.explore.__main__ import explore
from astrom3.explore.neighbours import nearest
from astrom3.explore.packing import linear, stretched
from astrom3.explore.writing import as_json, write
from astrom3.inference.embeddings import MEAN, Embeddings
from astrom3.inference.trained import TrainedModel, data_of

pytestmark = pytest.mark.slow

N = 90


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A survey with gaps, a model, its embeddings, a page."""
    root = tmp_path_factory.mktemp("explore")
    write_ours(root / "survey", rows_with_gaps(N))
    save_model(root / "model", root / "survey")
    explore(configured(root, f"out={root}/page.html"))
    return root


def configured(root, *options):
    return compose([f"model={root}/model", "data=local", f"data.path={root}/survey", f"data.cache={root}/cache",
                    "map=pca", "device=cpu", *options], "explore")  # fmt: skip


@pytest.fixture(scope="module")
def embeddings(place):
    model = TrainedModel.load(place / "model", device="cpu")
    data = data_of(model, configured(place).data, "full", 42)
    return Embeddings.concatenate([Embeddings.of_split_of(model, data, s) for s in ("train", "validation", "test")])


@pytest.fixture(scope="module")
def rows():
    return {row["object_id"]: row for row in rows_with_gaps(N)}


@pytest.fixture(scope="module")
def browser():
    executable()
    with Browser() as one:
        yield one


@pytest.fixture
def page(browser, place):
    """The page, just opened, nothing selected."""
    browser.open(place / "page.html")
    return browser


def chosen(page):
    """Id of the selected object, once everything of it is drawn."""
    page.js("astrom3.details.show(astrom3.selected)")
    return page.js("astrom3.selected < 0 ? null : astrom3.about.ids[astrom3.selected]")


def drawn(page, canvas):
    """Number of different colours on a canvas."""
    return page.js(f"""(() => {{ const c = document.getElementById('{canvas}'), copy = document.createElement('canvas');
        copy.width = c.width; copy.height = c.height;
        const to = copy.getContext('2d', {{ willReadFrequently: true }}); to.drawImage(c, 0, 0);
        return new Set(new Uint32Array(to.getImageData(0, 0, c.width, c.height).data.buffer)).size; }})()""")


def test_it_opens_without_errors_and_without_a_network(page):
    assert page.js("astrom3.n") == N and drawn(page, "map") > 10
    assert page.js("document.getElementById('count').textContent") == f"{N} objects"
    assert page.js("document.getElementById('object').hidden") and page.js("document.getElementById('failure').hidden")
    assert page.errors == [] and outside(page.requests) == []


def test_a_click_selects_the_object_under_it(page):
    lonely = page.js("""(() => { let best = 0, far = -1; const m = astrom3.map;
        for (let i = 0; i < m.n; i++) { let near = 1e9; const [x, y] = m.toScreen(i);
          for (let j = 0; j < m.n; j++) if (j !== i) { const [u, v] = m.toScreen(j);
            near = Math.min(near, Math.hypot(x - u, y - v)); }
          if (near > far) { far = near; best = i; } }
        const b = m.canvas.getBoundingClientRect(), [x, y] = m.toScreen(best); return [best, b.x + x, b.y + y]; })()""")
    page.click(*lonely[1:])
    page.wait("astrom3.selected >= 0")
    assert page.js("astrom3.selected") == lonely[0]
    name = chosen(page)
    assert page.js("document.querySelector('#head .id').textContent") == name
    assert page.js("decodeURIComponent(location.hash.slice(1))") == name
    assert page.errors == []


def test_what_is_shown_of_an_object_are_its_observations(page, rows, embeddings):
    for name in ("star 0", "star 5"):
        page.js(f"astrom3.select(astrom3.number.get('{name}'))")
        assert chosen(page) == name
        row = rows[name]
        curve = page.js(
            "astrom3.data.lightCurve(astrom3.selected).then((c) => [[...c.time], [...c.flux], [...c.error]])"
        )
        np.testing.assert_allclose(curve[0], row["light_curve"]["time"], atol=1e-5)
        steps = [np.ptp(row["light_curve"][k]) / 65535 for k in ("flux", "flux_err")]
        np.testing.assert_allclose(curve[1], row["light_curve"]["flux"], atol=steps[0])
        np.testing.assert_allclose(curve[2], row["light_curve"]["flux_err"], atol=steps[1])
        spectrum = page.js("astrom3.data.spectrum(astrom3.selected).then((s) => [[...s.wavelength], [...s.flux]])")
        np.testing.assert_allclose(spectrum[0], row["spectrum"]["wavelength"], atol=0.02)
        np.testing.assert_allclose(spectrum[1], row["spectrum"]["flux"], atol=np.ptp(row["spectrum"]["flux"]) / 5000)
        assert min(drawn(page, c) for c in ("curve", "folded", "spectrum")) > 3
        i = list(embeddings.ids).index(name)
        label = row["label"] or "no label"
        texts = page.js("[...document.querySelectorAll('#head .chip')].map((e) => e.textContent)")
        predicted = embeddings.classes[embeddings.predicted[i]]
        assert texts[0] == label and texts[1].startswith(f"predicted {predicted} ")
        values = page.js("""Object.fromEntries([...document.querySelectorAll('#catalogue dt')].map((e) =>
            [e.textContent, e.nextElementSibling.textContent]))""")
        assert float(values["period"].removesuffix(" d")) == pytest.approx(row["photo_cols"]["period"], rel=1e-4)
        assert float(values["w1_mag"].removesuffix(" mag")) == pytest.approx(row["meta_cols"]["w1_mag"], rel=1e-4)
        shares = page.js("[...document.querySelectorAll('.probability .n')].map((e) => Number(e.textContent))")
        assert shares == pytest.approx(sorted(100 * embeddings.probabilities[i], reverse=True), abs=0.06)
    assert page.errors == []


@pytest.mark.parametrize("name", [MEAN, "photometry", "spectra", "metadata"])
def test_the_neighbours_are_those_of_the_embeddings(page, embeddings, name):
    there = embeddings.present.get(name, np.ones(N, bool))
    vectors = embeddings.vectors[name].astype(np.float64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    page.js(f"(() => {{ const s = document.getElementById('near-of'); s.value = '{name}'; }})()")
    for i in (0, 8, 33, 57):
        page.js(f"astrom3.select(astrom3.number.get('{embeddings.ids[i]}'))")
        chosen(page)
        shown = page.js("[...document.querySelectorAll('#near button')].map((e) => astrom3.about.ids[e.dataset.index])")
        cosine = unit @ unit[i]
        cosine[i], cosine[~there] = -np.inf, -np.inf
        expected = embeddings.ids[np.argsort(-cosine, kind="stable")[:5]] if there[i] else []
        assert shown == list(expected)
    page.js("document.getElementById('near-of').value = 'mean'")
    assert page.errors == []


def test_a_neighbour_is_one_click_away_and_back(page):
    page.js("astrom3.select(0)")
    first = chosen(page)
    page.wait("document.querySelectorAll('#near button').length === 5")
    to = page.js("astrom3.about.ids[document.querySelector('#near button').dataset.index]")
    page.click_on("#near button")
    page.wait(f"astrom3.about.ids[astrom3.selected] === {json.dumps(to)}")
    page.js("history.back()")
    page.wait(f"astrom3.about.ids[astrom3.selected] === {json.dumps(first)}")


def test_search_finds_an_object_by_a_part_of_its_id(page):
    page.click_on("#query")
    page.type("ar 41")
    page.wait("!document.getElementById('matches').hidden")
    assert page.js("document.querySelector('#matches li').textContent").startswith("star 41")
    page.key("Enter")
    page.wait("astrom3.selected >= 0")
    assert chosen(page) == "star 41"
    page.js("document.getElementById('query').value = ''")
    page.click_on("#query")
    page.type("nobody")
    page.wait("document.querySelector('#matches li.none') !== null")
    assert page.errors == []


def test_what_is_missing_is_said(page, rows):
    name = next(n for n, r in rows.items() if r["spectrum"] is None and r["light_curve"] is not None)
    page.js(f"astrom3.select(astrom3.number.get('{name}'))")
    chosen(page)
    assert page.js("astrom3.data.spectrum(astrom3.selected)") is None
    page.js("astrom3.select(astrom3.number.get('star 1'))")  # four points: rejected
    chosen(page)
    assert "points" in page.js("document.getElementById('notes').textContent")
    assert page.errors == []


def test_classes_are_filtered_and_colours_changed(page, rows):
    labels = [r["label"] for r in rows.values()]
    page.js("[...document.querySelectorAll('#legend button')].find((b) => b.textContent.includes('RRAB')).click()")
    rest = N - labels.count("RRAB")
    assert page.js("document.getElementById('count').textContent") == f"{rest} of {N} shown"
    assert page.js("[...astrom3.map.visible].filter((v) => v).length") == rest
    for way in ("predicted", "own", "column:period"):
        page.js(f"(() => {{ const s = document.getElementById('colour'); s.value = '{way}';"
                " s.dispatchEvent(new Event('change')); })()")  # fmt: skip
        assert page.js("new Set(astrom3.map.colours).size") > 3
    page.js("document.getElementById('wrong').click()")
    wrong = page.js("[...astrom3.map.visible].filter((v) => v).length")
    assert 0 < wrong < rest and page.errors == []


def test_outliers_are_those_of_the_analysis(page, embeddings):
    from astrom3.analyse.outliers import distances, ranking

    listed = page.js(
        "[...document.querySelectorAll('#outlier-rows tr')].map((r) => astrom3.about.ids[r.dataset.index])"
    )
    expected = embeddings.ids[ranking(distances(embeddings, MEAN)["own"])]
    assert listed == list(expected)


def test_the_period_can_be_changed(page):
    page.js("astrom3.select(0)")
    chosen(page)
    period = float(page.js("document.getElementById('period').value"))
    page.click_on("#twice")
    assert float(page.js("document.getElementById('period').value")) == pytest.approx(2 * period)
    assert page.errors == []


def test_names_from_data_are_text(browser, place, embeddings):
    evil = '</script><img src=x onerror="alert(1)"><b>'
    source = open_source(place / "survey")
    found = contents.gather(embeddings, source, kind="pca")
    ids = found.objects.ids.astype(object)
    ids[0] = evil
    classes = (evil, *found.objects.classes[1:])
    found.objects = replace(found.objects, ids=ids.astype(str), classes=classes)
    write(found, place / "evil.html", evil, 16, None, lambda done: None)
    browser.open(place / "evil.html")
    browser.js("astrom3.select(0)")
    chosen(browser)
    assert browser.js("document.querySelector('#head .id').textContent") == evil
    assert browser.js("document.images.length") == 0 and browser.js("document.title") == evil
    assert browser.errors == [] and outside(browser.requests) == []
    assert "<" not in as_json({"a": evil, "b": ["<!--"]})


def test_no_browser_would_let_it_reach_out(place):
    text = (place / "page.html").read_text()
    assert "default-src 'none'" in text and not re.search(r"(src|href)\s*=\s*[\"']https?:", text)
    assert str(place) not in text  # no folder of this machine


def test_written_embeddings_give_the_same_page(place, embeddings):
    embeddings.write(place / "e.parquet")
    explore(configured(place, "model=null", f"embeddings={place}/e.parquet", f"out={place}/again.html",
                       f"statistics={place}/model/preprocessing.json"))  # fmt: skip
    core = [re.search(r'id="core">([^<]+)<', (place / f).read_text())[1] for f in ("page.html", "again.html")]
    assert core[0] == core[1]


@pytest.mark.slow
def test_twenty_thousand_objects_are_shown(browser, place, embeddings):
    """As many as the page is made for: the objects again and again, with other places on the map."""
    source = open_source(place / "survey")
    found = contents.gather(embeddings, source, kind="pca")
    rng, times = np.random.default_rng(0), 20_000 // N + 1
    rows = np.sort(np.tile(np.arange(N), times))[:20_000]
    ids = np.array([f"{found.objects.ids[r]} copy {k}" for k, r in enumerate(rows)])
    many = replace(found, objects=replace(found.objects.take(rows), ids=ids), total=20_000,
                   table=np.full(20_000, contents.ABSENT), row=found.row[rows], values=found.values[rows],
                   xy=rng.normal(size=(20_000, 2)).astype(np.float32),
                   scores={n: {k: v[rows] for k, v in s.items()} for n, s in found.scores.items()},
                   neighbours={n: (rng.integers(0, 20_000, (20_000, 5)).astype(np.int32), c[rows])
                               for n, (_, c) in found.neighbours.items()})  # fmt: skip
    write(many, place / "many.html", "many", 8, 100, lambda done: None)
    browser.open(place / "many.html")
    assert browser.js("astrom3.n") == 20_000
    at = browser.js("(() => { const m = astrom3.map, b = m.canvas.getBoundingClientRect(), [x, y] = m.toScreen(12345);"
                    " return [b.x + x, b.y + y, m.hit(x, y)]; })()")  # fmt: skip
    xy = many.xy[[at[2], 12345]]
    assert np.hypot(*(xy[0] - xy[1])) < 0.05  # itself, or one that lies on it
    browser.click(*at[:2])
    browser.wait("astrom3.selected >= 0")
    assert browser.js("astrom3.selected") == at[2] and browser.errors == []


def test_neighbours_are_exact_with_ties_and_absent_ones():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0.8, 0.6], [0, 0]], np.float32)
    index, cosine = nearest(vectors, np.array([True, True, True, True, False]), 3)
    assert index.tolist() == [[1, 3, 2], [0, 3, 2], [3, 0, 1], [0, 1, 2], [-1, -1, -1]]
    assert cosine[0].tolist() == pytest.approx([1, 0.8, 0]) and np.isnan(cosine[4]).all()
    few, _ = nearest(vectors[:2], np.ones(2, bool), 3)
    assert few.tolist() == [[1, -1, -1], [0, -1, -1]]


def test_what_quantising_costs():
    rng = np.random.default_rng(0)
    flux = rng.normal(100, 5, 4000)
    flux[7] = 1e5  # a cosmic ray
    for bits, most in ((16, 1e-3), (8, 0.15)):
        found = stretched(flux, bits)
        assert found.codes.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert np.median(np.abs(found.decode() - flux)) < most and found.decode()[7] == pytest.approx(1e5, rel=1e-2)
    codes = linear(flux, 16)
    assert np.abs(codes.low + codes.step * codes.codes - flux).max() <= codes.step / 2 * 1.001
    assert linear(np.array([]), 8).codes.size == 0 and (linear(np.full(3, 2.0), 8).codes == 0).all()


@pytest.mark.parametrize(
    "options, answer",
    [
        ([], "give model="),
        (["model=x", "map=sphere"], "map=sphere does not exist"),
        (["model=x", "splits=[left]"], "splits=[left] does not exist"),
        (["model=x", "bits=7"], "bits=7 must be 8 or 16"),
        (["model=x", "limit=0"], "limit=0 must be at least 1"),
        (["model=x", "out=."], "is a folder"),
        (["embeddings=nowhere", "map=pca"], "nowhere holds no embeddings"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(tmp_path, options, answer):
    done = processes.run([sys.executable, "-m", "astrom3.explore", *options], capture_output=True, text=True,
                          cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2 and answer in done.stderr and "Traceback" not in done.stderr


def test_a_missing_package_is_named(tmp_path):
    code = "import sys; sys.modules['umap'] = None; from astrom3.explore.__main__ import main; main()"
    done = processes.run_module("-c", code, "model=x", cwd=tmp_path)
    assert done.returncode == 2 and 'pip install "astrom3[explore]"' in done.stderr and "map=pca" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["first", "current", "raw"])
def test_pages_of_the_other_layouts(browser, place, tmp_path, layout):
    write = {"first": write_first, "current": write_current, "raw": lambda root, rows: build_raw(root, len(rows))}
    write[layout](tmp_path / layout, make_rows(30))
    explore(configured(place, f"data.path={tmp_path}/{layout}", f"out={tmp_path}/page.html",
                       f"statistics={place}/model/preprocessing.json"))  # fmt: skip
    browser.open(tmp_path / "page.html")
    n = browser.js("astrom3.n")
    assert n == 30
    browser.js("astrom3.select(7)")
    chosen(browser)
    points = browser.js("astrom3.data.lightCurve(7).then((c) => [c.time[0], ...c.flux])")
    assert len(points) > 50 and np.isfinite(points).all()
    assert min(drawn(browser, c) for c in ("curve", "folded", "spectrum")) > 3
    assert (points[0] > 2.4e6) == (layout != "current")  # days since the first point where that is all there is
    assert float(browser.js("document.getElementById('period').value")) > 0
    assert browser.errors == [] and outside(browser.requests) == []
