"""A survey with gaps, and an untrained model of it in a folder: for tests of what is done with a model."""

from __future__ import annotations

from pathlib import Path

import torch
from data_files import Row, make_rows

from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import MultimodalClassifier, MultimodalModel
from astrom3.files import write_json
from astrom3.modalities.schema import CLASSES
from astrom3.published import astrom3 as published


def rows_with_gaps(n: int = 90) -> list[Row]:
    """Every fifth object lacks its spectrum, every seventh its light curve, every eleventh its label."""
    objects = make_rows(n)
    for i, row in enumerate(objects):
        row["spectrum"] = None if i % 5 == 2 else row["spectrum"]
        row["light_curve"] = None if i % 7 == 3 else row["light_curve"]
        row["label"] = None if i % 11 == 4 else row["label"]
    objects[1]["light_curve"] = {k: v[:4] for k, v in objects[1]["light_curve"].items()}  # too few points
    return objects


def trimodal(seed: int = 0) -> MultimodalModel:
    torch.manual_seed(seed)
    small = InformerEncoder(d_model=16, n_heads=2, d_ff=32, e_layers=2)
    encoders = {"photometry": small, "spectra": GalSpecNet((3, 8, 8, 4, 4)), "metadata": MetadataMLP(hidden_dim=16)}
    return MultimodalModel(encoders, 24)


def save_model(folder: Path, survey: Path, head: bool = True) -> Path:
    """With the statistics of the survey."""
    from astrom3.data.layouts import open_source

    published.save(MultimodalClassifier(trimodal(), len(CLASSES)) if head else trimodal(), folder)
    statistics = open_source(survey).normaliser.to_dict()
    write_json(folder / "preprocessing.json", {"classes": list(CLASSES), "normaliser": statistics})
    return folder
