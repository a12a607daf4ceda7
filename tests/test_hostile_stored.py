"""Stored files that hold what no file of that kind does: each kind here was once accepted, a traceback, or a hang."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from hostile_files import altered, faults, with_bytes, with_text
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from small_models import save_model
from test_astromer_files import CHECKPOINT, DATA, HEADER, block, masked_crc, table, varint

import astrom3
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.magnitudes import MagnitudeMLP
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier, MultimodalModel
from astrom3.errors import UserError
from astrom3.files import read_json
from astrom3.modalities.schema import CLASSES
from astrom3.published import astrom3 as published
from astrom3.published import native
from astrom3.published.checkpoint_file import read_checkpoint
from astrom3.published.tensorflow import read_index
from astrom3.training.checkpoints import AtomicCheckpointIO, load_weights

Call = Callable[[], Any]
CLIP = Path(__file__).parent / "conformance" / "astroclip" / "checkpoints"
SECOND = CHECKPOINT.parent / "tf-checkpoint-v2"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("stored")


def loading(source: Path) -> Call:
    return lambda: astrom3.load(source, device="cpu")


# --- model folders ----------------------------------------------------------------------------------------------------


def test_small_files_of_a_model_that_say_a_thing_twice_or_no_number(place, survey_of_30):
    folder = save_model(place / "model", survey_of_30)
    read = loading(folder)
    cases: dict[str, Call] = {}
    for path in (folder / "config.json", folder / "preprocessing.json"):
        text = path.read_text().strip()
        twice = f"{text[:-1]}, {text[1:]}"
        cases[f"{path.name} with its keys twice"] = with_text(path, twice, read)
    path = folder / "preprocessing.json"
    for name, key, value in (
        ("a mean beyond all numbers", "mean", 10**400),
        ("columns that are a number", "photo_cols", 7),
        ("columns that are none", "meta_cols", None),
    ):
        content = read_json(path)
        content["normaliser"][key] = [value, *content["normaliser"]["mean"][1:]] if key == "mean" else value
        cases[name] = with_text(path, json.dumps(content), read)
    content = read_json(path)
    half = json.dumps(content | {"classes": ["\ud800", *content["classes"][1:]]})
    cases["a class of half a letter"] = with_text(path, half, read)
    assert faults(cases, refused=True) == []


def test_weights_that_would_not_be_what_they_seem(place):
    folder = place / "photo"
    encoder = InformerEncoder(d_model=16, n_heads=2, d_ff=32, e_layers=1)
    published.save(Classifier(encoder, len(CLASSES)), folder)
    path = folder / "model.safetensors"
    state = load_file(path)
    table_name = published.POSITIONS
    contents = {
        "zeros alone": {name: tensor * 0 for name, tensor in state.items()},
        "beyond float32": state | {"fc.bias": state["fc.bias"].double() + 1e300},
        "another table of positions": state | {table_name: state[table_name] + 1},
    }
    read = loading(folder)
    cases = {name: with_bytes(path, to_bytes(content), read) for name, content in contents.items()}
    assert faults(cases, refused=True) == []
    double = {name: tensor.double() for name, tensor in state.items()}
    path.write_bytes(to_bytes(double))
    positions = read().network.encoder.positions
    assert positions.dtype == torch.float32


def test_classes_that_are_no_numbers_are_not_given_out(place):
    folder = place / "loud"
    encoder = InformerEncoder(d_model=16, n_heads=2, d_ff=32, e_layers=1)
    model = Classifier(encoder, len(CLASSES))
    torch.nn.init.constant_(model.head.weight, 3e38)
    published.save(model, folder)
    loaded = astrom3.load(folder, device="cpu")
    batch = {"photometry": torch.randn(2, 200, 9), "mask": torch.ones(2, 200)}
    with pytest.raises(UserError, match="not finite"):
        loaded.encode(batch)


def test_raw_observations_for_a_network_of_catalogue_columns(place):
    magnitudes = MagnitudeMLP(hidden_dim=8, layers=1)
    folder = native.save(magnitudes, place / "magnitudes")
    curve = {"time": [1.0, 2.0], "mag": [15.0, 15.1], "mag_err": [0.1, 0.1]}
    with pytest.raises(UserError, match="reads images and spectra of galaxies: leave light curves away"):
        astrom3.load(folder, device="cpu").embed(light_curve=curve)
    mixed = MultimodalModel({"photometry": magnitudes, "metadata": MetadataMLP(34, 8)}, hidden_dim=8)
    folder = native.save(mixed, place / "mixed")
    with pytest.raises(UserError, match="mag_g, mag_r, mag_z, which cannot be handed in"):
        astrom3.load(folder, device="cpu").embed(light_curve=curve)


# --- released weights -------------------------------------------------------------------------------------------------


def released(place: Path, name: str, source: Path = CHECKPOINT, files: Iterable[str] = ()) -> Path:
    """A copy of a small checkpoint of TensorFlow, of some of its files."""
    folder = place / name
    folder.mkdir()
    for path in source.iterdir():
        if path.name in files or not files:
            shutil.copyfile(path, folder / path.name)
    return folder


TENSORFLOW = ("conf.json", "weights.index", DATA)


def test_configurations_of_released_weights(place):
    first = released(place, "first", files=TENSORFLOW)
    path = first / "conf.json"
    text = path.read_text().strip()
    cases = {"a key twice": with_text(path, f'{text[:-1]}, "layers": 1}}', loading(first))}
    second = released(place, "second", SECOND)
    path = second / "config.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(("arch", "mask_format"))]
    for addition in ("arch = []", "arch = {}", "mask_format = [[1]]", "mask_format = {}", f"a{60000 * '.a'} = 1"):
        cases[addition[:20]] = with_text(path, "\n".join([addition, *lines]), loading(second))
    assert faults(cases, refused=True) == []


def packed(size: int) -> bytes:
    """A block of Snappy that unpacks to so many times one byte."""
    copies = (size - 1) // 64
    content = varint(1 + 64 * copies) + bytes([0, 65]) + copies * bytes([0xFE, 1, 0]) + b"\1"
    return content + masked_crc(content).to_bytes(4, "little")


def test_indexes_that_would_take_for_ever():
    many = [(b"%07d" % number, b"\x08\x01") for number in range(30_000)]
    for name, content in {
        "many variables": table([block([HEADER, *many])]),
        "blocks that unpack to much": table([packed(1 << 23)] * 5),
        "a name in two blocks": table([block([HEADER, (b"x", b"\x08\x01")]), block([(b"x", b"\x08\x03")])]),
    }.items():
        with pytest.raises(UserError):
            read_index(content, name)


def test_an_archive_with_two_files_of_one_name(place):
    path = place / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        for name in (*TENSORFLOW, "conf.json"):
            archive.writestr(name, (CHECKPOINT / name).read_bytes())
    assert faults({"twice": loading(path)}, refused=True) == []


def test_arrays_of_keras_that_hold_nothing(place):
    folder = released(place, "keras", files=("conf.json", "weights.h5"))
    path = folder / "weights.h5"
    name = "encoder/encoder/dense/kernel:0"
    cases: dict[str, Call] = {}
    for kind, make in {
        "without a shape": lambda file, old: file.create_dataset(name, data=h5py.Empty("f4")),
        "never written": lambda file, old: file.create_dataset(name, old.shape, old.dtype),
    }.items():
        cases[kind] = with_bytes(path, altered(path, place / "altered.h5", name, make), loading(folder))
    assert faults(cases, refused=True) == []


class Made:
    """Pickled, it asks for a call."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def repeated(shape: tuple[int, ...]) -> Made:
    """A tensor of this shape that is one number on the disk."""
    one = torch.storage.TypedStorage(wrap_storage=torch.ones(1).untyped_storage(), dtype=torch.float32, _internal=True)
    return Made(torch._utils._rebuild_tensor_v2, one, 0, shape, (0,) * len(shape), False, OrderedDict())


