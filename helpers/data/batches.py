"""Tracks to batches: random crops, augmented and mixed on the device, and fixed segments for validation."""

import collections
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import torch

from helpers.data.held import Held, hold

__all__ = ["Held", "SegmentSampler", "fixed_batches", "hold", "sequential_segments"]

TRIES = 8  # crops drawn before one with a silent source is kept after all


# ---- random segments ---------------------------------------------------------------------------------------------


class SegmentSampler:
    """Random segments of a corpus, augmented and mixed on the device: batches of (mixture, sources).

    Args:
        corpus: a Corpus, or what hold() made of one (share it: a sampler of a Corpus reads all of it again).
        seconds: length of a segment; shorter tracks are followed by silence.
        batch_size: segments in a batch.
        generator: a torch.Generator of the CPU that the caller owns; it is advanced by one number a batch, so that the
            batches are the same whatever `workers` and `device`, and a run resumes exactly from its saved state.
        device: where batches are augmented and mixed.
        remix: probability that a segment mixes sources of different songs, each from a place of its own.
        gain_db: each source is made louder or softer by up to so many decibels.
        swap: probability that a source's left and right are swapped, where there are two channels.
        keep_silent: probability that a segment in which a source is silent throughout is kept rather than drawn
            again: models need some silence to learn what it is, and real songs have more than is useful. (A source
            that its song never has does not count, unless the segment is a remix.)
        workers: threads that read ahead, for corpora in a memory-mapped file on a slow disk; 0 is right in memory.
        frames: the segment's length in samples, instead of `seconds`.

    The mixture is the sum of the sources (float32, may exceed full scale). A corpus without sources gives its mixtures,
    and an empty tensor of sources.
    """

    def __init__(
        self,
        corpus,
        seconds,
        batch_size,
        generator,
        device="cpu",
        *,
        remix=0.5,
        gain_db=6.0,
        swap=0.5,
        keep_silent=0.1,
        workers=0,
        frames=None,
    ):
        self.held = corpus if isinstance(corpus, Held) else hold(corpus)
        self.frames = frames or round(seconds * self.held.sample_rate)
        self.batch_size = batch_size
        self.generator = generator
        self.device = torch.device(device)
        self.remix, self.gain_db, self.swap, self.keep_silent = remix, gain_db, swap, keep_silent
        self.workers = workers
        self.rows = self.held.samples.shape[0]
        # A track shorter than a segment is cropped from its beginning, and mix_crops() mutes what follows it.
        self.rooms = (self.held.lengths - self.frames + 1).clamp(min=1)
        self.ends = self.rooms.cumsum(0)
        first = self.held.starts // self.held.block
        last = first + -(-self.held.lengths // self.held.block)
        self.never = self.held.active[:, last] == self.held.active[:, first]  # (sources, tracks): silent all along

    def sample(self):
        """Return one batch: mixture (batch, channels, time) and sources (batch, sources, channels, time), float32."""
        return next(iter(self.batches(1)))

    def batches(self, steps):
        """Yield `steps` batches."""
        seeds = torch.randint(2**62, (steps,), generator=self.generator).tolist()
        if self.workers == 0:
            for seed in seeds:
                yield self._mixed(*self._draw(seed))
            return
        with closing(_ahead(self._draw, seeds, self.workers)) as drawn:
            for batch in drawn:
                yield self._mixed(*batch)

    def _mixed(self, *drawn):
        """Return what batches() yields for a batch of _draw()."""
        mixture, sources = mix_crops(*drawn, self.device)
        return mixture, sources if self.held.sources else sources[:, :0]

    def _draw(self, seed):
        """Return one batch as it is held, int16 (batch, rows, channels, time), and what is to be done to it."""
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape):
            return torch.rand(shape, generator=generator)

        remixed = uniform(self.batch_size) < self.remix
        tracks, starts = self._positions(generator, remixed)
        crops = self.held.crops(starts, self.frames)
        inside = self.held.starts[tracks] + self.held.lengths[tracks] - starts  # samples until the track ends
        gains = 10 ** ((uniform(*starts.shape) * 2 - 1) * self.gain_db / 20) * self.held.scales[tracks]
        swapped = uniform(*starts.shape) < self.swap
        return crops, inside, gains, swapped

    def _positions(self, generator, remixed):
        """Draw where each source of each segment comes from: (tracks, starts), both (batch, rows).

        Every place of the corpus is equally likely, but for those where a source is silent.
        """
        shape = (TRIES, self.batch_size, self.rows)
        places = torch.randint(int(self.ends[-1]), shape, generator=generator)
        places = torch.where(remixed[:, None], places, places[..., :1])  # the same one for all rows, unless remixed
        tracks = torch.searchsorted(self.ends, places, right=True)  # (tries, batch, rows)
        starts = self.held.starts[tracks] + places - (self.ends - self.rooms)[tracks]
        rows = torch.arange(self.rows).expand(shape)
        ends = torch.minimum(starts + self.frames, self.held.starts[tracks] + self.held.lengths[tracks])
        silent = self.held.silent(rows, starts, ends)
        # A remix looks for each of its sources; a coherent segment stands or falls with all that its song has.
        missed = (silent & ~self.never[rows, tracks]).any(-1, keepdim=True).expand(shape)
        poor = torch.where(remixed[:, None], silent, missed)
        kept = torch.rand(self.batch_size, generator=generator) < self.keep_silent
        poor = poor & ~kept[:, None]
        choice = poor.int().argmin(0)[None]  # the first that is not poor; the very first where all are
        return tracks.gather(0, choice)[0], starts.gather(0, choice)[0]


