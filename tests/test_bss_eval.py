"""BSS Eval against mir_eval, against projections by singular values, and where there is nothing to measure."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy import linalg, signal

from helpers.metrics import bss_eval, toeplitz
from helpers.metrics.bss_eval import References
from helpers.metrics.toeplitz import BlockToeplitz
from helpers.runtime import UserError

RATE = 16_000


def mir_eval_scores(references, estimates):
    """SDR, SIR and SAR as (3, sources): the oracle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # mir_eval 0.8 announces the end of this module
        from mir_eval.separation import bss_eval_sources

        return np.stack(bss_eval_sources(references, estimates, compute_permutation=False)[:3])


def our_scores(references, estimates, **options):
    scores = References(torch.from_numpy(references), **options).score(torch.from_numpy(estimates))
    return torch.stack([scores.sdr, scores.sir, scores.sar]).numpy()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def music(length, sources=2, seed=0):
    """Decaying notes of twenty partials a source: coloured, tonal, and with the noise floor of 16 bits."""
    rng = np.random.default_rng(seed)
    time = np.arange(length) / RATE
    notes = np.exp(-3 * ((2 * time) % 1))
    partials = rng.uniform(80, 2_000, (sources, 20, 1)) * 2 * np.pi * time + rng.uniform(0, 6, (sources, 20, 1))
    tones = (rng.normal(size=(sources, 20, 1)) * np.sin(partials)).sum(1) * notes
    return tones + 1e-5 * rng.normal(size=(sources, length))


def steady(length):
    time = np.arange(length) / RATE
    return np.stack([np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 660 * time)])


def degraded(references, db, seed=1):
    """Each source with the next one and noise, both `db` below it."""
    level = 10 ** (-db / 20) * references.std()
    others = np.roll(references, 1, axis=0) * 10 ** (-db / 20)
    return references + 0.7 * others + level * noise(*references.shape, seed=seed)


def cases():
    tracks = {"noise": noise(2, 9_000), "music": music(12_000), "steady tones": steady(8_000)}
    for name, references in tracks.items():
        for db in (-5, 40, 100):
            yield f"{name}, {db} dB", references, degraded(references, db)
    references = music(12_000)
    yield "tiny", 1e-6 * references, 1e-9 * degraded(references, 15)
    for level in (1e-3, 1e-9):
        quiet = music(9_000) * [[1], [level]]
        estimates = quiet + 0.1 * quiet[::-1] + 0.1 * level * noise(2, 9_000)
        yield f"second source at {level}", quiet, estimates
    for length in (600, 3_585):  # just over what filters can fit, and about the blocks' length
        yield f"{length} samples", noise(2, length), degraded(noise(2, length), 10)
    yield "3 sources", music(4_000, 3), degraded(music(4_000, 3), 15)
    references = music(9_000)
    lowpass = signal.butter(2, 0.3, output="sos")
    yield "filtered", references, signal.sosfilt(lowpass, degraded(references, 30))
    yield "delayed", references, np.roll(references, 300, axis=1) * [[0.3], [-2]] + 0.01 * noise(2, 9_000)
    yield "swapped", references, degraded(references, 20)[::-1].copy()
    clicks = np.zeros((2, 5_000))
    clicks[0, 100] = clicks[1, 3_000] = 1
    yield "clicks", clicks, clicks + 0.1 * noise(2, 5_000)
    half = noise(2, 9_000) * np.repeat([[1, 0], [0, 1]], 4_500, axis=1)
    yield "one after the other", half, degraded(half, 10)
    yield "constants", np.stack([np.ones(6_000), np.arange(6_000) > 3_000]) * 1.0, noise(2, 6_000) + 3


CASES = {name: pair for name, *pair in cases()}


@pytest.mark.parametrize("name", CASES)
def test_equals_mir_eval(name):
    references, estimates = CASES[name]
    expected = mir_eval_scores(references, estimates)
    known = expected < 170  # beyond, mir_eval's ratios are of its own rounding
    assert known.all() or name == "second source at 1e-09"
    np.testing.assert_allclose(our_scores(references, estimates)[known], expected[known], rtol=0, atol=1e-4)


