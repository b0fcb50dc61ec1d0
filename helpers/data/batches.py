"""Tracks to batches: a corpus as 16-bit integers, random segments of it for training, fixed ones for validation.

load_samples() reads a corpus once: into memory where it fits, else into a memory-mapped file (10 hours of four stereo
stems at 44.1 kHz are 25 GB). Where a GPU has room, it is copied there once: all that is left to send for a batch is
where its segments begin.
"""

import collections
import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from helpers import runtime
from helpers.data import audio
from helpers.runtime import UserError, check_space, write_atomically

IN_MEMORY = 4_000_000_000  # bytes of samples up to which a corpus is kept in memory
FULL_SCALE = 32_768
READ = 1 << 20  # samples of each source read at a time
ACTIVITY = 1 / 8  # seconds: how finely it is noted where a source is silent
SILENCE = 1e-3  # the peak, -60 dB, up to which a source counts as silent there
TRIES = 8  # segments drawn before one with a silent source is kept after all
ON_GPU = 4_000_000_000  # bytes of samples that may lie on a GPU: a T4 has four times as much, for model and batches


@dataclass(frozen=True, eq=False)
class Samples:
    """All waveforms of a corpus as 16-bit integers, one track after another.

    Only `values` may lie on a GPU; all else stays on the CPU, where segments are drawn.
    """

    name: str
    sources: tuple
    sample_rate: int
    values: torch.Tensor  # int16 (sources, channels, time); the mixtures, as one source, of a corpus without sources
    starts: torch.Tensor  # int64 (tracks,), where in `values` a track begins
    lengths: torch.Tensor  # int64 (tracks,)
    scales: torch.Tensor  # float32 (tracks,), what to multiply a track by
    active: torch.Tensor  # int64 (sources, blocks + 1), how many of the first blocks of `block` samples are not silent
    block: int
    in_memory: bool
    copies: dict = field(default_factory=dict, repr=False)  # {device: the same there}

    def __str__(self):
        sources, channels, _ = self.values.shape
        hours = float(self.lengths.sum()) / self.sample_rate / 3600
        what = f"{len(self.lengths)} tracks, {hours:.2f} h, {sources} source(s), {channels} channel(s)"
        size = f"{self.values.numel() * 2 / 1e6:,.0f} MB {'in memory' if self.in_memory else 'in a file'}"
        return f"{self.name}: {what}, {self.sample_rate:,} Hz: {size}"

    def to(self, device):
        """Return the same with `values` on a device, a copy kept for all that ask; or itself, where they do not fit."""
        device = torch.device(device)
        too_large = device.type == "cuda" and 2 * self.values.numel() > ON_GPU
        if too_large or device.type in (self.values.device.type, "mps"):  # an Apple GPU shares the CPU's memory
            return self
        if device not in self.copies:
            self.copies[device] = replace(self, values=self.values.to(device))
        return self.copies[device]

    def crops(self, starts, frames):
        """Return int16 (batch, sources, channels, frames), cut from each source at `starts` (batch, sources).

        Beyond the end of its track, a crop holds whatever follows there: see mix_crops().
        """
        time = self.values.shape[-1]
        all_inside = int(starts.max()) + frames <= time
        starts = starts.to(self.values.device, non_blocking=True)
        sources = torch.arange(len(self.values), device=starts.device).expand_as(starts)
        values = self.values.transpose(1, 2)  # (sources, time, channels)
        if all_inside:
            return values.unfold(1, frames, 1)[sources, starts]
        places = starts[..., None] + torch.arange(frames, device=starts.device)  # (batch, sources, frames)
        return values[sources[..., None], places.clamp(max=time - 1)].transpose(-1, -2)


