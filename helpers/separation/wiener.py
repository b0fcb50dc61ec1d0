"""The multichannel Wiener filter: estimates of stereo sources, refined by where in the stereo image each one lies.

In the local Gaussian model source j has in bin (k, t) a power v_j and in every bin k a spatial covariance R_j, a matrix
of channels by channels that says how its energy is spread over them. The best linear estimate is then

    ŷ_j = v_j R_j (Σ_i v_i R_i)^-1 x

(Duong, Vincent and Gribonval, 2010). Powers and covariances are taken from first estimates, and again from the result.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from helpers.stft import STFT

RELATIVE = 1e-6  # of the mixture's mean power: what keeps a silent or one-sided bin's matrix invertible


def multichannel_wiener(estimates, mixture, iterations=1):
    """Return refined estimates, complex (sources, channels, bins, frames), that add up to the mixture.

    Args:
        estimates: complex (sources, channels, bins, frames), first estimates, from each channel by itself for instance.
        mixture: complex (channels, bins, frames).
        iterations: how often powers and covariances are measured anew.
    """
    channels = len(mixture)
    floor = RELATIVE * mixture.abs().square().mean().clamp_min(1e-20)
    identity = torch.eye(channels, dtype=mixture.dtype)
    observed = mixture.permute(1, 2, 0).unsqueeze(-1)  # (bins, frames, channels, 1)
    for _ in range(iterations):
        powers = estimates.abs().square().mean(1)  # v, (sources, bins, frames)
        outer = torch.einsum("jckt,jdkt->jkcd", estimates, estimates.conj())  # summed over frames
        spatial = outer / powers.sum(2).clamp_min(floor)[..., None, None]  # R, (sources, bins, channels, channels)
        # a share of the floor for each source, or what is left of the mixture would belong to none of them
        parts = powers[..., None, None] * spatial.unsqueeze(2) + floor / len(estimates) * identity
        weighted = torch.linalg.solve(parts.sum(0), observed)  # (Σ v R)^-1 x, (bins, frames, channels, 1)
        estimates = (parts @ weighted).squeeze(-1).permute(0, 3, 1, 2)
    return estimates


@dataclass
class WienerRefined:
    """A Separator whose estimates are those of another one, refined by multichannel_wiener().

    Args:
        separator: (waveform, sample_rate) -> {source: waveform (channels, time)}.
        n_fft, hop_length: of the STFT in which it is done, in samples. iterations: multichannel_wiener()'s.

    One channel has no stereo image: then it is the single-channel Wiener filter of the estimates' powers. The
    spectrograms of a whole song are in memory.
    """

    separator: Callable
    n_fft: int = 4096
    hop_length: int = 1024
    iterations: int = 1

    def __call__(self, waveform, sample_rate):
        estimates = self.separator(waveform, sample_rate)
        stft = STFT(self.n_fft, self.hop_length)
        first = torch.stack([stft(estimate) for estimate in estimates.values()])
        refined = multichannel_wiener(first, stft(waveform), self.iterations)
        return dict(zip(estimates, stft.inverse(refined, waveform.shape[-1]), strict=True))
