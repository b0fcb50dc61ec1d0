"""The architectures: shapes, gradients, and their two promises about the mixture against closed forms."""

import numpy as np
import pytest
import torch
from scipy import stats

from helpers.models import ARCHITECTURES, ImageUNet, ImageVAE
from helpers.models.image_unet import clip_to_feasible, feasible_interval
from helpers.models.image_vae import LOG_VARIANCE_RANGE, condition_on_mixture, reparameterise

torch.set_num_threads(1)

MODELS = {
    "U-Net": lambda: ImageUNet(channels=(3, 4, 5), blocks=(1, 2, 1)),
    "U-Net of one scale": lambda: ImageUNet(channels=(3,), blocks=(1,)),
    "plain U-Net": lambda: ImageUNet(channels=(3, 4), blocks=(1, 1), feasible=False),
    "dense VAE": lambda: ImageVAE("dense", latent=3, width=8),
    "convolutional VAE": lambda: ImageVAE("conv", latent=2, width=2),
}


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def randn(*shape, seed=0, **kind):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **kind)


def build(name, seed=0):
    torch.manual_seed(seed)
    return MODELS[name]()


def sizes_of(name):
    return [(28, 28)] if name == "dense VAE" else [(28, 28), (32, 32), (4, 12), (8, 20)]


@pytest.mark.parametrize("name", MODELS)
def test_shapes_and_ranges(name):
    model = build(name)
    for training in (True, False):
        model.train(training)
        for height, width in sizes_of(name):
            out = model(rand(3, 1, height, width))
            sources = out if isinstance(out, torch.Tensor) else out.means
            assert sources.shape == (3, 2, height, width) and sources.dtype == torch.float32
            assert sources.min() >= -1e-6 and sources.max() <= 1 + 1e-6
            for tensor in [out] if isinstance(out, torch.Tensor) else out:
                assert tensor.isfinite().all()


DENSE = {"kind": "dense", "latent": 3, "width": 8}
CONVOLUTIONAL = {"kind": "conv", "latent": 2, "width": 2}


@pytest.mark.parametrize(("arguments", "code"), [(DENSE, (3,)), (CONVOLUTIONAL, (2, 14, 14))])
def test_vae_output(arguments, code):
    model = ImageVAE(**arguments)
    assert model.arguments == arguments
    out = model(rand(5, 1, 28, 28))
    assert out.mixture.shape == (5, 1, 28, 28)
    assert out.log_variances.shape == (5, 2, 28, 28)
    assert out.code_means.shape == out.code_log_variances.shape == (5, 2, *code)
    torch.testing.assert_close(out.mixture[:, 0], (out.means[:, 0] + out.means[:, 1]) / 2)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter(name):
    model = build(name).train()
    out = model(rand(4, 1, 28, 28))
    terms = [out] if isinstance(out, torch.Tensor) else [out.means, out.log_variances, *out[3:]]
    sum((term * randn(*term.shape, seed=k)).sum() for k, term in enumerate(terms)).backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), label
        assert parameter.grad.abs().max() > 0, label


@pytest.mark.parametrize("name", MODELS)
def test_an_image_depends_on_its_own_mixture_alone(name):
    model = build(name).eval()
    x = rand(4, 1, 28, 28)
    with torch.no_grad():
        together, alone = model(x), model(x[2:3])
        other = model(rand(4, 1, 28, 28, seed=1))
    if not isinstance(together, torch.Tensor):
        together, alone, other = together.means, alone.means, other.means
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)
    assert (together - other).abs().max() > 1e-4  # and depends on it at all


@pytest.mark.parametrize("kind", ["dense VAE", "convolutional VAE"])
def test_codes_are_sampled_in_training_only(kind):
    model, x = build(kind), rand(2, 1, 28, 28)
    model.eval()
    torch.testing.assert_close(model(x).means, model(x).means, rtol=0, atol=0)
    model.train()
    first, second = model(x), model(x)
    torch.testing.assert_close(first.code_means, second.code_means, rtol=0, atol=0)
    assert (first.means - second.means).abs().max() > 1e-3
    torch.manual_seed(5)
    again = model(x).means
    torch.manual_seed(5)
    torch.testing.assert_close(model(x).means, again, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["dense VAE", "convolutional VAE"])
def test_the_two_codes_have_decoders_of_their_own(kind):
    model = build(kind).eval()
    codes = model.encode(rand(2, 1, 28, 28))[0].detach()
    moved = codes.clone()
    moved[:, 1] += 3
    (means, log_variances), (new_means, new_log_variances) = model.decode(codes), model.decode(moved)
    torch.testing.assert_close(means[:, 0], new_means[:, 0], rtol=0, atol=0)
    torch.testing.assert_close(log_variances[:, 0], new_log_variances[:, 0], rtol=0, atol=0)
    assert (means[:, 1] - new_means[:, 1]).abs().max() > 1e-3


