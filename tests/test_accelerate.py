"""Encoders are plain torch; `accelerate` exchanges their layers for faster ones and changes nothing else."""

import ast
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from astrom3.encoders import layers
from astrom3.encoders.astromer import Astromer, MaskedAstromer
from astrom3.encoders.cpu import Processor, accelerate, faster_layers, this_processor
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.specformer import SpecFormer

ROOT = Path(__file__).resolve().parents[1]
FASTEST = Processor("znver4", wide=True, onednn=True)
ORDINARY = Processor("haswell", wide=False, onednn=True)


def times(n, length):
    return torch.arange(length).float().expand(n, length) * 3.0


def light_curves():
    return torch.randn(20, 200, 9), torch.ones(20, 200)


SMALL = {"d_model": 32, "d_ff": 64}
NETWORKS = {
    "informer": lambda: (InformerEncoder(e_layers=2, **SMALL), light_curves()),
    "relu": lambda: (InformerEncoder(e_layers=2, activation="relu", **SMALL), light_curves()),
    "astromer": lambda: (Astromer(layers=2, **SMALL), (times(20, 60), torch.randn(20, 60), torch.ones(20, 60))),
    "galspecnet": lambda: (GalSpecNet(), (torch.randn(3, 3, 2575),)),
    "mlp": lambda: (MetadataMLP(), (torch.randn(20, 34),)),
    "specformer": lambda: (SpecFormer(embed_dim=32, num_layers=1, num_heads=2), (torch.rand(20, 7781) + 1,)),
}


def numbers(network, inputs):
    """Output and gradients of the parameters, the same keys drawn and nothing dropped."""
    network.zero_grad()
    torch.manual_seed(1)
    out = network(*inputs)
    generator = torch.Generator().manual_seed(2)
    (out * torch.randn(out.shape, generator=generator)).sum().backward()
    return {"output": out.detach()} | {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("processor", [FASTEST, ORDINARY])
@pytest.mark.parametrize("name", NETWORKS)
def test_names_numbers_and_gradients_stay(name, processor):
    torch.manual_seed(0)
    network, inputs = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    before = deepcopy(network)
    tensors = {key: value.data_ptr() for key, value in network.state_dict(keep_vars=True).items()}
    assert accelerate(network, processor) is network
    assert {key: value.data_ptr() for key, value in network.state_dict(keep_vars=True).items()} == tensors
    assert [key for key, _ in network.named_modules()] == [key for key, _ in before.named_modules()]
    expected = numbers(before, inputs)
    found = numbers(network, inputs)
    assert set(found) == set(expected)
    for key, value in expected.items():
        # Sums in another order: float32 has 7 digits, and a gradient sums over some thousand points.
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5 * max(1, float(value.abs().max())), msg=key)


def test_dropout_is_exchanged_and_drops_as_much():
    network = accelerate(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.25)), FASTEST)
    kept = network[1](torch.ones(100_000))
    assert abs(float((kept == 0).float().mean()) - 0.25) < 0.01
    torch.testing.assert_close(kept.unique(), torch.tensor([0, 1 / 0.75]))
    assert torch.equal(network.eval()[1](torch.ones(5)), torch.ones(5))
    everything = accelerate(nn.Sequential(nn.Dropout(1.0)), FASTEST)
    assert not everything(torch.ones(5)).any()


def test_what_is_derived_is_left_alone_and_twice_is_once():
    class Mine(nn.Linear):
        pass

    network = accelerate(accelerate(nn.Sequential(Mine(32, 32), nn.Tanh(), MaskedAstromer(Astromer(layers=1)))))
    assert type(network[0]) is Mine and type(network[1]) is not nn.Tanh
    assert isinstance(network[1], nn.Tanh) and isinstance(network[2].encoder.blocks[0].norm1, layers.ResidualNorm)


@pytest.mark.parametrize(
    ("processor", "convolutions"),
    [
        (FASTEST, True),
        (Processor("znver3", wide=False, onednn=True), False),  # AMD without AVX-512
        (Processor("sapphirerapids", wide=True, onednn=True), False),  # MKL uses the whole width there
        (Processor("znver4", wide=True, onednn=False), False),
        (Processor("neoverse-v2", wide=False, onednn=False), False),
    ],
)
def test_the_choice_follows_the_processor(processor, convolutions):
    assert (nn.Linear in faster_layers(processor)) == convolutions


def test_this_processor_is_known():
    found = this_processor()
    assert found.kind and found.wide == (torch.backends.cpu.get_cpu_capability() == "AVX512")


def imports_of(path):
    """Modules that a file imports when it is imported, our own as paths."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "astrom3.encoders")
    return names - {"astrom3.encoders"}


@pytest.mark.parametrize("path", sorted((ROOT / "astrom3" / "encoders").glob("*.py")), ids=lambda path: path.stem)
def test_an_encoder_imports_torch_alone(path):
    """Itself, and whatever of this package it imports."""
    seen, waiting, others = set(), [path], set()
    while waiting:
        here = waiting.pop()
        seen.add(here)
        for name in imports_of(here):
            if name.startswith("astrom3."):
                module = ROOT / Path(*name.split(".")).with_suffix(".py")
                assert module.parent.name != "cpu"
                if module not in seen and module.is_file():
                    waiting.append(module)
            else:
                others.add(name.partition(".")[0])
    assert others - set(sys.stdlib_module_names) <= {"torch"}
