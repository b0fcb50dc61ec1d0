"""The losses of the mask models, each one written as the equation it is, and the smoothing of noisy ones.

Values are summed over the bins of a frame (and over sources), then averaged over the batch and the frames, so that
batches and songs of any size can be compared.
"""

from dataclasses import dataclass

import torch

QUIET = 1e-4  # -80 dB: a mixture is not counted as louder than it is below this loudness
KINDS = ("kl", "reversed kl", "l1", "l2", "waveform")


def per_frame(values):
    """Sum over sources and bins, mean over batch and frames: (batch, sources, bins, frames) -> scalar."""
    return values.sum(dim=(1, 2)).mean()


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
        relative: measure in units of each mixture's loudness, so that a soft song counts as much as a loud one. Then
            models that differ in their `level` are measured alike, whatever it is.
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
        return self.terms(model.stft, model.describe(mixture), model.stft(sources.squeeze(2)))

    def terms(self, stft, found, truth):
        """The loss of a Description, where the true spectrograms are `truth` (batch, sources, bins, frames)."""
        scale = self.scale_of(stft, found.magnitudes)
        masks = found.masks[:, :1] if self.voice_only else found.masks
        truth = truth[:, : masks.shape[1]] / scale
        error = masks * (found.spectrogram.unsqueeze(1) / scale) - truth  # complex (batch, sources, bins, frames)
        if self.kind == "waveform":
            samples = stft.inverse(error, (truth.shape[-1] - 1) * stft.hop_length)  # (batch, sources, time)
            loss = samples.abs().sum(1).mean() * norm_of(stft) * stft.hop_length
        else:
            loss = self.distance(truth.abs(), masks * (found.magnitudes.unsqueeze(1) / scale))
        with torch.no_grad():
            powers = [part[:, 0].abs().square().sum().clamp_min(1e-9) for part in (truth, error)]
            sdr = 10 * torch.log10(powers[0] / powers[1])
        return {"loss": loss, "sdr": sdr}

    def distance(self, target, estimate):
        """Magnitudes (batch, sources, bins, frames) -> scalar."""
        if self.kind == "kl":
            return per_frame(generalised_kl(target, estimate, self.epsilon))
        if self.kind == "reversed kl":
            return per_frame(generalised_kl(estimate, target, self.epsilon))
        if self.kind == "l1":
            return per_frame((target - estimate).abs())
        return per_frame((target - estimate).square())

    def scale_of(self, stft, magnitudes):
        """Mixture magnitudes (batch, bins, frames) -> (batch, 1, 1, 1), what all magnitudes are divided by."""
        norm = norm_of(stft)
        if not self.relative:
            return norm.expand(len(magnitudes), 1, 1, 1)
        loudness = magnitudes.square().mean(dim=(1, 2)).sqrt()
        return loudness.clamp_min(QUIET * norm).view(-1, 1, 1, 1)


def norm_of(stft):
    """The magnitude that white noise with a root mean square of 1 has in every bin."""
    return stft.window.square().sum().sqrt()


# ---- watching noisy losses ---------------------------------------------------------------------------------------


def smoothed(values, eta=0.99):
    """Return the exponentially smoothed values, s_t = η s_{t-1} + (1 - η) v_t, divided by 1 - η^t.

    The recursion starts at s_0 = 0, and the divisor takes out what that zero weighs, so that each result is a true
    weighted mean of the values so far, the first one v_1 itself (as Adam's moments: Kingma and Ba, 2015). Started
    at s_1 = v_1, the first and often largest loss would keep more than a third of the weight for 1 / (1 - η) steps.
    """
    if not 0 <= eta < 1:
        raise ValueError(f"eta lies in [0, 1), got {eta}")
    results, s = [], 0.0
    for t, value in enumerate(values, start=1):
        s = eta * s + (1 - eta) * float(value)
        results.append(s / (1 - eta**t))
    return results


class Recorded:
    """A loss that keeps what it gave in every training step, in `values`: what smoothed() is for."""

    def __init__(self, loss):
        self.loss, self.values = loss, []

    def __repr__(self):
        return repr(self.loss)  # to helpers.training.fingerprint it is the loss that it records

    def __call__(self, model, batch, progress):
        terms = self.loss(model, batch, progress)
        if model.training:
            self.values.append(terms["loss"].detach())  # read later: a GPU need not be waited for
        return terms
