"""A network as a Separator: a waveform of any length, rate and number of channels in, {source: waveform} out.

A Separator is a callable `(waveform, sample_rate) -> {source: waveform}` of float32 tensors (channels, time): every
source is as long as the input, to the sample, at the same rate, with as many channels, on the same device.

An audio model, for ModelSeparator, is an nn.Module that

- maps (batch, channels, time) to (batch, sources, channels, time) of the same length, at least a second long;
- has the attributes `sample_rate` in Hz and `sources`, their names in order;
- has the attribute `channels`: 'each' for a model of one channel, which is applied to every channel by itself, or
  'joint' for one of two, which sees left and right together;
- is listed in helpers.models.ARCHITECTURES and rebuilt from `arguments`, so that a checkpoint is all it takes.

A model that needs a certain level or statistics takes them from the samples it is given: a chunk of some seconds.
"""

import re

import torch
from torch.nn import functional as F

from helpers.data import audio
from helpers.runtime import UserError, pick_device
from helpers.separation.chunks import CHUNK, OVERLAP, in_chunks
from helpers.separation.oracles import checked

GPU_SECONDS = 80.0  # of chunks that a GPU gets at a time; a CPU is as fast with one channel of one chunk


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


class ModelSeparator:
    """A Separator made of an audio model (see the top of this file).

    Args:
        model: moved to `device` and put into evaluation mode.
        device: a torch.device, or a name that runtime.pick_device takes.
        chunk, overlap: in seconds of the model's rate. The network's own memory grows with the chunk; waveform and
            estimates are held whole (separate_file bounds these, too).
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
        self.batch = 1 if self.device.type == "cpu" else max(1, int(GPU_SECONDS / chunk))

    @torch.no_grad()
    def __call__(self, waveform, sample_rate):
        """Return {source: waveform}; waveform is (channels, time), with NaN and infinity refused (UserError)."""
        waveform = checked(waveform)
        frames = waveform.shape[-1]
        heard = audio.resample(waveform.cpu(), sample_rate, self.sample_rate)
        padded = _padded(heard, self.sample_rate).to(self.device)  # one copy there, and one back
        found = in_chunks(self._separate, padded, self.chunk, self.overlap, self.batch, self.progress)
        found = found[..., : heard.shape[-1]].cpu()  # (sources, channels, time)
        if not found.isfinite().all():
            kind = type(self.model).__name__
            raise UserError(f"the {kind} gave NaN or infinity: train it again, or choose another model")
        estimates = {}
        for name, estimate in zip(self.sources, found, strict=True):
            estimate = audio.resample(estimate, self.sample_rate, sample_rate)[..., :frames]
            estimates[name] = _padded(estimate, frames).to(waveform.device)
        return share_residual(estimates, waveform) if self.add_up else estimates

    def _separate(self, chunks):
        """(chunks, channels, time) -> (chunks, sources, channels, time)."""
        count, channels, _ = chunks.shape
        if self.model.channels == "each":
            found = self._all(chunks.flatten(0, 1).unsqueeze(1))  # (chunks · channels, sources, 1, time)
            return found.squeeze(2).unflatten(0, (count, channels)).transpose(1, 2)
        if channels % 2:
            chunks = torch.cat([chunks, chunks[:, -1:]], dim=1)
        found = self._all(chunks.unflatten(1, (-1, 2)).flatten(0, 1))  # (chunks · pairs, sources, 2, time)
        found = found.unflatten(0, (count, -1)).transpose(1, 2).flatten(2, 3)  # (chunks, sources, 2 · pairs, time)
        if channels % 2:
            found[:, :, -2] = found[:, :, -2:].mean(2)
        return found[:, :, :channels]

    def _all(self, batch):
        """Run a batch at once on a GPU, one after the other on a CPU, which takes less memory and no more time."""
        parts = batch.split(1) if self.device.type == "cpu" else (batch,)
        return torch.cat([self._run(part) for part in parts])

    def _run(self, batch):
        """(batch, channels, time) -> (batch, sources, channels, time), as the model gives it."""
        try:
            found = self.model(batch)
        except torch.OutOfMemoryError as error:
            seconds = batch.shape[-1] / self.sample_rate
            raise UserError(
                f"{self.device} has too little memory for chunks of {seconds:.0f} s: choose shorter ones, or the CPU"
            ) from error
        if found.shape != (len(batch), len(self.sources), *batch.shape[1:]):
            raise ValueError(f"the model turned {tuple(batch.shape)} into {tuple(found.shape)}")
        return found.float()


def _padded(waveform, frames):
    """Return a waveform of at least so many samples, with silence added behind where it is shorter."""
    return F.pad(waveform, (0, max(0, frames - waveform.shape[-1])))


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
