"""A data set that convert made of a user's galaxies goes through every training and every verb."""

import json

import numpy as np
import pytest
from galaxy_survey import survey

from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.embed.__main__ import embed
from astrom3.explore.__main__ import explore
from astrom3.inference.embeddings import Embeddings
from astrom3.search.__main__ import search
from astrom3.train import train

N = 40
TINY = ["model=astroclip", "size=tiny", "trainer=cpu", "data=local", "data.batch_size=8", "epochs=1"]


@pytest.mark.slow
def test_it_trains_embeds_searches_and_explores(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mine"
    _, truth = survey(folder, N)
    options = [f"table={folder}/galaxies.csv", f"out={tmp_path}/data", "id=name", "label=kind", "image=cutout"]
    options += ["spectrum=spectrum", "columns.ra=RA", "columns.dec=DEC", "targets=[log_mass]", "workers=1"]
    convert(compose(options, "convert"))
    data = ["data=local", f"data.path={tmp_path}/data"]
    common = [*TINY, data[1], f"root={tmp_path}/runs", "trainer.enable_progress_bar=false"]
    for mode, further in (
        ("masked", []),
        ("distil", []),
        ("clip", ["init=stages"]),
        ("spectra", ["init=masked", "target=redshift"]),
    ):
        scores = train(compose([*common, f"mode={mode}", *further]))
        assert np.isfinite(next(iter(scores.values()))), mode
    (model,) = (tmp_path / "runs").glob("astroclip-clip*")
    about = json.loads((model / "run.json").read_text())["data"]
    assert about["layout"] == "galaxies" and about["note"].startswith("images read from their files")
    embed(compose([*data, f"model={model}", f"out={tmp_path}/vectors", "device=cpu"], "embed"))
    found = Embeddings.read(tmp_path / "vectors")
    assert len(found) == N and found.present["images"].all() and found.present["spectra"].all()
    explore(compose([*data, f"model={model}", "map=pca", f"out={tmp_path}/page.html", "device=cpu"], "explore"))
    assert (tmp_path / "page.html").stat().st_size > 100_000
    pytest.importorskip("lancedb")
    index = [f"index={tmp_path}/index", f"embeddings={tmp_path}/vectors", "by=images", "find=images", "top=1"]
    (best,) = search(compose([*index, f"image={folder}/cutout3.npy"], "search"))
    assert best["object_id"] == "G3" and best["similarity"] > 1 - 1e-3
    assert len(truth["label"]) == N
