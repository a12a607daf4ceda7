"""The rows of the table: what is measured, on how much, and what was aimed at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from astrom3.hardware import fast_bfloat16

MODELS = ("photo", "spectra", "meta", "all", "clip")
PRECISIONS = ("f32", "bf16")
# Objects per CPU second of the published programs (AstroM3 and AstroCLIP in torch, ASTROMER in TensorFlow), float32, on
# cores of a shared AMD EPYC that do 75 to 90 GFLOP/s each. Our plain variants are themselves faster than some of them.
ORIGINAL = {
    "prepare": 62.5,
    "loader": 55.5,
    "clip step": 16.0,
    "cutout": 707.0,
    "crops": 95.0,
    "specformer step": 0.32,
    "specformer inference": 0.94,
    "alignment": 0.43,
    "astromer 1 step": 31.0,
    "astromer 1 inference": 82.0,
    "astromer 2 step": 8.0,
    "astromer 2 inference": 23.0,
}


@dataclass(frozen=True)
class Row:
    """options: of the case in cases.py; plain: other options for the plain variant, None without one; ratio, rate,
    matmul: targets (times the plain variant, objects/s, share of the matrix-product rate; any one is enough);
    original: objects per CPU second of the published program, where the facts have it."""

    name: str
    case: str
    options: dict[str, Any]
    plain: dict[str, Any] | None = field(default_factory=dict)
    repetitions: int = 5
    ratio: float | None = None
    rate: float | None = None
    matmul: float | None = None
    original: float | None = None


def data_rows(full: bool) -> list[Row]:
    n = 4000 if full else 1000
    rows = [
        Row(
            "preparing, one thread",
            "prepare",
            {"objects": n, "threads": 1},
            ratio=30,
            rate=2000,
            original=ORIGINAL["prepare"],
        ),
        Row("filling batches", "filling", {"objects": n}, rate=20_000, original=ORIGINAL["loader"]),
        Row("streaming from parquet", "streaming", {"objects": n}, rate=1500, original=ORIGINAL["loader"]),
    ]
    for size in (1000, 4000, 16000) if full else ():
        rows += [
            Row(f"preparing {size} objects", "prepare", {"objects": size, "threads": 1}, None, 3),
            Row(f"filling from {size} objects", "filling", {"objects": size}, None, 3),
        ]
    return rows


def precisions(device: str) -> tuple[str, ...]:
    """bf16 only where the hardware computes it. On other CPUs trainer.precision=auto trains in float32 too."""
    return PRECISIONS if device != "cpu" or fast_bfloat16("cpu") else ("f32",)


def network_rows(full: bool, device: str) -> list[Row]:
    batch = 512 if device != "cpu" else 256 if full else 64
    targets = {
        ("step", "clip", "f32"): {"ratio": 2.0, "rate": 65, "original": ORIGINAL["clip step"]},
        ("step", "clip", "bf16"): {"ratio": 5.0, "rate": 160, "original": ORIGINAL["clip step"]},
        ("inference", "photo", "f32"): {"ratio": 2.0},
        ("inference", "photo", "bf16"): {"ratio": 5.0},
        ("step", "spectra", "f32"): {"ratio": 1.5, "matmul": 0.5},
        ("step", "meta", "f32"): {"ratio": 1.5, "matmul": 0.5},
    }
    gpu = {("step", "clip", "bf16"): {"rate": 40_000}}
    rows = []
    for case in ("step", "inference"):
        for model in MODELS if full or device != "cpu" else ("clip", "photo", "spectra", "meta"):
            for precision in precisions(device):
                small = {"spectra": 1, "meta": 16}.get(model, 1)  # cheap ones get more objects
                options = {"model": model, "precision": precision, "batch": batch * small, "device": device}
                aim = (targets if device == "cpu" else gpu).get((case, model, precision), {})
                verb = "training step" if case == "step" else "inference"
                # The plain variant is always float32: that is what the reference trains in.
                plain = {"precision": "f32", "batch": min(batch, 64) * small if device == "cpu" else batch * small}
                rows.append(Row(f"{model} {verb}, {precision}", case, options, plain, 5, **aim))
                if device != "cpu":
                    rows.append(
                        Row(
                            f"{model} {verb}, {precision}, compiled",
                            case,
                            options | {"compiled": True},
                            plain,
                            5,
                            **aim,
                        )
                    )
    sizes = (64, 256, 512) if device == "cpu" else (128, 512, 2048)
    precision = precisions(device)[-1]
    for size in sizes if full else ():
        options = {"model": "clip", "precision": precision, "batch": size, "device": device}
        rows.append(Row(f"clip training step, {precision}, batch {size}", "step", options, None, 3))
    return rows


def galaxy_rows(full: bool, device: str) -> list[Row]:
    """AstroCLIP: views on one thread, networks at the published size."""
    if device != "cpu":
        published: dict[str, Any] = {"device": device, "size": "published"}
        steps = {"specformer": 64, "dino": 32, "alignment": 256}
        return [
            Row(f"galaxies, {case} step, {precision}", case, published | {"precision": precision, "batch": n}, None)
            for case, n in steps.items()
            for precision in precisions(device)
        ]
    few = 5 if full else 3
    batch = 8 if full else 2
    rows = [
        Row("galaxies, cutout view", "cutout", {"threads": 1}, **five_times("cutout")),
        Row("galaxies, crops", "crops", {"threads": 1}, **five_times("crops")),
        Row("galaxies, streamed pairs", "pairs", {"objects": 1000 if full else 256, "threads": 1}, None, few, rate=300),
    ]
    for training, verb, aims in ((True, "step", {"ratio": 1.3, "matmul": 0.6}), (False, "inference", {"ratio": 1.3})):
        for precision in precisions("cpu"):
            options = {"precision": precision, "batch": batch, "training": training, "threads": 1}
            name = f"galaxies, SpecFormer {verb}, {precision}"
            original = ORIGINAL[f"specformer {verb}"]
            rows.append(Row(name, "specformer", options, {"precision": "f32"}, few, **aims, original=original))
    kept = {"precision": "f32", "batch": 32, "threads": 1}
    of_alignment = {"ratio": 20.0, "original": ORIGINAL["alignment"]}
    rows.append(Row("galaxies, alignment step, frozen", "alignment", kept, {"batch": batch}, 3, **of_alignment))
    return rows


def five_times(name: str) -> dict[str, Any]:
    """The aim of a view of images: five times the plain variant, or five times the published program's rate."""
    return {"ratio": 5.0, "rate": 5 * ORIGINAL[name], "original": ORIGINAL[name]}
