"""Released ASTROMER weights in the forms their authors gave them: TensorFlow checkpoints and Keras HDF5 files.

    encoder, head, config = load("macho_a0.zip")                        # as published, leak included
    encoder, head, config = load("macho_a0.zip", as_published=False)    # hidden magnitudes stay hidden
    encoder, head, config = load("astromer1-macho")                     # a short name, see releases.py

Donoso-Oliva et al. 2023 (A&A 670, A54), version 1, and 2026 (A&A 707, A170), version 2. Both forms name every variable;
each is accounted for, and nothing is read before its shape is known to fit the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from astrom3.encoders.astromer import Astromer
from astrom3.encoders.astromer_blocks import Reconstruction
from astrom3.errors import UserError, shown
from astrom3.published.astromer_config import CONFIGS, encoder_arguments, read_config
from astrom3.published.model_files import ModelFiles, open_model
from astrom3.published.releases import RELEASES, fetch
from astrom3.published.tensorflow import Bundle, read_index

PREFIX = "weights"
INDEX = f"{PREFIX}.index"
HDF5 = f"{PREFIX}.h5"
LARGEST_INDEX = 1 << 24  # bytes
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
OPTIMIZER_COPIES = 4  # of every weight, that a checkpoint may hold besides
SLACK = 1 << 22  # bytes of a file that are not weights
NOT_WEIGHTS = re.compile(
    r"_CHECKPOINTABLE_OBJECT_GRAPH$|save_counter/|(.*/)?optimizer/|.*/\.OPTIMIZER_SLOT/|keras_api/|.*_metric/"
)
OLD_FEED_FORWARD = re.compile(r"/ffn/layer_(\d)/")  # archives of autumn 2023
MOST_NAMED = 4  # surplus or missing variables that a message lists

Loaded = tuple[Astromer, Reconstruction, dict[str, Any]]
Shapes = Mapping[str, tuple[int, ...]]


def load(source: str | Path, as_published: bool = True) -> Loaded:
    """The encoder and reconstruction head at `source`, in evaluation mode, and their published configuration.

    `source` is a folder, a zip archive or a short name of RELEASES. `as_published` reproduces the original's outputs,
    with hidden magnitudes in the input and its attention mask; otherwise the same weights go into an encoder whose
    outputs do not depend on hidden magnitudes. Raises UserError where anything is missing, left over or damaged.
    """
    if str(source) in RELEASES:
        source = fetch(str(source))
    files = open_model(source, CONFIGS)
    config = read_config(files)
    arguments = encoder_arguments(config, f"The configuration of {shown(files.source)}")
    if not as_published:
        arguments |= {"compat": None, "mask_format": None}
    encoder = Astromer(**arguments)
    head = Reconstruction(encoder.d_model)
    state = read_state(files, encoder, head)
    if encoder.mask_token is not None:
        state["encoder.mask_token"] = torch.zeros(1, 1)  # 0 stands where the magnitude was
    encoder.load_state_dict(_without(state, "encoder."))
    head.load_state_dict(_without(state, "head."))
    return encoder.eval(), head.eval(), config


def recognises(source: str | Path) -> bool:
    """Whether `source` is a short name, or a folder or archive with an ASTROMER configuration beside its weights."""
    if str(source) in RELEASES:
        return True
    try:
        files = open_model(source, CONFIGS)
    except UserError:
        return False
    return INDEX in files or HDF5 in files


def file_of(source: str | Path) -> Path:
    """The archive of a model that `recognises` knows, or the file of weights in its folder."""
    if str(source) in RELEASES:
        source = fetch(str(source))
    files = open_model(source, CONFIGS)
    if files.source.is_file():
        return files.source
    name = INDEX if INDEX in files else HDF5
    return min(files.source.rglob(name))


def read_state(files: ModelFiles, encoder: Astromer, head: Reconstruction) -> dict[str, Tensor]:
    """All tensors of the encoder and the head, named `encoder.X` and `head.X`, from whichever form there is."""
    expected = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    expected |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    expected.pop("encoder.mask_token", None)  # never in a published file
    if INDEX in files:
        return _read_checkpoint(files, encoder, expected)
    if HDF5 in files:
        return _read_hdf5(files, encoder, expected)
    raise UserError(f"{shown(files.source)} has neither {INDEX} nor {HDF5}; a complete copy of the model is needed.")


# --- TensorFlow checkpoints -----------------------------------------------------------------------------------------


def checkpoint_names(encoder: Astromer) -> dict[str, str]:
    """Name of every variable in a checkpoint -> name of the tensor."""
    names = {"layer_with_weights-0/inp_transform": "encoder.embed"}
    parts = {
        "mha/wq": "attn.q",
        "mha/wk": "attn.k",
        "mha/wv": "attn.v",
        "mha/dense": "attn.out",
        "ffn/layer_with_weights-0": "ffn.fc1",
        "ffn/layer_with_weights-1": "ffn.fc2",
        "layernorm1": "norm1",
        "layernorm2": "norm2",
    }
    if encoder.version == 2:
        parts |= {"reshape_leak_1": "leak1", "reshape_leak_2": "leak2"}
    for i in range(encoder.layers):
        for theirs, ours in parts.items():
            names[f"layer_with_weights-0/enc_layers/{i}/{theirs}"] = f"encoder.blocks.{i}.{ours}"
    names["layer_with_weights-1/bn_0"] = "head.norm"
    names["layer_with_weights-1/reg_layer"] = "head.linear"
    return _with_parts(names, "")


def _read_checkpoint(files: ModelFiles, encoder: Astromer, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    place = f"{INDEX} of {shown(files.source)}"
    bundle = read_index(files.read(INDEX, LARGEST_INDEX), place)
    stored = {}  # our form of a variable's name -> its name in the file
    for name in bundle.entries:
        if not NOT_WEIGHTS.match(name):
            modern = OLD_FEED_FORWARD.sub(r"/ffn/layer_with_weights-\1/", name)
            stored[modern.removesuffix(VALUE)] = name
    names = checkpoint_names(encoder)
    shapes = {name: bundle.entries[theirs].shape for name, theirs in stored.items()}
    check_shapes(names, shapes, expected, place)
    data = {}
    for shard in {bundle.entries[n].shard for n in stored.values()}:
        data[shard] = _data(files, bundle, shard, expected)

    def read(name: str) -> np.ndarray:
        theirs = stored[name]
        return bundle.read(theirs, data[bundle.entries[theirs].shard])

    return _converted(names, read)


def _data(
    files: ModelFiles,
    bundle: Bundle,
    shard: int,
    expected: Mapping[str, Tensor],
) -> bytes:
    """The bytes of a data file, which may hold the optimiser's copies of the weights but not much more."""
    weights = 4 * sum(tensor.numel() for tensor in expected.values())
    limit = (1 + OPTIMIZER_COPIES) * weights + SLACK
    return files.read(bundle.data_name(PREFIX, shard), limit)