def other_tensors(shape: tuple[int, ...]) -> dict[str, Any]:
    zeros = torch.zeros(shape)
    return {
        "sparse": zeros.to_sparse(),
        "sparse by rows": zeros.to_sparse_csr(),
        "without memory": zeros.to("meta"),
        "nested": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        "quantised": torch.quantize_per_tensor(zeros, 0.1, 0, torch.qint8),
        "of eight bits": zeros.to(torch.float8_e4m3fn),
        "beyond float32": torch.full(shape, 1e300, dtype=torch.float64),
        "one number for many": repeated((10**6, 10**6)),
        "a bytearray": Made(bytearray, 4 * 10**9),
    }


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_checkpoints_of_astroclip(place):
    whole = read_checkpoint(CLIP / "specformer.ckpt")
    state = {name: tensor.clone() for name, tensor in whole["state_dict"].items()}
    hyper = dict(whole["hyper_parameters"])
    name = "data_embed.weight"
    many = {f"blocks.{number}.x": torch.zeros(1) for number in range(9999)}
    contents: dict[str, Any] = {"a block in name alone": {"state_dict": state | many}}
    for kind, tensor in other_tensors(tuple(state[name].shape)).items():
        contents[kind] = {"state_dict": state | {name: tensor}}
    for key, value in {"slice_section_length": 10**30, "slice_overlap": -1, "dropout": 10**400}.items():
        contents[f"{key} {str(value)[:9]}"] = {"state_dict": state, "hyper_parameters": hyper | {key: value}}
    cases = {}
    for number, (kind, content) in enumerate(contents.items()):
        cases[kind] = loading(saved(place / f"{number}.ckpt", content))
    pickle = place / "marks.ckpt"
    with zipfile.ZipFile(pickle, "w") as archive:
        archive.writestr("archive/data.pkl", b"(" * (3 << 20) + b".")
    cases["a giant pickle"] = loading(pickle)
    content = bytearray((CLIP / "specformer.ckpt").read_bytes())
    content[content.index(b"PK\1\2") + 6] = 71
    later = place / "later.ckpt"
    later.write_bytes(content)
    cases["a zip of another version"] = loading(later)
    assert faults(cases, refused=True) == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_checkpoints_of_runs(place):
    kept = {"epoch": 1, "global_step": 2, "loops": {}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": []}
    cases = {}
    for number, (kind, tensor) in enumerate(other_tensors((4, 3)).items()):
        path = saved(place / f"run-{number}.ckpt", kept | {"state_dict": {"x": tensor, "y": torch.ones(2)}})
        cases[f"weights {kind}"] = lambda path=path: load_weights(path)
        if kind not in ("of eight bits", "beyond float32"):  # which the network takes or refuses
            cases[f"to go on from {kind}"] = lambda path=path: AtomicCheckpointIO().load_checkpoint(path)
    assert faults(cases, refused=True) == []
