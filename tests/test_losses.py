"""The losses of the VAEs, of images and of music, against scipy, torch.distributions or a sum written out by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import distributions

from helpers.losses import vae as losses
from helpers.models import ImageUNet, ImageVAE, MusicVAE, clip_to_feasible
from helpers.models.image_vae import VAEOutput, condition_on_mixture

torch.set_num_threads(1)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MEAN, TARGET, LOG_VARIANCE = rand(6, 2, 4, 5, seed=1), rand(6, 2, 4, 5, seed=2), randn(6, 2, 4, 5, seed=3)


def nats_an_image(log_density):
    """Minus the sum over an image, averaged over the batch, in double precision."""
    return -np.asarray(log_density, dtype=np.float64).reshape(6, -1).sum(axis=1).mean()


def test_gaussian_nll_against_scipy_and_torch():
    expected = nats_an_image(stats.norm.logpdf(TARGET, MEAN, np.exp(LOG_VARIANCE.numpy() / 2)))
    found = losses.per_image(losses.gaussian_nll(TARGET, MEAN, LOG_VARIANCE))
    assert found.shape == () and found.item() == pytest.approx(expected, rel=1e-5)
    normal = distributions.Normal(MEAN, (LOG_VARIANCE / 2).exp())
    torch.testing.assert_close(found, -normal.log_prob(TARGET).flatten(1).sum(1).mean())


@pytest.mark.parametrize("sigma", [0.05, 1.0, 3.0])
def test_gaussian_nll_with_one_variance(sigma):
    """L2 in disguise: squares / 2σ² + pixels · log(σ √2π)."""
    found = losses.per_image(losses.gaussian_nll(TARGET, MEAN, 2 * math.log(sigma))).item()
    assert found == pytest.approx(nats_an_image(stats.norm.logpdf(TARGET, MEAN, sigma)), rel=1e-5)
    squares = (TARGET - MEAN).double().square().sum().item() / 6
    assert found == pytest.approx(squares / (2 * sigma**2) + 40 * math.log(sigma * math.sqrt(2 * math.pi)), rel=1e-5)


@pytest.mark.parametrize("scale", [0.05, 1.0, 3.0])
def test_laplace_nll_against_scipy(scale):
    found = losses.per_image(losses.laplace_nll(TARGET, MEAN, scale)).item()
    assert found == pytest.approx(nats_an_image(stats.laplace.logpdf(TARGET, MEAN, scale)), rel=1e-5)


def test_bernoulli_nll_against_scipy_and_the_closed_form():
    coins = (TARGET > 0.5).float()
    expected = nats_an_image(stats.bernoulli.logpmf(coins, MEAN.double()))
    assert losses.per_image(losses.bernoulli_nll(coins, MEAN)).item() == pytest.approx(expected, rel=1e-5)
    m, t = MEAN.double(), TARGET.double()
    grey = nats_an_image(t * m.log() + (1 - t) * (1 - m).log())
    assert losses.per_image(losses.bernoulli_nll(TARGET, MEAN)).item() == pytest.approx(grey, rel=1e-5)


def test_bernoulli_nll_of_the_right_answer():
    """The entropy is left: 0 for black and white, log 2 a pixel for grey. A sure error stays finite."""
    black_and_white = torch.tensor([0.0, 1.0]).repeat(2, 1, 3, 10)
    assert not losses.bernoulli_nll(black_and_white, black_and_white).any()
    grey = torch.full((2, 1, 3, 10), 0.5)
    assert losses.per_image(losses.bernoulli_nll(grey, grey)).item() == pytest.approx(30 * math.log(2), rel=1e-6)
    assert losses.bernoulli_nll(black_and_white, 1 - black_and_white).isfinite().all()


def test_bernoulli_nll_under_autocast():
    mean = MEAN.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses.bernoulli_nll(TARGET, mean)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, losses.bernoulli_nll(TARGET, mean.float()), rtol=0, atol=0)


def test_kl_against_torch_and_monte_carlo():
    mean, log_variance = randn(6, 2, 3, seed=4), randn(6, 2, 3, seed=5)
    q, p = distributions.Normal(mean, (log_variance / 2).exp()), distributions.Normal(0.0, 1.0)
    found = losses.kl_from_standard_normal(mean, log_variance)
    torch.testing.assert_close(found, distributions.kl_divergence(q, p).flatten(1).sum(1).mean())
    torch.manual_seed(0)
    z = q.sample((20_000,))
    draws = (q.log_prob(z) - p.log_prob(z)).flatten(2).sum(2).mean(1)
    assert abs(draws.mean() - found) < 4 * draws.std() / math.sqrt(len(draws))
    assert draws.std() / math.sqrt(len(draws)) < 0.01 * found


def test_kl_is_zero_at_the_prior_alone():
    zero = torch.zeros(2, 2, 3)
    assert losses.kl_from_standard_normal(zero, zero) == 0
    for mean, log_variance in [(zero + 0.1, zero), (zero, zero + 0.1), (zero, zero - 0.1)]:
        assert losses.kl_from_standard_normal(mean, log_variance) > 1e-3


@pytest.mark.parametrize("change", ["repeat the batch", "repeat the pixels"])
def test_losses_are_sums_over_pixels_and_means_over_images(change):
    once = losses.per_image(losses.gaussian_nll(TARGET, MEAN, LOG_VARIANCE))
    sizes, factor = ((3, 1, 1, 1), 1) if change == "repeat the batch" else ((1, 1, 2, 1), 2)
    again = losses.per_image(losses.gaussian_nll(*(part.repeat(sizes) for part in (TARGET, MEAN, LOG_VARIANCE))))
    torch.testing.assert_close(again, factor * once)


def test_mean_squared_error_and_separation_mse():
    a, b = rand(4, 1, 8, 8, seed=6), rand(4, 1, 8, 8, seed=7)
    torch.manual_seed(0)
    model = ImageUNet(channels=(2, 3), blocks=(1, 1)).eval()
    found = losses.separation_mse(model, ((a + b) / 2, a, b), 0.3)
    out = model((a + b) / 2).detach().numpy().astype(np.float64)
    expected = (((out[:, :1] - a.numpy()) ** 2).mean() + ((out[:, 1:] - b.numpy()) ** 2).mean()) / 2
    assert set(found) == {"loss"} and found["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert losses.mean_squared_error(a, a - 0.5).item() == pytest.approx(0.25, rel=1e-6)


class Fixed(torch.nn.Module):
    """A model that always gives the same output, so that each term can be worked out by hand."""

    def __init__(self):
        super().__init__()
        means = rand(6, 2, 4, 4, seed=11)
        self.output = VAEOutput(
            means.mean(dim=1, keepdim=True), means, randn(6, 2, 4, 4, seed=12), randn(6, 2, 3, seed=13), randn(6, 2, 3)
        )

    def forward(self, mixture):
        return self.output


A, B = rand(6, 1, 4, 4, seed=14), rand(6, 1, 4, 4, seed=15)
BATCH = ((A + B) / 2, A, B)


def expected_reconstruction(likelihood, scale, output):
    sources = torch.cat((A, B), dim=1)
    if likelihood == "bernoulli":
        return nats_an_image(sources * output.means.log() + (1 - sources) * (1 - output.means).log())
    if likelihood == "laplace":
        return nats_an_image(stats.laplace.logpdf(sources, output.means, scale))
    sigma = scale if likelihood == "gaussian" else np.exp(output.log_variances.numpy() / 2)
    return nats_an_image(stats.norm.logpdf(sources, output.means, sigma))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "laplace", "learnt"])
def test_supervised_loss_terms_add_up(likelihood):
    model = Fixed()
    for beta, conditioned, scale in itertools.product((0.0, 1.0, 4.0), (0.0, 25.0), (0.1, 0.7)):
        loss = losses.SupervisedVAELoss(likelihood, scale=scale, beta=beta, conditioned=conditioned)
        terms = loss(model, BATCH, 0.0)
        assert set(terms) == {"loss", "reconstruction", "kl", "mse", "equal mse", "conditioned mse", "mixture mse"}
        reconstruction = expected_reconstruction(likelihood, scale, model.output)
        kl = losses.kl_from_standard_normal(model.output.code_means, model.output.code_log_variances).item()
        assert terms["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-4)
        assert terms["kl"].item() == pytest.approx(kl, rel=1e-6)
        squares = 2 * 16 * terms["conditioned mse"].item()  # in an image, not in a pixel
        total = reconstruction + beta * kl + conditioned * squares
        assert terms["loss"].item() == pytest.approx(total, rel=1e-4, abs=1e-3)


def test_supervised_loss_reports_both_errors():
    model, sources = Fixed(), torch.cat((A, B), dim=1).numpy()
    terms = losses.SupervisedVAELoss()(model, BATCH, 0.0)
    assert terms["mse"].item() == pytest.approx(((model.output.means.numpy() - sources) ** 2).mean(), rel=1e-5)
    given, _ = condition_on_mixture(BATCH[0], model.output.means, model.output.log_variances)
    assert terms["conditioned mse"].item() == pytest.approx(((given.numpy() - sources) ** 2).mean(), rel=1e-5)
    assert abs(terms["mse"] - terms["conditioned mse"]) > 1e-3
    equal = model.output.means.numpy() + (BATCH[0] - model.output.mixture).numpy()
    assert terms["equal mse"].item() == pytest.approx(((equal - sources) ** 2).mean(), rel=1e-5)
    remainder = (model.output.mixture - BATCH[0]).square().mean()
    assert terms["mixture mse"].item() == pytest.approx(remainder.item(), rel=1e-5)


def test_the_conditioned_error_may_be_that_of_feasible_sources():
    model, sources = Fixed(), torch.cat((A, B), dim=1)
    terms = losses.SupervisedVAELoss(conditioned=10.0, feasible=True)(model, BATCH, 0.0)
    given, _ = condition_on_mixture(BATCH[0], model.output.means, model.output.log_variances)
    clipped = (clip_to_feasible(BATCH[0], given) - sources).square()
    assert terms["conditioned mse"].item() == pytest.approx(clipped.mean().item(), rel=1e-5)
    plain = terms["reconstruction"] + terms["kl"]
    assert (terms["loss"] - plain).item() == pytest.approx(10 * clipped.flatten(1).sum(1).mean().item(), rel=1e-3)


@pytest.mark.parametrize(("progress", "weight"), [(0, 0), (0.1, 0.5), (0.2, 1), (0.3, 1.5), (0.4, 2), (1, 2)])
def test_beta_rises_over_the_warm_up(progress, weight):
    terms = losses.SupervisedVAELoss(beta=2.0, warm_up=0.4)(Fixed(), BATCH, progress)
    found = (terms["loss"] - terms["reconstruction"]) / terms["kl"]
    assert found.item() == pytest.approx(weight, abs=1e-4)


def test_unknown_likelihood():
    with pytest.raises(ValueError, match="'poisson'.*bernoulli, gaussian, laplace or learnt"):
        losses.SupervisedVAELoss("poisson")(Fixed(), BATCH, 0.0)


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_supervised_loss_trains_every_parameter(kind):
    torch.manual_seed(0)
    model = ImageVAE(kind, latent=2, width=4).train()
    a, b = rand(4, 1, 28, 28, seed=1), rand(4, 1, 28, 28, seed=2)
    losses.SupervisedVAELoss("learnt")(model, ((a + b) / 2, a, b), 0.5)["loss"].backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_blind_loss_terms():
    model = Fixed()
    terms = losses.BlindVAELoss(scale=0.2, beta=3.0)(model, BATCH, 0.5)
    reconstruction = nats_an_image(stats.norm.logpdf(BATCH[0], model.output.mixture, 0.2))
    kl = losses.kl_from_standard_normal(model.output.code_means, model.output.code_log_variances).item()
    assert terms["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(reconstruction + 3 * kl, rel=1e-4)
    assert set(terms) == {"loss", "reconstruction", "kl"}


def test_blind_loss_ignores_the_sources():
    loss = losses.BlindVAELoss()
    expected = loss(Fixed(), BATCH, 0.5)
    nothing = torch.full_like(A, float("nan"))
    for batch in [(BATCH[0],), (BATCH[0], nothing, nothing), (BATCH[0], B, A, None)]:
        assert loss(Fixed(), batch, 0.5) == expected
    assert loss(Fixed(), (BATCH[0] + 0.1, A, B), 0.5)["loss"] != expected["loss"]


# ---- music -------------------------------------------------------------------------------------------------------


def sounds(*shape, seed=1):
    return 0.1 * randn(*shape, seed=seed)


def music_vae():
    torch.manual_seed(0)
    return MusicVAE("conv", latent=3, width=4, sample_rate=8000, n_fft=256, hop_length=64).eval()


def test_the_variance_of_every_bin_against_scipy():
    spectrogram = torch.complex(rand(3, 2, 5, 4, seed=1), rand(3, 2, 5, 4, seed=2)).to(torch.complex128) + 1
    log_variance = rand(3, 2, 5, 4, seed=3).double()
    deviation = (log_variance / 2).exp() / math.sqrt(2)  # of the real and of the imaginary part
    both = stats.norm.logpdf(spectrogram.real, 0, deviation) + stats.norm.logpdf(spectrogram.imag, 0, deviation)
    np.testing.assert_allclose(losses.local_gaussian_nll(spectrogram, log_variance), -both, atol=1e-5)


def fitted(errors, deviation):
    """Log density of errors under a Gaussian of this deviation, where their mean square is taken for its square."""
    return stats.norm.logpdf(deviation, 0, deviation).repeat(errors.shape[1], axis=1)


def expected_music_reconstruction(target, model, mixture, sources):
    """-log p(sources | codes) in nats a bin, by scipy, from what the model's analysis holds."""
    analysis = model.analyse(mixture)
    truth = (model.stft(sources[:, :, 0]).abs() / analysis.scale).double().numpy()
    found = analysis.vae.sources.double().numpy()
    if target == "levels":
        levels = (20 * np.log10(np.maximum(truth, 1e-3)) + 60) / 80
        density = stats.norm.logpdf(levels, found, 0.1)
    elif target == "magnitudes":
        density = stats.laplace.logpdf(truth, analysis.magnitudes[:, :, 0], 0.1)
    elif target == "variances":
        variance = 10 ** ((80 * found - 60) / 10)
        density = -np.log(np.pi * variance) - truth**2 / variance
    else:
        loudness = mixture.square().mean(dim=(1, 2)).sqrt().view(-1, 1, 1, 1)
        errors = (sources - model(mixture)) / loudness
        deviation = (errors.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-3).sqrt()
        density = stats.laplace.logpdf(errors, 0, 0.1) if target == "waveforms" else fitted(errors, deviation)
    return -np.asarray(density).sum(1).mean()


