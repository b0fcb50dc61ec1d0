"""Separators: a waveform of any length, rate and number of channels goes in, {source: waveform} comes out.

A Separator is a callable `(waveform, sample_rate) -> {source: waveform}` of float32 tensors (channels, time): every
source is as long as the input, to the sample, at the same rate and with as many channels. ModelSeparator makes one of a
network.

An audio model, for it, is an nn.Module that

- maps (batch, channels, time) to (batch, sources, channels, time) of the same length, at least a second long;
- has the attributes `sample_rate` in Hz and `sources`, their names in order;
- has the attribute `channels`: 'each' for a model of one channel, which is applied to every channel by itself, or
  'joint' for one of two, which sees left and right together;
- is listed in helpers.models.ARCHITECTURES and rebuilt from `arguments`, so that a checkpoint is all it takes.

A model that needs a certain level or statistics takes them from the samples it is given: a chunk of some seconds.
"""

import contextlib
import os
import re
import shutil
import sys
import warnings
from pathlib import Path

import torch
from torch.nn import functional as F

from helpers.checkpoints import load_checkpoint
from helpers.data import audio
from helpers.runtime import BUILD, ROOT, UserError, pick_device
from helpers.separation.baselines import BASELINES, VOICE
from helpers.separation.chunks import ChunkedSeparator, in_chunks

CHUNK, OVERLAP = 10.0, 1.0  # seconds
BLIND = ("source 1", "source 2")  # what sources are called by a method that cannot tell which is which
FOLDERS = (ROOT / "checkpoints", BUILD / "checkpoints")  # the committed ones first, then those of trial runs
NAMES = {  # models whose file is not called as they are, or that are missed where they are not trained yet
    "feedforward": ("savedModel_feedforward_best.pt", "03_mask_models_lstm.ipynb"),
    "lstm": ("savedModel_RNN_best.pt", "03_mask_models_lstm.ipynb"),
    "mir1k-lstm": ("mir1k-lstm.pt", "03_mask_models_lstm.ipynb"),
}


# ---- adding up --------------------------------------------------------------------------------------------------


def share_residual(estimates, mixture):
    """Return estimates {source: waveform} that add up to the mixture.

    What they leave over is given to all of them in equal parts: of all changes that do it, the one of least energy.
    With a model of a lower rate than the mixture, the band that it cannot hear is shared alike.
    """
    residual = mixture.clone()
    for estimate in estimates.values():
        residual -= estimate
    residual /= len(estimates)
    return {name: estimate + residual for name, estimate in estimates.items()}


# ---- a network as a Separator ------------------------------------------------------------------------------------


