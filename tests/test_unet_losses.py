"""The U-Nets' losses, each against the plain formula."""

import numpy as np
import pytest
import torch
from scipy.signal import get_window
from torch import nn

from helpers.losses.unets import (
    MultiResolutionLoss,
    WeightedL1Loss,
    balancing_weights,
    error_to_mixture,
    weights_of,
)
from helpers.models.spectrogram_unet import MaskUNet, SpectrogramUNet

STEMS = ("vocals", "drums", "bass", "other")
SMALL = {"n_fft": 128, "hop_length": 32, "sample_rate": 8000}


def noise(*shape, seed=1):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(kind=SpectrogramUNet, **arguments):
    torch.manual_seed(0)
    return kind(width=4, **{**SMALL, **arguments}).eval()


def batch_of(sources, length=3200, size=3):
    levels = torch.tensor([1.0, 5.0, 0.2]).repeat(size)[:size].view(-1, 1, 1, 1)  # of the segments: each has its own
    parts = levels * noise(size, sources, 1, length) * torch.arange(1.0, sources + 1).view(1, -1, 1, 1)
    return parts.sum(1), parts


def hann(size):
    return get_window("hann", size)


def plain_stft(waveform, n_fft=128, hop_length=32):
    """The complex spectrogram (..., bins, frames) of (..., time), in NumPy."""
    samples = waveform.detach().double().numpy()
    padded = np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(n_fft // 2, n_fft // 2)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=-1)[..., ::hop_length, :]
    return np.fft.rfft(frames * hann(n_fft)).swapaxes(-1, -2)


def plain_errors(model, batch):
    """The mean absolute difference of magnitudes of every source, in NumPy; the network's own output is given."""
    mixture, sources = batch
    scale = np.sqrt(mixture.double().square().mean((1, 2)).numpy() * (hann(128) ** 2).sum())[:, None, None, None]
    if isinstance(model, MaskUNet):
        scale = np.abs(plain_stft(mixture)).max((1, 2, 3), keepdims=True)
    truth = np.abs(plain_stft(sources.squeeze(2))) / scale
    network = model.masks if isinstance(model, MaskUNet) else model.estimate
    magnitudes = torch.from_numpy(np.abs(plain_stft(mixture)) / scale).float()
    with torch.no_grad():
        estimates = network(magnitudes).double().numpy()
    if isinstance(model, MaskUNet):
        estimates = estimates * magnitudes.numpy()
    return [np.abs(estimates[:, k] - truth[:, k]).mean() for k in range(truth.shape[1])]


@pytest.mark.parametrize("alpha", [1.0, 0.0, 0.5, 0.707])  # as the source document tried them
@pytest.mark.parametrize("kind", [SpectrogramUNet, MaskUNet])
def test_equation_12(kind, alpha):
    model, batch = made(kind), batch_of(2)
    voice, accompaniment = plain_errors(model, batch)
    terms = WeightedL1Loss(alpha)(model, batch, 0.0)
    assert terms["loss"].item() == pytest.approx(alpha * voice + (1 - alpha) * accompaniment, rel=1e-4)
    assert terms["vocals"].item() == pytest.approx(voice, rel=1e-4)
    assert terms["accompaniment"].item() == pytest.approx(accompaniment, rel=1e-4)


def test_equation_13():
    model, batch, weights = made(sources=STEMS), batch_of(4), (0.4, 0.3, 0.2, 0.1)
    terms = WeightedL1Loss(weights)(model, batch, 0.0)
    expected = sum(weight * error for weight, error in zip(weights, plain_errors(model, batch), strict=True))
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-4) and set(terms) == {"loss", *STEMS}


def test_a_source_of_no_weight_teaches_nothing():
    model = made().train()
    WeightedL1Loss(1.0)(model, batch_of(2), 0.0)["loss"].backward()
    gradient = model.last[0].weight.grad.flatten(1).abs().sum(1)
    assert gradient[0] > 0 and gradient[1] == 0


def test_the_estimate_that_is_the_truth_has_no_loss():
    model, (mixture, sources) = made(), batch_of(2)
    model.estimate = lambda _: model.stft(sources.squeeze(2)).abs() / model.scaled_stft(mixture)[1]
    assert WeightedL1Loss(0.3)(model, (mixture, sources), 0.0)["loss"] == 0


@pytest.mark.parametrize(
    "alpha, sources", [(0.5, 4), ((0.5, 0.4), 2), ((1.2, -0.2), 2), ((0.5, 0.3, 0.2), 2), (1.1, 2)]
)
def test_weights_that_do_not_fit_are_refused(alpha, sources):
    with pytest.raises(ValueError, match="add up to 1"):
        weights_of(alpha, sources)


def test_one_number_is_the_voices_weight():
    assert weights_of(0.707, 2) == pytest.approx((0.707, 0.293)) and weights_of([0.25] * 4, 4) == (0.25,) * 4


