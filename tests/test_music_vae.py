"""The music VAE: shapes at odd sizes, gradients everywhere, levels that mean what they say, and its losses."""

import math

import librosa
import numpy as np
import pytest
import torch
from scipy import stats

from helpers.checkpoints import load_checkpoint, save_checkpoint
from helpers.losses import music_vae as audio_losses
from helpers.losses.music_vae import BlindMusicLoss, MusicVAELoss
from helpers.models.music_vae import MusicVAE
from helpers.separation.networks import ModelSeparator

NETWORKS, READINGS = ("dense", "conv", "deep"), ("spectrogram", "mask", "wiener")


def made(network="conv", reading="wiener", seed=0, **arguments):
    torch.manual_seed(seed)
    return MusicVAE(network, reading, latent=3, width=4, **arguments).eval()


def noise(*shape, seed=1):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("length", [16_000, 16_001, 20_555])
def test_estimates_have_the_mixtures_shape(network, reading, length):
    mixture = noise(2, 1, length)
    estimates = made(network, reading)(mixture)
    assert estimates.shape == (2, 2, 1, length) and estimates.isfinite().all()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("settings", [(44_100, 512, 256), (16_000, 1024, 256), (32_000, 4096, 2048)])
def test_any_stft_will_do(network, settings):
    sample_rate, n_fft, hop_length = settings
    model = made(network, sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length)
    found = model.describe(torch.rand(2, 1, n_fft // 2 + 1, 37))
    assert found.levels.shape == (2, 2, n_fft // 2 + 1, 37)
    assert found.reconstruction.allclose(found.levels.mean(1, keepdim=True))
    assert found.code_means.shape == found.code_log_variances.shape and found.code_means.shape[:3] == (2, 2, 3)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_parameter_gets_a_gradient_from_every_loss(network):
    for loss in (BlindMusicLoss(), *map(MusicVAELoss, ("levels", "magnitudes", "variances", "waveforms"))):
        model = made(network, "mask").train()
        mixture, sources = noise(2, 1, 9_000), noise(2, 2, 1, 9_000, seed=2)
        blind = isinstance(loss, BlindMusicLoss)
        batch = model.levels_of(model.analyse(mixture)[0]) if blind else (mixture, sources)
        terms = loss(model, batch, 1.0)
        terms["loss"].backward()
        dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not dead, (loss, dead)
        assert terms["kl"] > 0 and all(value.isfinite() for value in terms.values())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("reading", ["mask", "wiener"])
def test_masked_estimates_add_up_to_the_mixture(network, reading):
    mixture = noise(2, 1, 20_555)
    assert made(network, reading)(mixture).sum(1).allclose(mixture, atol=1e-5)


def test_the_wiener_filter_is_the_quotient_of_two_variances():
    model = made()
    levels = torch.rand(1, 2, 513, 9) * 1.5 - 0.25
    spectrogram = torch.randn(1, 1, 513, 9, dtype=torch.complex64)
    variances = 10 ** ((80 * levels.double() - 60) / 10)
    expected = variances / variances.sum(1, keepdim=True) * spectrogram
    assert model.read(levels, spectrogram).to(torch.complex128).isclose(expected, rtol=1e-4, atol=1e-7).all()


def test_a_louder_mixture_gives_louder_sources_and_nothing_else():
    model, mixture = made("deep"), noise(1, 1, 16_000)
    assert model(8 * mixture).allclose(8 * model(mixture), atol=1e-4)
    assert not model(torch.zeros(1, 1, 16_000)).any()


def test_levels_are_decibels_over_white_noise_as_loud():
    model, mixture = made(), noise(1, 1, 80_000)
    spectrogram, scale = model.analyse(mixture)
    assert spectrogram.abs().square().mean().item() == pytest.approx(1, abs=0.02)  # white noise has 0 dB in every bin
    assert (spectrogram * scale).allclose(model.stft(mixture))
    decibels = librosa.amplitude_to_db(spectrogram.abs().numpy(), ref=1.0, amin=1e-3, top_db=None)
    levels = model.levels_of(spectrogram)
    assert np.allclose(levels.numpy(), (decibels + 60) / 80, atol=1e-5)
    inside = decibels > -60
    assert np.allclose(model.log_magnitudes(levels).exp().numpy()[inside], spectrogram.abs().numpy()[inside], rtol=1e-4)


def test_a_code_holds_all_that_a_decoder_knows():
    model = made("deep").eval()
    first, second = torch.rand(2, 1, 1, 513, 40)
    means, _ = model.encode(first)
    other, _ = model.encode(second)
    mixed = torch.stack((means[:, 0], other[:, 1]), dim=1)
    levels = model.network.decode(mixed, (513, 40))
    assert levels[:, :1].allclose(model.network.decode(means, (513, 40))[:, :1])
    assert levels[:, 1:].allclose(model.network.decode(other, (513, 40))[:, 1:])


def test_the_likelihoods_are_those_of_scipy():
    generator = torch.Generator().manual_seed(0)
    mean, target = torch.rand(2, 3, 2, 5, 4, generator=generator).double()
    assert audio_losses.gaussian_nll(mean, target, 0.1).item() == pytest.approx(
        -stats.norm.logpdf(target, mean, 0.1).sum(1).mean()
    )
    assert audio_losses.laplace_nll(mean, target, 0.2).item() == pytest.approx(
        -stats.laplace.logpdf(target, mean, 0.2).sum(1).mean()
    )
    spectrogram = torch.complex(mean, target) + 1
    log_variance = torch.rand(3, 2, 5, 4, generator=generator).double()
    deviation = (log_variance / 2).exp() / math.sqrt(2)  # of the real and of the imaginary part
    both = stats.norm.logpdf(spectrogram.real, 0, deviation) + stats.norm.logpdf(spectrogram.imag, 0, deviation)
    assert audio_losses.local_gaussian_nll(log_variance, spectrogram).item() == pytest.approx(
        -both.sum(1).mean(), abs=1e-5
    )


def test_the_kl_is_counted_for_each_bin_and_warms_up():
    model, mixture, sources = made(), noise(2, 1, 9_000), noise(2, 2, 1, 9_000, seed=2)
    spectrogram, _ = model.analyse(mixture)
    found = model.describe(model.levels_of(spectrogram))
    mean, variance = found.code_means.double(), found.code_log_variances.double().exp()
    closed = 0.5 * (mean**2 + variance - 1 - variance.log()).sum() / spectrogram.numel()
    loss = MusicVAELoss("levels", beta=2.0, warm_up=0.5)
    terms = loss(model, (mixture, sources), 1.0)
    assert terms["kl"].item() == pytest.approx(closed.item(), rel=1e-4)
    for progress, weight in ((0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 2.0)):
        terms = loss(model, (mixture, sources), progress)
        assert (terms["loss"] - terms["reconstruction"]).item() == pytest.approx(weight * closed.item(), rel=1e-3)


def test_a_checkpoint_separates_as_the_model_did(tmp_path):
    model, mixture = made("deep"), noise(1, 48_000)
    save_checkpoint(tmp_path / "vae.pt", model)
    again, _ = load_checkpoint(tmp_path / "vae.pt", expect="MusicVAE")
    ours, theirs = (ModelSeparator(one, "cpu")(mixture, 16_000) for one in (model, again))
    assert set(ours) == {"vocals", "accompaniment"} and all(ours[name].equal(theirs[name]) for name in ours)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="unknown reading 'phase'"):
        MusicVAE("conv", "phase")
    batch = noise(1, 1, 9_000), noise(1, 2, 1, 9_000)
    with pytest.raises(ValueError, match="unknown target 'sound'"):
        MusicVAELoss("sound")(made(), batch, 1.0)
