"""Networks as ONNX files that run without this package: each encoder, each with its projection, the whole model.

Attention is deterministic ("fixed": the drawn keys are constants in the file; "full": every query attends), the heads
are merged as they were in training (the usual merge of published weights is another network, experiments/head_merge).
Every file is compared with torch over random inputs, short curves and a batch of one before it gets its name.

light_curve.onnx: x_enc (batch, 200, 9), mask (batch, 200) -> mean (batch, 128), sequence (batch, 200, 128), the form
that the `light-curve` Python package reads; mean is that of the outputs over the points that are there.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.encoders.astromer import Astromer
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder, ProbSparseAttention
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import MultimodalClassifier, MultimodalModel
from astrom3.errors import UserError
from astrom3.export.astromer_onnx import write_onnx
from astrom3.extras import need
from astrom3.inference.trained import TrainedModel

TOLERANCE = 1e-4
TIE = 1e-4  # two queries whose distinctiveness differs by less may change places with the rounding
OPSET = 20
ASTROMER_INPUTS = ("input", "times", "mask_in")
ASTROMER_OUTPUTS = ("mean", "max", "sequence")
INPUTS = {"photometry": "x_enc"}  # key of the batch -> name in the file, where they differ
FILES = {"photometry": "light_curve", "spectra": "spectrum"}  # modality -> name of the file, where they differ
BATCHES = ((1, None), (7, None), (32, None), (4, 1), (4, 3), (2, 10**6))  # objects, points of their light curves


class Deterministic(nn.Module):
    """A light-curve encoder whose drawn keys are constants: a generator cannot be part of a graph."""

    inputs = InformerEncoder.inputs

    def __init__(self, encoder: InformerEncoder):
        super().__init__()
        self.encoder = encoder
        self.out_features = encoder.out_features
        if encoder.evaluation == "fixed":
            self.register_buffer("keys", torch.stack(encoder.fixed_keys(encoder.seq_len)))  # (layers, L, U)

    def sequence(self, x_enc: Tensor, mask: Tensor) -> Tensor:
        keys: Any = getattr(self, "keys", None)
        return self.encoder.sequence(x_enc, mask, None if keys is None else list(keys.unbind(0)))

    def forward(self, x_enc: Tensor, mask: Tensor) -> Tensor:
        return self.sequence(x_enc, mask).flatten(1)


class LightCurve(nn.Module):
    """(x_enc, mask) -> mean (B, d_model), sequence (B, L, d_model)."""

    def __init__(self, encoder: Deterministic):
        super().__init__()
        self.encoder = encoder

    def forward(self, x_enc: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        sequence = self.encoder.sequence(x_enc, mask)
        return sequence.sum(1) / mask.sum(1, keepdim=True).clamp(min=1), sequence


class Projected(nn.Module):
    """An encoder and its projection: its inputs -> embedding (B, D) of length 1."""

    def __init__(self, encoder: nn.Module, projection: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.projection = projection

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.normalize(self.projection(self.encoder(*inputs)), dim=-1)


class Headed(nn.Module):
    """An encoder and its class head: its inputs -> probabilities (B, C)."""

    def __init__(self, encoder: nn.Module, head: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.softmax(self.head(self.encoder(*inputs)), dim=-1)


class Together(nn.Module):
    """All modalities: present (B, M) 0 or 1, and all inputs (anything finite where absent) -> an embedding (B, D) of
    each modality, zero where absent, their mean, and the class probabilities (B, C) where there is a head."""

    def __init__(self, network: nn.Module, keys: tuple[str, ...]):
        super().__init__()
        self.network = network
        self.keys = keys

    def forward(self, present: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        with_head = isinstance(self.network, MultimodalClassifier)
        backbone: Any = self.network.backbone if with_head else self.network
        batch = dict(zip(self.keys, inputs, strict=True))
        there = dict(zip(backbone.modalities, present.unbind(1), strict=True))
        found = {m: backbone.embed(m, batch) * there[m].unsqueeze(1) for m in backbone.modalities}
        mean = torch.stack(list(found.values())).sum(0) / present.sum(1, keepdim=True).clamp(min=1)
        if not with_head:
            return *found.values(), mean
        network: Any = self.network
        return *found.values(), mean, torch.softmax(network.head(network.fuse(found, there)), dim=-1)


@dataclass(frozen=True)
class Graph:
    """One file: a module, the keys of the batch that it takes, the names of what it gives."""

    name: str
    module: nn.Module
    keys: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(INPUTS.get(k, k) for k in self.keys)


@dataclass(frozen=True)
class Written:
    """difference: the largest from torch, over objects in which no two queries tied; tied: objects that were off by
    more because two did; objects: compared."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float
    objects: int
    tied: int