def mix_crops(crops, inside, gains, swapped, device):
    """Augment and mix crops on `device`; return (mixture, sources), float32.

    crops: int16 (batch, rows, channels, time). The rest is (batch, rows): from which sample on a crop is to be silent,
    what to multiply it with, and whether to swap its left and right.
    """
    muted = int(inside.min()) < crops.shape[-1]
    inside, gains, swapped = (tensor.to(device)[..., None, None] for tensor in (inside, gains, swapped))
    sources = crops.to(device).float() * gains  # (batch, rows, channels, time)
    if muted:
        sources = sources * (torch.arange(sources.shape[-1], device=device) < inside)
    if sources.shape[2] == 2:
        sources = torch.where(swapped, sources.flip(2), sources)
    return sources.sum(1), sources


def _ahead(work, items, workers):
    """Yield work(item) of each item in order, computed by `workers` threads that keep a few results ready."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


# ---- fixed segments ----------------------------------------------------------------------------------------------


def sequential_segments(track, seconds=2.0, frames=None, sources=None):
    """Yield (mixture (channels, time), sources (sources, channels, time)) of a Track, segment after segment.

    Together the segments cover the track once; the last one is filled up with silence. Only one is in memory at a time.
    `sources` are the names to give, in that order; default: all of the track's.
    """
    frames = frames or round(seconds * track.sample_rate)
    names = tuple(track.stems) if sources is None else sources
    for start in range(0, track.frames, frames):
        mixture = track.read_mixture(start, frames)
        parts = [track.source(name, start, frames) for name in names]
        yield mixture, torch.stack(parts) if parts else mixture.new_zeros(0, *mixture.shape)


def fixed_batches(corpus, seconds=2.0, batch_size=16, device="cpu", limit=None, frames=None):
    """Yield (mixture, sources) batches, shaped as SegmentSampler's, of all of a corpus, without augmentation.

    The segments cover every track once, the last one of each filled up with silence, so that the last batch may be
    smaller. `corpus` is a Corpus or what hold() made of one. With a `limit`, that many segments are taken, evenly
    spread over all of them: always the same.
    """
    held = corpus if isinstance(corpus, Held) else hold(corpus)
    frames = frames or round(seconds * held.sample_rate)
    counts = -(-held.lengths // frames)
    tracks = torch.repeat_interleave(torch.arange(len(counts)), counts)
    number = torch.arange(len(tracks)) - (counts.cumsum(0) - counts)[tracks]  # of the segment within its track
    if limit is not None and limit < len(tracks):
        taken = torch.linspace(0, len(tracks) - 1, limit).round().long()
        tracks, number = tracks[taken], number[taken]
    for some, index in zip(tracks.split(batch_size), number.split(batch_size), strict=True):
        starts = (held.starts[some] + index * frames)[:, None].expand(-1, len(held.samples))
        inside = (held.starts + held.lengths)[some][:, None] - starts
        gains = held.scales[some][:, None].expand_as(starts)
        swapped = torch.zeros_like(starts, dtype=torch.bool)
        mixture, sources = mix_crops(held.crops(starts, frames), inside, gains, swapped, torch.device(device))
        yield mixture, sources if held.sources else sources[:, :0]
