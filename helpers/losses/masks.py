"""The losses of the mask models, each one written as the equation it is, and the smoothing of noisy ones.

Values are summed over the bins of a frame (and over sources), then averaged over the batch and the frames, so that
batches and songs of any size can be compared.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from helpers.runtime import write_atomically

QUIET = 1e-4  # -80 dB: lower bound of the loudness that errors are measured by
KINDS = ("kl", "reversed kl", "l1", "l2", "waveform")


def per_frame(values):
    """Sum over sources and bins, mean over batch and frames: (batch, sources, channels, bins, frames) -> scalar."""
    return values.sum(dim=(1, 2, 3)).mean()


def generalised_kl(target, estimate, epsilon=1e-4):
    """D(v‖v̂) = v (log(v + ε) - log(v̂ + ε)) - v + v̂ of each value: 0 where they are equal, else positive (for small ε).

    Magnitudes are no probabilities, they need not add up to one: hence the last two terms (Lee and Seung, 2001;
    equation 3 of homework 5). It punishes a v̂ too small more than one too large; D(v̂‖v), the reversed one, vice versa.
    """
    return target * ((target + epsilon).log() - (estimate + epsilon).log()) - target + estimate


@dataclass
class MaskLoss:
    """How far masked mixtures are from the true sources; loss(model, batch, progress) for helpers.training.fit.

    Args:
        kind: of what, with magnitudes v = |S| and v̂ = m ⊙ |X|:
            "kl": D(v‖v̂); "reversed kl": D(v̂‖v); "l1": |v - v̂|; "l2": (v - v̂)²;
            "waveform": the absolute error of the waveforms after the inverse STFT, times the hop's samples, so that it
            counts for each frame like the others; phase errors count here, in the others they do not.
        relative: measure in units of each mixture's loudness, so that a soft song counts as much as a loud one,
            whatever the model's `level`.
        voice_only: look at the first source alone, as the homework does.
        epsilon: of the divergences, in units of what white noise (as loud as the mixture if `relative`) has in a bin.

    Beside the loss it gives "sdr": how many decibels the first source's complex spectrogram has over the error in it,
    over the batch as a whole: a figure in the same unit whatever the kind of loss.
    """

    kind: str = "l1"
    relative: bool = True
    voice_only: bool = False
    epsilon: float = 1e-4

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind '{self.kind}': take {', '.join(KINDS)}")

    def __call__(self, model, batch, progress):
        """batch: mixture (batch, 1, time), sources (batch, sources, 1, time)."""
        mixture, sources = batch
        return self.terms(model.stft, model.analyse(mixture), model.stft(sources))

    def terms(self, stft, analysis, truth):
        """The loss of an Analysis, where the true spectrograms are `truth` (batch, sources, 1, bins, frames)."""
        unit = stft.noise_magnitude
        if self.relative:
            mixture = analysis.spectrogram * analysis.scale  # complex (batch, 1, bins, frames)
            loudness = mixture.abs().square().mean(dim=(1, 2, 3)).sqrt()
            unit = loudness.clamp_min(QUIET * unit).view(-1, 1, 1, 1, 1)
        count = 1 if self.voice_only else truth.shape[1]
        truth = truth[:, :count] / unit
        ratio = analysis.scale.unsqueeze(1) / unit  # from the model's scale to the loss's
        error = analysis.estimates[:, :count] * ratio - truth  # complex (batch, sources, 1, bins, frames)
        if self.kind == "waveform":
            samples = stft.inverse(error, (truth.shape[-1] - 1) * stft.hop_length)  # (batch, sources, 1, time)
            loss = samples.abs().sum(1).mean() * stft.noise_magnitude * stft.hop_length
        else:
            loss = self.distance(truth.abs(), analysis.magnitudes[:, :count] * ratio)
        with torch.no_grad():
            signal, noise = (part[:, 0].abs().square().sum().clamp_min(1e-9) for part in (truth, error))
        return {"loss": loss, "sdr": 10 * torch.log10(signal / noise)}

    def distance(self, target, estimate):
        """Magnitudes (batch, sources, 1, bins, frames) -> scalar."""
        if self.kind == "kl":
            return per_frame(generalised_kl(target, estimate, self.epsilon))
        if self.kind == "reversed kl":
            return per_frame(generalised_kl(estimate, target, self.epsilon))
        return per_frame((target - estimate).abs() if self.kind == "l1" else (target - estimate).square())


@dataclass
class CarriedLoss:
    """A MaskLoss for a model that goes on from the state it had after the chunk before: truncated BPTT within fit().

    Batches are those of helpers.data.ordered; others, (mixture, sources), begin without a state and leave none. The
    state is kept here, without its gradient, one for training and another for validation. A resumed run begins an epoch
    as the uninterrupted one did: all streams are fresh in an epoch's first batch.
    """

    loss: MaskLoss = field(default_factory=MaskLoss)
    states: dict = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, model, batch, progress):
        """batch: mixture (batch, 1, time), sources (batch, sources, 1, time), fresh (batch,): where a song begins."""
        if len(batch) == 2:
            return self.loss(model, batch, progress)
        mixture, sources, fresh = batch
        margin = model.stft.margin
        state = begun_again(self.states.get(model.training), fresh)
        analysis = model.analyse(mixture, state, margin)
        if analysis.state is not None:
            self.states[model.training] = tuple(part.detach() for part in analysis.state)
        truth = model.stft(sources)
        return self.loss.terms(model.stft, analysis, truth[..., margin : truth.shape[-1] - margin])


def begun_again(state, fresh):
    """Return an LSTM's state (h, c), each (layers, batch, hidden), with zeros where `fresh` (batch,) is true."""
    if state is None:
        return None
    return tuple(part.masked_fill(fresh.to(part.device)[:, None], 0.0) for part in state)


def smoothed(values, eta=0.99):
    """Return the exponentially smoothed values, s_t = η s_{t-1} + (1 - η) v_t, divided by 1 - η^t.

    The recursion starts at s_0 = 0, and the divisor takes out what that zero weighs, so that each result is a true
    weighted mean of the values so far, the first one v_1 itself (as Adam's moments: Kingma and Ba, 2015).
    """
    if not 0 <= eta < 1:
        raise ValueError(f"eta lies in [0, 1), got {eta}")
    results, s = [], 0.0
    for t, value in enumerate(values, start=1):
        s = eta * s + (1 - eta) * float(value)
        results.append(s / (1 - eta**t))
    return results


class Recorded:
    """A loss that notes in `values` what it gave in every training step: what smoothed() is for."""

    def __init__(self, loss):
        self.loss, self.values = loss, []

    def __repr__(self):
        return repr(self.loss)  # to helpers.training.fingerprint it is the loss that it records

    def __call__(self, model, batch, progress):
        terms = self.loss(model, batch, progress)
        if model.training:
            self.values.append(terms["loss"].detach())  # read later: a GPU need not be waited for
        return terms

    def keep(self, path, steps):
        """Write `values` to a .npy file, after those of the first of so many `steps` that a run before left there.

        Called after every epoch, also after the one with which fit() goes on, or of which it only loads the result.
        """
        before = np.load(path)[: steps - len(self.values)].tolist() if Path(path).exists() else []
        self.values = before + [float(value) for value in self.values]
        content = io.BytesIO()
        np.save(content, np.array(self.values, np.float32))
        write_atomically(path, content.getvalue())
