"""A plain pre-training to time a whole run against: python -m experiments.bench.plain_run <objects> <epochs>

Plain loader, plain network, a plain loop in float32 with batches of 64: 80 % of the objects are trained on, 10 % are
evaluated after each epoch, 10 % at the end, as in the command it is compared with.
"""

from __future__ import annotations

import sys

import torch
from torch.utils.data import DataLoader, Subset

from astrom3.tasks.losses import contrastive_loss
from experiments.bench import surveys
from experiments.bench.cases import network
from experiments.bench.plain import PlainObjects

BATCH = 64


def main(objects: int, epochs: int) -> None:
    folder = surveys.first_layout(objects)
    data = PlainObjects(str(folder / "full_42" / "train-00000-of-00001.parquet"), surveys.statistics(folder))
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(42)).tolist()
    a = int(0.8 * len(data))
    b = int(0.9 * len(data))
    train = DataLoader(Subset(data, order[:a]), BATCH, shuffle=True, drop_last=True, num_workers=2)
    validation, test = (DataLoader(Subset(data, part), BATCH, num_workers=2) for part in (order[a:b], order[b:]))
    model = network(False, "clip")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def loss(batch: dict) -> torch.Tensor:
        scales = {pair: model.scale(*pair) for pair in model.pairs}  # type: ignore[union-attr, operator]
        return contrastive_loss(model(batch), {}, scales)["loss"]

    def evaluate(loader: DataLoader) -> float:
        model.eval()
        with torch.no_grad():
            values = [float(loss(batch)) for batch in loader]
        model.train()
        return sum(values) / len(values)

    for epoch in range(epochs):
        for batch in train:
            optimizer.zero_grad()
            loss(batch).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 45.0)
            optimizer.step()
        print(f"epoch {epoch}: {evaluate(validation):.4f}")
    print(f"test {evaluate(test):.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