def export(model: TrainedModel, folder: Path, say: Callable[[str], None] = lambda text: None) -> list[Written]:
    """All graphs of a model. Raises UserError where one differs from torch by more than TOLERANCE."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        need(module, "export", "the export to ONNX")
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for graph in graphs(model):
        path = folder / f"{graph.name}.onnx"
        if isinstance(graph.module, Astromer):
            difference = write_onnx(graph.module, path)
            found.append(Written(graph.name, ASTROMER_INPUTS, graph.outputs, difference, 0, 0))
            say(f"{path.name}: unlike torch by at most {difference:.1e}")
            continue
        temporary = folder / f".{graph.name}.{os.getpid()}.onnx"
        try:
            write(graph, temporary)
            found.append(compare(graph, temporary))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        tied = f", {found[-1].tied} with tied queries by more" if found[-1].tied else ""
        say(f"{path.name}: {found[-1].objects} objects, unlike torch by at most {found[-1].difference:.1e}{tied}")
    return found


def graphs(model: TrainedModel) -> list[Graph]:
    """What there is to export of a model: of one Astromer encoder the form that the `light-curve` package reads.

    UserError for networks that have no ONNX form yet.
    """
    if isinstance(model.encoder, Astromer):
        return [Graph("light_curve", model.encoder, (), ASTROMER_OUTPUTS)]
    foreign = [view.name for slot, view in model.views.items() if view.name != slot]
    if foreign:
        raise UserError(f"encoders of the view {foreign[0]} have no ONNX form in this model: say onnx=false")
    network = copy.deepcopy(model.network).cpu().eval()
    backbone: Any = network.backbone if isinstance(network, MultimodalClassifier) else network
    whole = isinstance(backbone, MultimodalModel)
    encoders: Any = backbone.encoders if whole else {model.modalities[0]: getattr(network, "encoder", network)}
    for modality, encoder in encoders.items():
        encoders[modality] = fixed(encoder) if isinstance(encoder, InformerEncoder) else encoder
    out = []
    for modality, encoder in encoders.items():
        name = FILES.get(modality, modality)
        keys = tuple(encoder.inputs)
        if isinstance(encoder, Deterministic):
            out.append(Graph(name, LightCurve(encoder), keys, ("mean", "sequence")))
        else:
            out.append(Graph(name, encoder, keys, ("features",)))
        if whole:
            out.append(
                Graph(f"{name}_embedding", Projected(encoder, backbone.projections[modality]), keys, ("embedding",))
            )
        elif model.has_head:
            out.append(Graph(f"{name}_classifier", Headed(encoder, network.head), keys, ("probabilities",)))  # type: ignore[arg-type]
    if whole:
        names = (*(f"{FILES.get(m, m)}_embedding" for m in model.modalities), "mean")
        head = ("probabilities",) if model.has_head else ()
        out.append(Graph("trimodal", Together(network, model.inputs), ("present", *model.inputs), (*names, *head)))
    return out


def fixed(encoder: InformerEncoder) -> Deterministic:
    if encoder.evaluation == "sampled":
        raise UserError("sampled attention cannot be exported: choose evaluation=fixed or evaluation=full")
    return Deterministic(encoder)


def write(graph: Graph, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=65536)
    inputs = example(graph, 3, seed=0)
    each = tuple({0: batch} for _ in graph.keys)
    gathered = isinstance(graph.module, Projected | Headed)  # *inputs counts as one argument
    shapes: Any = (each,) if gathered else (each[0], each[1:]) if isinstance(graph.module, Together) else each
    for talker in (
        "torch.onnx",
        "onnxscript",
        "onnx_ir",
    ):  # of torchvision, not needed here, of every constant
        logging.getLogger(talker).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            graph.module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=list(graph.inputs),
            dynamic_shapes=shapes,
        )
    name_outputs(program.model.graph, graph.outputs)
    program.save(str(path), external_data=False)


def name_outputs(graph: Any, names: Sequence[str]) -> None:
    """The exporter would give names to outputs without looking who has them already."""
    taken = {value.name: value for node in graph for value in node.outputs}
    for name in names:
        if name in taken:
            taken[name].name = f"{name}_inside"
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


def example(graph: Graph, n: int, seed: int, points: int | None = None) -> dict[str, Tensor]:
    """Random inputs of n objects; points: of every light curve, None: random. Of several modalities each object has at
    least one."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {k: v for m in graph.module.modules() for k, v in input_shapes(m).items()}
    out = {k: torch.randn(n, *sizes[k], generator=generator) for k in graph.keys if k != "present"}
    if "mask" in out:
        length = sizes["mask"][0]
        drawn = torch.randint(1, length + 1, (n, 1), generator=generator)
        counts = drawn if points is None else torch.full((n, 1), min(points, length))
        out["mask"] = (torch.arange(length) < counts).float()
        out["photometry"] = out["photometry"] * out["mask"].unsqueeze(-1)
    if "present" in graph.keys:
        modalities = len(graph.outputs) - 1 - ("probabilities" in graph.outputs)
        present = torch.randint(0, 2, (n, modalities), generator=generator).float()
        present[torch.arange(n), torch.randint(0, modalities, (n,), generator=generator)] = 1
        out = {"present": present} | out
    return out


