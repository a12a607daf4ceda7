"""Ranges of the numbers in a configuration, checked where they enter: key (or its last part) -> least and largest."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from astrom3.errors import UserError

SEEDS = (0, 2**32 - 1)
COUNT = (1, 10**8)
WIDTH = (1, 65536)
SHARE = (0, 1)
LONGEST = 2**63  # a whole number beyond it is none of ours
SMALLEST = 1e-30  # the least number greater than 0 that float32, which ends at 1e-38, can work with
# The longest key that fits counts: "optim.lr" before "lr".
RANGES: dict[str, tuple[float, float]] = {
    "optim.lr": (SMALLEST, 10), "optim.beta1": (0, 1 - 1e-12), "optim.beta2": (0, 1 - 1e-12),
    "optim.weight_decay": (0, 1000), "optim.eps": (SMALLEST, 1), "schedule.warmup_epochs": (0, 10**6),
    "schedule.factor": (SMALLEST, 1), "schedule.patience": (0, 10**6), "early_stopping.patience": (1, 10**6),
    "batch_size": (1, 10**6), "eval_batch_size": (1, 10**6), "shuffle_buffer": COUNT, "num_workers": (0, 1024),
    "epochs": (1, 10**6), "max_epochs": (1, 10**6), "num_nodes": (1, 4096), "log_every_n_steps": (1, 10**9),
    "gradient_clip_val": (0, 10**9), "seed": SEEDS, "seeds": SEEDS, "objects": COUNT, "missing_spectra": SHARE,
    "missing_light_curves": SHARE, "missing_images": SHARE, "swapped_labels": SHARE, "dropout": (0, 1 - 1e-12),
    "d_model": WIDTH, "n_heads": (1, 1024), "d_ff": (1, 10**6), "e_layers": (1, 256), "factor": (SMALLEST, 1000),
    "seq_len": (1, 10**4),
    "enc_in": (1, 10**4), "conv_channels": (1, 10**4), "kernel_size": (1, 1001), "mp_kernel_size": (1, 1001),
    "input_dim": WIDTH, "hidden_dim": WIDTH, "workers": (1, 1024), "processes": (1, 1024), "part": COUNT,
    "batch": (1, 10**6), "shard": (0, 10**6), "shards": (1, 10**6), "top": (1, 10**6), "sample": (1, 10**7),
    "neighbours": (1, 1000), "points": (10, 10**7), "early.points": (1, 10**6),
    "early.days": (1e-6, 10**6), "limit": COUNT, "trials": (1, 10**6), "failures": (1, 10**6),
    "min_modalities": (1, 16), "zero_point": (1e-12, 1e12), "time_offset": (-1e7, 1e7), "split_fractions": (1e-4, 1),
    "truncation": SHARE, "coverage": (1e-6, 1 - 1e-6), "simulation_seed": SEEDS, "n_objects": COUNT, "buffer": COUNT,
    "layer_decay": (SMALLEST, 1), "weight_decay_end": (0, 1000), "floor": SHARE, "warmup_steps": (1, 10**9),
    "num_sanity_val_steps": (-1, 10**6), "folds": (2, 1000), "fold": (1, 1000),
    # Astromer, folded curves
    "encoder.version": (1, 2), "photometry.version": (1, 2), "layers": (1, 256), "window": (1, 10**4),
    "encoder.temperature": (0, 1000), "photometry.temperature": (0, 1000), "width": WIDTH, "out_features": WIDTH,
    "phases": (1, 4096), "quantiles": (1, 4096), "thinning": (0, 1 - 1e-12), "start_scale": (SMALLEST, 1000),
    # AstroCLIP: images, spectra, alignment, self-distillation
    "embed_dim": WIDTH, "depth": (1, 256), "num_layers": (1, 256), "num_heads": (1, 1024), "n_head": (1, 1024),
    "max_len": (1, 10**5), "slice_section_length": (1, 10**5), "slice_overlap": (0, 10**5), "img_size": (1, 4096),
    "patch_size": (1, 4096), "mlp_ratio": (1e-3, 64), "layer_scale": (0, 10), "drop_path": (0, 1 - 1e-12),
    "model.scale": (SMALLEST, 1000), "masked_weight": (0, 10**6), "chunks": (1, 10**4), "global_size": (12, 4096),
    "local_size": (12, 4096), "local_crops": (0, 64), "in_dim": WIDTH, "out_dim": (1, 10**7), "nlayers": (1, 64),
    "bottleneck_dim": WIDTH, "momentum": SHARE, "teacher_temperature": (1e-4, 100), "koleo": (0, 10**6),
    "teacher_warmup_epochs": (0, 10**6), "frozen_epochs": (0, 10**6),
    "features.steps": (1, 4096), "match.radius": (SMALLEST, 648000),
    # dataset.json
    "bands.points": (0, 10**15), "bands.objects": (0, 10**12),
    # Launchers
    "launcher.n_jobs": (-1024, 1024), "launcher.timeout_min": (1, 10**7), "launcher.tasks_per_node": (1, 4096),
    "launcher.nodes": (1, 4096), "launcher.cpus_per_task": (1, 4096), "launcher.gpus_per_node": (0, 1024),
    "launcher.batch_size": COUNT, "launcher.mem_gb": (SMALLEST, 10**6), "launcher.array_parallelism": (1, 10**5),
    # metrics.json
    "accuracy": SHARE, "macro_f1": SHARE, "clip_accuracy": SHARE,
    # Servers
    "port": (0, 65535), "wait_ms": (0, 10**4), "waiting": (1, 10**6), "body_mb": (0.001, 1024), "pixels": (1, 4096),
    "seconds": (0.1, 3600), "one_file": COUNT,
}  # fmt: skip
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
PRECISIONS = (
    "auto",
    "transformer-engine",
    "transformer-engine-float16",
    "16-true",
    "16-mixed",
    "bf16-true",
    "bf16-mixed",
    "32-true",
    "64-true",
    "64",
    "32",
    "16",
    "bf16",
)


def check_numbers(leaves: Iterable[tuple[str, Any]]) -> None:
    """leaves: (key, value) of a resolved configuration. UserError for the first number that is out of its range."""
    for key, value in leaves:
        if key.startswith("tune.space."):
            continue
        last = key.rpartition(".")[2]
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            check_number(key, number)
        if last == "device" and value is not None and not DEVICE.fullmatch(str(value)):
            raise UserError(f"{key}={value} does not exist: it is auto, cpu, cuda or cuda:<number>")
        if key == "trainer.devices" and isinstance(value, int) and (value < -1 or value == 0):
            raise UserError(f"{key}={value} must be at least 1, or -1 for all devices")
        if key == "trainer.precision" and str(value) not in PRECISIONS:
            raise UserError(f"{key}={value} does not exist: it is one of {', '.join(PRECISIONS[:9])}")


def check_number(key: str, number: float) -> None:
    key = re.sub(r"\[\d+\]", "", key)
    if ".wavelengths." in key and not 1 <= number <= 1e9:  # of a band with any name, NaN too
        raise UserError(f"{key}={number} must be from 1 to 1e9 (Angstrom)")
    if isinstance(number, float) and not math.isfinite(number):
        raise UserError(f"{key}={number} is no finite number")
    limits = RANGES.get(".".join(key.split(".")[-2:])) or RANGES.get(key.rpartition(".")[2])
    if limits is None:
        if isinstance(number, int) and abs(number) >= LONGEST:
            raise UserError(f"{key or 'the whole'}={number} is beyond 2**63: give a smaller number")
        return
    least, largest = limits
    if number < least:
        above_zero = least == SMALLEST and number <= 0
        raise UserError(f"{key}={number} must be {'greater than 0' if above_zero else f'at least {least:g}'}")
    if number > largest:
        below = f"at least {least:g} and less than 1" if largest == 1 - 1e-12 else f"at most {largest:.10g}"
        raise UserError(f"{key}={number} must be {below}")
