"""Baselines: what each promises on signals made for it. What all promise: test_separators.py."""

import pytest
import torch

from helpers.runtime import UserError
from helpers.separation import baselines
from helpers.separation.baselines import (
    BASELINES,
    ICA,
    BlindNMF,
    MultipassHPSS,
    OracleNMF,
    RepetSim,
    nmf,
)

RATE = 8000


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


def gain_in_sdr(make, voice, rest):
    """Return how many dB nearer both sources are than the mixture is."""
    sources = {"vocals": voice, "accompaniment": rest}
    mixture = voice + rest
    found = make(sources)(mixture, RATE)
    assert list(found) == list(sources)
    return [sdr(found[name], source) - sdr(mixture, source) for name, source in sources.items()]


# ---- by name -----------------------------------------------------------------------------------------------------


def test_the_names_say_what_is_behind_them():
    asked = ("mixture", "ibm", "irm", "wiener", "repet-sim", "hpss", "ica")
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


# ---- NMF ---------------------------------------------------------------------------------------------------------


def test_nmf_finds_what_was_multiplied_and_more_steps_are_never_worse(monkeypatch):
    v = noise(40, 6, seed=1).abs() @ noise(6, 70, seed=2).abs() + noise(40, 70, seed=3, level=0.001).abs()
    errors = []
    for iterations in (1, 5, 20, 100, 300):
        monkeypatch.setattr(baselines, "ITERATIONS", iterations)
        w, h = nmf(v, 6)
        errors.append(float((v * (v / (w @ h)).log() - v + w @ h).sum()))  # the generalised KL divergence
        torch.testing.assert_close(w.sum(0), torch.ones(6))
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in zip(errors, errors[1:], strict=False))
    assert errors[-1] < 0.01 * errors[0]


def test_nmf_of_any_scale_and_of_nothing():
    v = noise(20, 30).abs()
    w, h = nmf(v, 3)
    for scale in (1e-12, 1e6):
        w_scaled, h_scaled = nmf(v * scale, 3)
        torch.testing.assert_close(w_scaled, w, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(h_scaled / scale, h, rtol=1e-3, atol=1e-5)
    w, h = nmf(torch.zeros(20, 30), 3)
    assert w.isfinite().all() and not h.any()


def test_components_grouped_with_the_truth():
    t = seconds(3)
    first = tones(t, 300) * ((t % 0.7) > 0.3) + tones(t, 1400) * ((t % 0.9) > 0.5)
    second = tones(t, 700) * ((t % 0.5) > 0.2) + tones(t, 2500) * ((t % 1.1) > 0.5)
    assert min(gain_in_sdr(OracleNMF, first, second)) > 15


def test_the_rule_gives_the_voice_what_lies_in_its_band_and_pauses():
    templates, activations = torch.full((401, 6), 0.01), torch.ones(6, 200)  # 10 Hz a bin
    for component, frequency in enumerate((60, 700, 110, 900, 3900, 150)):
        templates[frequency // 10, component] = 10
    for component in (1, 3, 4):
        activations[component, component * 20 : -40] = 0.01
    templates = templates / templates.sum(0)
    found = BlindNMF(["a", "b"]).weights(templates, activations, RATE)
    torch.testing.assert_close(found.sum(0), torch.ones(6))
    assert found.argmax(0).tolist() == [1, 0, 1, 0, 0, 1] and found.max(0).values.min() > 0.7
    band, crest = templates[21:400].sum(0), (activations.square().mean(1).sqrt() / activations.mean(1)).log()
    score = sum((x - x.mean()) / x.std(correction=0) for x in (band, crest))
    torch.testing.assert_close(found[0], 1 / (1 + (-score).exp()), rtol=1e-4, atol=1e-4)
    four = BlindNMF(["a", "b", "c", "d"]).weights(templates, activations, RATE)
    torch.testing.assert_close(four.sum(0), torch.ones(6))
    assert four.argmax(0).tolist() == [3, 0, 3, 0, 0, 3]


def test_components_grouped_by_the_rule():
    t = seconds(4)
    voice, drone = sung(t), tones(t, 80, 130, 170)
    assert min(gain_in_sdr(BlindNMF, voice, drone)) > 3
    named = BlindNMF(["accompaniment", "vocals"])(voice + drone, RATE)
    assert sdr(named["accompaniment"], voice) > 3  # it knows the order alone: the voice is the first


@pytest.mark.parametrize("make", [BlindNMF, RepetSim, MultipassHPSS])
def test_nobody_sings_below_the_lowest_voice(make):
    low = tones(seconds(3), 60)
    wave = low + sung(seconds(3))
    found = make(["vocals", "accompaniment"])(wave, RATE)["accompaniment"]
    assert float((found * low).sum() / low.square().sum()) > 0.98


# ---- voice over an accompaniment -----------------------------------------------------------------------------------


def test_repet_sim_finds_what_comes_back(monkeypatch):
    monkeypatch.setattr(baselines, "NEIGHBOURS", 40)  # no more than truly come back in six seconds
    t = seconds(6)
    assert min(gain_in_sdr(RepetSim, sung(t), looped(6))) > 5


def test_hpss_takes_steady_tones_and_clicks_away():
    t = seconds(6)
    clicks = torch.zeros(1, len(t))
    clicks[0, 1000 :: RATE // 2] = 2
    assert min(gain_in_sdr(MultipassHPSS, sung(t), tones(t, 220, 330, 440, 1760) + clicks)) > 5


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


def test_ica_says_what_it_needs():
    with pytest.raises(UserError, match=r"as many mixtures \(channels\) as sources, here 1 for 2 sources, 1 of them"):
        ICA(["a", "b"])(noise(1, 1000), RATE)
    with pytest.raises(UserError, match="here 3 for 2 sources, 3 of them different"):
        ICA(["a", "b"])(noise(3, 1000), RATE)
    with pytest.raises(UserError, match="here 2 for 2 sources, 1 of them different: take another method"):
        ICA(["a", "b"])(noise(1, 1000).repeat(2, 1), RATE)
    with pytest.raises(UserError, match="here 3 for 2 sources, 2 of them different"):
        ICA(["a", "b"])(noise(2, 1000)[[0, 1, 1]], RATE)
