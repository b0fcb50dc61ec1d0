"""One training on several processes, such as one for each GPU: helpers.training.fit asks here for its part of the work.

Started by `torchrun`, every process runs the same program. In each step all of them draw the same global batch, each
computes the loss of its own slice of it, and PyTorch's DistributedDataParallel averages the gradients. The losses of
this project are means over the batch and the slices are equal, so the average is the gradient of the global batch: so
many processes take the steps that one would take. Three things are not quite what they are for one:

- Sampled codes and dropout are drawn afresh in every process: other random numbers, of the same distribution.
- Batch normalisation takes its statistics from the whole batch on GPUs (SyncBatchNorm), but on CPUs, where PyTorch has
  none of that kind, from each slice alone.
- A logged term that is no mean over the batch, such as MaskLoss's "sdr", becomes the mean of what it is in the slices.

Without `torchrun` there is one process, and everything here hands on what it is given.
"""

import contextlib
import os
from datetime import timedelta

import torch
from torch import distributed as group
from torch import nn

from helpers.runtime import UserError, pick_device

PATIENCE = timedelta(hours=2)  # the longest that processes wait while the first reads a corpus, or validates
NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells each process, besides WORLD_SIZE
STRIDE = 1_000_000_007  # between the seeds of two processes: more than between those of two epochs


# ---- who is there ------------------------------------------------------------------------------------------------


def size():
    """Return the number of processes that train together: 1 outside joined()."""
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def rank():
    """Return this process's number, counted from 0."""
    return group.get_rank() if size() > 1 else 0


def leads():
    """True in the first process, the one that validates, prints and writes files."""
    return rank() == 0


@contextlib.contextmanager
def joined(device="auto"):
    """Join the processes that torchrun started, and yield the torch.device that this one computes on.

    With GPUs each process has its own one, and they talk through NCCL; on the CPU they talk through Gloo. `device` is
    'auto', 'cuda' or 'cpu'; where there is but one process, whatever runtime.pick_device takes. A program that trains
    several times joins once, around all of it: within that, joining again changes nothing.

    Raises UserError if there are more processes than GPUs, or if the processes were not started by torchrun.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        yield pick_device(device)
        return
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise UserError(f"WORLD_SIZE is set, but {', '.join(missing)} is not: start the processes with torchrun")
    device = _own_device(device, int(os.environ["LOCAL_RANK"]))
    if size() > 1:
        yield device
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        group.init_process_group("nccl", timeout=PATIENCE, device_id=device)
    else:
        group.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield device
    finally:
        group.destroy_process_group()


def _own_device(name, number):
    """Return the device of the process of that number on this machine."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if name != "cuda":
        raise UserError(f"several processes cannot share device '{name}': take 'cuda' or 'cpu', or start one process")
    if number >= torch.cuda.device_count():
        have = f"there is no GPU for process {number}, this machine has {torch.cuda.device_count()}"
        raise UserError(f"{have}: give torchrun a smaller --nproc-per-node, or take --device cpu")
    return torch.device("cuda", number)


# ---- what fit() asks for -----------------------------------------------------------------------------------------


class _Terms(nn.Module):
    """A loss as the forward() of a module: DistributedDataParallel sees nothing that is called in another way.

    The losses call what they need of a model, `describe` or `analyse`; its parameters are those of this module, too.
    """

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch, progress):
        return self.loss(self.model, batch, progress)


def shared(loss, model):
    """Return a loss that, in training, is that of this process's slice, and whose backward() averages the gradients.

    In evaluation mode it is `loss` itself, of the whole batch. Batch normalisation of a `model` on a GPU is made to
    span the processes. All processes begin with the first one's weights.
    """
    if size() == 1:
        return loss
    if next(model.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    together = nn.parallel.DistributedDataParallel(_Terms(model, loss))

    def own_terms(model, batch, progress):
        return together(own_slice(batch), progress) if model.training else loss(model, batch, progress)

    return own_terms


def own_slice(batch):
    """Return this process's slice of a global batch: a tensor (batch, ...), or a tuple or list of such tensors.

    Raises UserError if it cannot be cut into equal slices.
    """
    if not isinstance(batch, torch.Tensor):
        return tuple(own_slice(part) for part in batch)
    check_shares(len(batch))
    part = len(batch) // size()
    return batch[rank() * part : (rank() + 1) * part]


def check_shares(batch_size):
    """Raise UserError unless a batch of that size can be cut into equal slices, one for each process."""
    many = size()
    if batch_size % many:
        raise UserError(f"a batch of {batch_size} cannot be shared by {many} processes: choose a multiple of {many}")


def averaged(terms):
    """Return {loss term: mean of all processes' values} of {loss term: number}."""
    if size() == 1:
        return terms
    values = torch.tensor(list(terms.values()), dtype=torch.float64, device=_talking_device())
    group.all_reduce(values)
    return dict(zip(terms, (values / size()).tolist(), strict=True))


def from_leader(work):
    """Return in every process what `work()` gives in the first one; the others wait for it."""
    if size() == 1:
        return work()
    found = [work() if leads() else None]
    group.broadcast_object_list(found, src=0)
    return found[0]


def own_seed(seed):
    """Return a seed of this process's own; the first one's is `seed` itself."""
    return seed + STRIDE * rank()


@contextlib.contextmanager
def leader_first():
    """Let the first process go through the block before the others: what it wrote, they find."""
    if not leads():
        group.barrier()
    yield
    if leads() and size() > 1:
        group.barrier()


def _talking_device():
    """Return where a tensor must lie to be sent: NCCL talks from GPU to GPU."""
    return torch.device("cuda", torch.cuda.current_device()) if group.get_backend() == "nccl" else torch.device("cpu")
