"""The strategy of trainer=fsdp: parameters spread over all devices by torch's FSDP 2 (see tasks/sharding.py)."""

from __future__ import annotations

from lightning.pytorch.strategies import ModelParallelStrategy


class Sharded(ModelParallelStrategy):
    """All devices of all nodes share the parameters; each has its own part of the batch."""

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        assert self.parallel_devices is not None
        self._data_parallel_size = len(self.parallel_devices) * self.num_nodes
        self._tensor_parallel_size = 1
        super().setup_environment()
