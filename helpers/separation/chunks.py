"""Songs of any length in bounded memory: overlapping chunks that are separated one by one and cross-faded."""

import torch

from helpers.separation.oracles import checked

CHUNK, OVERLAP = 30.0, 2.0  # seconds


def in_chunks(separate, waveform, chunk, overlap, progress=None):
    """Apply `separate` to overlapping chunks of a waveform and cross-fade what it gives.

    Args:
        separate: (..., channels, frames) -> (sources, channels, frames); every chunk has `chunk` frames, or the whole
            waveform if that is shorter.
        waveform: (..., channels, time), any length but zero. More than two dimensions hold several waveforms, such as
            a mixture and its sources, that `separate` needs at once.
        chunk, overlap: in samples, overlap at most half a chunk. The last chunk ends with the waveform, so that it has
            real samples before it and no silence behind it; it then overlaps the one before by more.
        progress: called after each chunk with the part that is done, in (0, 1].

    Returns (sources, channels, time). Two neighbouring chunks fade into each other linearly, with weights w and 1 - w,
    over `overlap` samples in the middle of what they share. Besides the waveform and the result, only one chunk and
    its estimates are held. Raises ValueError for a wrong setting, or if `separate` changes the length.
    """
    frames = waveform.shape[-1]
    if frames == 0 or not 0 <= 2 * overlap <= chunk:
        raise ValueError(f"{frames} samples in chunks of {chunk} with {overlap} shared: none may be 0, nor too large")
    starts = [*range(0, frames - chunk, chunk - overlap), max(0, frames - chunk)]
    ramp = (torch.arange(overlap, device=waveform.device) + 0.5) / max(1, overlap)
    result, end = None, 0  # what is done lies before `end`
    for number, start in enumerate(starts):
        part = separate(waveform[..., start : start + chunk])  # (sources, channels, up to chunk)
        channels, length = waveform[..., start : start + chunk].shape[-2:]
        if part.shape[1:] != (channels, length):
            raise ValueError(f"{length} samples of {channels} channels became {tuple(part.shape)}")
        if result is None:
            result = part.new_empty(*part.shape[:-1], frames)
        fade = start + (end - start - overlap) // 2 if number else 0
        stop = fade + overlap if number else 0
        result[..., fade:stop].lerp_(part[..., fade - start : stop - start], ramp[: stop - fade])
        end = start + part.shape[-1]
        result[..., stop:end] = part[..., stop - start :]
        if progress:
            progress((number + 1) / len(starts))
    return result


class ChunkedSeparator:
    """A Separator that hands another one overlapping chunks of a song, so that memory does not grow with the song's.

    Beyond the waveform, the true sources and the estimates, only one chunk and what the other makes of it are held.
    What adds up to the mixture in each chunk does so in the song. Each chunk is separated as if there were no other:
    nothing that comes back later than a chunk is known to come back, and the seams fade over `overlap`. A song of one
    chunk is separated as it is.

    Args:
        make: the other Separator's constructor, called with `sources`; of true sources, also with those of each chunk.
        sources: the names of the sources, or {name: waveform (channels, time)} where `make` takes the truth.
        chunk, overlap: in seconds.
        progress: as in_chunks'.
    """

    def __init__(self, make, sources, chunk=CHUNK, overlap=OVERLAP, progress=None):
        self.make, self.chunk, self.overlap, self.progress = make, chunk, overlap, progress
        self.whole = make(sources)
        self.names = self.whole.names
        self.truth = getattr(self.whole, "truth", None)  # (sources, channels, time)

    def __call__(self, waveform, sample_rate):
        waveform = checked(waveform)
        chunk, overlap = round(self.chunk * sample_rate), round(self.overlap * sample_rate)
        if self.truth is not None and self.truth.shape[1:] != waveform.shape:
            return self.whole(waveform, sample_rate)  # which refuses it
        song = waveform[None]  # (1 or 1 + sources, channels, time)
        if self.truth is not None:
            song = torch.cat([song, self.truth.to(waveform.device)])

        def separate(chunk):
            method = self.whole if self.truth is None else self.make(dict(zip(self.names, chunk[1:], strict=True)))
            return torch.stack(list(method(chunk[0], sample_rate).values()))  # (sources, channels, frames)

        return dict(zip(self.names, in_chunks(separate, song, chunk, overlap, self.progress), strict=True))
