"""Counts the memory of tensors: reproducible, unlike the size of a process."""

import weakref

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """While open, tracks every CPU tensor that an operation creates; `peak` is their maximum total size.

    Existing tensors are not counted. Temporary allocations inside an operation are invisible: they are assumed to be as
    large as the largest tracked tensor that the operation reads.
    """

    def __init__(self):
        super().__init__()
        self.peak = self._held = 0
        self._sizes: dict[int, int] = {}  # key of a live storage -> its bytes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run one operation and count its new tensors."""
        read = {_key(tensor) for tensor in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            if _key(tensor) not in read | self._sizes.keys():  # otherwise it is a view, or the operation wrote into it
                self._follow(tensor)
        scratch = max((self._sizes.get(key, 0) for key in read), default=0)
        self.peak = max(self.peak, self._held + scratch)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        self._sizes[key] = storage.nbytes()
        self._held += storage.nbytes()
        weakref.finalize(storage, self._freed, key).atexit = False

    def _freed(self, key: int) -> None:
        self._held -= self._sizes.pop(key)


def _tensors(values) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.device.type == "cpu"]


def _key(tensor: Tensor) -> int:
    """The address of the storage, unique while it lives."""
    return tensor.untyped_storage()._cdata
