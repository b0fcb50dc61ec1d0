"""Training by name, on one device or many: what `python -m helpers train` does, with the notebooks' own fit()."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from helpers import distributed, models
from helpers.checkpoints import save_checkpoint
from helpers.data.augment import with_new_singers
from helpers.data.batches import SegmentSampler, fixed_batches, hold
from helpers.data.corpora import load_corpus
from helpers.data.speeds import at_speeds
from helpers.losses.masks import MaskLoss
from helpers.losses.music_vae import MusicVAELoss
from helpers.losses.unets import MultiResolutionLoss, WeightedL1Loss, waveform_mse
from helpers.models.mask_nets import MaskModel, fit_statistics
from helpers.runtime import UserError, describe_device, fast_bfloat16, seed_everything
from helpers.separation import cost as leaderboard
from helpers.training import fingerprint, fit, one_cycle

SEGMENTS = 64  # of the validation split, evenly spread over it: what the best epoch is chosen by
STATISTICS = 32  # batches from which a mask model measures mean and deviation of its features
AHEAD = 4  # threads that read ahead where a corpus lies in a file


# ---- what can be trained -----------------------------------------------------------------------------------------


def half_time(progress):
    """The U-Net document's schedule: the full learning rate in the first half of the run, then a tenth of it."""
    return 1.0 if progress < 0.5 else 0.1


@dataclass(frozen=True)
class Recipe:
    """How a model is made and trained.

    make: its class, with the arguments that the notebooks give it. loss: see helpers.training.fit; None for the
    weighted L1 loss in which all of the model's sources count alike. seconds: length of a segment. remix: probability
    that it mixes sources of different songs. speeds: train on every track at several speeds. spread: how far the
    formants of the voice move (helpers.data.augment), 0 for not at all. The rest: as fit() has them.
    """

    make: Callable
    loss: Callable | None
    seconds: float = 2.0
    remix: float = 0.5
    speeds: bool = False
    spread: float = 0.0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: Callable = one_cycle


# Notebook 03's sizes and settings. There, the LSTMs are grown from single-frame models first; here they begin anew.
DENSE, BOTH_WAYS = {"width": 768, "code": 384}, {"hidden": 256, "bidirectional": True}
AT_16_KHZ = {"sample_rate": 16_000, "n_fft": 2048, "hop_length": 512}
MASKED = {"seconds": 4.0, "remix": 0.7, "speeds": True, "learning_rate": 2e-3}
RECIPES = {
    "music-vae": Recipe(
        models.MusicVAE, MusicVAELoss("waveforms", beta=0.01), remix=0.7, speeds=True, learning_rate=2e-3
    ),
    "feedforward": Recipe(functools.partial(models.SingleFrameNet, **DENSE, dropout=0.2), MaskLoss("l2"), **MASKED),
    "lstm": Recipe(functools.partial(models.LSTMNet, **DENSE, **BOTH_WAYS, dropout=0.2), MaskLoss("l2"), **MASKED),
    "mir1k-lstm": Recipe(
        functools.partial(models.LSTMNet, **DENSE, **BOTH_WAYS, **AT_16_KHZ, dropout=0.1), MaskLoss("l2"), **MASKED
    ),
    "source-lstm": Recipe(models.SourceLSTM, MaskLoss("waveform"), **MASKED),
    "unet": Recipe(models.SpectrogramUNet, None, weight_decay=1e-6, schedule=half_time),
    "mask-unet": Recipe(models.MaskUNet, None),
    "wave-unet": Recipe(models.WaveUNet, waveform_mse),
    "band-split": Recipe(models.BandSplitModel, MultiResolutionLoss()),
    "deep-unet": Recipe(models.DeepUNet, MultiResolutionLoss(), remix=0.7, speeds=True, spread=0.2, learning_rate=2e-3),
}


def make_model(name, arguments):
    """Return (a new model, its Recipe) by the recipe's name; `arguments` are changes to the recipe's.

    Raises UserError for an unknown name, or arguments that the class does not take.
    """
    if name not in RECIPES:
        raise UserError(f"there is no model '{name}' to train: take one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    known = recipe.make().arguments
    unknown = [argument for argument in arguments if argument not in known]
    if unknown:
        raise UserError(f"'{name}' has no argument '{unknown[0]}': set some of {', '.join(known)}")
    try:
        model = recipe.make(**arguments)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"'{name}' cannot be made with {arguments} ({error}): choose other values") from error
    equal = WeightedL1Loss((1 / len(model.sources),) * len(model.sources))
    return model, replace(recipe, loss=recipe.loss or equal)


