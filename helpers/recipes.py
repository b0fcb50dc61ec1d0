"""Training by name, `python -m helpers train`: which model, loss and settings belong together, run by fit()."""

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from helpers import models
from helpers.checkpoints import load_checkpoint, save_checkpoint
from helpers.data import at_speeds, load_corpus, with_new_singers
from helpers.data.batches import SegmentSampler, fixed_batches, load_samples
from helpers.losses.masks import MaskLoss
from helpers.losses.unets import MultiResolutionLoss, WeightedL1Loss, waveform_mse
from helpers.losses.vae import MusicVAELoss
from helpers.models.mask_nets import MaskModel, fit_statistics
from helpers.runtime import UserError, describe_device, pick_device, seed_everything
from helpers.training import fingerprint, fit, memory_errors_explained, new_accelerator, one_cycle

SEGMENTS = 64  # of the validation split, evenly spread over it: the best epoch is chosen by them
STATISTICS = 32  # batches from which a mask model measures mean and deviation of its features
AHEAD = 4  # threads that read ahead where a corpus lies in a file


# ---- what can be trained -----------------------------------------------------------------------------------------


def half_time(progress):
    """The U-Net document's schedule: the full learning rate in the first half of the run, then a tenth of it."""
    return 1.0 if progress < 0.5 else 0.1


@dataclass(frozen=True)
class Recipe:
    """A model's class with its arguments, and how it is trained.

    loss: as fit() has it; None for the weighted L1 loss in which all sources count alike. seconds: length of a segment.
    remix: probability that a segment mixes sources of different songs. speeds: train on every track at several speeds.
    spread: how far the voice's formants move (helpers.data.augment). The rest: as fit() has them.
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
    average: float | None = None


# Notebook 03's sizes and settings. There, the LSTMs are grown from single-frame models first; here they begin anew.
DENSE = {"width": 768, "code": 384, "dropout": 0.2}
LSTM = DENSE | {"hidden": 256, "bidirectional": True}
CLIPS = {"sample_rate": 16_000, "n_fft": 2048, "hop_length": 512, "dropout": 0.1}
MASKED = {"seconds": 4.0, "remix": 0.7, "speeds": True, "learning_rate": 2e-3}
VARIED = {"remix": 0.7, "speeds": True, "learning_rate": 2e-3}
RECIPES = {
    "music-vae": Recipe(models.MusicVAE, MusicVAELoss("waveforms", beta=0.01), **VARIED),
    "feedforward": Recipe(functools.partial(models.SingleFrameNet, **DENSE), MaskLoss("l2"), **MASKED),
    "lstm": Recipe(functools.partial(models.LSTMNet, **LSTM), MaskLoss("l2"), **MASKED),
    "mir1k-lstm": Recipe(functools.partial(models.LSTMNet, **LSTM | CLIPS), MaskLoss("l2"), **MASKED),
    "source-lstm": Recipe(models.SourceLSTM, MaskLoss("waveform"), **MASKED),
    "unet": Recipe(models.SpectrogramUNet, None, weight_decay=1e-6, schedule=half_time),
    "mask-unet": Recipe(models.MaskUNet, None),
    "wave-unet": Recipe(models.WaveUNet, waveform_mse),
    "band-split": Recipe(models.BandSplitModel, MultiResolutionLoss()),
    "deep-unet": Recipe(models.DeepUNet, MultiResolutionLoss(), **VARIED, spread=0.2, average=0.998),
}


def make_model(name, arguments, start=None):
    """Return (a model, its Recipe) by the recipe's name: a new one, or the one in the checkpoint `start`.

    arguments: changes to the recipe's. Raises UserError for an unknown name, arguments that the class does not take, or
    a checkpoint of another class.
    """
    if name not in RECIPES:
        raise UserError(f"there is no model '{name}' to train: take one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    model = recipe.make()
    unknown = [argument for argument in arguments if argument not in model.arguments]
    if unknown:
        raise UserError(f"'{name}' has no argument '{unknown[0]}': set some of {', '.join(model.arguments)}")
    try:
        model = recipe.make(**arguments)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"'{name}' cannot be made with {arguments} ({error}): choose other values") from error
    if start and arguments:
        raise UserError(f"{start} brings the arguments of its model: leave out --set, or --from")
    if start:
        model, _ = load_checkpoint(start, expect=type(model).__name__)
    equal = WeightedL1Loss((1 / len(model.sources),) * len(model.sources))
    return model, replace(recipe, loss=recipe.loss or equal)


def load_split(name, split, model, data_dir=None):
    """Return a split of a corpus at the model's rate, with its sources in its order and as many channels as it reads.

    Nothing is downloaded, and nothing takes the place of a corpus that is missing. Raises UserError then, and where the
    corpus does not have the sources.
    """
    mono = model.channels == "each"
    corpus = load_corpus(name, split, data_dir, model.sample_rate, mono, real=True)
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
    name, data, output, *, epochs, steps, batch_size, seconds=None, seed=0, device="auto", learning_rate=None,
    resume=False, start=None, data_dir=None, arguments=None, show=print,
):  # fmt: skip
    """Train the model of a recipe on a corpus, with all processes that were started together (see fit()).

    Args:
        name: of RECIPES. data: as corpora.load_corpus takes it; its train and validation splits are used.
        output: the checkpoint to write, of the epoch with the lowest validation loss. The run's state is kept in the
            same folder after every epoch, in a file named after all settings but not after `output`.
        batch_size: segments in a step, of all processes together.
        seconds, learning_rate: instead of the recipe's.
        resume: go on from the run's state; otherwise it begins anew.
        start: a checkpoint whose weights to begin with.
        arguments: {name: value} for the model's class instead of the recipe's.
        show: called with a line of text for every epoch.

    Raises UserError.
    """
    accelerator = new_accelerator(pick_device(device))
    device, processes = accelerator.device, accelerator.num_processes
    tell = show if accelerator.is_main_process else lambda line: None
    check_writable(Path(output))
    seed_everything(seed)
    model, recipe = make_model(name, arguments or {}, start)
    recipe = replace(recipe, seconds=seconds or recipe.seconds, learning_rate=learning_rate or recipe.learning_rate)
    with accelerator.main_process_first():  # converted copies of the corpus are made once
        corpus = {split: load_split(data, split, model, data_dir) for split in ("train", "validation")}
        played = at_speeds(corpus["train"]) if recipe.speeds else corpus["train"]
        samples = {"train": load_samples(played, device), "validation": load_samples(corpus["validation"], device)}
    check_heard(samples["train"])
    facts = {"data": corpus["train"].name, "recipe": name, "epochs": epochs, "steps": steps, "seed": seed}
    facts |= {"batch_size": batch_size, "seconds": recipe.seconds, "learning_rate": recipe.learning_rate}
    facts |= {"start": Path(start).name} if start else {}
    state = Path(output).with_name(f"{name}-{fingerprint(model.arguments, recipe, facts)}.state")
    if resume and not state.exists():
        raise UserError(f"there is no {state} to resume: give the settings of that run, or leave out --resume")
    batches = functools.partial(segments, samples, recipe, batch_size, device, steps=steps)
    if isinstance(model, MaskModel) and not start:
        with memory_errors_explained(device):
            drawn = batches("train", torch.Generator().manual_seed(seed), steps=STATISTICS)
            fit_statistics(model.to(device), drawn)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    several = f" in {processes} processes" if processes > 1 else ""
    tell(f"{samples['train']}\n{name}, {millions:.2f} M parameters, on {describe_device(device)}{several}")
    history = fit(
        model, recipe.loss, batches, epochs=epochs, steps=steps, learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay, schedule=recipe.schedule, average=recipe.average, device=device, seed=seed,
        state_path=state, resume=resume, on_epoch=lambda epoch, history: tell(epoch_line(epoch, epochs, history)),
    )  # fmt: skip
    if accelerator.is_main_process:
        best = history["best_epoch"]
        facts |= {"profile": "command line", "device": describe_device(device), "processes": processes}
        facts |= {"best_epoch": best, "training_seconds": sum(history["seconds"])}
        save_checkpoint(output, model, **facts, validation_loss=history["validation"]["loss"][best - 1])
        tell(f"{output} (epoch {best}; {state} can be deleted)")
    accelerator.end_training()
    return Path(output)


def check_writable(path):
    """Raise UserError unless a file can be written to `path`; its folder is made."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of the checkpoint to write in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose a folder you may write to") from error


