"""The music VAE: levels that mean what they say, codes that hold all a decoder knows, readings of the levels."""

import librosa
import numpy as np
import pytest
import torch
from audio_models import noise

from helpers.models.music_vae import MusicVAE, levels_of, log_magnitudes

NETWORKS = ("dense", "conv", "deep")


def made(network="conv", reading="wiener", **arguments):
    torch.manual_seed(0)
    return MusicVAE(network, reading, latent=3, width=4, **arguments).eval()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("settings", [(44_100, 512, 256), (16_000, 1024, 256), (32_000, 4096, 2048)])
@torch.no_grad()
def test_any_stft_will_do(network, settings):
    sample_rate, n_fft, hop_length = settings
    model = made(network, sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length)
    output = model.autoencode(torch.rand(2, 1, n_fft // 2 + 1, 37))
    assert output.sources.shape == (2, 2, n_fft // 2 + 1, 37)
    assert output.mixture.allclose(output.sources.mean(1, keepdim=True))
    assert output.code_means.shape == output.code_log_variances.shape and output.code_means.shape[:3] == (2, 2, 3)


@torch.no_grad()
def test_the_wiener_filter_is_the_quotient_of_two_variances():
    analysis = made().analyse(noise(1, 4000).unsqueeze(0))
    variances = 10 ** ((80 * analysis.vae.sources.double() - 60) / 10)  # (1, 2, bins, frames)
    expected = variances / variances.sum(1, keepdim=True) * analysis.spectrogram
    assert analysis.estimates[:, :, 0].to(torch.complex128).isclose(expected, rtol=1e-4, atol=1e-7).all()


@torch.no_grad()
def test_the_other_readings_are_magnitudes_and_their_quotient():
    mixture = noise(1, 4000).unsqueeze(0)
    painted, masked = made(reading="spectrogram").analyse(mixture), made(reading="mask").analyse(mixture)
    magnitudes = 10 ** ((80 * painted.vae.sources.double() - 60) / 20)
    assert painted.magnitudes[:, :, 0].double().allclose(magnitudes, rtol=1e-4)
    assert (painted.estimates.angle() - painted.spectrogram.angle().unsqueeze(1)).abs().max() < 1e-3
    assert masked.masks[:, :, 0].double().allclose(magnitudes / magnitudes.sum(1, keepdim=True), rtol=1e-4)


def test_levels_are_decibels_over_white_noise_as_loud():
    model, mixture = made(), noise(1, 80_000).unsqueeze(0)
    spectrogram, scale = model.scaled_stft(mixture)
    assert spectrogram.abs().square().mean().item() == pytest.approx(1, abs=0.02)  # white noise has 0 dB in every bin
    decibels = librosa.amplitude_to_db(spectrogram.abs().numpy(), ref=1.0, amin=1e-3, top_db=None)
    levels = levels_of(spectrogram)
    assert np.allclose(levels.numpy(), (decibels + 60) / 80, atol=1e-5)
    inside = decibels > -60
    assert np.allclose(log_magnitudes(levels).exp().numpy()[inside], spectrogram.abs().numpy()[inside], rtol=1e-4)


@torch.no_grad()
def test_a_code_holds_all_that_a_decoder_knows():
    model = made("deep")
    first, second = torch.rand(2, 1, 1, 513, 40)
    means, other = model.autoencode(first).code_means, model.autoencode(second).code_means
    mixed = torch.stack((means[:, 0], other[:, 1]), dim=1)
    levels = model.network.decode(mixed, (513, 40))
    assert levels[:, :1].allclose(model.network.decode(means, (513, 40))[:, :1])
    assert levels[:, 1:].allclose(model.network.decode(other, (513, 40))[:, 1:])


@pytest.mark.parametrize("network", NETWORKS)
def test_codes_are_sampled_in_training_only(network):
    model, levels = made(network), torch.rand(1, 1, 513, 20)
    assert model.autoencode(levels).sources.equal(model.autoencode(levels).sources)
    model.train()
    assert (model.autoencode(levels).sources - model.autoencode(levels).sources).abs().max() > 1e-4


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="unknown reading 'phase'"):
        MusicVAE("conv", "phase")