def test_one_source_has_no_interference():
    references, estimates = music(8_000, 1), degraded(music(8_000, 1), 12)
    ours, expected = our_scores(references, estimates), mir_eval_scores(references, estimates)
    assert ours[1] == expected[1] == np.inf
    np.testing.assert_allclose(ours[[0, 2]], expected[[0, 2]], atol=1e-6)


@pytest.mark.parametrize("length", [1, 100, 512])
def test_signals_no_longer_than_the_filters_are_fitted_perfectly(length):
    """mir_eval gives rounding here, from 200 dB to infinity; only SDR and SIR of the longer ones are numbers."""
    references = noise(2, length)
    estimates = references + 0.1 * noise(2, length, seed=1)
    ours, expected = our_scores(references, estimates), mir_eval_scores(references, estimates)
    assert (ours[2] > 180).all()
    known = expected < 170
    assert known[:2].any() or length < 5
    np.testing.assert_allclose(ours[known], expected[known], atol=1e-3)


def test_perfect_and_mixed_estimates_are_beyond_measure_not_broken():
    references = music(9_000)
    perfect = our_scores(references, references)
    assert (perfect > 150).all()
    mixture = np.stack([references.sum(0)] * 2)
    ours, expected = our_scores(references, mixture), mir_eval_scores(references, mixture)
    np.testing.assert_allclose(ours[:2], expected[:2], atol=1e-6)
    assert (ours[2] > 150).all() and (expected[2] > 150).all()


def singular_cases():
    time = np.arange(2_000) / RATE
    lowpassed = signal.sosfilt(signal.butter(12, 0.05, output="sos"), noise(2, 2_000)) * np.hanning(2_000)
    faded = np.hanning(2_000) ** 2 * np.stack([np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 660 * time)])
    return {"empty bands": lowpassed, "faded tones": faded}


@pytest.mark.parametrize("name", singular_cases())
def test_a_singular_gram_matrix_gives_the_true_sdr_and_stable_ratios(name):
    """Where mir_eval's SIR follows its rounding: ours stays near the projections made with singular values.

    SAR less so: directions that squaring loses (the Gram matrix has the squares) take some of the noise with them.
    """
    references = singular_cases()[name]
    estimates = references + 0.3 * references[::-1] + 0.01 * references.std() * noise(2, 2_000)
    gram = References(torch.from_numpy(references), taps=128).gram
    assert gram.solve_fast(torch.ones(128, 2, 1, dtype=torch.float64))[0] is None
    ours = our_scores(references, estimates, taps=128)
    expected = projected_by_singular_values(references, estimates, taps=128)
    np.testing.assert_allclose(ours[:2], expected[:2], atol=0.01)
    np.testing.assert_allclose(ours[2], expected[2], atol=0.7)
    np.testing.assert_allclose(ours, our_scores(1.1 * references, estimates, taps=128), atol=0.01)
    backwards = our_scores(references[::-1].copy(), estimates[::-1].copy(), taps=128)[:, ::-1]
    np.testing.assert_allclose(ours, backwards, atol=0.01)


def projected_by_singular_values(references, estimates, taps):
    def basis(signals):
        tail = np.zeros(taps - 1)
        delayed = [linalg.toeplitz(np.r_[s, tail], np.r_[s[0], tail]) for s in signals]
        vectors, values, _ = linalg.svd(np.hstack(delayed), full_matrices=False)
        return vectors[:, values > 1e-13 * values[0]]

    def db(numerator, denominator):
        return 10 * np.log10((numerator**2).sum() / (denominator**2).sum())

    every, scores = basis(references), []
    for i, estimate in enumerate(estimates):
        padded, own = np.r_[estimate, np.zeros(taps - 1)], basis(references[i : i + 1])
        target, projection = own @ (own.T @ padded), every @ (every.T @ padded)
        pairs = [(target, padded - target), (target, projection - target), (projection, padded - projection)]
        scores.append([db(*pair) for pair in pairs])
    return np.transpose(scores)


def test_references_that_repeat_each_other_do_not_crash():
    references = np.repeat(noise(1, 8_000), 2, axis=0)
    estimates = degraded(references, 20)
    ours, expected = our_scores(references, estimates), mir_eval_scores(references, estimates)
    np.testing.assert_allclose(ours[[0, 2]], expected[[0, 2]], atol=1e-4)
    assert (ours[1] > 150).all()