def input_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Key of the batch -> shape of one object, of an encoder."""
    if isinstance(module, InformerEncoder):
        return {"photometry": (module.seq_len, module.enc_in), "mask": (module.seq_len,)}
    if isinstance(module, GalSpecNet):
        return {"spectra": (module.conv_channels[0], module.pixels)}
    if isinstance(module, MetadataMLP):
        return {"metadata": (module.input_dim,)}
    return {}


def compare(graph: Graph, path: Path) -> Written:
    """The file under onnxruntime with torch."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    objects = 0
    tied = 0
    for seed, (n, points) in enumerate(BATCHES):
        inputs = example(graph, n, seed + 1, points)
        found = session.run(None, {INPUTS.get(k, k): v.numpy() for k, v in inputs.items()})
        with torch.inference_mode(), margins(graph.module) as closest:
            expected = graph.module(*inputs.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        off = np.max([np.abs(a - b.numpy()).reshape(n, -1).max(1) for a, b in zip(found, expected, strict=True)], 0)
        margin = np.min(closest, 0) if closest else np.full(n, np.inf)
        excused = (off > TOLERANCE) & (margin < TIE)
        worst, objects, tied = max(worst, float(off[~excused].max(initial=0))), objects + n, tied + int(excused.sum())
    if worst > TOLERANCE:
        raise UserError(f"{graph.name}.onnx differs from torch by {worst:.1e}, more than {TOLERANCE:g}: not written")
    return Written(graph.name, graph.inputs, graph.outputs, worst, objects, tied)


@contextmanager
def margins(module: nn.Module) -> Any:
    """Filled while the module runs: per attention the smallest gap (n,), over heads, between the least distinctive
    query that was selected and the next; by how much it would take for another one to be."""
    gaps: list[np.ndarray] = []

    def look(attention: Any, given: tuple[Any, ...]) -> None:
        x = given[0]
        keys = given[1] if len(given) > 1 else None
        if keys is None:
            return
        scores = attention.distinctiveness(attention.query(x), attention.key(x), keys)
        best = scores.topk(keys.shape[1] + 1).values  # (B, H, u + 1)
        gaps.append((best[..., -2] - best[..., -1]).amin(1).numpy())

    hooks = [m.register_forward_pre_hook(look) for m in module.modules() if isinstance(m, ProbSparseAttention)]
    try:
        yield gaps
    finally:
        for hook in hooks:
            hook.remove()
