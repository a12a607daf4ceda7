"""Our encoders in hyrax: a model that embeds, and a data set that prepares objects for it.

    [model]
    name = "astrom3.inference.hyrax.Astrom3Encoder"
    [astrom3]
    model = "runs/clip-full-scratch-42"      # a run folder, a model folder or a hub id
    [data_request.infer.data]
    dataset_class = "astrom3.inference.hyrax.Astrom3Dataset"
    data_location = "my_survey"              # a folder in any layout that data=local takes
    primary_id_field = "object_id"

hyrax finds both classes by these names, and the keys of [astrom3] in astrom3/default_config.toml. It is no dependency,
since it needs torchvision, and this module alone imports it. Models are trained with `python -m astrom3.train`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hyrax.datasets import HyraxDataset
from hyrax.models import hyrax_model
from omegaconf import OmegaConf
from torch import Tensor, nn

from astrom3.errors import UserError
from astrom3.inference.trained import TrainedModel, data_of
from astrom3.modalities.schema import SPLITS

TABLE = "astrom3"  # of hyrax's configuration
STAGES = {"train": "fit", "validation": "validate", "test": "test"}
PRESENT = "present"  # field that says which modalities an object has
ID = "object_id"


def model_of(config: Mapping[str, Any]) -> TrainedModel:
    """The model that [astrom3] names."""
    source = str(config[TABLE]["model"])
    if not source:
        raise UserError("name the model in hyrax's configuration: [astrom3] model = <run folder, model folder, hub id>")
    return TrainedModel.load(source, device="cpu")


@hyrax_model
class Astrom3Encoder(nn.Module):
    """Embeddings (B, D) of objects that Astrom3Dataset prepared, the mean over the modalities of an object."""

    def __init__(self, config: Mapping[str, Any], data_sample: Any = None) -> None:
        super().__init__()
        self.config = config
        self.trained = model_of(config)
        self.network = self.trained.network
        self.names = sorted([*self.trained.inputs, PRESENT])

    @staticmethod
    def prepare_inputs(data_dict: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
        """The fields of a batch in the order of their names."""
        fields = data_dict["data"]
        return tuple(np.asarray(fields[name]) for name in sorted(fields) if name != ID)

    def forward(self, batch: tuple[Tensor, ...]) -> Tensor:
        inputs = dict(zip(self.names, batch, strict=True))
        there = inputs.pop(PRESENT).bool()
        present = {}
        for place, name in enumerate(self.trained.modalities):
            present[name] = there[:, place]
        device = next(self.network.parameters()).device
        model = replace(self.trained, device=device)
        return torch.from_numpy(model.encode(inputs | {PRESENT: present}).mean).to(device)

    def infer_batch(self, batch: tuple[Tensor, ...]) -> Tensor:
        """What hyrax keeps of every object."""
        return self(batch)

    def train_batch(self, batch: tuple[Tensor, ...]) -> dict[str, float]:
        """Refused, because the objectives need more than a batch."""
        raise UserError("train encoders of astrom3 with python -m astrom3.train, and use them in hyrax with its infer")


class Astrom3Dataset(HyraxDataset):
    """Objects of a data set, prepared as the encoder of [astrom3] reads them. Those without anything usable are left
    out."""

    def __init__(self, config: Mapping[str, Any], data_location: str | None = None) -> None:
        if not data_location:
            raise UserError("say where the data set is: data_location = <folder> in hyrax's data_request")

        about = config[TABLE]
        self.trained = model_of(config)
        origin = {"_target_": "astrom3.data.origins.Local", "path": str(data_location), "band": None}
        options = {
            "origin": origin,
            "cache": None,
            "streaming": False,
            "batch_size": 256,
            "eval_batch_size": 256,
        }
        data = data_of(self.trained, OmegaConf.create(options), "full", int(about["seed"]), on_device=False)
        chosen = [about["split"]] if about["split"] != "all" else [name for name in SPLITS if name in data.source.rows]
        self.parts = []
        ids = []
        for split in chosen:
            data.setup(STAGES[split])
            self.parts.append(data.splits[split])
            ids.append(data.object_ids(split)[data.splits[split].positions])

        self.ids = np.concatenate(ids).astype(str)
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)])
        self.kept: tuple[int, dict[str, Any]] = (-1, {})  # the last object, since each field is asked for by itself
        for name in self.trained.inputs:
            setattr(self, f"get_{name}", lambda idx, name=name: self.prepared(idx)[name])
        super().__init__(dict(config))

    def __len__(self) -> int:
        return len(self.ids)

    def prepared(self, idx: int) -> dict[str, Any]:
        """The inputs of one object, without an axis of objects."""
        if self.kept[0] != idx:
            part = int(np.searchsorted(self.starts, idx, side="right")) - 1
            batch = self.parts[part].batch(np.array([idx - self.starts[part]]))
            inputs = {name: np.asarray(batch[name][0]) for name in self.trained.inputs}
            there = [bool(batch[PRESENT][name][0]) for name in self.trained.modalities]
            self.kept = idx, inputs | {PRESENT: np.array(there)}
        return self.kept[1]

    def get_present(self, idx: int) -> np.ndarray:
        """Which modalities an object has, bool (M,)."""
        return self.prepared(idx)[PRESENT]

    def get_object_id(self, idx: int) -> str:
        """The object's name in its data set."""
        return str(self.ids[idx])
