"""SI-SDR, NSDR, global means and signal differences against closed forms, scipy and mir_eval."""

import sys
import types
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from helpers.metrics import signals as audio_metrics
from helpers.metrics.bss_eval import References
from helpers.metrics.signals import framewise_v4, global_means, nsdr, si_sdr, signal_difference
from helpers.runtime import UserError


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal_pair(length=4_000):
    """Two orthogonal signals of equal energy."""
    time = torch.arange(length, dtype=torch.float64)
    return torch.sin(2 * torch.pi * 50 * time / length), torch.cos(2 * torch.pi * 50 * time / length)


@pytest.mark.parametrize("db", [-20, 0, 13, 60, 110])
@pytest.mark.parametrize("gain", [1.0, -0.01, 300.0])
def test_si_sdr_of_orthogonal_noise_is_its_level_at_any_gain(db, gain):
    reference, other = orthogonal_pair()
    estimate = gain * (reference + 10 ** (-db / 20) * other)
    assert float(si_sdr(estimate, reference)) == pytest.approx(db, abs=1e-4)
    assert float(si_sdr(estimate, 7 * reference)) == pytest.approx(db, abs=1e-4)


def test_si_sdr_is_gain_only_bss_eval_of_one_source():
    reference, estimate = noise(1, 3_000), noise(1, 3_000) + 0.4 * noise(1, 3_000, seed=1)
    expected = References(reference, taps=1).score(estimate).sdr
    torch.testing.assert_close(si_sdr(estimate, reference), expected, atol=1e-9, rtol=0)


def test_si_sdr_keeps_the_leading_dimensions_and_marks_what_is_silent():
    reference, estimate = noise(2, 3, 500), noise(2, 3, 500, seed=1)
    reference[0, 1], estimate[1, 2] = 0, 0
    scores = si_sdr(estimate.float(), reference.float())
    assert scores.shape == (2, 3) and scores.dtype == torch.float64
    assert scores.isnan().nonzero().tolist() == [[0, 1], [1, 2]]


def mir_eval_sdr(references, estimates):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # mir_eval 0.8 announces the end of this module
        from mir_eval.separation import bss_eval_sources

        return bss_eval_sources(references.numpy(), estimates.numpy(), compute_permutation=False)[0]


def test_nsdr_is_the_gain_over_the_mixture():
    references = noise(2, 6_000)
    mixture = references.sum(0)
    estimates = torch.stack([references + 0.2 * noise(2, 6_000, seed=1), mixture.expand(2, -1)])
    scores, gained = nsdr(References(references), estimates, mixture)
    expected = mir_eval_sdr(references, estimates[0]) - mir_eval_sdr(references, estimates[1])
    np.testing.assert_allclose(gained[0], expected, atol=1e-4)
    np.testing.assert_allclose(gained[1], 0, atol=1e-6)
    assert gained.min() > -1e-6 and gained[0].min() > 5 and scores.sdr.shape == gained.shape == (2, 2)


def test_global_means_weight_clips_by_length_and_count_what_they_skip():
    scores = {"NSDR": [1.0, 4.0, float("nan"), 10.0], "SIR": [2.0, float("inf"), 2.0, 2.0]}
    means = global_means(scores, [10, 20, 30, 70])
    assert list(means) == ["GNSDR", "GSIR"]
    assert means["GNSDR"].value == pytest.approx((10 * 1 + 20 * 4 + 70 * 10) / 100)
    assert (means["GNSDR"].clips, means["GNSDR"].skipped) == (3, 1)
    assert (means["GSIR"].value, means["GSIR"].low, means["GSIR"].high) == pytest.approx((2, 2, 2))
    assert means["GSIR"].skipped == 1
    alone = global_means({"SAR": [3.0]}, [5])["GSAR"]
    assert alone.value == 3 and np.isnan(alone.low) and np.isnan(alone.high)


