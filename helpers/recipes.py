"""Training by name, `python -m helpers train`: which model, loss and settings belong together, run by fit()."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from pooch import file_hash

from helpers import models
from helpers.checkpoints import load_checkpoint, save_checkpoint
from helpers.data.augment import at_speeds, equalised, with_new_singers
from helpers.data.batches import SegmentSampler, fixed_batches, load_samples
from helpers.data.corpora import load_corpus
from helpers.losses.masks import MaskLoss
from helpers.losses.unets import MultiResolutionLoss, error_to_mixture
from helpers.losses.vae import MusicVAELoss
from helpers.models.mask_nets import MaskModel, fit_statistics
from helpers.runtime import UserError, check_writable, describe_device, pick_device, seed_everything
from helpers.training import epoch_line, fingerprint, fit, memory_errors_explained, new_accelerator

SEGMENTS = 64  # of the validation split, evenly spread over it: the best epoch is chosen by them
STATISTICS = 32  # batches from which a mask model measures mean and deviation of its features
REMIX = 0.7  # probability that a segment mixes sources of different songs; all are played at several speeds
AHEAD = 4  # threads that read ahead where a corpus lies in a file


@dataclass(frozen=True)
class Recipe:
    """A model's class with its arguments, and how it is trained. What is not explained here is as fit() has it."""

    make: Callable
    loss: Callable
    seconds: float = 4.0  # length of a segment
    batch_size: int = 16  # segments in a step, of all processes together
    spread: float = 0.0  # how far the voice's formants move: see helpers.data.augment
    equalise: float = 0.0  # dB, of each source's random equaliser
    learning_rate: float = 2e-3
    average: float | None = None


# Notebook 03's sizes and settings. There, the LSTMs are grown from single-frame models first; here they begin anew.
DENSE = {"width": 768, "code": 384, "dropout": 0.2}
LSTM = DENSE | {"hidden": 256, "bidirectional": True}
CLIPS = {"sample_rate": 16_000, "n_fft": 2048, "hop_length": 512, "dropout": 0.1}
DEEP = {"spread": 0.2, "average": 0.999}
SECOND = DEEP | {"batch_size": 4, "learning_rate": 4e-4}
SONGS = {"equalise": 3.0}
SINGLE = partial(models.SingleFrameNet, **CLIPS | {"width": 1024, "code": 512, "dropout": 0.2})
VOICE_AND_REST = partial(models.DeepUNet, rest="accompaniment")
FOUR = partial(models.DeepUNet, width=48, sources=("vocals", "drums", "bass", "other"))
RECIPES = {
    "feedforward": Recipe(partial(models.SingleFrameNet, **DENSE), MaskLoss("l2")),
    "lstm": Recipe(partial(models.LSTMNet, **LSTM), MaskLoss("l2")),
    "mir1k-lstm": Recipe(partial(models.LSTMNet, **LSTM | CLIPS), MaskLoss("l2")),
    # Two stages each: first other errors, mostly medians; then, with --from, means, which are what the SDR measures.
    "mir1k-single-frame": Recipe(SINGLE, MaskLoss("l2"), batch_size=64, **DEEP),
    "mir1k-single-frame-2": Recipe(SINGLE, error_to_mixture, batch_size=64, learning_rate=1e-3, **DEEP),
    "deep-unet": Recipe(models.DeepUNet, MultiResolutionLoss(), **DEEP),
    "deep-unet-2": Recipe(models.DeepUNet, error_to_mixture, **SECOND),
    "deep-unet-songs": Recipe(VOICE_AND_REST, MultiResolutionLoss(), **DEEP | SONGS),
    "deep-unet-songs-2": Recipe(VOICE_AND_REST, error_to_mixture, **SECOND | SONGS),
    "deep-unet-stems": Recipe(FOUR, MultiResolutionLoss(), **DEEP | SONGS),
    "deep-unet-stems-2": Recipe(FOUR, error_to_mixture, **SECOND | SONGS),
    "music-vae": Recipe(partial(models.MusicVAE, width=48), MusicVAELoss("waveforms", beta=0.01), **DEEP),
    "music-vae-2": Recipe(partial(models.MusicVAE, width=48), MusicVAELoss("snr", beta=0.005), **SECOND),
}


def make_model(name, arguments, start=None):
    """Return (a model, its Recipe) by the recipe's name: a new one, or the one in the checkpoint `start`.

    arguments: changes to the recipe's. Raises UserError for an unknown name, arguments that the class does not take, or
    a checkpoint of another class.
    """
    if name not in RECIPES:
        raise UserError(f"there is no model '{name}' to train: take one of {', '.join(RECIPES)}")
    if start and arguments:
        raise UserError(f"{start} brings the arguments of its model: leave out --set, or --from")
    recipe = RECIPES[name]
    try:
        model = recipe.make(**arguments)
        if not all(weights.numel() for weights in model.parameters()) or model.sample_rate < 1:
            raise ValueError("there would be no weights, or no samples")
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        known = ", ".join(recipe.make().arguments)
        raise UserError(f"'{name}' cannot be made with {arguments} ({error}): set other values of {known}") from error
    if start:
        model, _ = load_checkpoint(start, expect=type(model).__name__)
    return model, recipe


