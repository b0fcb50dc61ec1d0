"""fit(): the training loop of every notebook, in one process or in several (Hugging Face's accelerate)."""

import contextlib
import copy
import math
import time
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, find_batch_size, slice_tensors
from torch import nn

from helpers.run_state import fingerprint, restore_run, save_run
from helpers.runtime import UserError, describe_device, precision

PATIENCE = timedelta(hours=2)  # the longest that processes wait while the first one converts a corpus
STRIDE = 1_000_000_007  # between the seeds of two processes: more than between those of two epochs


def one_cycle(progress, warm_up=0.15):
    """Return the learning rate's factor at `progress` in [0, 1): linear rise, then half a cosine down to zero."""
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


@contextlib.contextmanager
def memory_errors_explained():
    """Turn what torch raises where memory does not suffice, on a GPU or a CPU, into a UserError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
        if not lacking:
            raise
        remedy = "make the batches smaller (--batch-size) or the segments shorter (--seconds)"
        raise UserError(f"training needs more memory than there is: {remedy}") from error


@contextlib.contextmanager
def kernels_restored():
    """Take back what prepare() sets on a GPU: what is separated next is of every length, in float32."""
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False
        torch.set_float32_matmul_precision("highest")


@kernels_restored()
@memory_errors_explained()
def fit(
    model, loss, batches, *, epochs, steps, learning_rate=2e-3, weight_decay=1e-4, schedule=one_cycle, clip=None,
    average=None, device="cpu", mixed_precision="auto", seed=0, state_path=None, resume=True, on_epoch=None,
):  # fmt: skip
    """Train `model` in place, restore its best state, return the history.

    Every epoch begins by seeding torch with (seed, epoch): a resumed run ends in the weights of an uninterrupted one,
    on a CPU bit for bit.

    Started by `accelerate launch` or `torchrun`, all processes draw the same global batch, each computes the loss of
    its own slice, and the gradients are averaged: as losses are means over the batch, these are the steps of one
    process. (But each draws its own dropout and sampled codes.) The first one writes the state and calls `on_epoch`.

    Args:
        loss: loss(model, batch, progress) -> {"loss": scalar to minimise, other terms to log}; progress goes from 0 to
            1 over the run, and is 1 in validation.
        batches: batches(split, generator) -> an iterable of batches on `device`; split is "train" (`steps` batches,
            drawn with the CPU generator) or "validation" (the same batches each time).
        schedule: progress in [0, 1) -> factor of the learning rate. clip: the gradient's largest norm.
        average: decay, such as 0.998, of a moving average of the weights, which is then what is validated and kept.
        mixed_precision: 'no', 'bf16', 'fp16', or 'auto' for what is fastest on `device` (see runtime.precision).
        state_path: file that holds the run's state after every epoch, and in the end its best weights. resume: go on
            from it if it exists.
        on_epoch: on_epoch(epoch, history), called after every epoch, epochs counted from 1, and once on resuming.

    Returns {"train": {term: [...]}, "validation": {term: [...]}, "best_epoch": the one with the lowest validation loss}
    and lists with one item per epoch: "epoch", "learning_rate", "steps", "seconds", "device", "mixed_precision".

    Raises UserError: no validation batch, a state file that is damaged or of another run, a loss that is no longer
    finite, too little memory, a batch that the processes cannot share equally.
    """
    accelerator = new_accelerator(torch.device(device), mixed_precision)
    model.to(accelerator.device)
    averaged = copy.deepcopy(model) if average else None
    training, validation, optimiser = prepare(model, averaged, loss, learning_rate, weight_decay, accelerator)

    plan = {"architecture": type(model).__name__, "arguments": model.arguments, "loss": fingerprint(loss)}
    plan |= {"epochs": epochs, "steps": steps, "learning_rate": learning_rate, "weight_decay": weight_decay}
    plan |= {"schedule": fingerprint(schedule), "clip": clip, "average": average, "seed": seed}
    parts = {"weights": model, "optimiser": optimiser, "average": averaged, "scaler": accelerator.scaler}
    history, best = {"epoch": [], "train": {}, "validation": {}, "best_epoch": 0}, None
    leads = accelerator.is_main_process
    if state_path and resume and Path(state_path).exists():
        history, best = restore_run(state_path, plan, parts)
        if on_epoch and leads:
            on_epoch(len(history["epoch"]), history)

    for epoch in range(len(history["epoch"]) + 1, epochs + 1):
        started = time.perf_counter()
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)  # of the batches, the same in all processes
        torch.manual_seed(generator.initial_seed() + STRIDE * accelerator.process_index)

        training.train()
        terms_of_steps = []
        for number, batch in zip(range((epoch - 1) * steps, epoch * steps), batches("train", generator), strict=True):
            progress = number / (epochs * steps)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * schedule(progress)
            terms = training(own_slice(batch, accelerator), progress)
            optimiser.zero_grad()
            accelerator.backward(terms["loss"])
            if clip:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            optimiser.step()
            if average:
                update_average(averaged, model, average, number)
            terms_of_steps.append({name: term.detach() for name, term in terms.items()})
        train = mean_terms(terms_of_steps, accelerator)

        validation.eval()
        with torch.no_grad():
            judged = mean_terms([validation(batch, 1.0) for batch in batches("validation", generator)], accelerator)
        if not math.isfinite(train["loss"] + judged["loss"]):
            raise UserError(f"the loss was no longer finite in epoch {epoch}: lower the learning rate {learning_rate}")

        facts = {"epoch": epoch, "learning_rate": optimiser.param_groups[0]["lr"], "steps": steps}
        facts |= {"seconds": time.perf_counter() - started, "device": describe_device(accelerator.device)}
        facts |= {"mixed_precision": accelerator.mixed_precision}
        for record, values in ((history, facts), (history["train"], train), (history["validation"], judged)):
            for name, value in values.items():
                record.setdefault(name, []).append(value)
        if judged["loss"] == min(history["validation"]["loss"]):
            history["best_epoch"] = epoch
            best = {name: value.cpu().clone() for name, value in (averaged or model).state_dict().items()}
        if state_path and leads:
            save_run(state_path, plan, parts if epoch < epochs else {}, history, best)  # a finished run keeps its best
        if on_epoch and leads:
            on_epoch(epoch, history)

    model.load_state_dict(best)
    model.eval()
    return history


class Terms(nn.Module):
    """A loss as a module's forward(), which is all that accelerate wraps; losses call what they like of a model."""

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch, progress):
        return self.loss(self.model, batch, progress)


