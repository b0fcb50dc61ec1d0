"""Baselines: what each promises on signals made for it, and on every shape, silence and bad input what all promise."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF

from helpers.runtime import UserError
from helpers.separation.baselines import (
    BASELINES,
    ICA,
    BlindNMF,
    Mixture,
    MultipassHPSS,
    OracleNMF,
    RepetSim,
    RobustPCA,
    folded,
    unfolded,
)
from helpers.separation.factorisation import nmf, robust_pca

RATE = 8000
ADDITIVE = [name for name in BASELINES if name != "mixture"]
VOICE_METHODS = [name for name, entry in BASELINES.items() if entry.voice]


def noise(*shape, seed=0, level=0.1):
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seconds(length, rate=RATE):
    return torch.arange(round(length * rate)) / rate


def tones(t, *frequencies):
    return sum(torch.sin(2 * torch.pi * f * t) for f in frequencies)[None] / 10


def sung(t, low=500.0):
    """A gliding tone with vibrato and overtones, with pauses: nothing of it comes back."""
    pitch = low + 60 * t + 25 * torch.sin(2 * torch.pi * 5.5 * t)
    phase = 2 * torch.pi * pitch.cumsum(0) / RATE
    on = ((t % 1.3) > 0.4).float()
    return (on * sum(torch.sin(n * phase) / n for n in (1, 2, 3)))[None] / 10


def looped(length):
    """Half a second of five short chords, over and over."""
    t = seconds(0.5)
    chords = torch.cat(
        [tones(t[: len(t) // 5], 220 * 2 ** (n / 12), 330 * 2 ** (n / 12), 1760) for n in (0, 3, 5, 7, 8)], 1
    )
    return chords.repeat(1, round(length * 2) + 1)[:, : round(length * RATE)]


def sdr(estimate, reference):
    return float(10 * torch.log10(reference.square().sum() / (reference - estimate).square().sum()))


def gain_in_sdr(make, voice, rest, **options):
    """Return how many dB nearer both sources are than the mixture is."""
    sources = {"vocals": voice, "accompaniment": rest}
    mixture = voice + rest
    found = make(sources, **options)(mixture, RATE)
    assert list(found) == list(sources)
    return [sdr(found[name], source) - sdr(mixture, source) for name, source in sources.items()]


def run(name, sources, rate=RATE):
    return BASELINES[name].make(sources)(sum(sources.values()), rate)


# ---- what all promise --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:FastICA did not converge")  # there is nothing to find in Gaussian noise
@pytest.mark.parametrize("name", ADDITIVE)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [3, 100, 1000, 12_345])
@pytest.mark.parametrize("rate", [8000, 44_100])
def test_same_shape_and_the_sum_is_the_mixture(name, channels, frames, rate):
    if name == "ica" and channels == 1:
        pytest.skip("one channel is no two mixtures: see the test of its message")
    sources = {"a": noise(channels, frames, seed=1), "b": noise(channels, frames, seed=2)}
    mixture = sources["a"] + sources["b"]
    kept = mixture.clone()
    found = BASELINES[name].make(sources)(mixture, rate)
    assert list(found) == ["a", "b"] and torch.equal(mixture, kept)
    for wave in found.values():
        assert wave.shape == mixture.shape and wave.dtype == torch.float32 and wave.isfinite().all()
    torch.testing.assert_close(found["a"] + found["b"], mixture, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", [name for name in ADDITIVE if name != "ica"])
def test_a_single_sample(name):
    found = run(name, {"a": torch.full((1, 1), 0.25), "b": torch.full((1, 1), 0.5)})
    assert float(sum(found.values())) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize("name", list(BASELINES))
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 300, 9000])
def test_silence_stays_silent(name, channels, frames):
    if name == "ica" and channels == 1:
        pytest.skip("one channel is no two mixtures: see the test of its message")
    silence = torch.zeros(channels, frames)
    for wave in run(name, {"a": silence, "b": silence}).values():
        assert torch.equal(wave, silence)


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_pause_within_the_music_makes_no_nan(name):
    waves = noise(2, 2, 24_000)
    waves[..., 3000:21_000] = 0
    found = run(name, {"a": waves[0], "b": waves[1]})
    assert all(wave.isfinite().all() for wave in found.values())
    assert max(float(wave[:, 11_000:13_000].abs().max()) for wave in found.values()) < 1e-6


@pytest.mark.parametrize("name", list(BASELINES))
def test_the_same_call_gives_the_same_estimates(name):
    sources = {"a": noise(2, 6000, seed=1), "b": noise(2, 6000, seed=2)}
    first, second = run(name, sources), run(name, sources)
    assert all(torch.equal(first[key], second[key]) for key in sources)


@pytest.mark.parametrize("name", list(BASELINES))
def test_what_is_no_waveform_is_refused(name):
    sources = {"a": noise(2, 1000, seed=1), "b": noise(2, 1000, seed=2)}
    bad = sources["a"].clone()
    bad[1, 7] = torch.inf
    with pytest.raises(UserError, match="NaN or infinity"):
        BASELINES[name].make(sources)(bad, RATE)
    with pytest.raises(ValueError, match="waveform is|made for"):
        BASELINES[name].make(sources)(bad[0], RATE)


def test_the_names_say_what_is_behind_them():
    asked = ("mixture", "ibm", "irm", "wiener", "repet-sim", "hpss", "rpca", "ica")
    assert set(asked) < set(BASELINES)
    assert len({entry.about for entry in BASELINES.values()}) == len(BASELINES)
    assert all(entry.about and "\n" not in entry.about and len(entry.about) < 90 for entry in BASELINES.values())
    for name, entry in BASELINES.items():
        if entry.truth:
            with pytest.raises(TypeError):
                entry.make(["a", "b"])  # names alone are not the truth
        else:
            assert entry.make(["a", "b"]).names == ("a", "b")
        assert not name.endswith("-oracle") or entry.truth
    blind = BASELINES["nmf-euclidean-blind"].make(["a", "b"]).whole
    assert isinstance(blind, BlindNMF) and blind.options["divergence"] == "euclidean"


@pytest.mark.parametrize("name", VOICE_METHODS)
def test_methods_for_a_voice_refuse_other_numbers_of_sources(name):
    with pytest.raises(UserError, match="not 4 sources: add up all but the voice"):
        BASELINES[name].make(["vocals", "drums", "bass", "other"])


def test_the_mixture_stands_for_every_source():
    wave = noise(2, 500)
    found = Mixture(["a", "b", "c"])(wave, RATE)
    assert list(found) == ["a", "b", "c"] and all(torch.equal(estimate, wave) for estimate in found.values())
    found["a"].zero_()
    assert wave.any() and found["b"].any()


# ---- NMF ---------------------------------------------------------------------------------------------------------


def divergence(v, w, h, kind):
    model = w @ h
    return float((v * (v / model).log() - v + model).sum() if kind == "kl" else (v - model).square().sum())


@pytest.mark.parametrize("kind", ["kl", "euclidean"])
def test_nmf_never_gets_worse_and_ends_as_near_as_scikit_learn(kind):
    v = noise(40, 6, seed=1).abs() @ noise(6, 70, seed=2).abs() + noise(40, 70, seed=3, level=0.001).abs()
    errors = [divergence(v, *nmf(v, 6, kind, iterations), kind) for iterations in (0, 1, 2, 5, 20, 100, 300)]
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in zip(errors, errors[1:], strict=False))
    loss = {"kl": "kullback-leibler", "euclidean": "frobenius"}[kind]
    theirs = NMF(6, solver="mu", beta_loss=loss, init="random", max_iter=300, tol=0, random_state=0)
    activations = theirs.fit_transform(v.T.numpy())
    reached = divergence(v, *(torch.from_numpy(x.T) for x in (theirs.components_, activations)), kind)
    assert errors[-1] < 2 * reached < errors[1]


@pytest.mark.parametrize("kind", ["kl", "euclidean"])
def test_an_iteration_is_scikit_learns(kind):
    v = noise(30, 50, seed=1).abs()
    w, h = (factor.contiguous().numpy() for factor in nmf(v, 4, kind, iterations=3))
    later = torch.matmul(*nmf(v, 4, kind, iterations=4))
    loss = {"kl": "kullback-leibler", "euclidean": "frobenius"}[kind]
    theirs = NMF(4, solver="mu", beta_loss=loss, init="custom", max_iter=1, tol=0)
    activations = theirs.fit_transform(v.T.contiguous().numpy(), W=h.T.copy(), H=w.T.copy())
    expected = torch.from_numpy(activations @ theirs.components_).T
    torch.testing.assert_close(later, expected, rtol=1e-4, atol=1e-7)


def test_nmf_of_any_scale_and_of_nothing():
    v = noise(20, 30).abs()
    w, h = nmf(v, 3)
    for scale in (1e-12, 1e6):
        w_scaled, h_scaled = nmf(v * scale, 3)
        torch.testing.assert_close(w_scaled, w, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(h_scaled / scale, h, rtol=1e-3, atol=1e-5)
    w, h = nmf(torch.zeros(20, 30), 3)
    assert w.isfinite().all() and not h.any()
    with pytest.raises(ValueError, match="unknown divergence 'is'"):
        nmf(v, 3, "is")


@pytest.mark.parametrize("kind", ["kl", "euclidean"])
def test_components_grouped_with_the_truth(kind):
    t = seconds(3)
    first = tones(t, 300) * ((t % 0.7) > 0.3) + tones(t, 1400) * ((t % 0.9) > 0.5)
    second = tones(t, 700) * ((t % 0.5) > 0.2) + tones(t, 2500) * ((t % 1.1) > 0.5)
    assert min(gain_in_sdr(OracleNMF, first, second, divergence=kind, components=8)) > 15


def test_the_rule_gives_the_voice_what_lies_in_its_band_and_pauses():
    templates, activations = torch.full((401, 6), 0.01), torch.ones(6, 200)  # 10 Hz a bin
    for component, frequency in enumerate((60, 700, 110, 900, 3900, 150)):
        templates[frequency // 10, component] = 10
    for component in (1, 3, 4):
        activations[component, component * 20 : -40] = 0.01
    templates = templates / templates.sum(0)
    found = BlindNMF().weights(templates, activations, None, RATE)
    torch.testing.assert_close(found.sum(0), torch.ones(6))
    assert found.argmax(0).tolist() == [1, 0, 1, 0, 0, 1] and found.max(0).values.min() > 0.7
    band, crest = templates[21:400].sum(0), (activations.square().mean(1).sqrt() / activations.mean(1)).log()
    score = sum((x - x.mean()) / x.std(correction=0) for x in (band, crest))
    torch.testing.assert_close(found[0], 1 / (1 + (-score).exp()), rtol=1e-4, atol=1e-4)
    four = BlindNMF(["a", "b", "c", "d"]).weights(templates, activations, None, RATE)
    torch.testing.assert_close(four.sum(0), torch.ones(6))
    assert four.argmax(0).tolist() == [3, 0, 3, 0, 0, 3]


@pytest.mark.parametrize("kind", ["kl", "euclidean"])
def test_components_grouped_by_the_rule(kind):
    t = seconds(4)
    voice, drone = sung(t), tones(t, 80, 130, 170)
    assert min(gain_in_sdr(BlindNMF, voice, drone, divergence=kind)) > 3
    named = BlindNMF(["accompaniment", "vocals"], kind)(voice + drone, RATE)
    assert sdr(named["accompaniment"], voice) > 3  # it knows the order alone: the voice is the first


@pytest.mark.parametrize("make", [BlindNMF, RepetSim, MultipassHPSS, RobustPCA])
def test_nobody_sings_below_the_lowest_voice(make):
    low = tones(seconds(3), 60)
    wave = low + sung(seconds(3))
    found = make()(wave, RATE)["accompaniment"]
    assert float((found * low).sum() / low.square().sum()) > 0.98


def test_folding_the_channels_away_and_back():
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert folded(x).shape == (3, 8) and torch.equal(folded(x)[:, 4:], x[1])
    assert torch.equal(unfolded(folded(x), 2), x)
    assert torch.equal(unfolded(folded(torch.stack([x, 2 * x])), 2)[1], 2 * x)


# ---- voice over an accompaniment -----------------------------------------------------------------------------------


def test_repet_sim_finds_what_comes_back():
    t = seconds(6)
    assert min(gain_in_sdr(RepetSim, sung(t), looped(6), neighbours=40)) > 5


def test_hpss_takes_steady_tones_and_clicks_away():
    t = seconds(6)
    clicks = torch.zeros(1, len(t))
    clicks[0, 1000 :: RATE // 2] = 2
    assert min(gain_in_sdr(MultipassHPSS, sung(t), tones(t, 220, 330, 440, 1760) + clicks)) > 5


@pytest.mark.parametrize("mask", ["binary", "soft"])
def test_robust_pca_parts_a_voice_from_a_loop(mask):
    t = seconds(6)
    assert min(gain_in_sdr(RobustPCA, sung(t), looped(6), mask=mask)) > 5


def test_more_gain_leaves_less_to_the_voice():
    mixture = sung(seconds(4)) + looped(4)
    energies = [float(RobustPCA(gain=gain)(mixture, RATE)["vocals"].square().sum()) for gain in (0.5, 1, 2, 1e9)]
    assert energies == sorted(energies, reverse=True) and energies[0] > energies[2] and energies[3] < 1e-6
    with pytest.raises(ValueError, match="unknown mask 'hard'"):
        RobustPCA(mask="hard")


@pytest.mark.parametrize("shape", [(60, 90), (90, 60)])
def test_robust_pca_recovers_what_was_added(shape):
    rows, columns = shape
    low_rank = noise(rows, 3, seed=1, level=1) @ noise(3, columns, seed=2, level=1)
    places = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.05
    sparse = places * noise(*shape, seed=4, level=10)
    found, rest = robust_pca(low_rank + sparse)
    assert (found - low_rank).norm() < 1e-4 * low_rank.norm()
    assert (rest - sparse).norm() < 1e-4 * sparse.norm()
    assert torch.linalg.matrix_rank(found, rtol=1e-4) == 3
    assert all(not part.any() for part in robust_pca(torch.zeros(shape)))


def plain_robust_pca(m, weight, growth=1.05):
    """Lin, Chen and Ma's algorithm as they write it, with an SVD and a penalty that grows slowly: near the optimum."""
    norm = np.linalg.norm(m, 2)
    multiplier, low_rank, mu = m / max(norm, abs(m).max() / weight), np.zeros_like(m), 1.25 / norm
    for _ in range(300):
        target = m - low_rank + multiplier / mu
        sparse = np.sign(target) * np.maximum(abs(target) - weight / mu, 0)
        u, s, v = np.linalg.svd(m - sparse + multiplier / mu, full_matrices=False)
        low_rank = (u * np.maximum(s - 1 / mu, 0)) @ v
        multiplier = multiplier + mu * (m - low_rank - sparse)
        mu *= growth
    return low_rank, m - low_rank


