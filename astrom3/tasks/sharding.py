"""Networks spread over devices by torch's fully_shard (FSDP 2), and made whole again.

Every parameter is cut along its first axis, so that the parts of a teacher and of its student lie on the same device
and are averaged there. Checkpoints and models hold whole tensors, as those of any other run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def shard(network: nn.Module, blocks: tuple[type[nn.Module], ...], mesh: Any, *methods: str) -> None:
    """Spread a network over a mesh, each of its blocks by itself. methods: what is called beside forward."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    over = mesh["data_parallel"]
    for block in network.modules():
        if isinstance(block, blocks):
            fully_shard(block, mesh=over, reshard_after_forward=True)
    fully_shard(network, mesh=over, reshard_after_forward=True)
    for method in methods:
        register_fsdp_forward_method(network, method)


def is_sharded(module: nn.Module) -> bool:
    """Whether any parameter lies on several devices."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def load_whole(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put whole tensors into a module, spread or not; every process has them."""
    if not is_sharded(module):
        module.load_state_dict(dict(state))
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(module, dict(state), options=StateDictOptions(full_state_dict=True))


def gather(module: nn.Module) -> None:
    """Make every parameter whole on every process, for saving. Not to be trained or called afterwards."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    for part in module.modules():
        if isinstance(part, FSDPModule):  # fully_shard has made it a class of its own
            part.__class__ = type(part).__bases__[1]
        for name, parameter in list(part._parameters.items()):
            if isinstance(parameter, DTensor):
                whole = parameter.full_tensor().detach()
                part._parameters[name] = nn.Parameter(whole, parameter.requires_grad)
