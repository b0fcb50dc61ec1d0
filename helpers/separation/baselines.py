"""Classical separation without training: the mixture itself, NMF, REPET-SIM, HPSS, robust PCA, ICA; all by name.

All are Separators. BASELINES holds them and the oracles under the names that the command line
takes; every constructor's first argument is `sources`: {name: waveform} where the truth is used, else the names alone.

The classes here hold spectrograms of all that they are given. Made by BASELINES, what is longer than CHUNK goes through
them in overlapping chunks (see helpers.separation.chunks), which bounds their memory.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import librosa
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import FastICA

from helpers.runtime import UserError
from helpers.separation.chunks import CHUNK, ChunkedSeparator
from helpers.separation.factorisation import TINY, nmf, robust_pca
from helpers.separation.oracles import (
    IdealBinaryMask,
    IdealRatioMask,
    IdealWienerMask,
    MaskSeparator,
    Oracle,
    PaddedSTFT,
    checked,
    shares,
    window_length,
)

VOICE = ("vocals", "accompaniment")
LOWEST = 100.0  # Hz: below it nobody sings, and all is accompaniment


def low_bins(bins, sample_rate, lowest):
    """Return which of a spectrogram's bins lie below a frequency in Hz, `(bins,)`."""
    return torch.linspace(0, sample_rate / 2, bins) < lowest


class Mixture:
    """The mixture itself as the estimate of every source: the reference that NSDR (the improvement in SDR) subtracts.

    The estimates add up to as many mixtures as there are sources.
    """

    def __init__(self, sources=VOICE):
        self.names = tuple(sources)

    def __call__(self, waveform, sample_rate):
        waveform = checked(waveform)
        return {name: waveform.clone() for name in self.names}


# ---- NMF ---------------------------------------------------------------------------------------------------------


def folded(magnitudes):
    """Put the channels behind each other in time: (..., channels, bins, frames) -> (..., bins, channels * frames)."""
    return magnitudes.transpose(-3, -2).flatten(-2)


def unfolded(matrix, channels):
    """Undo `folded`: (..., bins, channels * frames) -> (..., channels, bins, frames)."""
    return matrix.unflatten(-1, (channels, -1)).transpose(-3, -2)


class BlindNMF(MaskSeparator):
    """NMF of the mixture's magnitudes, its components shared out WITHOUT the truth, by a rule of thumb (often wrong).

    A component's score is the sum of two features, standardised: the part of its template between 200 and 4,000 Hz, and
    the logarithm of its activations' ratio of root mean square to mean (large for what comes and goes). A voice has
    its energy there, and pauses. The first of two sources gets the logistic function of the score, the second the rest:
    where the rule is unsure, halves cost less than a wrong choice. Of more sources each gets a softmax's share, from
    the first, with the highest scores, down. The masks are those of the parts' energies.

    Args:
        sources: the sources' names, the voice first.
        divergence: 'kl' or 'euclidean'.
        components, iterations, seed: of `nmf`; all channels share their templates.
        lowest: frequency in Hz below which the first source, the voice, has nothing.
    """

    def __init__(
        self, sources=VOICE, divergence="kl", components=30, iterations=200, seed=0, lowest=LOWEST, n_fft=None,
        hop_length=None,
    ):  # fmt: skip
        super().__init__(sources, n_fft, hop_length)
        self.options = {"divergence": divergence, "components": components, "iterations": iterations, "seed": seed}
        self.lowest = lowest

    def masks(self, spectrogram, sample_rate):
        templates, activations = nmf(folded(spectrogram.abs()), **self.options)
        weights = self.weights(templates, activations, spectrogram, sample_rate)
        parts = (templates * weights[:, None]) @ activations  # (sources, bins, channels * frames)
        parts[0, low_bins(len(templates), sample_rate, self.lowest)] = 0
        return unfolded(shares(parts), len(spectrogram))

    def weights(self, templates, activations, spectrogram, sample_rate):
        """Return the part of each component that each source gets, `(sources, components)`; a column adds up to one."""
        frequencies = torch.linspace(0, sample_rate / 2, len(templates), device=templates.device)
        band = templates[(frequencies > 200) & (frequencies < 4000)].sum(0)
        level = activations.mean(1).clamp_min(torch.finfo(activations.dtype).tiny)
        crest = (activations / level[:, None]).square().mean(1).clamp_min(TINY).log() / 2
        features = torch.stack([band, crest])
        spread = features.std(1, correction=0, keepdim=True).clamp_min(TINY)
        score = ((features - features.mean(1, keepdim=True)) / spread).sum(0)  # (components,)
        slopes = torch.linspace(0.5, -0.5, len(self.names), device=score.device)
        return (slopes[:, None] * score).softmax(0)