@pytest.mark.parametrize("shape", [(40, 60), (60, 40)])
@pytest.mark.parametrize("factor", [0.7, 1.0])
def test_robust_pca_reaches_the_optimum_of_a_plain_one(shape, factor):
    draw = np.random.default_rng(0)
    m = abs(draw.standard_normal((shape[0], 4)) @ draw.standard_normal((4, shape[1])))
    m += 8 * draw.random(shape) * (draw.random(shape) < 0.15) + 0.1 * draw.random(shape)
    weight = factor / np.sqrt(60)
    found = [part.numpy() for part in robust_pca(torch.from_numpy(m), weight)]
    expected = plain_robust_pca(m, weight)
    cost, least = (np.linalg.norm(low, "nuc") + weight * abs(rest).sum() for low, rest in (found, expected))
    assert cost < 1.002 * least
    assert np.linalg.norm(found[0] - expected[0]) < 0.04 * np.linalg.norm(expected[0])
    masks = [abs(rest) > abs(low) for low, rest in (found, expected)]
    assert (masks[0] == masks[1]).mean() > 0.99 and 0.05 < masks[0].mean() < 0.5


# ---- as many mixtures as sources -----------------------------------------------------------------------------------


def independent(frames=20_000):
    """Two sources whose samples are independent and not Gaussian: uniform ones, and Laplace's."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(frames, generator=generator) - 0.5
    other = torch.rand(frames, generator=generator) - 0.5
    return torch.stack([uniform, -0.1 * other.sign() * torch.log1p(-2 * other.abs() + 1e-6)])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_ica_undoes_a_panned_mix_and_knows_whose_side_is_whose(order):
    sources = independent()[order]
    panning = torch.tensor([[1.0, 0.4], [-0.3, 0.8]])  # (channels, sources)
    images = panning.T[:, :, None] * sources[:, None]  # (sources, channels, time)
    found = ICA(["left", "right"])(images.sum(0), RATE)
    assert sdr(found["left"], images[0]) > 25 and sdr(found["right"], images[1]) > 25
    assert (found["left"] + found["right"] - images.sum(0)).abs().max() < 1e-5


def test_ica_works_on_three_mixtures_too():
    sources = torch.cat([independent(), independent(30_000)[:1, 10_000:]])
    panning = torch.tensor([[1.0, 0.3, 0.2], [0.1, 1.0, 0.4], [0.3, 0.2, 1.0]])
    images = panning.T[:, :, None] * sources[:, None]
    found = ICA(["a", "b", "c"])(images.sum(0), RATE)
    assert min(sdr(wave, image) for wave, image in zip(found.values(), images, strict=True)) > 20


def test_ica_says_what_it_needs():
    with pytest.raises(UserError, match=r"as many mixtures \(channels\) as sources: the waveform has 1 for 2"):
        ICA()(noise(1, 1000), RATE)
    with pytest.raises(UserError, match="the waveform has 3 for 2"):
        ICA()(noise(3, 1000), RATE)
    with pytest.raises(UserError, match="no 2 different mixtures"):
        ICA()(noise(1, 1000).repeat(2, 1), RATE)