def load_samples(corpus, device="cpu", in_memory=IN_MEMORY):
    """Read a Corpus, whose tracks have one sample rate, into Samples, on `device` where they fit there.

    Mono tracks are doubled where others are stereo. A track's scale is full scale, or its peak where that is higher,
    so that nothing clips. What takes more than `in_memory` bytes goes to a file in the cache, made once for the same
    files and settings. Samples that were read already are only moved.
    Raises UserError if the tracks' sample rates differ, or if something cannot be read or written.
    """
    if isinstance(corpus, Samples):
        return corpus.to(device)
    rates = {track.sample_rate for track in corpus}
    if len(rates) != 1:
        raise UserError(f"{corpus.name} has tracks of the sample rates {sorted(rates)}: choose one with sample_rate=")
    rate = rates.pop()
    block = round(ACTIVITY * rate)
    lengths = np.array([track.frames for track in corpus])
    spaces = -(-lengths // block) * block  # each track begins a new block
    starts = np.cumsum(spaces) - spaces
    shape = (max(1, len(corpus.sources)), max(track.channels for track in corpus), int(spaces.sum()))
    fits = 2 * int(np.prod(shape)) <= in_memory
    if fits:
        values = np.zeros(shape, np.int16)
        scales, active = _fill(values, corpus, starts, block)
    else:
        values, scales, active = _mapped_file(corpus, shape, starts, block)
    tensors = [torch.from_numpy(array) for array in (values, starts, lengths, scales, active)]
    return Samples(corpus.name, tuple(corpus.sources), rate, *tensors, block, fits).to(device)


def _fill(values, corpus, starts, block):
    """Write all tracks into the int16 array `values`; return (scales, active), see Samples."""
    scales, active = [], [np.zeros((len(values), 1), bool)]
    for track, start in zip(corpus, starts, strict=True):
        space = values[:, :, start : start + -(-track.frames // block) * block]
        scale = FULL_SCALE
        peak = _write_track(track, corpus.sources, space, scale)
        if peak > 1:  # rare: only then is the track read again
            scale = (FULL_SCALE - 1) / peak
            _write_track(track, corpus.sources, space, scale)
        scales.append(1 / scale)
        blocks = space.reshape(*space.shape[:2], -1, block)
        peaks = np.maximum(blocks.max((1, 3)).astype(int), -blocks.min((1, 3)).astype(int))  # (sources, blocks)
        active.append(peaks > SILENCE * scale)
    return np.array(scales, np.float32), np.concatenate(active, axis=1).cumsum(axis=1, dtype=np.int64)


def _write_track(track, sources, space, scale):
    """Write one track into its space (sources, channels, time), part by part; return its peak."""
    peak = 0.0
    for start in range(0, track.frames, READ):
        frames = min(READ, track.frames - start)
        parts = [track.source(name, start, frames) for name in sources] or [track.read_mixture(start, frames)]
        part = audio.to_channels(torch.stack(parts), space.shape[1])
        peak = max(peak, float(part.abs().max()))
        integers = (part * scale).round().clamp(-FULL_SCALE, FULL_SCALE - 1).to(torch.int16)
        space[:, :, start : start + frames] = integers.numpy()
    return peak


def _mapped_file(corpus, shape, starts, block):
    """Return (values, scales, active), the values mapped from a file in the cache, made where it is missing."""
    path = runtime.cache_dir() / "samples" / f"{_fingerprint(corpus, shape)}.int16"
    notes, size = path.with_suffix(".npz"), 2 * int(np.prod(shape))
    if not (notes.exists() and path.exists() and path.stat().st_size == size):
        results = []

        def write(file):
            check_space(path, size)
            file.truncate(size)
            values = np.memmap(file.name, np.int16, "r+", shape=shape)
            results.extend(_fill(values, corpus, starts, block))
            values.flush()

        write_atomically(path, write)
        write_atomically(notes, lambda file: np.savez_compressed(file, scales=results[0], active=results[1]))
    with np.load(notes) as known:
        scales, active = known["scales"], known["active"]
    return np.memmap(path, np.int16, "c", shape=shape), scales, active  # "c": nothing is ever written to the file


def _fingerprint(corpus, shape):
    """Return hex digits that change with the corpus's files, their time and size, and with how they are read."""
    texts = [repr((corpus.sources, shape, ACTIVITY, SILENCE))]
    for track in corpus:
        texts.append(repr((track.name, track.sample_rate, track.frames)))
        groups = track.stems or {"mixture": track.mix}
        texts += [repr((name, stem.version())) for name, group in groups.items() for stem in group]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:24]


class SegmentSampler:
    """Random segments of a corpus, augmented and mixed on the device: batches of (mixture, sources).

    Args:
        corpus: a Corpus, or its Samples (share them: a sampler of a Corpus reads all of it again).
        seconds: length of a segment; shorter tracks are followed by silence.
        batch_size: segments in a batch.
        generator: a torch.Generator of the CPU that the caller owns; it is advanced by one number per batch, so that
            a run resumes exactly from its saved state, whatever `workers` and `device`.
        device: where batches are put together.
        remix: probability that a segment mixes sources of different songs, each from a place of its own.
        gain_db: each source is made louder or softer by up to so many decibels.
        workers: threads that read ahead, for samples in a memory-mapped file on a slow disk.

    The mixture is the sum of the sources. A corpus without sources gives its mixtures, and an empty tensor of sources.
    """

    swap = 0.5  # probability that a source's left and right are swapped, where there are two channels
    # Probability that a segment in which a source is silent throughout is kept rather than drawn again: models need
    # some silence, and real songs have more than is useful. (What a song never has does not count.)
    keep_silent = 0.1

    def __init__(self, corpus, seconds, batch_size, generator, device="cpu", *, remix=0.5, gain_db=6.0, workers=0):
        samples = self.samples = load_samples(corpus, device)
        self.frames = round(seconds * samples.sample_rate)
        self.batch_size, self.generator, self.device = batch_size, generator, torch.device(device)
        self.remix, self.gain_db, self.workers = remix, gain_db, workers
        # A track shorter than a segment is cropped from its beginning, and mix_crops() mutes what follows it.
        self.valid_starts = (samples.lengths - self.frames + 1).clamp(min=1)  # of each track
        self.ends = self.valid_starts.cumsum(0)
        first = samples.starts // samples.block
        last = first + -(-samples.lengths // samples.block)
        self.always_silent = samples.active[:, last] == samples.active[:, first]  # (sources, tracks)

    def batches(self, steps):
        """Yield `steps` batches: mixture (batch, channels, time), sources (batch, sources, channels, time), float32."""
        seeds = torch.randint(2**62, (steps,), generator=self.generator).tolist()
        with closing(_ahead(self._draw, seeds, self.workers)) as drawn:
            for batch in drawn:
                mixture, sources = mix_crops(*batch, self.device)
                yield mixture, sources if self.samples.sources else sources[:, :0]

    def _draw(self, seed):
        """Return the arguments of mix_crops() for one batch, all drawn on the CPU."""
        samples, generator = self.samples, torch.Generator().manual_seed(seed)
        remixed = torch.rand(self.batch_size, generator=generator) < self.remix
        tracks, starts = self._positions(generator, remixed)
        inside = samples.starts[tracks] + samples.lengths[tracks] - starts  # samples until the track ends
        decibels = self.gain_db * (torch.rand(starts.shape, generator=generator) * 2 - 1)
        swapped = torch.rand(starts.shape, generator=generator) < self.swap
        return samples.crops(starts, self.frames), inside, 10 ** (decibels / 20) * samples.scales[tracks], swapped

    def _positions(self, generator, remixed):
        """Draw where each source of each segment comes from: (tracks, starts), both (batch, sources).

        Every place of the corpus is equally likely, but for those where a source is silent.
        """
        samples, shape = self.samples, (TRIES, self.batch_size, len(self.samples.values))
        places = torch.randint(int(self.ends[-1]), shape, generator=generator)
        places = torch.where(remixed[:, None], places, places[..., :1])  # one for all sources, unless remixed
        tracks = torch.searchsorted(self.ends, places, right=True)  # (tries, batch, sources)
        starts = samples.starts[tracks] + places - (self.ends - self.valid_starts)[tracks]
        ends = torch.minimum(starts + self.frames, samples.starts[tracks] + samples.lengths[tracks])
        sources = torch.arange(shape[-1]).expand(shape)
        until_start, until_end = starts // samples.block, (ends - 1) // samples.block + 1  # in blocks
        silent = samples.active[sources, until_end] == samples.active[sources, until_start]
        # A remix looks for each of its sources; other segments are rejected where any that the song has is silent.
        incomplete = (silent & ~self.always_silent[sources, tracks]).any(-1, keepdim=True).expand(shape)
        rejected = torch.where(remixed[:, None], silent, incomplete)
        rejected &= (torch.rand(self.batch_size, generator=generator) >= self.keep_silent)[:, None]
        choice = rejected.int().argmin(0)[None]  # the first that is not rejected; the very first where all are
        return tracks.gather(0, choice)[0], starts.gather(0, choice)[0]


def mix_crops(crops, inside, gains, swapped, device):
    """Augment and mix crops on `device`; return (mixture, sources), float32.

    crops: int16 (batch, sources, channels, time). The others are (batch, sources), on the CPU: from which sample on a
    crop is to be silent, what to multiply it by, and whether to swap its left and right.
    """
    muted = int(inside.min()) < crops.shape[-1]
    inside, gains, swapped = (part.to(device, non_blocking=True)[..., None, None] for part in (inside, gains, swapped))
    sources = crops.to(device, non_blocking=True).float() * gains  # (batch, sources, channels, time)
    if muted:
        sources = sources * (torch.arange(sources.shape[-1], device=device) < inside)
    if sources.shape[2] == 2:
        sources = torch.where(swapped, sources.flip(2), sources)
    return add_up(sources), sources


def add_up(sources):
    """(batch, sources, channels, time) -> (batch, channels, time), added in one order: the same on every device."""
    return sum(sources.unbind(1))


def _ahead(work, items, workers):
    """Yield work(item) of each item in order, computed by `workers` threads that keep a few results ready."""
    if not workers:
        yield from map(work, items)
        return
    items = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting = collections.deque(pool.submit(work, item) for item in itertools.islice(items, 2 * workers))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in itertools.islice(items, 1))
            yield result


def sequential_segments(track, seconds=2.0):
    """Yield (mixture (channels, time), sources (sources, channels, time)) of a Track, segment after segment.

    Together the segments cover the track once; the last one is filled up with silence.
    """
    frames = round(seconds * track.sample_rate)
    for start in range(0, track.frames, frames):
        mixture = track.read_mixture(start, frames)
        parts = [track.source(name, start, frames) for name in track.stems]
        yield mixture, torch.stack(parts) if parts else mixture.new_zeros(0, *mixture.shape)


def fixed_batches(corpus, seconds=2.0, batch_size=16, device="cpu", limit=None):
    """Yield (mixture, sources) batches, shaped as SegmentSampler's, of all of a Corpus or its Samples, unchanged.

    The segments cover every track once, the last one of each filled up with silence; the last batch may be smaller.
    With a `limit`, that many segments are taken, evenly spread over all of them: always the same.
    """
    samples = load_samples(corpus, device)
    frames = round(seconds * samples.sample_rate)
    counts = -(-samples.lengths // frames)
    tracks = torch.repeat_interleave(torch.arange(len(counts)), counts)
    number = torch.arange(len(tracks)) - (counts.cumsum(0) - counts)[tracks]  # of the segment within its track
    if limit is not None and limit < len(tracks):
        chosen = torch.linspace(0, len(tracks) - 1, limit).round().long()
        tracks, number = tracks[chosen], number[chosen]
    for some, index in zip(tracks.split(batch_size), number.split(batch_size), strict=True):
        starts = (samples.starts[some] + index * frames)[:, None].expand(-1, len(samples.values))
        inside = (samples.starts + samples.lengths)[some][:, None] - starts
        gains = samples.scales[some][:, None].expand_as(starts)
        swapped = torch.zeros_like(starts, dtype=torch.bool)
        mixture, sources = mix_crops(samples.crops(starts, frames), inside, gains, swapped, device)
        yield mixture, sources if samples.sources else sources[:, :0]
