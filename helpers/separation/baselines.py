"""Classical separation without training: the mixture itself, NMF, REPET-SIM, HPSS, ICA; all by name.

All are Separators, made from `sources`: {name: waveform} where the truth is used, else the names, a voice's first.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import librosa
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF, FastICA

from helpers.runtime import UserError
from helpers.separation import oracles
from helpers.separation.chunks import ChunkedSeparator
from helpers.separation.oracles import MaskSeparator, Oracle, PaddedSTFT, checked, shares, window_length

VOICE = ("vocals", "accompaniment")
LOWEST = 100.0  # Hz: below it nobody sings, and all is accompaniment
LONG = 30.0  # seconds that a method sees at a time which learns from the song itself
COMPONENTS, ITERATIONS = 30, 200  # of NMF
TINY = 1e-9  # beside magnitudes that are 1 on average
NEIGHBOURS = 100  # of REPET-SIM: frames in a median, at most
APART = 1.0  # seconds; frames that are nearer than this are the same event to REPET-SIM
LONG_WINDOW, SHORT_WINDOW = 0.512, 0.032  # of HPSS, in seconds
KERNEL = 17  # length of HPSS's median filters, in frames and in bins
MOST_SAMPLES = 2**20  # that ICA learns from, evenly spread over the song


class Mixture:
    """The mixture itself as the estimate of every source: what NSDR (the improvement in SDR) subtracts."""

    def __init__(self, sources):
        self.names = tuple(sources)

    def __call__(self, waveform, sample_rate):
        waveform = checked(waveform)
        return {name: waveform.clone() for name in self.names}


def nmf(magnitudes, components):
    """Return `templates (bins, components)`, each summing to 1, and `activations (components, frames)`.

    Their product approximates `magnitudes (bins, frames)`, non-negative, in the generalised Kullback-Leibler
    divergence, by scikit-learn's multiplicative updates (Lee and Seung 2001).
    """
    scale = magnitudes.mean().clamp_min(torch.finfo(magnitudes.dtype).tiny)
    model = NMF(
        components, solver="mu", beta_loss="kullback-leibler", init="random", max_iter=ITERATIONS, tol=0, random_state=0
    )
    activations = torch.from_numpy(model.fit_transform((magnitudes / scale).T.cpu().numpy()).T).to(magnitudes)
    templates = torch.from_numpy(model.components_.T).to(magnitudes)
    total = templates.sum(0).clamp_min(TINY)
    return templates / total, activations * total[:, None] * scale


class NMFSeparator(MaskSeparator):
    """Base of the NMF methods; a subclass gives `weights`, the part of each component that belongs to each source.

    All channels share their templates. The masks are those of the parts' energies.
    """

    lowest = 0.0  # Hz below which the first source has nothing

    def masks(self, spectrogram, sample_rate):
        channels = len(spectrogram)
        matrix = spectrogram.abs().transpose(0, 1).flatten(1)  # (bins, channels * frames)
        templates, activations = nmf(matrix, COMPONENTS)
        weights = self.weights(templates, activations, sample_rate)  # (sources, components)
        parts = (templates * weights[:, None]) @ activations  # (sources, bins, channels * frames)
        parts[0, low_bins(len(templates), sample_rate, self.lowest)] = 0
        return shares(parts).unflatten(-1, (channels, -1)).transpose(1, 2)  # (sources, channels, bins, frames)


class BlindNMF(NMFSeparator):
    """NMF whose components are shared out WITHOUT the truth, by a rule of thumb (often wrong).

    A component's score is the sum of two features, standardised: the part of its template between 200 and 4,000 Hz, and
    the logarithm of its activations' ratio of root mean square to mean (large for what comes and goes). A voice has
    its energy there, and pauses. The first of two sources gets the logistic function of the score, the second the rest:
    where the rule is unsure, halves cost less than a wrong choice. Of more sources each gets a softmax's share.
    """

    lowest = LOWEST

    def weights(self, templates, activations, sample_rate):
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


class OracleNMF(NMFSeparator, Oracle):
    """NMF whose components go to the true source that has most of their energy: how far NMF could get at best."""

    hops_per_window = MaskSeparator.hops_per_window

    def weights(self, templates, activations, sample_rate):
        """Return one-hot columns, `(sources, components)`."""
        truth = self.true_magnitudes(templates.device, sample_rate).square().transpose(1, 2).flatten(2)
        truth = truth / (templates @ activations).clamp_min(TINY * activations.mean().clamp_min(TINY))
        energy = torch.einsum("fk,kt,sft->sk", templates, activations, truth)  # of each source under each component
        return torch.nn.functional.one_hot(energy.argmax(0), len(energy)).T.to(templates)


def low_bins(bins, sample_rate, lowest):
    """Return which of a spectrogram's bins lie below a frequency in Hz, `(bins,)`."""
    return torch.linspace(0, sample_rate / 2, bins) < lowest


