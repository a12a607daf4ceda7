"""Astromer encoders as ONNX files in the form that the `light-curve` Python package reads (`light_curve.embed`).

Inputs are `input` (magnitudes) and `times`, centred on zero, and `mask_in`, float32 (batch, window, 1). Here `mask_in`
is 1 for points and 0 for padding, the opposite of the originals. Outputs are `mean` and `max` (batch, width) over the
points, and `sequence` (batch, window, width). The graph is written operation by operation: torch's exporter has no
operator set below 18, and that package's files have 13.

    write_onnx(encoder, Path("astromer1.onnx"))
    light_curve.embed.Astromer1(onnxruntime.InferenceSession("astromer1.onnx"), output="mean")(time, magnitude)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from astrom3.encoders.astromer import BLOCKED, OUTSIDE, Astromer, pooled
from astrom3.encoders.astromer_blocks import NORM_EPS, positional_rates
from astrom3.errors import UserError
from astrom3.extras import need

OPSET = 13
IR_VERSION = 8
TOLERANCE = 1e-4  # norm of the difference over norm of the output; single numbers of float32 differ by more
NOTHING = -1e9  # the maximum where there is no point
INPUTS = ("input", "times", "mask_in")
OUTPUTS = ("mean", "max", "sequence")
BATCHES = ((1, None), (7, None), (3, 1), (2, 10**6))  # windows and points of the comparison; None: random


class GraphWriter:
    """Nodes and constants of an ONNX graph, added one after the other."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operation: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """The name of the result of an operation on named values."""
        from onnx import helper

        name = name or f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(
                operation,
                list(inputs),
                [name],
                **attributes,
            )
        )
        return name

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """The name of a constant."""
        from onnx import numpy_helper

        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array.astype(dtype)), name))
        return name

    def linear(self, x: str, layer: nn.Linear) -> str:
        """A linear layer on the last dimension."""
        product = self.add("MatMul", x, self.constant(layer.weight.T))
        return self.add("Add", product, self.constant(layer.bias))

    def norm(self, x: str, layer: nn.LayerNorm) -> str:
        """LayerNorm on the last dimension."""
        centred = self.add("Sub", x, self.add("ReduceMean", x, axes=[-1]))
        variance = self.add("ReduceMean", self.add("Mul", centred, centred), axes=[-1])
        deviation = self.add("Sqrt", self.add("Add", variance, self.constant(NORM_EPS)))
        scaled = self.add("Mul", self.add("Div", centred, deviation), self.constant(layer.weight))
        return self.add("Add", scaled, self.constant(layer.bias))


def write_onnx(encoder: Astromer, path: Path) -> float:
    """Write the encoder to `path` and return the largest relative difference of onnxruntime's outputs from torch's.

    Raises UserError where that is more than 1e-4, and then leaves no file.
    """
    for module in ("onnx", "onnxruntime"):
        need(module, "export", "the export to ONNX")
    import onnx

    model = build_graph(encoder)
    onnx.checker.check_model(model)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(model.SerializeToString())
        difference = compare(encoder, temporary)
        if not difference <= TOLERANCE:
            raise UserError(f"{path.name} differs from torch by {difference:.1e}, more than {TOLERANCE:g}.")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

    return difference


def build_graph(encoder: Astromer) -> Any:
    """The encoder as an ONNX model (`onnx.ModelProto`)."""
    from onnx import TensorProto, helper

    graph = GraphWriter()
    masked = graph.add("Sub", graph.constant(1.0), "mask_in")  # (B, L, 1), 1 on padding
    bias = attention_bias(graph, encoder, masked)
    x = input_embedding(graph, encoder, masked)
    for i, block in enumerate(encoder.blocks):
        last = i == len(encoder.blocks) - 1
        x = add_block(graph, encoder, block, x, bias, "sequence" if last else None)

    add_pools(graph, x)

    def value(name: str, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    width = encoder.d_model
    inputs = [value(name, "batch", encoder.window, 1) for name in INPUTS]
    shapes = (("batch", width), ("batch", width), ("batch", encoder.window, width))
    outputs = [value(name, *shape) for name, shape in zip(OUTPUTS, shapes, strict=True)]
    body = helper.make_graph(graph.nodes, "astromer", inputs, outputs, graph.constants)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        body,
        opset_imports=opsets,
        ir_version=IR_VERSION,
        producer_name="astrom3",
    )


def input_embedding(graph: GraphWriter, encoder: Astromer, masked: str) -> str:
    """Linear map of the magnitude plus the features of the time, (B, L, D)."""
    magnitudes = "input"
    if encoder.hidden_value != "true":
        token = torch.zeros(1) if encoder.mask_token is None else encoder.mask_token.flatten()
        seen = graph.add("Mul", magnitudes, "mask_in")
        magnitudes = graph.add("Add", seen, graph.add("Mul", masked, graph.constant(token)))

    rates = positional_rates(encoder.d_model)
    sines = graph.add("Sin", graph.add("Mul", "times", graph.constant(rates[0::2])))
    cosines = graph.add("Cos", graph.add("Mul", "times", graph.constant(rates[1::2])))
    both = graph.add(
        "Concat",
        sines,
        cosines,
        axis=-1,
    )
    place = torch.cat([torch.arange(0, encoder.d_model, 2), torch.arange(1, encoder.d_model, 2)]).argsort()
    features = graph.add(
        "Gather",
        both,
        graph.constant(place, np.int64),
        axis=2,
    )
    return graph.add("Add", graph.linear(magnitudes, encoder.embed), features)


def attention_bias(graph: GraphWriter, encoder: Astromer, masked: str) -> str | None:
    """What is added to the logits, (B, 1, L or 1, L or 1); see `Astromer`."""
    if encoder.mask_format == "none":
        return None
    queries = graph.add("Unsqueeze", masked, graph.constant([1], np.int64))  # (B, 1, L, 1)
    keys = graph.add("Transpose", queries, perm=[0, 1, 3, 2])  # (B, 1, 1, L)
    if encoder.mask_format in ("plus_one", "either"):
        either = graph.add("Min", graph.add("Add", queries, keys), graph.constant(1.0))
        factor = 1.0 if encoder.mask_format == "plus_one" else BLOCKED
        return graph.add("Mul", either, graph.constant(factor))
    if encoder.mask_format == "query":
        return graph.add("Mul", queries, graph.constant(BLOCKED))
    return graph.add("Mul", keys, graph.constant(OUTSIDE if encoder.compat is None else BLOCKED))


def add_block(
    graph: GraphWriter,
    encoder: Astromer,
    block: Any,  # a Block
    x: str,
    bias: str | None,
    name: str | None = None,
) -> str:
    """One block of the encoder, (B, L, D) -> (B, L, D)."""
    attention = block.attn
    width = encoder.d_model // encoder.n_heads
    by_head = graph.constant([0, encoder.window, encoder.n_heads, width], np.int64)
    flattened = [0, encoder.window, encoder.d_model]

    def split(layer: nn.Linear, perm: list[int]) -> str:
        projected = graph.linear(x, layer)
        heads = graph.add("Reshape", projected, by_head)  # (B, L, H, D / H)
        return graph.add("Transpose", heads, perm=perm)

    query = split(attention.q, [0, 2, 1, 3])
    query = graph.add("Mul", query, graph.constant(attention.scale))
    key = split(attention.k, [0, 2, 3, 1])
    logits = graph.add("MatMul", query, key)  # (B, H, L, L)
    if bias is not None:
        logits = graph.add("Add", logits, bias)
    weights = graph.add("Softmax", logits, axis=-1)
    value = split(attention.v, [0, 2, 1, 3])
    context = graph.add("MatMul", weights, value)
    merged = graph.add("Transpose", context, perm=[0, 2, 1, 3])
    flat = graph.add("Reshape", merged, graph.constant(flattened, np.int64))
    attended = graph.linear(flat, attention.out)
    if block.leak1 is not None:
        attended = graph.add("Add", graph.linear(x, block.leak1), attended)

    hidden = graph.norm(attended, block.norm1)
    inner = graph.add("Tanh", graph.linear(hidden, block.ffn.fc1))
    inner = graph.linear(inner, block.ffn.fc2)
    if block.leak2 is not None:
        inner = graph.add("Add", graph.linear(hidden, block.leak2), inner)
    out = graph.norm(inner, block.norm2)
    return graph.add("Identity", out, name=name) if name else out


def add_pools(graph: GraphWriter, sequence: str) -> None:
    """Outputs `mean`, 0 where there is no point, and `max`, -1e9 there."""
    steps = graph.constant([1], np.int64)
    total = graph.add(
        "ReduceSum",
        graph.add("Mul", sequence, "mask_in"),
        steps,
        keepdims=0,
    )
    count = graph.add(
        "ReduceSum",
        "mask_in",
        steps,
        keepdims=0,
    )
    graph.add(
        "Div",
        total,
        graph.add("Max", count, graph.constant(1.0)),
        name="mean",
    )
    valid = graph.add("Greater", "mask_in", graph.constant(0.5))
    points = graph.add(
        "Where",
        valid,
        sequence,
        graph.constant(NOTHING),
    )
    graph.add(
        "ReduceMax",
        points,
        name="max",
        axes=[1],
        keepdims=0,
    )


@torch.inference_mode()
def compare(encoder: Astromer, path: Path) -> float:
    """The largest difference of the file's outputs under onnxruntime from torch's, over random windows and outputs:
    norm of the difference over norm of the output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    encoder = encoder.eval()
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for windows, points in BATCHES:
        shape = (windows, encoder.window)
        drawn = torch.randint(
            1,
            encoder.window + 1,
            (windows, 1),
            generator=generator,
        )
        lengths = drawn if points is None else torch.full_like(drawn, min(points, encoder.window))
        valid = (torch.arange(encoder.window) < lengths).float()
        times = torch.randn(shape, generator=generator) * 300 * valid  # days
        magnitudes = torch.randn(shape, generator=generator) * valid
        fed = zip(INPUTS, (magnitudes, times, valid), strict=True)
        results = session.run(list(OUTPUTS), {name: value.unsqueeze(-1).numpy() for name, value in fed})
        sequence = encoder.every_layer(times, magnitudes, valid)[-1]
        expected = (pooled(sequence, valid, "mean"), pooled(sequence, valid, "max"), sequence)
        for result, tensor in zip(results, expected, strict=True):
            difference = torch.from_numpy(result) - tensor
            largest = max(largest, float(difference.norm() / tensor.norm()))

    return largest
