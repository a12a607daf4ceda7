"""The commands of docs/pages/families/astroclip.md on a user's galaxies: every training and every verb, as written."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from galaxy_survey import save, survey

from astrom3.analyse.__main__ import analyse
from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.data.layouts import open_source
from astrom3.embed.__main__ import embed
from astrom3.explore.__main__ import explore
from astrom3.inference.embeddings import Embeddings
from astrom3.search.__main__ import search
from astrom3.train import train

N = 24
PAGE = Path(__file__).resolve().parents[1] / "docs" / "pages" / "families" / "astroclip.md"
VERBS = {"convert": convert, "train": train, "embed": embed, "search": search, "explore": explore}
SMALLER = {
    "convert": ["workers=1"],
    "train": ["size=tiny", "trainer=cpu", "data.batch_size=8", "epochs=1", "trainer.enable_progress_bar=false"],
    "embed": ["device=cpu"],
    "explore": ["device=cpu"],
    "search": [],
}


def commands():
    """Verb and overrides of every command of the section."""
    section = PAGE.read_text().split("## Your own galaxies")[1].split("\n## ")[0]
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", section, re.DOTALL)).splitlines()
    words = [shlex.split(line)[2:] for line in lines if line.strip()]
    return [(line[0].rpartition(".")[2], line[1:]) for line in words]


def run(verb, given):
    """One command in this process, at the smallest size."""
    smaller = {text.partition("=")[0] for text in SMALLER[verb]}
    kept = [text for text in given if text.partition("=")[0] not in smaller]
    return VERBS[verb](compose([*kept, *SMALLER[verb]], verb))


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    pytest.importorskip("lancedb")
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rows, truth = survey(tmp_path / "mine", N)
    second = [
        {"targetid": row["targetid"], "ra": row["RA"], "dec": row["DEC"], "age": truth["age"][i]}
        for i, row in enumerate(rows)
    ]
    save(tmp_path / "mine" / "catalogue.csv", second)
    answers = [(verb, given, run(verb, given)) for verb, given in commands()]
    assert [verb for verb, _, _ in answers] == [
        "convert",
        *4 * ["train"],
        "embed",
        "search",
        "explore",
        *2 * ["convert"],
    ]
    for verb, given, answer in answers:
        if verb == "train":
            assert np.isfinite(next(iter(answer.values()))), given
        if verb == "search":
            assert "G3" not in {row["object_id"] for row in answer} and len(answer) > 3
    run_folder = tmp_path / "runs" / "astroclip-clip-full-stages-42"
    about = json.loads((run_folder / "run.json").read_text())["data"]
    assert about["layout"] == "galaxies" and about["note"].startswith("images read from their files")
    found = Embeddings.read(tmp_path / "my_vectors")
    assert len(found) == N and found.present["images"].all() and found.present["spectra"].all()
    assert (tmp_path / "my_galaxies.html").stat().st_size > 100_000
    for name in ("matched", "joined"):
        source = open_source(tmp_path / name)
        numbers = [int(one[1:]) for one in source.catalogue("train").ids]
        np.testing.assert_allclose(source.targets("train", ["age"])[:, 0], truth["age"][numbers])
    shown = search(
        compose(["index=my_index", "embeddings=my_vectors", "by=images", "top=1", "image=mine/cutout3.npy"], "search")
    )
    assert shown[0]["object_id"] == "G3" and shown[0]["similarity"] > 1 - 1e-3
    model = ["data=local", "data.path=my_galaxies", f"model={run_folder}", "out=told", "device=cpu"]
    told = analyse(compose([*model, "what=[properties]"], "analyse"))
    assert {"redshift", "log_mass"} <= set(told["properties"]["r2"]["images"])
