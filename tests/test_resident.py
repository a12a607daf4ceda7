"""Batches gathered on the device are those filled from the store, number for number."""

import numpy as np
import pytest
import torch
from data_files import make_rows, write_current, write_first, write_ours

from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.origins import Local
from astrom3.errors import UserError

pytestmark = pytest.mark.slow

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def with_gaps(n=60):
    """Every fifth object lacks its spectrum, every seventh its light curve."""
    rows = make_rows(n)
    for i, row in enumerate(rows):
        row["spectrum"] = None if i % 5 == 2 else row["spectrum"]
        row["light_curve"] = None if i % 7 == 3 else row["light_curve"]
    return rows


def compare(folder, tmp_path, device="cpu", **options):
    options = {"batch_size": 8, "cache": tmp_path / "cache", "labelled_only": False} | options
    loaders = []
    for resident in (False, True):
        data = AstroM3DataModule(Local(folder), on_device=resident, **options)
        data.prepare_data()
        data.setup()
        if resident and device != "cpu":
            data.trainer = type("T", (), {"strategy": type("S", (), {"root_device": torch.device(device)}),
                                          "global_rank": 0, "world_size": 1})  # fmt: skip
        loaders.append((data.train_dataloader(), data.val_dataloader()))
    for host, resident in zip(*loaders, strict=True):
        for epoch in (0, 1):
            host.set_epoch(epoch)
            resident.set_epoch(epoch)
            pairs = list(zip(host, resident, strict=True))
            assert pairs
            for a, b in pairs:
                assert {k for k in a if k != "present"} == {k for k in b if k != "present"}
                for key in a.keys() - {"present"}:
                    torch.testing.assert_close(b[key].cpu(), a[key], rtol=0, atol=0)
                for modality, there in b["present"].items():
                    assert torch.equal(there.cpu(), a["present"][modality])
                if not b["present"]:
                    assert all(p.all() for p in a["present"].values())
    return b


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("write", [write_ours, write_first, write_current])
def test_batches_are_the_same_in_every_layout(write, device, tmp_path):
    last = compare(write(tmp_path / "data", make_rows(60)), tmp_path, device)
    assert last["present"] == {} and last["photometry"].device.type == device


@pytest.mark.parametrize("device", DEVICES)
def test_batches_are_the_same_with_missing_modalities(device, tmp_path):
    folder = write_ours(tmp_path / "data", with_gaps())
    assert compare(folder, tmp_path, device)["present"]
    compare(folder, tmp_path, device, modalities=("spectra",))
    compare(folder, tmp_path, device, modalities=("photometry",), pad_constants=False)


def test_a_split_whose_objects_all_lack_a_modality(tmp_path):
    rows = [row | {"spectrum": None} for row in make_rows(60)]
    last = compare(write_ours(tmp_path / "data", rows), tmp_path)
    assert last["spectra"].shape[1:] == (3, 2575) and not np.any(last["spectra"].numpy())


def test_auto_is_for_gpus_only_and_streaming_is_refused(tmp_path):
    folder = write_ours(tmp_path / "data", make_rows(60))
    data = AstroM3DataModule(Local(folder), on_device="auto", cache=tmp_path / "cache")
    data.prepare_data()
    data.setup("fit")
    assert "present" in next(iter(data.val_dataloader())) and data.resident == {}
    with pytest.raises(UserError, match="streaming"):
        AstroM3DataModule(Local(folder), on_device=True, streaming=True)
    with pytest.raises(UserError, match="on_device"):
        AstroM3DataModule(Local(folder), on_device="sometimes")