def test_the_interval_of_a_global_mean_is_that_of_resampled_clips():
    rng = np.random.default_rng(0)
    lengths = rng.uniform(4, 13, 200)
    values = rng.normal(6, 3, 200) + 0.3 * lengths
    ours = global_means({"NSDR": values}, lengths, resamples=10_000)["GNSDR"]
    expected = stats.bootstrap(
        (values, lengths),
        lambda v, w, axis=-1: (v * w).sum(axis) / w.sum(axis),
        paired=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = expected.high - expected.low
    assert abs(ours.low - expected.low) < 0.05 * width and abs(ours.high - expected.high) < 0.05 * width


def test_global_means_refuse_what_does_not_fit():
    for scores, lengths, message in [
        ({"SIR": [1.0, 2.0]}, [1], "SIR"),
        ({"SIR": [1.0]}, [0], "positive"),
        ({"SIR": [float("nan")]}, [1], "no finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            global_means(scores, lengths)


def test_signal_difference_of_gains_and_silence():
    reference = noise(2, 20_000)
    for gain, expected in [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (3.0, 2.0)]:
        difference = signal_difference(gain * reference, reference)
        assert difference.time.shape == difference.spectrogram.shape == (2,)
        np.testing.assert_allclose(difference.time, expected, atol=1e-12)
        np.testing.assert_allclose(difference.spectrogram, expected, atol=1e-9)
    assert signal_difference(reference, torch.zeros_like(reference)).time.isnan().all()


def test_only_the_time_domain_sees_the_phase():
    reference = noise(20_000)
    turned = signal_difference(-reference, reference)
    assert float(turned.time) == pytest.approx(2) and float(turned.spectrogram) == pytest.approx(0, abs=1e-9)
    shifted = signal_difference(reference.roll(3), reference)
    assert float(shifted.time) > 1 and float(shifted.spectrogram) < 0.2


@pytest.mark.parametrize("score", [si_sdr, signal_difference])
def test_unequal_and_not_finite_signals_are_refused(score):
    signal = noise(2, 1_000)
    for other in (signal[:, :-1], signal[:1], signal[:, :0]):
        with pytest.raises(ValueError, match="shape"):
            score(other, signal)
    broken = signal.clone()
    broken[1, 5] = float("nan")
    with pytest.raises(UserError, match=r"estimate holds NaN .*\[1, 5\]"):
        score(broken, signal)
    with pytest.raises(UserError, match="reference holds NaN"):
        score(signal, broken)


def test_framewise_without_museval_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "museval", None)
    with pytest.raises(UserError, match="pip install museval"):
        framewise_v4(noise(2, 1, 1_000), noise(2, 1, 1_000), 100)


def test_framewise_takes_medians_over_frames_of_a_second(monkeypatch):
    seen = {}

    def evaluate(references, estimates, win, hop):
        seen.update(shape=estimates.shape, win=win, hop=hop)
        frames = np.array([[1.0, np.nan, 2.0, 4.0, 10.0], [np.nan] * 5])
        return frames, frames + 1, frames + 2, frames + 3

    monkeypatch.setitem(sys.modules, "museval", types.SimpleNamespace(evaluate=evaluate))
    scores = framewise_v4(noise(2, 1, 400), noise(2, 1, 400), 100)
    assert seen == {"shape": (2, 400, 1), "win": 100, "hop": 100}
    assert [float(scores[name][0]) for name in ("SDR", "ISR", "SIR", "SAR")] == [3, 4, 5, 6]
    assert scores["SDR"][1].isnan()


def test_framewise_with_museval_itself():
    try:
        import museval  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"museval is no requirement ({error})")
    references = noise(2, 2, 24_000)
    estimates = references + 0.1 * noise(2, 2, 24_000, seed=1)
    scores = audio_metrics.framewise_v4(references, estimates, 8_000)
    np.testing.assert_allclose(scores["SDR"], 20, atol=0.5)
    assert (scores["SIR"] > scores["SDR"]).all() and scores["SAR"].shape == (2,)