def test_the_block_toeplitz_solvers_agree_with_a_dense_one():
    signals = noise(3, 2_000)
    lags = np.array([[np.correlate(b, a, "full")[1_999 - 19 : 1_999 + 20] for b in signals] for a in signals])
    system = BlockToeplitz(torch.from_numpy(lags))
    dense = np.block([[linalg.toeplitz(lags[i, j, 19:], lags[i, j, 19::-1]) for j in range(3)] for i in range(3)])
    b = noise(20, 3, 4)
    expected = np.linalg.solve(dense, b.transpose(1, 0, 2).reshape(60, 4)).reshape(3, 20, 4).transpose(1, 0, 2)
    solution, residual = system.solve_fast(torch.from_numpy(b))
    np.testing.assert_allclose(solution, expected, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(system.solve(torch.from_numpy(b)), expected, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(system @ torch.from_numpy(expected), b, atol=1e-10)
    assert residual.abs().max() < 1e-10
    filters, energy = system.project(torch.from_numpy(b))
    np.testing.assert_allclose(filters, expected, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(energy, (expected * b).sum((0, 1)), rtol=1e-9)


def test_filters_of_the_exact_path_score_as_those_of_the_fast_one(monkeypatch):
    references, estimates = music(9_000), degraded(music(9_000), 25)
    fast = our_scores(references, estimates)
    monkeypatch.setattr(toeplitz, "ACCEPTED", -1.0)
    np.testing.assert_allclose(our_scores(references, estimates), fast, atol=1e-6)


def test_pieces_and_blocks_do_not_change_the_scores(monkeypatch):
    references, estimates = noise(2, 30_000), degraded(noise(2, 30_000), 70)
    whole = our_scores(references, estimates)
    monkeypatch.setattr(bss_eval, "CPU_PIECE", 1)
    np.testing.assert_allclose(our_scores(references, estimates), whole, atol=1e-8)
    monkeypatch.setattr(bss_eval, "FFT_SIZE", 16_384)
    np.testing.assert_allclose(our_scores(references, estimates), whole, atol=1e-8)


def test_gain_only_is_the_plain_projection():
    references, estimates = music(5_000, 3), degraded(music(5_000, 3), 12)
    every = np.linalg.lstsq(references.T, estimates.T)[0].T @ references
    own = (estimates * references).sum(1) / (references**2).sum(1)
    target = own[:, None] * references
    pairs = [(target, estimates - target), (target, every - target), (every, estimates - every)]
    expected = [10 * np.log10((a**2).sum(1) / (b**2).sum(1)) for a, b in pairs]
    np.testing.assert_allclose(our_scores(references, estimates, taps=1), expected, atol=1e-9)


def test_more_taps_forgive_more():
    references = noise(2, 6_000)
    echo = references + 0.5 * np.roll(references, 100, axis=1) + 0.01 * noise(2, 6_000, seed=1)
    sdr = [our_scores(references, echo, taps=taps)[0].mean() for taps in (1, 64, 512)]
    assert sdr[0] < 7 and sdr[1] < 7 and sdr[2] > 15


def test_scores_are_invariant_to_the_gain_of_references_and_estimates():
    references, estimates = music(8_000), degraded(music(8_000), 20)
    expected = our_scores(references, estimates)
    np.testing.assert_allclose(our_scores(40 * references, 1e-4 * estimates), expected, atol=1e-8)


def test_many_methods_at_once_score_as_one_by_one_and_in_single_precision():
    references = music(8_000)
    estimates = np.stack([degraded(references, db) for db in (0, 20, 90)])
    prepared = References(torch.from_numpy(references))
    together = prepared.score(torch.from_numpy(estimates))
    assert together.sdr.shape == (3, 2) and together.sdr.dtype == torch.float64
    for i, estimate in enumerate(estimates):
        alone = prepared.score(torch.from_numpy(estimate))
        for name in ("sdr", "sir", "sar"):
            torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name), atol=1e-7, rtol=0)
    single = References(torch.from_numpy(references).float()).score(torch.from_numpy(estimates[:2]).float())
    torch.testing.assert_close(single.sdr, together.sdr[:2], atol=1e-3, rtol=0)


def test_a_silent_reference_is_marked_and_left_out():
    references, estimates = music(8_000, 3), degraded(music(8_000, 3), 15)
    references[1] = 0
    prepared = References(torch.from_numpy(references))
    scores = prepared.score(torch.from_numpy(estimates))
    assert prepared.silent == [1]
    assert scores.sdr[1].isnan() and scores.sir[1].isnan() and scores.sar[1].isnan()
    expected = mir_eval_scores(references[[0, 2]], estimates[[0, 2]])
    ours = torch.stack([scores.sdr, scores.sir, scores.sar])[:, [0, 2]]
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_all_references_silent():
    scores = References(torch.zeros(2, 1_000)).score(torch.ones(3, 2, 1_000))
    assert scores.sdr.shape == (3, 2) and scores.sdr.isnan().all() and scores.sar.isnan().all()


def test_an_empty_estimate_is_marked_and_the_others_are_scored():
    references = torch.from_numpy(music(8_000))
    estimates = torch.from_numpy(np.stack([degraded(music(8_000), 15)] * 2))
    expected = References(references).score(estimates)
    estimates[1, 0] = 0
    scores = References(references).score(estimates)
    assert scores.sdr.isnan().nonzero().tolist() == [[1, 0]]
    torch.testing.assert_close(scores.sdr[0], expected.sdr[0])
    torch.testing.assert_close(scores.sir[1, 1], expected.sir[1, 1])


def test_what_is_not_finite_is_named():
    references = torch.from_numpy(noise(2, 2_000))
    estimates = references.repeat(3, 1, 1)
    estimates[2, 1, 700] = -np.inf
    prepared = References(references, names=["voice", "band"])
    with pytest.raises(UserError, match="estimate of source 'band' by method 'NMF' holds NaN"):
        prepared.score(estimates, methods=["IBM", "IRM", "NMF"])
    with pytest.raises(UserError, match="estimate of source 'band'"):
        prepared.score(estimates[2])
    with pytest.raises(UserError, match="reference of source '1'"):
        References(estimates[2])


def test_other_shapes_are_refused():
    for references in (torch.zeros(2, 0), torch.zeros(0, 10), torch.zeros(10), torch.zeros(1, 2, 10)):
        with pytest.raises(ValueError, match="references must be"):
            References(references)
    prepared = References(torch.from_numpy(noise(2, 1_000)))
    for shape in [(2, 999), (3, 1_000), (1_000,), (1, 1, 2, 1_000)]:
        with pytest.raises(ValueError, match="estimates must be"):
            prepared.score(torch.zeros(shape))
    with pytest.raises(ValueError, match="shorter|longer"):
        References(torch.from_numpy(noise(2, 1_000)), names=["voice"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_scores_as_the_cpu():
    references = torch.from_numpy(music(9_000))
    estimates = torch.from_numpy(np.stack([degraded(music(9_000), db) for db in (0, 40, 100)]))
    cpu, gpu = References(references).score(estimates), References(references.cuda()).score(estimates.cuda())
    for name in ("sdr", "sir", "sar"):
        torch.testing.assert_close(getattr(gpu, name), getattr(cpu, name), atol=1e-4, rtol=0)


@pytest.mark.skipif(not os.environ.get("BSS_DATA_DIR"), reason="real recordings only where BSS_DATA_DIR is set")
def test_equals_mir_eval_on_real_recordings():
    clips = sorted((Path(os.environ["BSS_DATA_DIR"]).expanduser() / "MIR-1K" / "Wavfile").glob("*.wav"))
    if not clips:
        pytest.skip("no MIR-1K in BSS_DATA_DIR")
    for clip in clips[:: max(1, len(clips) // 6)]:
        references = np.ascontiguousarray(soundfile.read(clip)[0].T)[:, : 5 * RATE]
        for db in (0, 30, 100):
            estimates = degraded(references, db)
            np.testing.assert_allclose(
                our_scores(references, estimates), mir_eval_scores(references, estimates), rtol=0, atol=1e-4
            )
