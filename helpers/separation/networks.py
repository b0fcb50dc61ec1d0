"""A network as a Separator: a waveform of any length, rate and number of channels in, {source: waveform} out.

An audio model, for ModelSeparator, is an nn.Module that

- maps (batch, 1, time) to (batch, sources, 1, time) of the same length, at least a second long;
- has the attributes `sample_rate` in Hz and `sources`, their names in order;
- may have the attribute `rest`, the source that gets all that the others leave of the input, at any rate.

It hears every channel of a recording by itself.
"""

import re

import torch
from torch.nn import functional as F

from helpers.data import audio
from helpers.runtime import UserError, pick_device
from helpers.separation.chunks import CHUNK, OVERLAP, in_chunks
from helpers.separation.oracles import checked

GPU_SECONDS = 80.0  # of chunks that a GPU gets at a time; a CPU is as fast with one channel of one chunk
HIGH_RATE, HIGH_CHUNK = 32_000, 3.0  # Hz, seconds: a network's memory grows with the samples of a chunk


def share_residual(estimates, mixture):
    """Return estimates {source: waveform} that add up to the mixture: what they leave over is given to all alike."""
    part = (mixture - sum(estimates.values())) / len(estimates)
    return {name: estimate + part for name, estimate in estimates.items()}


class ModelSeparator:
    """A Separator made of an audio model (see the top of this file).

    Args:
        model: moved to `device`, a torch.device or a name that runtime.pick_device takes.
        chunk, overlap: in seconds; chunk=None: CHUNK, or HIGH_CHUNK above HIGH_RATE. The network's memory grows with
            it; waveform and estimates are held whole (separate_file bounds these, too).
        add_up: see share_residual.
    """

    def __init__(self, model, device="auto", chunk=None, overlap=OVERLAP, add_up=False):
        _check_contract(model)
        self.device = pick_device(device) if isinstance(device, str) else device
        self.model = model.to(self.device).eval()
        self.sample_rate, self.sources = model.sample_rate, tuple(model.sources)
        self.rest = getattr(model, "rest", None)
        chunk = chunk or (HIGH_CHUNK if self.sample_rate > HIGH_RATE else CHUNK)
        self.chunk, self.add_up = max(1, round(chunk * self.sample_rate)), add_up
        self.overlap = min(round(overlap * self.sample_rate), self.chunk // 2)
        self.batch = 1 if self.device.type == "cpu" else max(1, int(GPU_SECONDS / chunk))  # chunks at a time

    @torch.no_grad()
    def __call__(self, waveform, sample_rate):
        """Return {source: waveform}; waveform is (channels, time), with NaN and infinity refused (UserError)."""
        waveform = checked(waveform)
        frames = waveform.shape[-1]
        resampled = audio.resample(waveform.cpu(), sample_rate, self.sample_rate)
        length = resampled.shape[-1]
        padded = F.pad(resampled, (0, max(0, self.sample_rate - length)))  # to a second
        padded = padded.to(self.device)  # one copy there, and one back
        estimates = in_chunks(self._separate, padded, self.chunk, self.overlap, self.batch)
        estimates = estimates[..., :length].cpu()  # (sources, channels, time)
        if not estimates.isfinite().all():
            kind = type(self.model).__name__
            raise UserError(f"the {kind} gave NaN or infinity: train it again, or choose another model")
        estimates = [audio.resample(estimate, self.sample_rate, sample_rate) for estimate in estimates]
        estimates = [F.pad(estimate, (0, frames - estimate.shape[-1])) for estimate in estimates]  # or cropped
        named = {name: part.to(waveform.device) for name, part in zip(self.sources, estimates, strict=True)}
        if self.rest:
            named[self.rest] = waveform - sum(part for name, part in named.items() if name != self.rest)
        return share_residual(named, waveform) if self.add_up else named

    def block(self, rate):
        """Return how many samples at `rate` a block of a long song has, and how many of them the next one shares.

        These are the chunks of a batch, or of a second: block by block, a song gets the estimates that it gets whole.
        """
        step = self.chunk - self.overlap
        samples = max(self.batch, self.sample_rate // step) * step + self.overlap
        return samples * rate // self.sample_rate, self.overlap * rate // self.sample_rate

    def _separate(self, chunks):
        """(chunks, channels, time) -> (chunks, sources, channels, time).

        On a CPU one channel after the other, which takes less memory and no more time.
        """
        batch = chunks.flatten(0, 1).unsqueeze(1)  # (chunks · channels, 1, time)
        parts = batch.split(1) if self.batch == 1 else [batch]
        try:
            estimates = torch.cat([self.model(part) for part in parts])
        except torch.OutOfMemoryError as error:
            if len(parts) == len(batch):
                seconds = batch.shape[-1] / self.sample_rate
                what = f"{self.device} has too little memory for chunks of {seconds:.0f} s"
                raise UserError(f"{what}: choose shorter ones, or the CPU") from error
        else:
            if estimates.shape != (len(batch), len(self.sources), *batch.shape[1:]):
                raise ValueError(f"the model turned {tuple(batch.shape)} into {tuple(estimates.shape)}")
            return estimates.float().squeeze(2).unflatten(0, chunks.shape[:2]).transpose(1, 2)
        self.batch = 1  # out of the handler, whose error still holds what filled the memory
        return self._separate(chunks)


def _check_contract(model):
    """Raise UserError unless `model` keeps the contract at the top of this file; it may come from anybody's file."""
    rate, sources = getattr(model, "sample_rate", None), getattr(model, "sources", None) or ()
    names = {name for name in sources if isinstance(name, str) and re.fullmatch(r"\w[\w -]*", name)}
    if not names or len(names) != len(sources) or not isinstance(rate, int) or not 1000 <= rate <= 384_000:
        what = f"{type(model).__name__} is no audio model (sources: {sources}, sample rate: {rate})"
        raise UserError(f"{what}: choose one that `python -m helpers models` lists as such")