# --- Keras HDF5 files -----------------------------------------------------------------------------------------------


def hdf5_names(encoder: Astromer) -> dict[str, str]:
    """Path of every array in a HDF5 file -> name of the tensor; Keras numbers layers of a kind through the model."""
    block = "encoder/encoder/encoder_layer"
    names = {"encoder/encoder/dense": "encoder.embed"}
    for i in range(encoder.layers):
        attention = f"{block}{_number(i)}/multi_head_attention{_number(i)}"
        parts = {
            f"{attention}/WQ": "attn.q",
            f"{attention}/WK": "attn.k",
            f"{attention}/WV": "attn.v",
            f"{attention}/MixerDense": "attn.out",
            f"encoder/dense{_number(2 * i + 1)}": "ffn.fc1",
            f"encoder/dense{_number(2 * i + 2)}": "ffn.fc2",
            f"{block}{_number(i)}/layer_normalization{_number(2 * i)}": "norm1",
            f"{block}{_number(i)}/layer_normalization{_number(2 * i + 1)}": "norm2",
        }
        for theirs, ours in parts.items():
            names[theirs] = f"encoder.blocks.{i}.{ours}"
    names[f"regression/regression/layer_normalization{_number(2 * encoder.layers)}"] = "head.norm"
    names["regression/regression/RegLayer"] = "head.linear"
    return _with_parts(names, ":0")


def _number(i: int) -> str:
    return f"_{i}" if i else ""


def _read_hdf5(files: ModelFiles, encoder: Astromer, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from astrom3.published.keras_h5 import KerasWeights

    place = f"{HDF5} of {shown(files.source)}"
    weights = KerasWeights(files.read(HDF5), place)
    names = hdf5_names(encoder)
    check_shapes(names, weights.shapes, expected, place)
    return _converted(names, weights.read)


# --- both -----------------------------------------------------------------------------------------------------------


def _with_parts(layers: Mapping[str, str], suffix: str) -> dict[str, str]:
    """Names of layers as names of their two variables; norms have gamma and beta, linear layers kernel and bias."""
    names = {}
    for theirs, ours in layers.items():
        is_norm = "norm" in ours
        names[f"{theirs}/{'gamma' if is_norm else 'kernel'}{suffix}"] = f"{ours}.weight"
        names[f"{theirs}/{'beta' if is_norm else 'bias'}{suffix}"] = f"{ours}.bias"
    return names


def check_shapes(
    names: Mapping[str, str],
    stored: Shapes,
    expected: Mapping[str, Tensor],
    place: str,
) -> None:
    """Raise UserError where a variable is missing, left over, or of another shape than the configuration asks for."""
    missing = sorted(set(names) - set(stored))
    surplus = sorted(set(stored) - set(names))
    if missing or surplus:
        complaints = []
        if missing:
            complaints.append(f"lacks {_listed(missing)}")
        if surplus:
            complaints.append(f"has {_listed(surplus)} left over")
        raise UserError(f"{place} does not fit its configuration: it {' and '.join(complaints)}.")
    for theirs, ours in names.items():
        needed = tuple(expected[ours].shape)[::-1]  # kernels are (in, out)
        if tuple(stored[theirs]) != needed:
            raise UserError(
                f"{place}: {theirs} has shape {tuple(stored[theirs])}, its configuration asks for {needed}."
            )


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    rest = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    return ", ".join(listed[:MOST_NAMED]) + rest


def _converted(names: Mapping[str, str], read: Callable[[str], np.ndarray]) -> dict[str, Tensor]:
    """Tensors under our names; kernels turned from (in, out) to (out, in)."""
    state = {}
    for theirs, ours in names.items():
        numbers = read(theirs)
        if not np.isfinite(numbers).all():
            raise UserError(f"The weights hold numbers that are not finite ({theirs}); fetch the model again.")
        state[ours] = torch.from_numpy(np.ascontiguousarray(numbers.T))
    return state


def _without(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {}
    for name, tensor in state.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = tensor
    return found