def load_split(name, split, model, data_dir=None):
    """Return a split of a corpus, mono, at the model's rate, with its sources in its order.

    Nothing is downloaded. Raises UserError where the corpus is missing, or does not have the sources.
    """
    corpus = load_corpus(name, split, data_dir, model.sample_rate, mono=True, real=True)
    if corpus.sources and set(model.sources) == {"vocals", "accompaniment"}:
        corpus = corpus.vocals_and_accompaniment()
    if set(model.sources) != set(corpus.sources):
        have, want = ", ".join(corpus.sources) or "none", ", ".join(model.sources)
        raise UserError(f"{corpus.name} has the sources {have}, the model separates {want}: take another corpus")
    return corpus.regroup({source: (source,) for source in model.sources})


def check_heard(samples):
    """Raise UserError if a source is silent in all tracks: a model would learn that it always is."""
    for source, sounding in zip(samples.sources, samples.active[:, -1].tolist(), strict=True):
        if not sounding:
            raise UserError(f"'{source}' is silent in every training track of {samples.name}: take another corpus")


def segments(samples, recipe, device, split, generator, steps):
    """Return `steps` random batches of the train split, or all validation batches, always the same; see fit()."""
    samples, sizes = samples[split], (recipe.seconds, recipe.batch_size)
    if split == "validation":
        return fixed_batches(samples, *sizes, device, limit=SEGMENTS)
    workers = 0 if samples.in_memory else AHEAD
    batches = SegmentSampler(samples, *sizes, generator, device, remix=REMIX, workers=workers).batches(steps)
    if recipe.equalise:
        batches = equalised(batches, generator, samples.sample_rate, recipe.equalise)
    if recipe.spread and "vocals" in samples.sources:
        voice = samples.sources.index("vocals")
        batches = with_new_singers(batches, generator, samples.sample_rate, recipe.spread, voice)
    return batches


def train(
    name, data, output, *, epochs, steps, batch_size=None, seconds=None, learning_rate=None, seed=0, device="auto",
    resume=False, start=None, data_dir=None, arguments=None, show=print,
):  # fmt: skip
    """Train the model of a recipe on a corpus, with all processes that were started together (see fit()).

    Args:
        name: of RECIPES. data: as corpora.load_corpus takes it; its train and validation splits are used.
        output: the checkpoint to write, of the epoch with the lowest validation loss. The run's state lies in the same
            folder, in a file named after all settings.
        batch_size, seconds, learning_rate, arguments ({name: value} for the model's class): instead of the recipe's.
        resume: go on from the run's state. start: a checkpoint whose weights to begin with.
        show: called with a line of text for every epoch.
    """
    accelerator = new_accelerator(pick_device(device))
    device, output = accelerator.device, Path(output)
    check_writable(output)  # or it would fail after the training
    seed_everything(seed)
    model, recipe = make_model(name, arguments or {}, start)
    given = {"batch_size": batch_size, "seconds": seconds, "learning_rate": learning_rate}
    recipe = replace(recipe, **{setting: value for setting, value in given.items() if value})

    corpus = {split: load_split(data, split, model, data_dir) for split in ("train", "validation")}
    facts = {"data": corpus["train"].name, "recipe": name, "epochs": epochs, "steps": steps, "seed": seed}
    facts |= {setting: getattr(recipe, setting) for setting in given}
    facts |= {"start": Path(start).name, "start_sha256": file_hash(start)} if start else {}
    state = output.with_name(f"{name}-{fingerprint(model.arguments, recipe, facts)}.state")
    if resume and not state.exists():
        raise UserError(f"there is no {state} to resume: give the settings of that run, or leave out --resume")
    if state.exists() and not resume and accelerator.is_main_process:
        show(f"{state}, an earlier run of these settings, will be overwritten: to go on with it, stop and add --resume")

    with accelerator.main_process_first():  # converted copies of the corpus are made once
        heard = corpus | {"train": at_speeds(corpus["train"])}
        samples = {split: load_samples(part, device) for split, part in heard.items()}
    check_heard(samples["train"])
    batches = partial(segments, samples, recipe, device, steps=steps)
    if isinstance(model, MaskModel) and not start:
        with memory_errors_explained():
            drawn = batches("train", torch.Generator().manual_seed(seed), steps=STATISTICS)
            fit_statistics(model.to(device), drawn)

    leads, processes, machine = accelerator.is_main_process, accelerator.num_processes, describe_device(device)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    if leads:
        show(f"{samples['train']}\n{name}, {millions:.2f} M parameters, on {machine}, processes: {processes}")
    history = fit(
        model, recipe.loss, batches, epochs=epochs, steps=steps, learning_rate=recipe.learning_rate,
        average=recipe.average, device=device, seed=seed, state_path=state, resume=resume,
        on_epoch=lambda epoch, history: show(epoch_line(history, epoch, epochs)),
    )  # fmt: skip
    if leads:
        best = history["best_epoch"]
        facts |= {"profile": "command line", "device": machine, "processes": processes, "best_epoch": best}
        facts |= {"training_seconds": sum(history["seconds"]), "validation_loss": min(history["validation"]["loss"])}
        save_checkpoint(output, model, **facts)
        show(f"{output} (epoch {best}; {state} can be deleted)")
    accelerator.end_training()
    return output
