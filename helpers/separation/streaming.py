"""Mask models that read a song of any length piece by piece and remember what came before: one long pass in bounded
memory.

ModelSeparator cuts a song into chunks that know nothing of each other. A model whose LSTM reads forwards can do better:
the state after one block of frames is where the next one begins, and what comes out is what one pass over the whole
song would give, without its memory.
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.separation.networks import ModelSeparator

BLOCK = 512  # frames read at a time


class Streaming(nn.Module):
    """An audio model that gives what the mask model `model` gives of the whole waveform, block of frames by block.

    Args:
        model: a MaskModel whose frames depend on none that are later (`model.causal`); ValueError for others.
        block: frames read at a time. Besides the waveform and the estimates, only their spectrograms are in memory.
        progress: called with the part of the waveform that is done, in (0, 1].

    The level that the model divides by is that of the whole waveform.
    """

    channels = "each"

    def __init__(self, model, block=BLOCK, progress=None):
        super().__init__()
        if not model.causal:
            raise ValueError(f"this {type(model).__name__} also reads backwards: separate chunks with ModelSeparator")
        self.model, self.block, self.progress = model, block, progress
        self.sample_rate, self.sources, self.arguments = model.sample_rate, model.sources, model.arguments

    @torch.no_grad()
    def forward(self, waveform):
        """(batch, 1, time) -> (batch, sources, 1, time)."""
        stft, length = self.model.stft, waveform.shape[-1]
        n_fft, hop, frames = stft.n_fft, stft.hop_length, stft.frames(length)
        scale, state = self.model.scale_of(waveform), None
        # All windows added up, from half a window before the first sample on, and their squares for the division.
        total = (frames - 1) * hop + n_fft
        result = waveform.new_zeros(len(waveform), len(self.sources), total)
        weight = waveform.new_zeros(total)
        for first in range(0, frames, self.block):
            count = min(self.block, frames - first)
            start, stop = first * hop, (first + count - 1) * hop + n_fft  # of the windows, in `result`
            piece = _cut(waveform.squeeze(1), start - n_fft // 2, stop - n_fft // 2)
            spectrogram = torch.stft(piece, n_fft, hop, window=stft.window, center=False, return_complex=True)
            masks, state = self.model.forward_frames(spectrogram.abs() / scale, state)
            windows = torch.fft.irfft(masks * spectrogram.unsqueeze(1), dim=2) * stft.window[:, None]
            result[..., start:stop] += overlap_add(windows, hop)
            weight[start:stop] += overlap_add(stft.window.square()[:, None].expand(-1, count), hop)
            if self.progress:
                self.progress((first + count) / frames)
        inside = slice(n_fft // 2, n_fft // 2 + length)
        return result[..., inside].div_(weight[inside]).unsqueeze(2)


def overlap_add(windows, hop_length):
    """(..., n_fft, frames) -> (..., (frames - 1) · hop_length + n_fft): each window added where it belongs."""
    n_fft, frames = windows.shape[-2:]
    length = (frames - 1) * hop_length + n_fft
    added = F.fold(windows.reshape(-1, n_fft, frames), (1, length), (1, n_fft), stride=(1, hop_length))
    return added.reshape(*windows.shape[:-2], length)


def _cut(waveform, start, stop):
    """Return samples start to stop of (batch, time), with silence where there are none."""
    length = waveform.shape[-1]
    return F.pad(waveform[:, max(0, start) : min(stop, length)], (max(0, -start), max(0, stop - max(start, length))))


def streaming_separator(model, device="auto", block=BLOCK, add_up=False, progress=None):
    """Return a Separator that streams `model`; the arguments are ModelSeparator's and Streaming's."""
    endless = float(2**40)  # seconds: one chunk, which Streaming reads block by block
    return ModelSeparator(Streaming(model, block, progress), device, endless, 0, add_up)
