"""A GPU that is not there: torch computes on the CPU, but tensors remember which device they would lie on.

`PretendedGPU()` as a context, or `install(path)` in a kernel, makes torch say that there is one CUDA device. A tensor
that was moved to it or made on it carries a mark; what is computed from marked tensors is marked. Operations that would
fail on a real GPU are noted in `mode.faults`: {(what, where): how often}; places where a value is read back, for which
a GPU must wait, in `mode.waits`. Neither speed, nor kernels, nor memory are pretended.
"""

import collections
import contextlib
import json
import linecache
import sys
from unittest import mock

import torch
from IPython import get_ipython
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda", 0)
READS = {"item", "tolist", "__bool__", "__float__", "__int__", "__index__"}
FACTORIES = {"tensor", "as_tensor", "asarray"}  # they take values from the host, whatever lies where
# These take part in no computation: what they return lies where their tensor lies.
HARMLESS = {
    "size", "dim", "numel", "stride", "data_ptr", "is_contiguous", "is_floating_point", "is_complex", "element_size",
    "__len__", "__get__", "__set__", "__hash__", "__repr__", "__format__", "__deepcopy__", "requires_grad_", "type",
    "retain_grad", "register_hook", "backward", "nelement", "ndimension", "storage_offset", "untyped_storage",
    "is_pinned", "_is_view", "_has_compatible_shallow_copy_type",
}  # fmt: skip
GET_DEVICE, GET_IS_CUDA = torch.Tensor.device.__get__, torch.Tensor.is_cuda.__get__
SET_DATA, GET_GRAD = torch.Tensor.data.__set__, torch.Tensor.grad.__get__


def is_marked(value):
    return isinstance(value, torch.Tensor) and getattr(value, "on_pretended_gpu", False)


def tensors_in(values):
    """The tensors in a list, a tuple or a dict, however deep."""
    found = []
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple, dict)):
            found += tensors_in(value)
    return found


def mark(value, gpu=True):
    for tensor in tensors_in([value]):
        tensor.on_pretended_gpu = gpu
    return value


def means_gpu(device):
    if device is None:
        return False
    return isinstance(device, int) or torch.device(device).type == "cuda"


def place():
    """The innermost line of the project or of a notebook's cell."""
    frame = sys._getframe(1)
    while frame:
        file = frame.f_code.co_filename
        if "/helpers/" in file or "ipykernel" in file or "/tests/test_" in file:
            return f"{file.rsplit('/', 1)[-1]}:{frame.f_lineno} {linecache.getline(file, frame.f_lineno).strip()}"
        frame = frame.f_back
    return "elsewhere"