def test_balancing_weights_are_the_documents_formula():
    model, batches = made(), [batch_of(2, size=3), batch_of(2, size=2)]
    alpha, rest = balancing_weights(model, batches)
    norms = [[], []]
    for mixture, sources in batches:
        scale = np.sqrt(mixture.double().square().mean((1, 2)).numpy() * (hann(128) ** 2).sum())
        for segment, of_mixture in zip(sources, scale, strict=True):
            for k in range(2):
                norms[k].append(np.sqrt((np.abs(plain_stft(segment[k, 0]) / of_mixture) ** 2).sum()))
    voice, accompaniment = (np.mean(values) for values in norms)
    assert alpha * voice == pytest.approx((1 - alpha) * accompaniment, rel=1e-4) and alpha + rest == pytest.approx(1)
    assert alpha == pytest.approx(2 / 3, abs=0.02)  # the accompaniment is twice as loud


def test_balancing_weights_of_four_stems():
    weights = balancing_weights(made(sources=STEMS), [batch_of(4, size=8)])
    loudness = np.arange(1, 5)  # of the stems in batch_of()
    assert np.allclose(weights, (1 / loudness) / (1 / loudness).sum(), atol=0.01)


def test_nothing_balances_silence():
    mixture, sources = batch_of(2)
    with pytest.raises(ValueError, match="all of them must be heard"):
        balancing_weights(made(), [(mixture, sources * torch.tensor([0.0, 1.0]).view(1, 2, 1, 1))])
    with pytest.raises(ValueError, match="all of them must be heard"):
        balancing_weights(made(), [])


class Shares(nn.Module):
    """Gives known parts of the mixture."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.Parameter(torch.tensor(parts))

    def forward(self, mixture):
        return mixture.unsqueeze(1) * self.parts[:, None, None]


def test_the_multi_resolution_loss_is_the_plain_formula():
    mixture, sources = batch_of(2)
    terms = MultiResolutionLoss(((256, 64), (128, 32)), weight=0.5)(Shares(0.75, 0.25), (mixture, sources), 0.0)
    loudness = mixture.double().square().mean((1, 2)).sqrt().view(-1, 1, 1, 1)
    error = (torch.stack((0.75 * mixture, 0.25 * mixture), 1) - sources) / loudness
    spectra = []
    for n_fft, hop_length in ((256, 64), (128, 32)):
        spectra.append(np.abs(plain_stft(error, n_fft, hop_length)).mean() / np.sqrt((hann(n_fft) ** 2).sum()))
    assert terms["waveform"].item() == pytest.approx(error.abs().mean().item(), rel=1e-4)
    assert terms["stft"].item() == pytest.approx(np.mean(spectra), rel=1e-4)
    assert terms["loss"].item() == pytest.approx(error.abs().mean().item() + 0.5 * np.mean(spectra), rel=1e-4)
    truth = sources.double() / loudness
    ratio = 10 * torch.log10(truth.square().sum((2, 3)) / error.square().sum((2, 3)))
    assert terms["snr"].item() == pytest.approx(ratio.mean().item(), abs=1e-3)


def test_the_multi_resolution_loss_does_not_hear_levels():
    (mixture, sources), loss, model = batch_of(2), MultiResolutionLoss(((256, 64),)), Shares(0.75, 0.25)
    terms, louder = loss(model, (mixture, sources), 0.0), loss(model, (20 * mixture, 20 * sources), 0.0)
    assert all(terms[name].item() == pytest.approx(louder[name].item(), rel=1e-4) for name in terms)


def test_silence_has_no_loss_and_a_gradient_that_is_finite():
    model, silence = Shares(0.75, 0.25), torch.zeros(1, 2, 1, 1000)
    terms = MultiResolutionLoss(((256, 64),))(model, (silence.sum(1), silence), 0.0)
    terms["loss"].backward()
    assert terms["loss"] == 0 and model.parts.grad.isfinite().all() and terms["snr"].isfinite()


def test_the_error_to_mixture_is_in_decibels_and_has_a_floor():
    class Leaks(nn.Module):
        def forward(self, mixture):
            return sources + 0.1 * mixture.unsqueeze(1)

    mixture, sources = batch_of(2)
    assert float(error_to_mixture(Leaks(), (mixture, sources), 0.0)["loss"]) == pytest.approx(
        10 * np.log10(2 * 0.01 + 1e-3), abs=1e-4
    )
    perfect = lambda mixture: sources  # noqa: E731
    assert float(error_to_mixture(perfect, (mixture, sources), 0.0)["loss"]) == pytest.approx(-30, abs=1e-4)
    assert float(error_to_mixture(lambda mixture: 0 * sources, (0 * mixture, 0 * sources), 0.0)["loss"]) == -30
