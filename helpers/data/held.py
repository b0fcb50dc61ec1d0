"""A corpus as 16-bit integers: in memory where it fits, else in one memory-mapped file.

Of the file the system keeps in memory what is in use and what there is room for: 10 hours of four stereo stems at
44.1 kHz are 25 GB on the disk, and training on them needs little more memory than a batch. Either way a batch of crops
is one indexing operation (helpers.data.batches).
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from helpers.data import audio
from helpers.checkpoints import write_atomically
from helpers.data.download import check_space
from helpers.runtime import UserError

IN_MEMORY = 4_000_000_000  # bytes of 16-bit samples up to which a corpus is held in memory
FULL_SCALE = 32_768
READ = 1 << 20  # samples of each source read at a time
ACTIVITY = 1 / 8  # seconds: how finely it is noted where a source is silent
SILENCE = 1e-3  # the peak, -60 dB, up to which a source counts as silent there


@dataclass(frozen=True, eq=False)
class Held:
    """All waveforms of a corpus, one after another.

    samples: int16 (sources, channels, time); where the corpus has only mixtures, they are its one row.
    starts, lengths: int64 (tracks,), where in `samples` a track lies. scales: float32 (tracks,), what to multiply with.
    active: int64 (sources, blocks + 1), how many of the first blocks of `block` samples are not silent.
    """

    name: str
    sources: tuple
    sample_rate: int
    samples: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    scales: torch.Tensor
    active: torch.Tensor
    block: int
    in_memory: bool

    def __str__(self):
        rows, channels, _ = self.samples.shape
        hours = float(self.lengths.sum()) / self.sample_rate / 3600
        where = "in memory" if self.in_memory else "in a memory-mapped file"
        return (
            f"{self.name}: {len(self.lengths)} tracks, {hours:.2f} h, {rows} source(s), {channels} channel(s), "
            f"{self.sample_rate:,} Hz: {self.samples.numel() * 2 / 1e6:,.0f} MB as 16-bit integers {where}"
        )

    def to(self, device):
        """Return the same with its samples on `device`, where there is room: batches are then assembled there."""
        return replace(self, samples=self.samples.to(device))

    def silent(self, rows, starts, ends):
        """True where a row is silent from a start to an end, to 1/8 s: tensors (...) of positions in `samples`."""
        return self.active[rows, (ends - 1) // self.block + 1] == self.active[rows, starts // self.block]

    def crops(self, starts, frames):
        """Return int16 (batch, rows, channels, frames), cropped from each row at `starts` (batch, rows).

        What a crop finds beyond the end of its track is not silence but whatever follows there.
        """
        length = self.samples.shape[-1]
        inside = int(starts.max()) + frames <= length
        starts = starts.to(self.samples.device)
        rows = torch.arange(len(self.samples), device=self.samples.device).expand_as(starts)
        by_row = self.samples.transpose(1, 2)  # (rows, time, channels)
        if inside:
            return by_row.unfold(1, frames, 1)[rows, starts]
        times = starts[..., None] + torch.arange(frames, device=starts.device)  # (batch, rows, frames)
        return by_row[rows[..., None], times.clamp(max=length - 1)].transpose(-1, -2)


def hold(corpus, in_memory=IN_MEMORY, cache_dir=None):
    """Read a Corpus, whose tracks have one sample rate, into a Held.

    Mono tracks are doubled where others are stereo. A track's scale is full scale, or its peak where that is higher,
    so that nothing clips; rounding to 16 bits leaves noise at -98 dB. Where that takes more than `in_memory` bytes it
    goes to a file in the cache, made once for the same files and settings.

    Raises UserError if the tracks' sample rates differ, or if something cannot be read or written.
    """
    rates = {track.sample_rate for track in corpus}
    if len(rates) != 1:
        raise UserError(f"{corpus.name} has tracks of the sample rates {sorted(rates)}: choose one with sample_rate=")
    rows = max(1, len(corpus.sources))
    channels = max(track.channels for track in corpus)
    lengths = np.array([track.frames for track in corpus])
    block = round(ACTIVITY * corpus[0].sample_rate)
    room = -(-lengths // block) * block  # each track begins a new block
    starts = np.cumsum(room) - room
    shape = (rows, channels, int(room.sum()))
    fits = int(np.prod(shape)) * 2 <= in_memory
    if fits:
        samples = np.zeros(shape, np.int16)
        notes = _fill(corpus, samples, starts, block)
    else:
        path = Path(cache_dir or audio.CACHE) / "held" / f"{_fingerprint(corpus, channels)}.int16"
        notes = _filled_file(corpus, path, shape, starts, block)
        samples = np.memmap(path, np.int16, "c", shape=shape)  # private: what is never written is never copied
    active = np.pad(np.cumsum(notes["active"], axis=1, dtype=np.int64), ((0, 0), (1, 0)))
    return Held(
        corpus.name,
        tuple(corpus.sources),
        corpus[0].sample_rate,
        torch.from_numpy(samples),
        torch.from_numpy(starts),
        torch.from_numpy(lengths),
        torch.from_numpy(notes["scales"]),
        torch.from_numpy(active),
        block,
        fits,
    )


def _read(track, sources, start, frames):
    """Return float32 (sources, channels, frames) of a part of a track; the mixture where there are no sources."""
    if not sources:
        return track.read_mixture(start, frames)[None]
    return torch.stack([track.source(name, start, frames) for name in sources])


def _fill(corpus, samples, starts, block):
    """Write all tracks into the integer array `samples`; return {"scales", "active"}, see Held."""
    scales, active = [], np.zeros((samples.shape[0], samples.shape[2] // block), bool)
    piece = -(-READ // block) * block  # pieces end where blocks do
    for track, offset in zip(corpus, starts, strict=True):
        peak = _write_track(track, corpus.sources, samples, offset, piece, FULL_SCALE)
        scale = FULL_SCALE
        if peak > 1:  # rare: only then is the track read again
            scale = (FULL_SCALE - 1) / peak
            _write_track(track, corpus.sources, samples, offset, piece, scale)
        scales.append(1 / scale)
        end = offset + -(-track.frames // block) * block
        for start in range(offset, end, piece):
            stop = min(start + piece, end)
            part = np.abs(samples[:, :, start:stop].reshape(*samples.shape[:2], -1, block).astype(np.int32))
            active[:, start // block : stop // block] = part.max(axis=(1, 3)) > SILENCE * scale
    return {"scales": np.array(scales, np.float32), "active": active}


def _write_track(track, sources, samples, offset, piece, scale):
    """Write one track into `samples` from `offset` on, piece by piece; return its peak."""
    peak = 0.0
    for start in range(0, track.frames, piece):
        frames = min(piece, track.frames - start)
        part = audio.to_channels(_read(track, sources, start, frames), samples.shape[1])
        peak = max(peak, float(part.abs().max()))
        numbers = (part * scale).round().clamp(-FULL_SCALE, FULL_SCALE - 1)
        samples[:, :, offset + start : offset + start + frames] = numbers.to(torch.int16).numpy()
    return peak


def _filled_file(corpus, path, shape, starts, block):
    """Make sure that the file `path` holds all tracks, with the notes of _fill in a file beside it; return these."""
    beside = path.with_suffix(".npz")
    size = 2 * int(np.prod(shape))
    if path.exists() and beside.exists() and path.stat().st_size == size:
        with np.load(beside) as kept:
            return dict(kept)
    notes = {}

    def write(file):
        check_space(path, size)
        file.truncate(size)
        samples = np.memmap(file.name, np.int16, "r+", shape=shape)
        notes.update(_fill(corpus, samples, starts, block))
        samples.flush()

    write_atomically(path, write)
    write_atomically(beside, lambda file: np.savez_compressed(file, **notes))
    return notes


def _fingerprint(corpus, channels):
    """Return hex digits that change with the files of a corpus, their time and size, and how they are read."""
    texts = [repr((corpus.sources, channels, READ, ACTIVITY, SILENCE))]
    for track in corpus:
        texts.append(repr((track.name, track.sample_rate, track.frames)))
        named = [(name, stem) for name, group in track.stems.items() for stem in group]
        for name, stem in named or [("mixture", stem) for stem in track.mix]:
            what = repr(stem)
            if hasattr(stem, "waveform"):  # in memory: its content says what it is
                what = hashlib.sha256(stem.waveform.contiguous().numpy().tobytes()).hexdigest()
            elif hasattr(stem, "path"):
                what += repr((stem.path.resolve(), stem.path.stat().st_mtime_ns, stem.path.stat().st_size))
            texts.append(repr((name, what)))
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:24]