class ModelSeparator:
    """A Separator made of an audio model (see the top of this file).

    Args:
        model: moved to `device` and put into evaluation mode.
        device: a torch.device, or a name that runtime.pick_device takes.
        chunk, overlap: in seconds of the model's rate; memory grows with the chunk, not with the song.
        add_up: share the residual (share_residual), so that the sources add up to the input. Off by default: then the
            sources are as the model gives them, and add up only if its masks do.
        progress: called with the part of a song that is done, in (0, 1].

    Of more than two channels, a 'joint' model gets pairs: of 5.1 sound front, centre with bass, and rear. One channel
    alone it gets twice, and the mean of its outputs is taken.
    """

    def __init__(self, model, device="auto", chunk=CHUNK, overlap=OVERLAP, add_up=False, progress=None):
        _check_contract(model)
        self.device = pick_device(device) if isinstance(device, str) else device
        self.model = model.to(self.device).eval()
        self.sample_rate, self.sources = model.sample_rate, tuple(model.sources)
        self.chunk, self.add_up, self.progress = max(1, round(chunk * self.sample_rate)), add_up, progress
        self.overlap = min(round(overlap * self.sample_rate), self.chunk // 2)

    def __call__(self, waveform, sample_rate):
        """Return {source: waveform}; waveform is (channels, time), with NaN and infinity refused (UserError)."""
        if waveform.dim() != 2 or not waveform.numel():
            raise ValueError(f"a waveform is (channels, time) and not empty, got {tuple(waveform.shape)}")
        if not waveform.isfinite().all():
            raise UserError("the waveform holds NaN or infinity: check what it was read or computed from")
        waveform = waveform.detach().cpu().float()
        heard = audio.resample(waveform, sample_rate, self.sample_rate)
        frames = heard.shape[-1]
        heard = _padded(heard, self.sample_rate)
        with torch.no_grad():
            found = in_chunks(self._separate, heard, self.chunk, self.overlap, self.progress)[..., :frames]
        estimates = {}
        for name, estimate in zip(self.sources, found, strict=True):
            estimate = audio.resample(estimate, self.sample_rate, sample_rate)[..., : waveform.shape[-1]]
            estimates[name] = _padded(estimate, waveform.shape[-1])
        return share_residual(estimates, waveform) if self.add_up else estimates

    def _separate(self, chunk):
        """(channels, frames) -> (sources, channels, frames), on the CPU."""
        channels = len(chunk)
        chunk = chunk.to(self.device)
        if self.model.channels == "each":
            found = self._run(chunk.unsqueeze(1))[:, :, 0]  # (channels, sources, frames)
            return found.transpose(0, 1).cpu()
        if channels % 2:
            chunk = torch.cat([chunk, chunk[-1:]])
        found = self._run(chunk.unflatten(0, (-1, 2)))  # (pairs, sources, 2, frames)
        found = found.transpose(0, 1).flatten(1, 2)  # (sources, channels, frames)
        if channels % 2:
            found[:, -2] = found[:, -2:].mean(1)
        return found[:, :channels].cpu()

    def _run(self, batch):
        """(batch, channels, frames) -> (batch, sources, channels, frames), as the model gives it."""
        try:
            found = self.model(batch)
        except torch.OutOfMemoryError as error:
            seconds = batch.shape[-1] / self.sample_rate
            raise UserError(
                f"{self.device} has too little memory for chunks of {seconds:.0f} s: choose shorter ones, or the CPU"
            ) from error
        if found.shape != (len(batch), len(self.sources), *batch.shape[1:]):
            raise ValueError(f"the model turned {tuple(batch.shape)} into {tuple(found.shape)}")
        if not found.isfinite().all():
            kind = type(self.model).__name__
            raise UserError(f"the {kind} gave NaN or infinity: train it again, or choose another model")
        return found.float()


def _padded(waveform, frames):
    """Return a waveform of at least so many samples, with silence added behind where it is shorter."""
    missing = frames - waveform.shape[-1]
    return F.pad(waveform, (0, missing)) if missing > 0 else waveform


def _check_contract(model):
    """Raise UserError unless `model` keeps the contract at the top of this file; it may come from anybody's file."""
    kind = type(model).__name__
    rate, sources = getattr(model, "sample_rate", None), getattr(model, "sources", None)
    if rate is None or sources is None:
        raise UserError(f"{kind} is no audio model: choose one that `python -m helpers models` lists as such")
    names = [name for name in sources if isinstance(name, str) and re.fullmatch(r"\w[\w -]*", name)]
    if not names or len(set(names)) != len(sources) or not isinstance(rate, int) or not 1000 <= rate <= 384_000:
        raise UserError(f"{kind} has odd sources {sources} or an odd sample rate {rate}: get its file again")
    if getattr(model, "channels", None) not in ("each", "joint"):
        raise UserError(f"{kind} does not say whether it takes channels 'each' or 'joint': update its class")


# ---- by name -----------------------------------------------------------------------------------------------------


def known_checkpoints():
    """Return {name: path} of all checkpoints that lie in FOLDERS; a committed one goes before a trial run's."""
    names = {file: name for name, (file, _) in NAMES.items()}
    paths = [path for folder in FOLDERS for path in sorted(folder.glob("*.pt"))]
    return {names.get(path.name, path.stem): path for path in reversed(paths)}


def load_separator(name, device="auto", chunk=CHUNK, progress=None):
    """Return a Separator by its name (`python -m helpers models` lists them) or by the path of its checkpoint.

    Args: device, chunk, progress: as ModelSeparator's. Baselines have no use for a device, and chunks of their own;
        those that do all at once report no progress.

    Raises UserError for an unknown name, a model that is not trained yet, one of images, a file that is damaged, or an
    oracle, which needs the true sources.
    """
    name = str(name)
    path = known_checkpoints().get(name)
    if path is None and name in BASELINES:
        if BASELINES[name].truth:
            command = f"`python -m helpers evaluate --model {name} --data CORPUS`"
            raise UserError(f"'{name}' needs the true sources: run {command}, or choose another model to separate with")
        separator = BASELINES[name].make(BLIND if name == "ica" else VOICE)
        if isinstance(separator, ChunkedSeparator):
            separator.progress = progress
        return separator
    if path is None and (Path(name).exists() or Path(name).suffix or Path(name).name != name):
        path = Path(name)
    if path is None:
        raise UserError(_unknown(name))
    model, _ = load_checkpoint(path)
    try:
        return ModelSeparator(model, device, chunk, progress=progress)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _unknown(name):
    """Return the sentence about a model that there is not, or not yet."""
    known = ", ".join([*known_checkpoints(), *(name for name, entry in BASELINES.items() if not entry.truth)])
    if name not in NAMES:
        return f"there is no model '{name}': choose one of {known}, or give the path of a checkpoint"
    file, notebook = NAMES[name]
    train = f"train it with `python -m helpers run {notebook}`"
    return f"the model '{name}' is not trained yet, {FOLDERS[0] / file} is missing: {train}, or choose one of {known}"


# ---- files -------------------------------------------------------------------------------------------------------


def song_names(paths):
    """Return {path: name of its output folder}: the file's name without ending, or more of it where two would clash."""
    paths = list(dict.fromkeys(Path(path) for path in paths))
    for longer in (
        lambda path: path.stem,
        lambda path: path.name,
        lambda path: f"{path.absolute().parent.name}-{path.name}",
    ):
        names = {path: longer(path) for path in paths}
        if len({text.casefold() for text in names.values()}) == len(paths):
            return names
    raise UserError(f"{len(paths)} inputs include files of the same name: rename some, or give them in separate calls")


def low_rate(path, sample_rate, separator):
    """Return a sentence of warning if a file's sample rate is below a network's, else ''; a baseline has no rate.

    Such a file lacks the highs of all songs that the network heard: those of 32 kHz gain little on clips of 16 kHz.
    """
    own = getattr(separator, "sample_rate", 0)
    if sample_rate >= own:
        return ""
    return (
        f"{path} has a sample rate of {sample_rate:,} Hz, the model one of {own:,} Hz: it may separate badly without "
        f"the highs that it learnt from; take a model for {sample_rate:,} Hz or less, see `python -m helpers models`"
    )


def separate_file(path, folder, separator, add_up=False, warn=warnings.warn):
    """Separate one audio file into `folder`/SOURCE.wav; return the files' paths.

    They are 16-bit, or 32-bit floats where 16 bits would clip; all are there in the end, or none is. `add_up`: see
    share_residual; `warn`: called with low_rate's sentence, if any. Raises UserError for an input that cannot be read
    (see audio.read_audio) or a folder that cannot be written.
    """
    folder = Path(folder)
    waveform, sample_rate = audio.read_audio(path)
    if warning := low_rate(path, sample_rate, separator):
        warn(warning)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        estimates = separator(waveform, sample_rate)
        if add_up:
            estimates = share_residual(estimates, waveform)
        loudest = max(float(estimate.abs().max()) for estimate in estimates.values())
        for name, estimate in estimates.items():
            audio.write_audio(part / f"{name}.wav", estimate, sample_rate, "PCM_16" if loudest <= 1 else "FLOAT")
        folder.mkdir(exist_ok=True)
        for name in estimates:
            os.replace(part / f"{name}.wav", folder / f"{name}.wav")
        return [folder / f"{name}.wav" for name in estimates]
    except UserError as error:
        raise UserError(str(error).replace(str(part), str(folder))) from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write to {folder} ({reason}): free disk space or choose another folder") from error
    except MemoryError as error:
        raise UserError(f"{path} is too long for this machine's memory: cut it into parts") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def progress_line(label):
    """Return a function of the part that is done, in (0, 1], which shows it on the terminal; None where there is none.

    The line is written to standard error, over itself, and wiped out in the end.
    """
    if not sys.stderr.isatty():
        return None

    def show(done):
        text = f"{label} {done:4.0%}" if done < 1 else ""
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    return show


def separate_files(paths, output, separator, add_up=False, warn=warnings.warn):
    """Separate audio files into `output`/SONG/SOURCE.wav; yield (path, files written, None or the UserError) of each.

    An input that fails does not stop the others, and leaves nothing behind. add_up, warn: as separate_file's.
    """
    output = Path(output)
    names, created = song_names(paths), not output.exists()
    for path, name in names.items():
        try:
            yield path, separate_file(path, output / name, separator, add_up, warn), None
        except UserError as error:
            yield path, [], error
    if created:
        with contextlib.suppress(OSError):  # it holds something, or was never made
            output.rmdir()
