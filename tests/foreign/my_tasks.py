"""A training task from outside the package: objects of one class near each other, in all modalities together."""

import torch
from torch.nn import functional as F

from astrom3.tasks.distributed import sum_over_ranks
from astrom3.tasks.task import TrainingModule, at_least_float32


class SameClass(TrainingModule):
    """Supervised contrastive loss (Khosla et al. 2020) over the embeddings of all modalities of a batch."""

    best_metric = "val/accuracy"
    direction = "max"

    def __init__(self, model, classes, optim, schedule, seed=0, freeze=(), temperature=0.1):
        super().__init__(model, optim, schedule, seed, freeze)
        self.classes = tuple(classes)
        self.temperature = temperature
        self.sums = torch.zeros(3)  # loss, right neighbours and objects of the evaluation that is going on
        self.results = {}

    def forward(self, batch):
        """Unit embeddings (N, D) of everything that is there, and the class of each (N,)."""
        vectors = []
        labels = []
        for name, embedding in self.model(batch).items():
            there = batch.get("present", {}).get(name, torch.ones_like(batch["label"], dtype=torch.bool))
            vectors.append(at_least_float32(embedding[there]))
            labels.append(batch["label"][there])
        return torch.cat(vectors), torch.cat(labels)

    def scored(self, batch):
        """Loss, how many have a nearest neighbour of their own class, and of how many."""
        vectors, labels = self(batch)
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        similarity = (vectors @ vectors.T / self.temperature).masked_fill(itself, -1e9)
        same = (labels[:, None] == labels[None, :]) & ~itself
        logs = F.log_softmax(similarity, dim=1)
        of_each = (logs * same).sum(1) / same.sum(1).clamp(min=1)
        right = labels[similarity.argmax(1)] == labels
        return -of_each.mean(), right.sum(), len(labels)

    def training_step(self, batch, _):
        loss, _, n = self.scored(batch)
        self.log_training_loss(loss, n)
        return loss

    def validation_step(self, batch, _):
        loss, right, n = self.scored(batch)
        self.sums += torch.tensor([float(loss) * n, float(right), n])

    test_step = validation_step

    def finish(self, stage):
        loss, right, n = (sum_over_ranks(float(value), self.device) for value in self.sums)
        self.sums.zero_()
        scores = {"loss": loss / max(n, 1), "accuracy_of_neighbours": right / max(n, 1), "n": int(n)}
        self.log(f"{stage}/loss", scores["loss"])
        self.log(f"{stage}/accuracy", scores["accuracy_of_neighbours"], prog_bar=True)
        return scores

    def on_validation_epoch_end(self):
        self.finish("val")

    def on_test_epoch_end(self):
        self.results = self.finish("test")