def test_log_variances_stay_in_their_range_with_a_gradient():
    """The last layers give numbers far outside; inside, the soft clamp must change next to nothing."""
    model = build("convolutional VAE")
    raw = torch.linspace(-30, 30, 28 * 28).view(1, 1, 28, 28).requires_grad_()
    model.decoders = torch.nn.ModuleList([Constant(raw), Constant(raw)])
    _, log_variances = model.decode(torch.zeros(1, 2, 2, 14, 14))
    low, high = LOG_VARIANCE_RANGE
    assert log_variances.min() >= low - 1e-3 and log_variances.max() <= high + 1e-3
    assert log_variances.min() < low + 0.01 and log_variances.max() > high - 0.01
    assert (log_variances[0, 0].flatten().diff() >= 0).all()
    middle = (raw[0, 0] > -4) & (raw[0, 0] < -1)
    assert (log_variances[0, 0] - raw[0, 0])[middle].abs().max() < 0.06
    log_variances.sum().backward()
    assert (raw.grad[(raw > low - 8) & (raw < high + 8)] > 0).all()


class Constant(torch.nn.Module):
    """A decoder that gives the same pixels whatever the code."""

    def __init__(self, raw):
        super().__init__()
        self.pixels = torch.cat((torch.zeros_like(raw), raw), dim=1)

    def forward(self, code):
        return self.pixels


def test_reparameterise_draws_the_gaussian_it_is_given():
    torch.manual_seed(0)
    mean, log_variance = torch.tensor([[-1.5, 0.0, 4.0]]), torch.tensor([[-2.0, 0.0, 1.4]])
    z = reparameterise(mean.expand(20_000, 3), log_variance.expand(20_000, 3)).numpy()
    for k in range(3):
        sigma = np.exp(log_variance[0, k].item() / 2)
        assert stats.kstest(z[:, k], stats.norm(mean[0, k].item(), sigma).cdf).pvalue > 0.01
    assert abs(np.corrcoef(z.T) - np.eye(3)).max() < 0.03


def test_reparameterise_gradient():
    """d z / d mean = 1, and d z / d log_variance = (z - mean) / 2."""
    torch.manual_seed(0)
    mean, log_variance = randn(50, 3, seed=1).requires_grad_(), randn(50, 3, seed=2).requires_grad_()
    z = reparameterise(mean, log_variance)
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(50, 3))
    torch.testing.assert_close(log_variance.grad, ((z - mean) / 2).detach())


def test_feasible_interval_against_brute_force():
    """Of all pairs (a, b) on a grid of 1/100, collect the values that a takes for each mixture."""
    steps = 100
    a, b = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1), indexing="ij")
    mixtures = torch.arange(2 * steps + 1) / (2 * steps)
    low, high = feasible_interval(mixtures)
    for total in range(2 * steps + 1):
        found = a[a + b == total] / steps
        assert low[total].item() == pytest.approx(found.min(), abs=1e-6)
        assert high[total].item() == pytest.approx(found.max(), abs=1e-6)


def test_clipping_to_feasible_sources_finds_the_nearest_pair():
    mixture = torch.tensor([0.2, 0.8, 0.5]).view(3, 1, 1, 1)
    sources = torch.tensor([[-0.1, 0.5], [0.5, 1.3], [0.7, 0.1]])
    clipped = clip_to_feasible(mixture, sources.view(3, 2, 1, 1)).view(3, 2)
    torch.testing.assert_close(clipped, torch.tensor([[0.0, 0.4], [0.6, 1.0], [0.8, 0.2]]))


def test_the_vae_separates_into_feasible_sources_that_add_up():
    torch.manual_seed(0)
    model, mixture = ImageVAE("conv", latent=2, width=4).eval(), rand(2, 1, 28, 28, seed=3)
    sources = model.separate(mixture)
    torch.testing.assert_close(sources.sum(dim=1, keepdim=True), 2 * mixture)
    assert sources.min() >= -1e-6 and sources.max() <= 1 + 1e-6


@pytest.mark.parametrize("confidence", [1, 30, 1000])  # the last layer in its usual range, or pushed to both ends
def test_unet_outputs_add_up_to_the_mixture(confidence):
    model = build("U-Net").eval()
    with torch.no_grad():
        model.head.weight *= confidence
    x = rand(8, 1, 28, 28)
    x[0], x[1], x[2] = 0, 1, 0.5
    sources = model(x)
    assert (sources.sum(dim=1, keepdim=True) - 2 * x).abs().max() <= 1e-6
    assert sources.min() >= -1e-6 and sources.max() <= 1 + 1e-6
    low, high = feasible_interval(x)
    assert (sources >= low - 1e-6).all() and (sources <= high + 1e-6).all()
    torch.testing.assert_close(sources[0], torch.zeros(2, 28, 28), rtol=0, atol=1e-6)  # black is black and black
    torch.testing.assert_close(sources[1], torch.ones(2, 28, 28), rtol=0, atol=1e-6)
    assert sources[3:, 0].std() > 0.01


