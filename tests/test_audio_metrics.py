"""SI-SDR and signal differences against closed forms and BSS Eval."""

import itertools

import numpy as np
import pytest
import torch

from helpers.metrics.bss_eval import References
from helpers.metrics.signals import si_sdr, signal_difference


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal_pair(length=4_000):
    """Two orthogonal signals of equal energy."""
    time = torch.arange(length, dtype=torch.float64)
    return torch.sin(2 * torch.pi * 50 * time / length), torch.cos(2 * torch.pi * 50 * time / length)


def test_si_sdr_of_orthogonal_noise_is_its_level_at_any_gain():
    reference, other = orthogonal_pair()
    for db, gain in itertools.product((-20, 0, 60, 110), (1.0, -0.01, 300.0)):
        estimate = gain * (reference + 10 ** (-db / 20) * other)
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


def test_what_is_not_finite_has_no_score():
    signal, broken = noise(2, 4_000), noise(2, 4_000, seed=1)
    broken[1, 5] = float("nan")
    for estimate, reference in ((signal, broken), (broken, signal)):
        difference = signal_difference(estimate, reference)
        for scores in (si_sdr(estimate, reference), difference.time, difference.spectrogram):
            assert scores.isnan().tolist() == [False, True]