def check_heard(samples):
    """Raise UserError if a source is silent in all tracks: a model would learn that it always is."""
    for source, sounding in zip(samples.sources, samples.active[:, -1].tolist(), strict=True):
        if not sounding:
            raise UserError(f"'{source}' is silent in every training track of {samples.name}: take another corpus")


def segments(samples, recipe, batch_size, device, split, generator, steps):
    """Return `steps` random batches of the train split, or all validation batches, always the same; see fit()."""
    if split == "validation":
        return fixed_batches(samples["validation"], recipe.seconds, batch_size, device, limit=SEGMENTS)
    workers = 0 if samples["train"].in_memory else AHEAD
    sampler = SegmentSampler(
        samples["train"], recipe.seconds, batch_size, generator, device, remix=recipe.remix, workers=workers
    )
    drawn = sampler.batches(steps)
    if not recipe.spread:
        return drawn
    voice = samples["train"].sources.index("vocals")
    return with_new_singers(drawn, generator, samples["train"].sample_rate, recipe.spread, voice)


def epoch_line(epoch, epochs, history):
    """Return a line about an epoch: its losses (with * where it is the best so far) and its seconds."""
    train, validation = (history[split]["loss"][epoch - 1] for split in ("train", "validation"))
    best = "*" if history["best_epoch"] == epoch else " "
    seconds = history["seconds"][epoch - 1]
    return f"epoch {epoch:3}/{epochs}  train {train:9.5f}  validation {validation:9.5f}{best}  {seconds:6.1f} s"