def test_plain_unet_is_free():
    model = build("plain U-Net").eval()
    x = rand(4, 1, 28, 28)
    assert (model(x).sum(dim=1, keepdim=True) - 2 * x).abs().max() > 0.1
    assert model.arguments == {"channels": [3, 4], "blocks": [1, 1], "feasible": False}


@torch.no_grad()
def test_skips_carry_the_detail():
    """With the way up from the coarser scales cut off, the output still follows the mixture's pixels."""
    model = build("plain U-Net").eval()
    for narrow in model.narrow:
        narrow.weight.zero_()
        narrow.bias.zero_()
    x = rand(1, 1, 28, 28)
    assert model(x).var(dim=(2, 3)).min() > 0.1 * build("plain U-Net").eval()(x).var(dim=(2, 3)).min() > 0


def test_unet_wants_as_many_blocks_as_channels():
    for blocks in [(1,), (1, 1, 1)]:
        with pytest.raises(ValueError, match="zip"):
            ImageUNet(channels=(2, 3), blocks=blocks)


def test_architectures_are_rebuilt_from_their_arguments():
    for name in MODELS:
        model = build(name)
        twin = ARCHITECTURES[type(model).__name__](**model.arguments)
        assert twin.arguments == model.arguments
        assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def random_gaussians(seed, spread=2.0):
    mixture = rand(3, 1, 4, 5, seed=seed).double()
    means = randn(3, 2, 4, 5, seed=seed + 1, dtype=torch.float64)
    log_variances = spread * randn(3, 2, 4, 5, seed=seed + 2, dtype=torch.float64)
    return mixture, means, log_variances


def test_conditioning_against_the_joint_gaussian():
    """μ + Σ Aᵀ (A Σ Aᵀ)⁻¹ (y - A μ) and Σ - Σ Aᵀ (A Σ Aᵀ)⁻¹ A Σ, with Σ = diag(v1, v2), A = [1 1], y = 2x."""
    mixture, means, log_variances = random_gaussians(seed=10)
    sources, left = condition_on_mixture(mixture, means, log_variances)
    assert sources.shape == (3, 2, 4, 5) and left.shape == (3, 1, 4, 5)
    a = np.ones((1, 2))
    for n, i, j in np.ndindex(3, 4, 5):
        mean, covariance = means[n, :, i, j].numpy(), np.diag(log_variances[n, :, i, j].exp().numpy())
        gain = covariance @ a.T @ np.linalg.inv(a @ covariance @ a.T)
        expected = mean + gain @ (2 * mixture[n, :, i, j].numpy() - a @ mean)
        posterior = covariance - gain @ a @ covariance
        np.testing.assert_allclose(sources[n, :, i, j], expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.diag(posterior), left[n, 0, i, j].exp().item(), rtol=1e-6)


def test_conditioning_splits_the_joint_density():
    """log N(a; m1, v1) + log N(b; m2, v2) = log N(a + b; m1 + m2, v1 + v2) + log N(a; conditional mean, variance)."""
    mixture, means, log_variances = random_gaussians(seed=20)
    first = randn(3, 1, 4, 5, seed=30, dtype=torch.float64)
    second = 2 * mixture - first
    sources, left = condition_on_mixture(mixture, means, log_variances)
    sigma = (0.5 * log_variances).exp().numpy()
    joint = stats.norm.logpdf(torch.cat((first, second), dim=1), means, sigma).sum(axis=1)
    total = stats.norm.logpdf(2 * mixture[:, 0], means.sum(dim=1), np.hypot(sigma[:, 0], sigma[:, 1]))
    rest = stats.norm.logpdf(first[:, 0], sources[:, 0], (0.5 * left[:, 0]).exp())
    np.testing.assert_allclose(joint, total + rest, rtol=1e-9)


@pytest.mark.parametrize("log_variance", [(-80, 80), (80, -80), (-1e4, 1e4), (-1e4, -1e4), (1e4, 1e4), (0, 0)])
def test_conditioning_at_extreme_variances(log_variance):
    """All of what is left goes to the source of which nothing is known; equals share it."""
    mixture, means, _ = (tensor.float() for tensor in random_gaussians(seed=40))
    log_variances = torch.tensor(log_variance).float().view(1, 2, 1, 1).expand_as(means).clone().requires_grad_()
    sources, left = condition_on_mixture(mixture, means, log_variances)
    residual = 2 * mixture - means.sum(dim=1, keepdim=True)
    share = torch.tensor([0.5, 0.5] if log_variance[0] == log_variance[1] else np.heaviside(log_variance, 0))
    torch.testing.assert_close(sources, means + share.float().view(1, 2, 1, 1) * residual, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sources.sum(dim=1, keepdim=True), 2 * mixture, rtol=0, atol=2e-6)
    assert left.isfinite().all() and left.max() <= min(log_variance)
    sources.sum().backward()
    assert log_variances.grad.isfinite().all()