def load_split(name, split, model, data_dir=None):
    """Return a split of a corpus at the model's rate, with its sources in its order and as many channels as it reads.

    Nothing is downloaded. Raises UserError where the corpus does not have the sources.
    """
    mono = model.channels == "each"
    corpus = load_corpus(name, split, data_dir, download=False, sample_rate=model.sample_rate, mono=mono)
    if not corpus.sources:
        raise UserError(f"{corpus.name} has mixtures only, no true sources to learn from: take another corpus")
    if set(model.sources) == {"vocals", "accompaniment"}:
        corpus = corpus.vocals_and_accompaniment()
    if set(model.sources) != set(corpus.sources):
        have, want = ", ".join(corpus.sources), ", ".join(model.sources)
        raise UserError(f"{corpus.name} has the sources {have}, the model separates {want}: take another corpus")
    return corpus.regroup({source: (source,) for source in model.sources})


# ---- training ----------------------------------------------------------------------------------------------------


def train(
    name,
    data,
    output,
    *,
    epochs,
    steps,
    batch_size,
    seconds=None,
    seed=0,
    device="auto",
    learning_rate=None,
    resume=False,
    data_dir=None,
    arguments=None,
    show=print,
):
    """Train the model of a recipe on a corpus, alone or with the processes that torchrun started; return `output`.

    Args:
        name: of RECIPES. data: as corpora.load_corpus takes it; its train and validation splits are used.
        output: the checkpoint to write, of the epoch with the lowest validation loss. Beside it the run's state is kept
            after every epoch, in a file whose name also depends on all that the run was given.
        batch_size: segments in a step, of all processes together.
        seconds, learning_rate: instead of the recipe's.
        resume: go on from the run's state; otherwise it begins anew.
        arguments: {name: value} for the model's class instead of the recipe's.
        show: called with a line of text for every epoch.

    Raises UserError.
    """
    with distributed.joined(device) as device:
        distributed.check_shares(batch_size)
        seed_everything(seed)
        model, recipe = make_model(name, arguments or {})
        recipe = replace(recipe, seconds=seconds or recipe.seconds, learning_rate=learning_rate or recipe.learning_rate)
        with distributed.leader_first():  # converted copies of the corpus are made once
            corpus = {split: load_split(data, split, model, data_dir) for split in ("train", "validation")}
            played = at_speeds(corpus["train"]) if recipe.speeds else corpus["train"]
            held = {"train": hold(played), "validation": hold(corpus["validation"])}
        facts = {"data": corpus["train"].name, "recipe": name, "epochs": epochs, "steps": steps, "seed": seed}
        facts |= {"batch_size": batch_size, "seconds": recipe.seconds, "learning_rate": recipe.learning_rate}
        key = fingerprint(model.arguments, recipe.loss, facts)
        state = Path(f"{output}.{key}.state")
        if resume and not state.exists():
            raise UserError(f"there is no {state} to resume: give the settings of that run, or leave out --resume")
        batches = functools.partial(segments, held, recipe, batch_size, device, steps=steps)
        if isinstance(model, MaskModel):
            generator = torch.Generator().manual_seed(seed)
            fit_statistics(model.to(device), batches("train", generator, steps=STATISTICS))
        if distributed.leads():
            several = f" in {distributed.size()} processes" if distributed.size() > 1 else ""
            millions = leaderboard.parameters(model) / 1e6
            show(f"{held['train']}\n{name}, {millions:.2f} M parameters, on {describe_device(device)}{several}")
        history = fit(
            model, recipe.loss, batches, epochs=epochs, steps=steps, learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay, schedule=recipe.schedule, device=device, seed=seed,
            mixed_precision=fast_bfloat16(device), state_path=state, resume=resume,
            on_epoch=lambda epoch, history: show(epoch_line(epoch, epochs, history)),
        )  # fmt: skip
        if distributed.leads():
            best = history["best_epoch"]
            facts |= {"profile": "command line", "device": describe_device(device)}
            facts |= {"processes": distributed.size(), "best_epoch": best}
            save_checkpoint(output, model, **facts, validation_loss=history["validation"]["loss"][best - 1])
            show(f"{output} (epoch {best}; {state} can be deleted)")
    return Path(output)


def segments(held, recipe, batch_size, device, split, generator, steps):
    """Return `steps` random batches of the train split, or all validation batches, always the same; see fit()."""
    if split == "validation":
        return fixed_batches(held["validation"], recipe.seconds, batch_size, device, limit=SEGMENTS)
    workers = 0 if held["train"].in_memory else AHEAD
    sampler = SegmentSampler(
        held["train"], recipe.seconds, batch_size, generator, device, remix=recipe.remix, workers=workers
    )
    drawn = sampler.batches(steps)
    if not recipe.spread:
        return drawn
    voice = held["train"].sources.index("vocals")
    return with_new_singers(drawn, generator, held["train"].sample_rate, recipe.spread, voice)


def epoch_line(epoch, epochs, history):
    """Return what there is to say of an epoch: its losses (with * where it is the best so far) and its seconds."""
    train, validation = (history[split]["loss"][epoch - 1] for split in ("train", "validation"))
    best = "*" if history["best_epoch"] == epoch else " "
    took = history["seconds"][epoch - 1]
    return f"epoch {epoch:3}/{epochs}  train {train:9.5f}  validation {validation:9.5f}{best}  {took:6.1f} s"
