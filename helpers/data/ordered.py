"""Songs in order, chunk after chunk, for models with a memory: truncated backpropagation through time.

`batch_size` streams run through the songs side by side. The state that a model has after a chunk is what it begins the
next one with, but gradients stop at the border (Williams and Peng, 1990). Each chunk comes with the samples that its
first and last windows reach over; the STFT's frames there, which see the zeros beyond, are dropped (MaskModel.analyse),
so that the frames of all chunks in a row are the STFT of the song, followed by silence up to the end of its last chunk.
"""

import torch

from helpers.data.batches import add_up


def ordered_batches(samples, stft, frames, batch_size, steps, generator=None, device="cpu", *, remix=0.0, gain_db=0.0):
    """Yield `steps` batches (mixture, sources, fresh) of chunks that follow on those of the batch before.

    Args:
        samples: the Samples of a mono corpus (helpers.data.batches.load_samples).
        stft: the model's. frames: of it in a chunk.
        generator: a torch.Generator of the CPU, which shuffles the songs in every round, and lets the first one of each
            stream begin somewhere in its middle. None: songs in their order, from their beginnings.
        remix: probability that a song's sources come from different songs, from the beginning of each.
        gain_db: each source of a song is made louder or softer by up to so many decibels, the same in all its chunks.

    mixture: (batch, 1, time), sources: (batch, sources, 1, time), float32, of `frames - 1` hops and the margins.
    fresh: bool (batch,), true where a song begins, so that the state of the one before must be forgotten: everywhere in
    the first batch. It stays on the CPU, so that no GPU has to be waited for to look at it.
    """
    samples, hop, reach = samples.to(device), stft.hop_length, stft.margin * stft.hop_length
    songs = _songs(samples, generator, remix, gain_db)
    tracks = torch.zeros(batch_size, len(samples.values), dtype=torch.long)  # where each source comes from
    gains = torch.zeros(batch_size, len(samples.values))
    places, ends = torch.zeros(2, batch_size, dtype=torch.long)  # samples from a song's beginning
    for step in range(steps):
        fresh = places >= ends
        for stream in fresh.nonzero().flatten().tolist():
            tracks[stream], gains[stream] = next(songs)
            ends[stream] = samples.lengths[tracks[stream]].min()
            within = generator is not None and step == 0
            places[stream] = torch.randint(int(ends[stream]), (), generator=generator) if within else 0
        starts = samples.starts[tracks].tolist()
        chunks = [
            _chunk(samples.values, *song, (frames - 1) * hop + 2 * reach)
            for song in zip(starts, (places - reach).tolist(), ends.tolist(), strict=True)
        ]
        sources = torch.stack(chunks).to(device, non_blocking=True).float()  # (batch, sources, 1, time)
        sources = sources * gains.to(device, non_blocking=True)[..., None, None]
        yield add_up(sources), sources, fresh
        places = places + frames * hop


def _songs(samples, generator, remix, gain_db):
    """Yield (tracks, gains) of one song after another without end, each (sources,)."""
    sources, count = len(samples.values), len(samples.lengths)
    while True:
        order = range(count) if generator is None else torch.randperm(count, generator=generator).tolist()
        for track in order:
            tracks, decibels = torch.full((sources,), track), torch.zeros(sources)
            if generator is not None:
                others = torch.randint(count, (sources,), generator=generator)
                tracks = others if torch.rand((), generator=generator) < remix else tracks
                decibels = gain_db * (2 * torch.rand(sources, generator=generator) - 1)
            yield tracks, 10 ** (decibels / 20) * samples.scales[tracks]


def _chunk(values, starts, place, end, time):
    """Return int16 (sources, channels, time): a part of songs that start at `starts`; silent outside 0 to `end`."""
    chunk = values.new_zeros(*values.shape[:2], time)
    first, last = max(place, 0), min(place + time, end)
    for source, start in enumerate(starts):
        chunk[source, :, first - place : last - place] = values[source, :, start + first : start + last]
    return chunk
