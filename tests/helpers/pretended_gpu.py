"""A GPU that is not there: everything runs on the CPU, but what a GPU would refuse is refused.

Each tensor is known to be on the CPU or on the pretended GPU, as torch would have it: factories obey `device`,
`to` and `cpu` move, all else stays where its tensors are, and tensors of both places in one operation are an error.
"""

from collections import defaultdict

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
# Operations that may take tensors of both places: copies, and an index kept on the CPU.
MIXED = {"copy_", "__getitem__", "__setitem__", "index_put_"}
NO_WORK = {"untyped_storage", "_parse_to", "_has_compatible_shallow_copy_type"}
HOST_ONLY = {"numpy", "__array__"}


def is_device(value) -> bool:
    """Whether an argument names a device."""
    return isinstance(value, torch.device) or (isinstance(value, str) and value in ("cpu", "cuda", "cuda:0"))


class PretendedGpu(TorchFunctionMode):
    """While open, `place` puts a module on the GPU, and `device_of` tells where a tensor is."""

    def __init__(self):
        super().__init__()
        self.work: dict[str, set[torch.device]] = defaultdict(set)  # operation -> where it was done
        self._there: dict[int, torch.UntypedStorage] = {}  # kept, so that no other storage gets the same address

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module, its parameters and buffers now on the GPU."""
        for tensor in (*module.parameters(), *module.buffers()):
            self._put(tensor)
        return module

    def device_of(self, tensor: torch.Tensor) -> torch.device:
        """Where the tensor is."""
        return GPU if tensor.untyped_storage()._cdata in self._there else CPU

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run `func` on the CPU and note where its results would be."""
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in NO_WORK or func == torch.Tensor.data.__set__:
            return func(*args, **kwargs)
        if func == torch.Tensor.device.__get__:
            return self.device_of(args[0])
        if func == torch.Tensor.is_cuda.__get__:
            return self.device_of(args[0]) == GPU
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        places = {self.device_of(tensor) for tensor in tensors if tensor.ndim}
        where = GPU if any(self.device_of(tensor) == GPU for tensor in tensors) else CPU
        if name in ("to", "type_as"):
            asked = [leaf for leaf in tree_leaves((args[1:], kwargs)) if isinstance(leaf, torch.Tensor)]
            where = self.device_of(asked[0] if asked else args[0])
        elif name == "cpu":
            where = CPU
        elif name in MIXED:
            where = self.device_of(args[0])
            by_index = any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(args[1:2]))
            if len(places) > 1 and (where == CPU or (by_index and self._apart(args[2:], where))) and name != "copy_":
                raise RuntimeError(f"{name}: the tensor is on one device, the index or value on another")
        elif name in HOST_ONLY and where == GPU:
            raise TypeError("can't convert a CUDA tensor to numpy; use Tensor.cpu() first")
        elif len(places) > 1:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found both GPU and CPU")
        named = [leaf for leaf in tree_leaves((args, kwargs)) if is_device(leaf)]
        if named:
            where = GPU if torch.device(named[0]).type == "cuda" else CPU
        args, kwargs = tree_map(lambda leaf: CPU if is_device(leaf) else leaf, (args, kwargs))
        self.work[name].add(where)
        result = func(*args, **kwargs)
        if name in ("to", "cpu", "type_as"):
            result = result.clone() if self.device_of(result) != where else result
        if where == GPU:
            tree_map(self._put, result)
        return result

    def _put(self, value) -> None:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            self._there[storage._cdata] = storage

    def _apart(self, values: tuple, where: torch.device) -> bool:
        """Whether values that an index puts into a tensor are elsewhere than it."""
        return any(
            isinstance(value, torch.Tensor) and value.ndim and self.device_of(value) != where for value in values
        )


class PretendedMemory:
    """What torch.cuda says of GPUs of 1000 bytes that hold 200 of weights, and what a pass of `take` adds at most."""

    def __init__(self, monkeypatch):
        self.peak, self.resets = {}, []
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 1000))
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 200 + self.peak.get(device, 0))
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", self.resets.append)

    def take(self, device, size):
        self.peak[device] = max(size, self.peak.get(device, 0))
