"""Songs in order, chunk after chunk, for models with a memory: truncated backpropagation through time.

`batch` streams run through the songs side by side, each one song after another. The state that a model has after one
chunk is what it begins the next one with, but gradients stop at the border: memory and time of a step are those of a
chunk, while what the state knows may be minutes old (Williams and Peng, 1990).

Frames at a chunk's borders are those of the whole song. Each chunk comes with the samples that its first and last
windows reach over, `margin_of(stft)` frames' worth on both sides; the STFT's frames there, which see the zeros beyond,
are dropped (MaskModel.describe). So no frame is seen twice, none is half silence, and the frames of all chunks in a row
are the STFT of the song, except that a song ends in silence up to the end of its last chunk. Only the loss of waveforms
knows a border: half a window beside it is made of the frames on this side alone.
"""

from dataclasses import dataclass, field

import torch

from helpers.losses.masks import MaskLoss


def margin_of(stft):
    """Frames on each side of a chunk that are computed and dropped: their windows would reach beyond its samples."""
    return -(-stft.n_fft // 2 // stft.hop_length)


def ordered_steps(held, stft, frames, batch_size):
    """Return how many batches it takes to run through every song about once."""
    chunks = -(-held.lengths // (frames * stft.hop_length))
    return -(-int(chunks.sum()) // batch_size)


def ordered_batches(held, stft, frames, batch_size, steps, generator=None, device="cpu", *, remix=0.0, gain_db=0.0):
    """Yield `steps` batches (mixture, sources, fresh) of chunks that follow on those of the batch before.

    Args:
        held: what helpers.data.held.hold() made of a mono corpus.
        stft: the model's. frames: of it in a chunk.
        generator: a torch.Generator of the CPU, which shuffles the songs, again in every round, and lets the first one
            of each stream begin somewhere in its middle, or songs' beginnings would be heard too often. None: songs in
            their order, from their beginnings.
        remix: probability that a song's sources come from different songs, from the beginning of each.
        gain_db: each source of a song is made louder or softer by up to so many decibels, the same in all its chunks.

    mixture: (batch, 1, time), sources: (batch, sources, 1, time), float32, of `frames - 1` hops and the margins.
    fresh: bool (batch,), true where a song begins, so that the state of the one before must be forgotten: everywhere in
    the first batch.
    """
    hop, reach = stft.hop_length, margin_of(stft) * stft.hop_length
    songs = _songs(held, generator, remix, gain_db)
    rows = len(held.samples)
    tracks, gains = torch.zeros(batch_size, rows, dtype=torch.long), torch.zeros(batch_size, rows)
    places, ends = torch.zeros(2, batch_size, dtype=torch.long)  # samples from a song's beginning
    for step in range(steps):
        fresh = places >= ends
        for stream in fresh.nonzero().flatten().tolist():
            tracks[stream], gains[stream] = next(songs)
            ends[stream] = held.lengths[tracks[stream]].min()
            within = generator is not None and step == 0
            places[stream] = torch.randint(int(ends[stream]), (), generator=generator) if within else 0
        times = (places - reach)[:, None] + torch.arange((frames - 1) * hop + 2 * reach)  # (batch, time)
        sources = _read(held, tracks, times, ends, device) * gains.to(device)[..., None, None]
        yield sources.sum(1), sources, fresh.to(device)
        places = places + frames * hop


def _songs(held, generator, remix, gain_db):
    """Yield (tracks, gains) of one song after another without end, each (rows,): where its sources come from."""
    rows, count = len(held.samples), len(held.lengths)
    while True:
        order = range(count) if generator is None else torch.randperm(count, generator=generator).tolist()
        for track in order:
            tracks, decibels = torch.full((rows,), track), torch.zeros(rows)
            if generator is not None:
                others = torch.randint(count, (rows,), generator=generator)
                tracks = others if torch.rand((), generator=generator) < remix else tracks
                decibels = gain_db * (2 * torch.rand(rows, generator=generator) - 1)
            yield tracks, 10 ** (decibels / 20) * held.scales[tracks]


def _read(held, tracks, times, ends, device):
    """Return float32 (batch, rows, channels, time) of full scale 32768; zeros before the songs and from `ends` on.

    tracks: (batch, rows). times: (batch, time), in samples from the beginning of each. ends: (batch,).
    """
    by_row = held.samples.transpose(1, 2)  # (rows, time, channels)
    sounding = (times >= 0) & (times < ends[:, None])  # (batch, time)
    places = held.starts[tracks][..., None] + (times * sounding)[:, None]  # (batch, rows, time)
    rows = torch.arange(len(by_row))[:, None]
    found = by_row[rows.to(by_row.device), places.to(by_row.device)]  # (batch, rows, time, channels)
    return found.transpose(2, 3).to(device).float() * sounding[:, None, None].to(device)


# ---- the state from chunk to chunk -------------------------------------------------------------------------------


@dataclass
class CarriedLoss:
    """A MaskLoss whose model goes on, chunk after chunk, from the state it had: truncated BPTT within fit().

    Batches are ordered_batches'; others, (mixture, sources), begin without a state and leave none. The state is kept
    here, without its gradient, one for training and another for validation, which so leaves the training's alone. A run
    that is resumed begins an epoch as the uninterrupted one did: all streams are fresh in an epoch's first batch.
    """

    loss: MaskLoss = field(default_factory=MaskLoss)
    states: dict = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, model, batch, progress):
        """batch: mixture (batch, 1, time), sources (batch, sources, 1, time), fresh (batch,)."""
        if len(batch) == 2:
            return self.loss(model, batch, progress)
        mixture, sources, fresh = batch
        margin = margin_of(model.stft)
        found = model.describe(mixture, begun_again(self.states.get(model.training), fresh), margin)
        self.states[model.training] = detached(found.state)
        truth = model.stft(sources.squeeze(2))
        return self.loss.terms(model.stft, found, truth[..., margin : truth.shape[-1] - margin])


def begun_again(state, fresh):
    """Return an LSTM's state (h, c), each (layers, batch, hidden), with zeros where `fresh` (batch,) is true."""
    if state is None or fresh.all():
        return None
    return tuple(part.masked_fill(fresh[:, None], 0.0) for part in state)


def detached(state):
    """Return a state through which no gradient flows back."""
    return None if state is None else tuple(part.detach() for part in state)