class OracleNMF(Oracle):
    """NMF of the mixture's magnitudes, each component given to the true source that has most of its energy.

    Otherwise as BlindNMF, and the voice may have what is low. It shows how far NMF could get if the grouping were
    solved.

    Args:
        sources: {name: waveform (channels, time)}, the true sources of the mixture that will be given.
        The others: as BlindNMF's.
    """

    def __init__(self, sources, divergence="kl", components=30, iterations=200, seed=0, n_fft=None, hop_length=None):
        super().__init__(sources, n_fft, hop_length)
        self.options = {"divergence": divergence, "components": components, "iterations": iterations, "seed": seed}

    overlap, lowest, masks = BlindNMF.overlap, 0.0, BlindNMF.masks

    def weights(self, templates, activations, spectrogram, sample_rate):
        truth = folded(self.true_magnitudes(spectrogram.device, sample_rate).square())
        truth = truth / (templates @ activations).clamp_min(TINY * activations.mean().clamp_min(TINY))
        energy = torch.einsum("fk,kt,sft->sk", templates, activations, truth)  # of each source under each component
        return torch.nn.functional.one_hot(energy.argmax(0), len(energy)).T.to(templates)


# ---- voice over an accompaniment -----------------------------------------------------------------------------------


def two_sources(sources, method):
    """Return the two names, the voice's first; UserError where there are more or fewer."""
    names = tuple(sources)
    if len(names) != 2:
        raise UserError(f"{method} parts a voice from all the rest, not {len(names)} sources: add up all but the voice")
    return names