@pytest.mark.parametrize("target", ["levels", "magnitudes", "variances", "waveforms", "snr"])
@torch.no_grad()
def test_music_reconstructions_against_scipy(target):
    model, mixture, sources = music_vae(), sounds(2, 1, 3000), sounds(2, 2, 1, 3000, seed=2)
    terms = losses.MusicVAELoss(target)(model, (mixture, sources), 1.0)
    expected = expected_music_reconstruction(target, model, mixture, sources)
    assert terms["reconstruction"].item() == pytest.approx(expected, rel=1e-3)


def test_the_kl_of_music_is_counted_for_each_bin_and_warms_up():
    model, batch = music_vae(), (sounds(2, 1, 3000), sounds(2, 2, 1, 3000, seed=2))
    analysis = model.analyse(batch[0])
    mean, variance = analysis.vae.code_means.double(), analysis.vae.code_log_variances.double().exp()
    closed = 0.5 * (mean**2 + variance - 1 - variance.log()).sum() / analysis.spectrogram.numel()
    loss = losses.MusicVAELoss("levels", beta=2.0, warm_up=0.5)
    assert loss(model, batch, 1.0)["kl"].item() == pytest.approx(closed.item(), rel=1e-4)
    for progress, weight in ((0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 2.0)):
        terms = loss(model, batch, progress)
        assert (terms["loss"] - terms["reconstruction"]).item() == pytest.approx(weight * closed.item(), rel=1e-3)


