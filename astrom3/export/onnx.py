"""Networks as ONNX files that run without this package: each encoder, each with its projection, the whole model.

Attention is deterministic ("fixed": the drawn keys are constants in the file; "full": every query attends), the heads
are merged as they were in training (the usual merge of published weights is another network, experiments/head_merge).
Every file is compared with torch over random inputs, short curves and a batch of one before it gets its name.

light_curve.onnx: x_enc (batch, 200, 9), mask (batch, 200) -> mean (batch, 128), sequence (batch, 200, 128), the form
that the `light-curve` Python package reads; mean is that of the outputs over the points that are there.
"""

from __future__ import annotations

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
from torch import nn

from astrom3.encoders.astromer import Astromer
from astrom3.encoders.informer import ProbSparseAttention
from astrom3.errors import UserError, first_line
from astrom3.export.astromer_onnx import write_onnx
from astrom3.export.graphs import ASTROMER_INPUTS, Graph, Together, example, graphs
from astrom3.extras import need
from astrom3.inference.trained import TrainedModel

TOLERANCE = 1e-4
TIE = 1e-4  # two queries whose distinctiveness differs by less may change places with the rounding
OPSET = 20
BATCHES = ((1, None), (7, None), (32, None), (4, 1), (4, 3), (2, 10**6))  # objects, points of their light curves


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


def write(graph: Graph, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=65536)
    inputs = example(graph, 3, seed=0)
    each = tuple({0: batch} for _ in graph.keys)
    shapes: Any = (each,)  # *inputs counts as one argument
    if isinstance(graph.module, Together):
        shapes = (each[0], each[1:])
    for talker in (
        "torch.onnx",
        "onnxscript",
        "onnx_ir",
    ):  # of torchvision, not needed here, of every constant
        logging.getLogger(talker).setLevel(logging.ERROR)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program: Any = torch.onnx.export(
                graph.module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
                input_names=list(graph.inputs),
                dynamic_shapes=shapes,
            )
        except Exception as error:  # of any kind: what an encoder of anybody's does in its forward pass
            why = first_line(error.__cause__ or error)
            raise UserError(
                f"{graph.name} cannot be traced for ONNX ({why}): give its encoder a method for_export, "
                "or say onnx=false"
            ) from error

    name_outputs(program.model.graph, graph.outputs)
    program.save(str(path), external_data=False)


def name_outputs(graph: Any, names: Sequence[str]) -> None:
    """The exporter would give names to outputs without looking who has them already."""
    taken = {}
    for node in graph:
        for value in node.outputs:
            taken[value.name] = value
    for name in names:
        if name in taken:
            taken[name].name = f"{name}_inside"
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


def compare(graph: Graph, path: Path) -> Written:
    """The file under onnxruntime with torch."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = list(zip(graph.keys, graph.inputs, strict=True))
    worst = 0.0
    objects = 0
    tied = 0
    for seed, (n, points) in enumerate(BATCHES):
        inputs = example(graph, n, seed + 1, points)
        try:
            found = session.run(None, {name: inputs[key].numpy() for key, name in names})
        except Exception as error:  # onnxruntime has classes of its own
            raise UserError(
                f"{graph.name}.onnx does not take a batch of {n} ({first_line(error)}): where its encoder asks for "
                "len(x), x.shape[0] keeps the number open; or say onnx=false"
            ) from error
        with torch.inference_mode(), margins(graph.module) as closest:
            expected = graph.module(*inputs.values())
        if not isinstance(expected, tuple):
            expected = (expected,)

        off = np.zeros(n)
        for theirs, ours in zip(found, expected, strict=True):
            size = np.maximum(np.abs(ours.numpy()), 1)  # numbers of a regression may be large
            difference = (np.abs(theirs - ours.numpy()) / size).reshape(n, -1)
            off = np.maximum(off, difference.max(1))
        margin = np.min(closest, 0) if closest else np.full(n, np.inf)
        excused = (off > TOLERANCE) & (margin < TIE)
        worst = max(worst, float(off[~excused].max(initial=0)))
        objects += n
        tied += int(excused.sum())

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

    hooks = []
    for m in module.modules():
        if isinstance(m, ProbSparseAttention):
            hooks.append(m.register_forward_pre_hook(look))

    try:
        yield gaps
    finally:
        for hook in hooks:
            hook.remove()