class PretendedGPU(TorchFunctionMode):
    def __init__(self, capability=(7, 5)):  # a T4's
        super().__init__()
        self.capability, self.faults, self.waits = capability, collections.Counter(), collections.Counter()
        self.patches = contextlib.ExitStack()

    def __enter__(self):
        for target, name, value in (
            (torch.cuda, "is_available", True), (torch.cuda, "device_count", 1), (torch.cuda, "current_device", 0),
            (torch.cuda, "get_device_name", "pretended GPU"), (torch.cuda, "get_device_capability", self.capability),
            (torch.cuda, "max_memory_allocated", 0),
            (torch.cuda, "is_bf16_supported", self.capability >= (8, 0)), (torch.cuda, "synchronize", None),
            (torch.cuda, "empty_cache", None), (torch.cuda, "set_device", None), (torch.cuda, "manual_seed_all", None),
            (torch.cuda, "reset_peak_memory_stats", None), (torch.cuda, "is_current_stream_capturing", False),
            (torch.cuda.graphs, "is_current_stream_capturing", False), (torch.accelerator, "is_available", False),
            (torch.backends.cudnn, "is_acceptable", False), (torch.nn.RNNBase, "flatten_parameters", None),
        ):  # fmt: skip
            self.patches.enter_context(mock.patch.object(target, name, lambda *_, value=value, **__: value))
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.patches.close()

    def fault(self, what):
        self.faults[what, place()] += 1

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", str(func))
        first = args[0] if args else None
        if func == GET_DEVICE:
            return GPU if is_marked(first) else func(*args)
        if func == GET_IS_CUDA:
            return is_marked(first)
        if func == SET_DATA:
            result = func(*args)
            mark(first, is_marked(args[1]))
            return result
        if name in HARMLESS or func == GET_GRAD:
            result = func(*args, **kwargs)
            new = isinstance(result, torch.Tensor) and result is not first
            return mark(result) if new and is_marked(first) else result
        if name in ("numpy", "__array__"):
            if is_marked(first):
                self.fault(f"{name} of a GPU tensor")
            return func(*args, **kwargs)
        if name in READS:
            if is_marked(first):
                self.waits[place()] += 1
            return func(*args, **kwargs)
        if name in ("to", "cpu", "cuda"):
            return self.move(name, args, kwargs)
        return self.compute(func, name, args, kwargs)

    def compute(self, func, name, args, kwargs):
        first = args[0] if args else None
        device, generator = kwargs.get("device"), kwargs.get("generator")
        made_on_gpu = means_gpu(device)
        if made_on_gpu:
            kwargs["device"] = torch.device("cpu")
        inputs = tensors_in(args) + tensors_in(kwargs)
        on_gpu = any(is_marked(tensor) for tensor in inputs)
        if name in FACTORIES or name.startswith("new_"):
            return mark(func(*args, **kwargs), made_on_gpu if device is not None else on_gpu)
        if generator is not None and generator.device.type == "cpu" and (made_on_gpu or (on_gpu and device is None)):
            self.fault(f"a CPU generator for {name} on the GPU")
        # Tensors without dimensions may stay on the CPU, indices may too, and copy_ crosses over.
        crosses = name in ("copy_", "__setitem__") or "foreach" in name or (name == "__getitem__" and is_marked(first))
        if on_gpu and not crosses and not all(is_marked(tensor) for tensor in inputs if tensor.dim()):
            self.fault(f"CPU and GPU mixed in {name}")
        result = func(*args, **kwargs)
        return mark(result) if made_on_gpu or on_gpu else result

    def move(self, name, args, kwargs):
        """Tensor.to, .cpu and .cuda: a copy of another precision where one is asked for, with or without the mark."""
        source, given = args[0], [*args[1:], *kwargs.values()]
        like = next((value for value in given if isinstance(value, torch.Tensor)), None)
        dtype = next((value for value in given if isinstance(value, torch.dtype)), None)
        dtype = like.dtype if like is not None else dtype
        devices = (str, torch.device, int)
        device = next((value for value in given if isinstance(value, devices) and not isinstance(value, bool)), None)
        if device is not None and torch.device(device).type not in ("cpu", "cuda"):  # "meta", where nothing is computed
            return mark(torch.Tensor.to(*args, **kwargs), False)
        gpu = is_marked(source)
        if name != "to":
            gpu = name == "cuda"
        elif like is not None:
            gpu = is_marked(like)
        elif device is not None:
            gpu = means_gpu(device)
        if is_marked(source) and not gpu:
            self.waits[place()] += 1
        layout = {"memory_format": kwargs["memory_format"]} if kwargs.get("memory_format") else {}
        result = torch.Tensor.to(source, dtype or source.dtype, **layout)
        if gpu != is_marked(source) and result is source:
            result = source.clone() if source.requires_grad else source.detach().clone()
        return mark(result, gpu)


def install(path):
    """For a notebook's kernel: pretend a GPU from now on, and write what is noted to a JSON file after every cell."""
    mode = PretendedGPU().__enter__()

    def tell(*_):
        noted = {"faults": mode.faults, "waits": mode.waits}
        lines = {kind: [f"{count} x {key}" for key, count in counter.most_common()] for kind, counter in noted.items()}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(lines, file)

    get_ipython().events.register("post_run_cell", tell)
