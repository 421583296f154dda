"""What the modules of fastrnn have in common: each stands in for a class of torch.nn."""

from __future__ import annotations

from typing import ClassVar

from torch import nn


class StandIn(nn.Module):
    """A module with the attributes and parameters of one of `torch.nn`, its `_stock`."""

    _stock: ClassVar[type[nn.Module]]

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` compiles: torch's module, on the same parameters."""
        module = self._stock.__new__(self._stock)
        module.__dict__.update(self.__dict__)
        return module