class RepetSim(MaskSeparator):
    """REPET-SIM (Rafii and Pardo 2012): what a frame shares with the frames most like it is accompaniment.

    The accompaniment's magnitude is the median over the nearest frames by cosine similarity (librosa's nn_filter),
    at most the mixture's; the masks are those of both energies. All below 100 Hz is accompaniment.

    Args:
        sources: two names, the voice's first.
        neighbours: how many frames the median takes, at most: no more than truly come back in the song.
        apart: similar frames closer than this many seconds count as the same event, not as its repetition.
        lowest: frequency in Hz below which nobody sings.
    """

    def __init__(self, sources=VOICE, neighbours=100, apart=1.0, lowest=LOWEST, n_fft=None, hop_length=None):
        super().__init__(two_sources(sources, "REPET-SIM"), n_fft, hop_length)
        self.neighbours, self.apart, self.lowest = neighbours, apart, lowest

    def masks(self, spectrogram, sample_rate):
        magnitudes = spectrogram.abs()
        bins, frames = magnitudes.shape[-2:]
        hop = self.stft(sample_rate).hop_length
        width = min(max(1, round(self.apart * sample_rate / hop)), (frames - 1) // 2 - 1)  # librosa takes no more
        options = {"aggregate": np.median, "metric": "cosine", "width": width, "k": self.neighbours}
        repeating = librosa.decompose.nn_filter(magnitudes.cpu().numpy(), **options)
        repeating = torch.from_numpy(repeating).to(magnitudes).minimum(magnitudes)
        masks = shares(torch.stack([magnitudes - repeating, repeating]))
        low = low_bins(bins, sample_rate, self.lowest)
        masks[0, :, low], masks[1, :, low] = 0, 1
        return masks


class MultipassHPSS:
    """Harmonic-percussive separation twice (FitzGerald and Gainza 2010), by librosa's median filters.

    With long windows the steady tones of the accompaniment are horizontal lines, 'harmonic', and the voice, whose
    pitch moves, falls with the drums into the 'percussive' rest. With short windows that rest splits again: drums are
    vertical lines, and the voice is now the 'harmonic' part. That part is the voice; the mixture less it the
    accompaniment. All below `lowest` is accompaniment.

    Args:
        sources: two names, the voice's first.
        long, short: the windows in seconds, rounded to powers of two in samples.
        kernel: length of the median filters in frames and bins.
        lowest: frequency in Hz below which nobody sings.
    """

    def __init__(self, sources=VOICE, long=0.512, short=0.032, kernel=17, lowest=LOWEST):
        self.names = two_sources(sources, "HPSS")
        self.long, self.short, self.kernel, self.lowest = long, short, kernel, lowest

    def __call__(self, waveform, sample_rate):
        waveform = checked(waveform)
        rest = self._part(waveform, sample_rate, self.long, 1)
        voice = self._part(rest, sample_rate, self.short, 0)
        return dict(zip(self.names, (voice, waveform - voice), strict=True))

    def _part(self, waveform, sample_rate, seconds, which):
        """Return the harmonic (0) or percussive (1) part of a waveform, with windows of so many seconds."""
        n_fft = window_length(seconds, sample_rate)
        stft = PaddedSTFT(n_fft, n_fft // 4).to(waveform.device)
        spectrogram = stft(waveform[None])[0]  # (channels, bins, frames)
        masks = librosa.decompose.hpss(spectrogram.abs().cpu().numpy(), kernel_size=self.kernel, mask=True)
        mask = torch.from_numpy(masks[which]).to(waveform)
        mask[:, low_bins(mask.shape[1], sample_rate, self.lowest)] = 0
        return stft.inverse((mask * spectrogram)[None], length=waveform.shape[-1])[0]


class RobustPCA(MaskSeparator):
    """Robust PCA (Huang et al. 2012): the accompaniment repeats itself, so low-rank; the voice is what is sparse.

    All channels make one matrix. Huang's own settings are mask 'binary', gain 1, weight 1 and lowest 0; those here did
    better on MIR-1K's training singers (see benchmarks/README.md).

    Args:
        sources: two names, the voice's first.
        mask: 'binary': the voice has a bin where |sparse| > gain * |low-rank|; 'soft': bins are shared out by the
            squares of |sparse| and gain * |low-rank|.
        gain: larger leaves less to the voice.
        weight: what sparseness counts, in units of 1 / √max(bins, frames): smaller makes more of the mixture sparse.
        lowest: frequency in Hz below which nobody sings.
    """

    def __init__(self, sources=VOICE, mask="soft", gain=3.0, weight=0.7, lowest=LOWEST, n_fft=None, hop_length=None):
        super().__init__(two_sources(sources, "robust PCA"), n_fft, hop_length)
        if mask not in ("binary", "soft"):
            raise ValueError(f"unknown mask '{mask}': take 'binary' or 'soft'")
        self.mask, self.gain, self.weight, self.lowest = mask, gain, weight, lowest

    def masks(self, spectrogram, sample_rate):
        matrix = folded(spectrogram.abs())
        low_rank, sparse = robust_pca(matrix, self.weight / math.sqrt(max(matrix.shape)))
        parts = unfolded(torch.stack([sparse.abs(), self.gain * low_rank.abs()]), len(spectrogram)).float()
        parts[0, :, low_bins(len(matrix), sample_rate, self.lowest)] = 0
        if self.mask == "soft":
            return shares(parts)
        voice = (parts[0] > parts[1]).float()
        return torch.stack([voice, 1 - voice])


# ---- as many mixtures as sources -------------------------------------------------------------------------------------


class ICA:
    """Independent component analysis (scikit-learn's FastICA) of as many mixtures, the channels, as there are sources.

    It takes sources that are statistically independent and mixed without delays or echoes: panned, not recorded in a
    room. Scale is fixed by projection back: an estimate is the source as it sounds in each channel, so the estimates
    add up to the mixture. Order is not known to ICA: the components are matched with the channels so that source i is
    one that channel i has much of, compared with the others.

    Args:
        sources: the sources' names, as many as the waveforms will have channels.
        most: how many samples it learns from at most, evenly spread over the song; this bounds memory.

    Raises UserError if a waveform has another number of channels, or if its channels are no independent mixtures.
    """

    def __init__(self, sources=("source 1", "source 2"), seed=0, most=2**20):
        self.names, self.seed, self.most = tuple(sources), seed, most

    def __call__(self, waveform, sample_rate):
        waveform = checked(waveform)
        count = len(self.names)
        if len(waveform) != count:
            raise UserError(
                f"ICA needs as many mixtures (channels) as sources: the waveform has {len(waveform)} for {count}; "
                "take NMF or another method that works on one channel"
            )
        if not waveform.any():
            return {name: waveform.clone() for name in self.names}
        sample = waveform[:, :: math.ceil(waveform.shape[1] / self.most)].double().cpu().numpy()
        covariance = np.cov(sample, bias=True).reshape(count, count)
        if np.linalg.matrix_rank(covariance, rtol=1e-10, hermitian=True) < count:
            raise UserError(
                f"the {count} channels are no {count} different mixtures, as ICA needs: take a method for one channel"
            )
        found = FastICA(count, whiten="unit-variance", max_iter=1000, random_state=self.seed).fit(sample.T)
        energy = found.mixing_.T**2  # (sources, channels): each component has unit variance
        _, order = linear_sum_assignment(-(energy / energy.sum(1, keepdims=True)).T)  # channel i -> component
        weights = np.einsum("cs,sd->scd", found.mixing_[:, order], found.components_[order])  # (sources, channels, ...)
        images = torch.from_numpy(weights).to(waveform) @ waveform  # (sources, channels, time)
        return dict(zip(self.names, images, strict=True))


# ---- by name ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Baseline:
    """An entry of BASELINES: `make(sources)` returns a Separator.

    about: one line for a reader. truth: True where `sources` must be {name: true waveform}, one track's; else names do.
    voice: True where there must be two sources, a voice and the rest.
    """

    make: Callable
    about: str
    truth: bool = False
    voice: bool = False


def _chunked(constructor, chunk=CHUNK, **options):
    """Return a function of the sources that makes a Separator with bounded memory; options: the constructor's."""
    return lambda sources: ChunkedSeparator(lambda names: constructor(names, **options), sources, chunk)


BASELINES = {
    "mixture": Baseline(Mixture, "every source is the mixture: what an improvement (NSDR) is measured from"),
    "ibm": Baseline(
        _chunked(IdealBinaryMask), "oracle: each bin goes whole to the source that is loudest there", truth=True
    ),
    "irm": Baseline(_chunked(IdealRatioMask), "oracle: each bin is shared out by the true magnitudes", truth=True),
    "wiener": Baseline(_chunked(IdealWienerMask), "oracle: each bin is shared out by the true energies", truth=True),
    "nmf-kl-oracle": Baseline(
        _chunked(OracleNMF), "NMF (Kullback-Leibler), components grouped with the truth", truth=True
    ),
    "nmf-euclidean-oracle": Baseline(
        _chunked(OracleNMF, divergence="euclidean"), "NMF (Euclidean), components grouped with the truth", truth=True
    ),
    "nmf-kl-blind": Baseline(_chunked(BlindNMF), "NMF (Kullback-Leibler), components grouped by a rule of thumb"),
    "nmf-euclidean-blind": Baseline(
        _chunked(BlindNMF, divergence="euclidean"), "NMF (Euclidean), components grouped by a rule of thumb"
    ),
    "repet-sim": Baseline(
        _chunked(RepetSim, chunk=60.0), "voice = what does not come back in similar frames of a minute", voice=True
    ),
    "hpss": Baseline(
        _chunked(MultipassHPSS), "voice = neither steady in long windows nor a click in short ones", voice=True
    ),
    "rpca": Baseline(_chunked(RobustPCA), "robust PCA: voice = sparse part, accompaniment = low-rank part", voice=True),
    "ica": Baseline(ICA, "independent components of as many mixtures (channels) as sources"),
}
