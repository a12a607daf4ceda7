"""The whole way with real observations: raw files -> converter -> store -> encoder or training run.

What the readers and the converter make of these files one by one is tested in test_readers.py and test_convert.py.
"""

import json
import tarfile

import numpy as np
import pytest
import torch

from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.origins import Local
from astrom3.data.readers.asassn import read_asassn
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.evaluate import evaluate
from astrom3.modalities import preprocess
from astrom3.modalities.schema import PHOTO_COLS, SPLITS
from astrom3.train import train

pytestmark = pytest.mark.real


def encoded(encoder, folder, modality):
    """Features of every object of a converted data set, (n, out_features), and the datamodule."""
    data = AstroM3DataModule(Local(folder), modalities=[modality], labelled_only=False, cache=folder / "store")
    data.setup()
    encoder.eval()
    with torch.no_grad():
        batches = [b for split in SPLITS for b in data.split_dataloader(split)]
        return torch.cat([encoder(*(b[key] for key in encoder.inputs)) for b in batches]), data


def listing(path, files):
    path.write_text("object_id,file\n" + "".join(f"{f.name.split('.')[0]},{f}\n" for f in files))
    return path


@pytest.mark.slow
def test_asas_sample_trains_to_the_end_and_is_evaluated_with_the_same_numbers(real_dir, tmp_path):
    with tarfile.open(real_dir / "asas-v/asas_training_set.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    table, curves = real_dir / "asas-v/asas_training_set_classes.dat", tmp_path / "asas_training_set"
    convert(compose(["survey=asas_v", f"table={table}", f"root={curves}", f"out={tmp_path}/asas", "seeds=[42]",
                     "split_fractions=[0.7,0.1,0.2]"], "convert"))  # fmt: skip
    cfg = compose(["mode=photo", "size=tiny", "data=local", f"data.path={tmp_path}/asas", "epochs=12",
                   f"data.cache={tmp_path}/store", f"root={tmp_path}/runs", "schedule.warmup_epochs=1", "trainer=cpu",
                   "trainer.enable_progress_bar=false"])  # fmt: skip
    scores = train(cfg)
    run = tmp_path / "runs/photo-full-scratch-42"
    counts = json.loads((run / "run.json").read_text())["data"]["splits"]
    assert [counts[s]["used"] for s in SPLITS] == [313, 45, 89] and scores["n"] == 89
    assert len([c for c in scores["recall"] if scores["recall"][c] is not None]) == 9
    confusion = np.array(scores["confusion"])
    assert scores["accuracy"] > confusion.sum(1).max() / 89  # better than always the most frequent class
    assert evaluate(compose([f"run={run}"], "evaluate")) == json.loads((run / "metrics.json").read_text())


@pytest.mark.slow
def test_all_lamost_spectra_pass_the_published_spectrum_encoder(real_dir, tmp_path):
    files = sorted((real_dir / "lamost-dr7").glob("*.fits")) + sorted((real_dir / "lamost-formats").glob("*.fits.gz"))
    table = listing(tmp_path / "list.csv", files)
    convert(
        compose([f"table={table}", f"out={tmp_path}/lamost", "spectrum=file", "seeds=[42]", "workers=1"], "convert")
    )
    torch.manual_seed(0)
    features, data = encoded(GalSpecNet(), tmp_path / "lamost", "spectra")
    assert features.shape == (102, 1184) and bool(torch.isfinite(features).all())
    assert all(not c["rejected"] and not c["missing"]["spectra"] for c in data.counts.values())
    assert len(features.unique(dim=0)) == 102  # no two alike


def test_asassn_files_pass_the_published_light_curve_encoder(real_dir, tmp_path):
    files = sorted((real_dir / "asas-sn-csv").glob("*.csv"))
    table = listing(tmp_path / "list.csv", files)
    convert(compose([f"table={table}", f"out={tmp_path}/g", "light_curve=file", "light_curves.format=asassn", "band=g",
                     "seeds=[42]", "workers=1"], "convert"))  # fmt: skip
    torch.manual_seed(0)
    encoder = InformerEncoder(evaluation="full")
    features, data = encoded(encoder, tmp_path / "g", "photometry")
    assert features.shape == (4, 25600) and bool(torch.isfinite(features).all())
    photo = np.concatenate([data.source.catalogue(split).values[:, : len(PHOTO_COLS)] for split in SPLITS])
    assert np.isfinite(photo).all()  # computed by the converter
    curve = read_asassn(files[2], "V")  # the only file with V: too few objects for a data set with splits
    x, mask = preprocess.light_curve(curve.time, curve.flux, curve.flux_err, np.zeros(4))
    with torch.no_grad():
        assert bool(torch.isfinite(encoder(torch.from_numpy(x)[None], torch.from_numpy(mask)[None])).all())