class RepetSim(MaskSeparator):
    """REPET-SIM (Rafii and Pardo 2012), of two sources: what a frame shares with those most like it is accompaniment.

    The accompaniment's magnitude is the median over the nearest frames by cosine similarity (librosa's nn_filter),
    at most the mixture's; the masks are those of both energies.
    """

    def masks(self, spectrogram, sample_rate):
        magnitudes = spectrogram.abs()
        bins, frames = magnitudes.shape[-2:]
        hop = self.stft(sample_rate).hop_length
        width = min(max(1, round(APART * sample_rate / hop)), (frames - 1) // 2 - 1)  # librosa takes no more
        options = {"aggregate": np.median, "metric": "cosine", "width": width, "k": NEIGHBOURS}
        repeating = librosa.decompose.nn_filter(magnitudes.cpu().numpy(), **options)
        repeating = torch.from_numpy(repeating).to(magnitudes).minimum(magnitudes)
        masks = shares(torch.stack([magnitudes - repeating, repeating]))
        low = low_bins(bins, sample_rate, LOWEST)
        masks[0, :, low], masks[1, :, low] = 0, 1
        return masks


class MultipassHPSS:
    """Harmonic-percussive separation twice (FitzGerald and Gainza 2010), by librosa's median filters: two sources.

    With long windows the steady tones of the accompaniment are 'harmonic', and the voice, whose pitch moves, falls with
    the drums into the 'percussive' rest. With short windows that rest splits again: now the voice is 'harmonic'.
    """

    def __init__(self, sources):
        self.names = tuple(sources)

    def __call__(self, waveform, sample_rate):
        rest = self._part(waveform, sample_rate, LONG_WINDOW, 1)
        voice = self._part(rest, sample_rate, SHORT_WINDOW, 0)
        return dict(zip(self.names, (voice, waveform - voice), strict=True))

    def _part(self, waveform, sample_rate, seconds, which):
        """Return the harmonic (0) or percussive (1) part of a waveform, with windows of so many seconds."""
        n_fft = window_length(seconds, sample_rate)
        stft = PaddedSTFT(n_fft, n_fft // 4)
        spectrogram = stft(waveform)  # (channels, bins, frames)
        magnitudes = spectrogram.abs().cpu().numpy()
        one_by_one = [librosa.decompose.hpss(one, kernel_size=KERNEL, mask=True)[which] for one in magnitudes]  # memory
        mask = torch.from_numpy(np.stack(one_by_one)).to(waveform)
        mask[:, low_bins(mask.shape[1], sample_rate, LOWEST)] = 0
        return stft.inverse(mask * spectrogram, length=waveform.shape[-1])


class ICA:
    """Independent component analysis (scikit-learn's FastICA) of as many mixtures, the channels, as there are sources.

    For sources that are independent and mixed without delays or echoes: panned, not recorded in a room. An estimate is
    the source as it sounds in each channel (projection back), so the estimates add up to the mixture. Of ICA's unknown
    order, source i is a component that channel i has much of. Raises UserError for channels that are no such mixtures.
    """

    def __init__(self, sources):
        self.names = tuple(sources)

    def __call__(self, waveform, sample_rate):
        waveform = checked(waveform)
        count = len(self.names)
        if len(waveform) == count and not waveform.any():
            return {name: waveform.clone() for name in self.names}
        sample = waveform[:, :: math.ceil(waveform.shape[1] / MOST_SAMPLES)].double().cpu().numpy()
        different = np.linalg.matrix_rank(np.atleast_2d(np.cov(sample, bias=True)), rtol=1e-10, hermitian=True)
        if not len(waveform) == different == count:
            has = f"{len(waveform)} for {count} sources, {different} of them different"
            raise UserError(f"ICA needs as many mixtures (channels) as sources, here {has}: take another method")
        model = FastICA(count, whiten="unit-variance", max_iter=1000, random_state=0).fit(sample.T)
        energy = model.mixing_.T**2  # (sources, channels): each component has unit variance
        _, order = linear_sum_assignment(-(energy / energy.sum(1, keepdims=True)).T)  # channel i -> component
        weights = np.einsum("cs,sd->scd", model.mixing_[:, order], model.components_[order])  # (sources, channels, ...)
        images = torch.from_numpy(weights).to(waveform) @ waveform  # (sources, channels, time)
        return dict(zip(self.names, images, strict=True))


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


def _chunked(make, about, chunk=LONG, **flags):
    return Baseline(partial(ChunkedSeparator, make, chunk=chunk), about, **flags)


BASELINES = {
    "mixture": Baseline(Mixture, "every source is the mixture: what an improvement (NSDR) is measured from"),
    "ibm": _chunked(oracles.IdealBinaryMask, "oracle: each bin goes to the source that is loudest there", truth=True),
    "irm": _chunked(oracles.IdealRatioMask, "oracle: each bin is shared out by the true magnitudes", truth=True),
    "wiener": _chunked(oracles.IdealWienerMask, "oracle: each bin is shared out by the true energies", truth=True),
    "nmf-kl-oracle": _chunked(OracleNMF, "NMF, components grouped with the truth", truth=True),
    "nmf-kl-blind": _chunked(BlindNMF, "NMF, components grouped by a rule of thumb"),
    "repet-sim": _chunked(RepetSim, "voice = what does not come back in similar frames of a minute", 60.0, voice=True),
    "hpss": _chunked(MultipassHPSS, "voice = neither steady in long windows nor a click in short ones", voice=True),
    "ica": Baseline(ICA, "independent components of as many mixtures (channels) as sources"),
}
