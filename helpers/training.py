"""fit(): the training loop of every notebook."""

import functools
import hashlib
import math
import time
from pathlib import Path

import torch

from helpers import distributed
from helpers.checkpoints import read_safely
from helpers.runtime import UserError, write_atomically

STATE_FORMAT = 1


def one_cycle(progress, warm_up=0.15):
    """Return the learning rate's factor at `progress` in [0, 1): linear rise, then half a cosine down to zero."""
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def add_terms(totals, terms):
    """Add each loss term to `totals` in place (tensors stay on their device until they are read)."""
    for name, value in terms.items():
        totals[name] = totals.get(name, 0.0) + value.detach()


def train_epoch(model, loss, batches, optimiser, progress, schedule, learning_rate, autocast):
    """Take one step for each batch; `progress` yields the position of each in the whole run, in [0, 1).

    Returns {loss term: mean over batches}.
    """
    model.train()
    totals, count = {}, 0
    for batch, position in zip(batches, progress, strict=True):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * schedule(position)
        with autocast():
            terms = loss(model, batch, position)
        optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        optimiser.step()
        add_terms(totals, terms)
        count += 1
    return {name: float(value) / count for name, value in totals.items()}


@torch.no_grad()
def validate(model, loss, batches, autocast):
    """Return {loss term: mean over batches}, with the loss as it stands at the end of the run."""
    model.eval()
    totals, count = {}, 0
    for batch in batches:
        with autocast():
            add_terms(totals, loss(model, batch, 1.0))
        count += 1
    return {name: float(value) / count for name, value in totals.items()}


def fingerprint(*settings):
    """Return eight hex digits that change when any of `settings` does: a part of a state file's name.

    A run whose loss, data or batch size was edited then begins afresh, and the earlier one stays to go back to.
    Dataclasses, numbers, texts, lists and dicts count by their value, functions by their name.
    """
    texts = [getattr(setting, "__qualname__", None) or repr(setting) for setting in settings]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]


def fit(
    model,
    loss,
    batches,
    *,
    epochs,
    steps,
    learning_rate=2e-3,
    weight_decay=1e-4,
    schedule=one_cycle,
    device="cpu",
    mixed_precision=False,
    seed=0,
    state_path=None,
    resume=True,
    on_epoch=None,
):
    """Train `model` in place, restore its best state, return the history.

    Every epoch begins by seeding torch with (seed, epoch), so that a resumed run draws what the uninterrupted one would
    have drawn: weights, optimiser and history are all it takes to end in the same weights, bit for bit.

    Within helpers.distributed.joined() the processes share every training batch. The first one alone validates, writes
    the state and calls `on_epoch`; `state_path` must name a file that all of them can read.

    Args:
        loss: loss(model, batch, progress) -> {"loss": scalar to minimise, other terms to log}; progress goes from 0 to
            1 over the run, and is 1 in validation.
        batches: batches(split, generator) -> an iterable of batches on `device`; split is "train" (`steps` batches,
            drawn with the CPU generator) or "validation" (the same batches each time).
        schedule: progress in [0, 1) -> factor of the learning rate, asked before every step.
        mixed_precision: run the model in bfloat16 where torch.autocast allows it.
        state_path: file that holds the run's state after every epoch; None keeps nothing.
        resume: go on from `state_path` if it exists; False begins again.
        on_epoch: on_epoch(epoch, history), called after every epoch, epochs counted from 1, and once on resuming.

    Returns:
        {"epoch": [1, ...], "train": {term: [...]}, "validation": {term: [...]}, "learning_rate": [...],
         "seconds": [...], "best_epoch": int}; the best epoch has the lowest validation loss.

    Raises:
        UserError: the state file is damaged or of another run; the loss is no longer a finite number; or a batch cannot
            be shared by several processes.
    """
    device = torch.device(device)
    model.to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    autocast = functools.partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=mixed_precision)
    history = {"epoch": [], "train": {}, "validation": {}, "learning_rate": [], "seconds": [], "best_epoch": 0}
    best = None
    plan = {"epochs": epochs, "steps": steps, "learning_rate": learning_rate}
    plan |= {"weight_decay": weight_decay, "seed": seed}
    if state_path and resume and Path(state_path).exists():
        history, best = restore_run(state_path, plan, model, optimiser)
        if on_epoch and distributed.leads():
            on_epoch(len(history["epoch"]), history)
    own_loss = distributed.shared(loss, model)

    for epoch in range(len(history["epoch"]) + 1, epochs + 1):
        started = time.perf_counter()
        torch.manual_seed(distributed.own_seed(seed * 100_003 + epoch))
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        progress = [step / (epochs * steps) for step in range((epoch - 1) * steps, epoch * steps)]
        drawn = batches("train", generator)
        train = train_epoch(model, own_loss, drawn, optimiser, progress, schedule, learning_rate, autocast)
        train = distributed.averaged(train)
        drawn = batches("validation", generator)
        validation = distributed.from_leader(functools.partial(validate, model, loss, drawn, autocast))
        if not math.isfinite(train["loss"] + validation["loss"]):
            raise UserError(f"the loss was no longer finite in epoch {epoch}: lower the learning rate {learning_rate}")
        record(history, epoch, train, validation, optimiser, time.perf_counter() - started)
        if history["best_epoch"] == epoch:
            best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        if state_path and distributed.leads():
            save_run(state_path, plan, model, optimiser, history, best)
        if on_epoch and distributed.leads():
            on_epoch(epoch, history)
    model.load_state_dict(best)
    model.eval()
    return history


def record(history, epoch, train, validation, optimiser, seconds):
    """Append one epoch to `history` in place, and note it as the best one if its validation loss is the lowest."""
    history["epoch"].append(epoch)
    history["learning_rate"].append(optimiser.param_groups[0]["lr"])
    history["seconds"].append(seconds)
    for split, terms in (("train", train), ("validation", validation)):
        for name, value in terms.items():
            history[split].setdefault(name, []).append(value)
    losses = history["validation"]["loss"]
    if losses[-1] == min(losses):
        history["best_epoch"] = epoch


def save_run(path, plan, model, optimiser, history, best):
    """Write all that fit() needs to go on after an interruption."""
    state = {
        "state_format": STATE_FORMAT,
        "architecture": type(model).__name__,
        "arguments": model.arguments,
        "plan": plan,
        "weights": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": history,
        "best": best,
    }
    write_atomically(path, lambda file: torch.save(state, file))


def restore_run(path, plan, model, optimiser):
    """Load a state that save_run wrote into `model` and `optimiser`; return (history, best weights)."""
    state = read_safely(path)
    remedy = "delete it, or pass resume=False to begin again"
    if not isinstance(state, dict) or state.get("state_format") != STATE_FORMAT:
        raise UserError(f"{path} holds no training run of this version: {remedy}")
    same_model = state["architecture"] == type(model).__name__ and state["arguments"] == model.arguments
    if not same_model or state["plan"] != plan:
        raise UserError(f"{path} holds the training run of another model or other settings: {remedy}")
    try:
        model.load_state_dict(state["weights"])
        optimiser.load_state_dict(state["optimiser"])
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the weights in {path} do not fit this version's {state['architecture']}: {remedy}") from error
    return state["history"], state["best"]
