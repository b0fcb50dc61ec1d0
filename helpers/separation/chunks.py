"""Songs of any length in bounded memory: overlapping chunks that are separated one by one and cross-faded."""

import torch

from helpers.separation.oracles import checked

CHUNK, OVERLAP = 10.0, 1.0  # seconds


def in_pieces(separate, read, frames, chunk, overlap, batch=1, progress=None):
    """Separate overlapping chunks of a waveform, cross-fade their estimates, yield what is done, piece by piece.

    Args:
        separate: (chunks, ..., channels, time) -> (chunks, sources, channels, time).
        read: function of (start, stop) that returns this part of the waveform, (..., channels, stop - start). More than
            two dimensions hold several waveforms that `separate` needs at once, such as a mixture and its sources.
        frames: length of the waveform in samples, at least one.
        chunk, overlap: in samples, overlap at most half a chunk. The last chunk ends with the waveform, so that it has
            no silence behind it; it then overlaps the one before by more.
        batch: how many chunks `separate` gets at a time, at most; only these are held.
        progress: called after each batch with the part that is done, in (0, 1].

    Yields (sources, channels, any length). Two neighbouring chunks fade into each other linearly over `overlap` samples
    in the middle of what they share.
    """
    starts = [*range(0, frames - chunk, chunk - overlap), max(0, frames - chunk)]
    before, done, end = None, 0, 0  # estimates that wait for their successor: samples `done` to `end` of the waveform
    for first in range(0, len(starts), batch):
        chunks = torch.stack([read(start, min(start + chunk, frames)) for start in starts[first : first + batch]])
        for start, part in zip(starts[first:], separate(chunks), strict=False):
            if before is not None:
                fade = max(done, start + (end - start - overlap) // 2)  # where it begins
                ramp = (torch.arange(overlap, device=part.device) + 0.5) / max(1, overlap)
                yield before[..., : fade - done]
                old, new = before[..., fade - done :][..., :overlap], part[..., fade - start :][..., :overlap]
                yield old.lerp(new, ramp)
                done = fade + overlap
            before, end = part[..., done - start :], start + part.shape[-1]
        if progress:
            progress(min(1.0, (first + batch) / len(starts)))
    yield before


def in_chunks(separate, waveform, chunk, overlap, batch=1):
    """Return (sources, channels, time): in_pieces() of a waveform (..., channels, time) that is in memory, joined."""

    def read(start, stop):
        return waveform[..., start:stop]

    return torch.cat([*in_pieces(separate, read, waveform.shape[-1], chunk, overlap, batch)], dim=-1)


class ChunkedSeparator:
    """A Separator that hands overlapping chunks of a song to another one, so that memory does not grow with the song.

    make: the other Separator's constructor, called with `sources`, the names or the truth {name: waveform (channels,
    time)}, of which each chunk gets its part. chunk, overlap: in seconds.
    """

    overlap = OVERLAP

    def __init__(self, make, sources, chunk):
        self.make, self.chunk = make, chunk
        self.whole = make(sources)
        self.names = self.whole.names
        self.truth = getattr(self.whole, "truth", None)  # (sources, channels, time)

    def block(self, rate):
        """As ModelSeparator's: a chunk, and what the next one shares."""
        return round(self.chunk * rate), round(self.overlap * rate)

    def __call__(self, waveform, sample_rate):
        song = checked(waveform)[None]  # (1, channels, time)
        if self.truth is not None:
            song = torch.cat([song, self.truth.to(song.device)])  # (1 + sources, channels, time)

        def separate(chunks):  # one at a time
            mixture, *truth = chunks[0]
            method = self.make(dict(zip(self.names, truth, strict=True))) if truth else self.whole
            return torch.stack(list(method(mixture, sample_rate).values()))[None]

        return dict(zip(self.names, in_chunks(separate, song, *self.block(sample_rate)), strict=True))