def new_accelerator(device, mixed_precision="auto"):
    """Return accelerate's Accelerator for a device; of several processes each gets a GPU of its own."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    AcceleratorState._reset_state(reset_partial_state=True)  # it remembers precision and device of an earlier run
    return Accelerator(
        mixed_precision=precision(device) if mixed_precision == "auto" else mixed_precision,
        cpu=device.type == "cpu",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


def prepare(model, averaged, loss, learning_rate, weight_decay, accelerator):
    """Return the Terms to train, those to validate, and the optimiser, wrapped for precision and processes."""
    gpu = accelerator.device.type == "cuda"
    if gpu:
        torch.backends.cudnn.benchmark = True  # batches of one shape: find the fastest kernels for it
        torch.set_float32_matmul_precision("high")
    if gpu and accelerator.num_processes > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=gpu)
    training, optimiser = accelerator.prepare(Terms(model, loss), optimiser)
    validation = accelerator.prepare_model(Terms(averaged or model, loss), evaluation_mode=True)
    return training, validation, optimiser


def own_slice(batch, accelerator):
    """Return this process's slice of a global batch: a tensor (batch, ...), or a tuple or list of such tensors."""
    processes, number = accelerator.num_processes, accelerator.process_index
    if processes == 1:
        return batch
    batch_size = find_batch_size(batch)
    if batch_size % processes:
        raise UserError(f"{processes} processes cannot share a batch of {batch_size}: choose a multiple of {processes}")
    size = batch_size // processes
    return slice_tensors(batch, slice(number * size, (number + 1) * size))


@torch.no_grad()
def update_average(averaged, model, decay, number):
    """Move the averaged weights and buffers towards the model's: a <- d a + (1 - d) w.

    At step `number`, from 0, d is at most (1 + number) / (10 + number): short runs forget their beginning, too.
    """
    decay = min(decay, (1 + number) / (10 + number))
    for mean, value in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def mean_terms(terms_of_batches, accelerator):
    """Return {loss term: mean over batches and processes}; UserError if there is no batch, of the validation split.

    The terms stay on their device and are read once, here, so that a GPU never waits for a step's numbers. A last batch
    that is smaller counts as much as a whole one.
    """
    if not terms_of_batches:
        raise UserError("the validation split gives no batch: add validation tracks, or make the batches smaller")
    values = torch.stack([torch.stack(list(terms.values())) for terms in terms_of_batches]).mean(dim=0)
    return dict(zip(terms_of_batches[0], accelerator.reduce(values, "mean").tolist(), strict=True))


def epoch_line(history, epoch, epochs):
    """Return a line about an epoch, counted from 1: its losses (with * where it is the best so far), its seconds."""
    train, validation = (history[split]["loss"][epoch - 1] for split in ("train", "validation"))
    best = "*" if validation == min(history["validation"]["loss"][:epoch]) else " "
    losses = f"train {train:<#9.4g}  validation {validation:<#9.4g}{best}"
    return f"epoch {epoch:{len(str(epochs))}}/{epochs}  {losses}  {history['seconds'][epoch - 1]:6.1f} s"