def test_the_blind_loss_of_music():
    model, levels = music_vae(), rand(2, 1, 129, 40)
    terms = losses.BlindMusicLoss(scale=0.2, beta=3.0)(model, levels, 0.5)
    output = model.autoencode(levels)
    reconstruction = -stats.norm.logpdf(levels, output.mixture.detach(), 0.2).mean()
    assert terms["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(reconstruction + 3 * terms["kl"].item(), rel=1e-4)
    terms["loss"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@torch.no_grad()
def test_the_blind_loss_whose_powers_add_up():
    model, levels = music_vae(), rand(2, 1, 129, 40)
    terms = losses.BlindMusicLoss("powers")(model, levels, 0.5)
    variance = (10 ** ((80 * model.autoencode(levels).sources.double() - 60) / 10)).sum(1, keepdim=True)
    power = 10 ** ((80 * levels.double() - 60) / 10)
    expected = (variance.log() + power / variance + math.log(math.pi)).mean()
    assert terms["reconstruction"].item() == pytest.approx(expected.item(), rel=1e-3)


def test_unknown_target():
    with pytest.raises(ValueError, match="unknown target 'sound'"):
        losses.MusicVAELoss("sound")(music_vae(), (sounds(1, 1, 3000), sounds(1, 2, 1, 3000)), 1.0)
