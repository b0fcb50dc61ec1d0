"""The mask models' losses against scipy's, NumPy's and pandas' figures."""

import numpy as np
import pandas
import pytest
import torch
from scipy import signal, special

from helpers.losses.masks import KINDS, MaskLoss, Recorded, generalised_kl, smoothed
from helpers.models.mask_nets import LSTMNet, SingleFrameNet

SMALL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 64}


def noise(*shape, seed=1):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of(length=4001, sources=2):
    parts = noise(3, sources, 1, length) * torch.tensor([1.0, 4.0, 0.2])[:, None, None, None]
    return parts.sum(1), parts


def made(seed=0, **settings):
    torch.manual_seed(seed)
    return SingleFrameNet(width=8, code=8, **(SMALL | settings)).eval()


def reference(model, batch):
    """Return masked and true magnitudes (batch, sources, bins, frames), and the complex ones, by scipy's STFT."""
    window = signal.get_window("hann", 256)

    def stft(waveform):
        frames = signal.stft(waveform, window=window, noverlap=192, boundary="zeros", padded=False)[2] * window.sum()
        return frames[..., : 1 + waveform.shape[-1] // 64]

    mixture, sources = (part.double().numpy() for part in batch)
    loudness = np.sqrt((np.abs(stft(mixture[:, 0])) ** 2).mean((1, 2)))[:, None, None, None]
    with torch.no_grad():
        masks = model.analyse(batch[0]).masks[:, :, 0].double().numpy()
    estimates, truth = masks * stft(mixture[:, 0])[:, None] / loudness, stft(sources[:, :, 0]) / loudness
    return estimates, truth, loudness


def test_the_divergence_is_scipys():
    x, y = torch.rand(2, 1000, generator=torch.Generator().manual_seed(0)).double() * 3
    x[::7] = 0
    expected = special.kl_div(x.numpy(), y.numpy())
    assert np.allclose(generalised_kl(x, y, 1e-14), expected, atol=1e-9)
    assert (generalised_kl(x, y, 1e-14) >= 0).all() and not generalised_kl(y, y).any()
    assert np.allclose(generalised_kl(x, y, 1e-6), expected, atol=1e-3)
    nothing = generalised_kl(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.0]))
    assert nothing.isfinite().all() and nothing[1] > 5
    # 3/2 and 1/2 in place of 1: too little costs more
    assert generalised_kl(torch.ones(1), torch.tensor(0.5)) > generalised_kl(torch.ones(1), torch.tensor(1.5))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "waveform"])
@pytest.mark.parametrize("voice_only", [False, True])
def test_losses_sum_over_bins_and_average_over_batch_and_frames(kind, voice_only):
    model, batch = made(), batch_of()
    estimates, truth, _ = reference(model, batch)
    v, w = np.abs(truth), np.abs(estimates)
    values = {
        "kl": special.kl_div(v + 1e-6, w + 1e-6),
        "reversed kl": special.kl_div(w + 1e-6, v + 1e-6),
        "l1": np.abs(v - w),
        "l2": (v - w) ** 2,
    }[kind]
    values = values[:, :1] if voice_only else values
    expected = np.mean([values[item, ..., frame].sum() for item in range(3) for frame in range(values.shape[-1])])
    loss = MaskLoss(kind, voice_only=voice_only, epsilon=1e-6)(model, batch, 0.5)["loss"]
    assert loss.item() == pytest.approx(expected, rel=1e-3)


def test_the_waveform_loss_is_the_error_of_what_is_heard():
    model, batch = made(), batch_of(64 * 60)  # a whole number of hops
    with torch.no_grad():
        error = (model(batch[0]) - batch[1]).abs().sum(1).mean((1, 2))
    _, _, loudness = reference(model, batch)
    level = torch.from_numpy(loudness).flatten() / np.sqrt((signal.get_window("hann", 256) ** 2).sum())
    loss = MaskLoss("waveform")(model, batch, 0.0)["loss"]
    assert loss.item() == pytest.approx(64 * float((error / level).mean()), rel=1e-4)


def test_the_sdr_is_the_first_sources_over_the_batch():
    model, batch = made(), batch_of()
    estimates, truth, _ = reference(model, batch)
    error = (np.abs(estimates - truth) ** 2).sum((0, 2, 3))
    expected = 10 * np.log10((np.abs(truth) ** 2).sum((0, 2, 3)) / error)
    for kind in KINDS:
        assert MaskLoss(kind)(model, batch, 0.0)["sdr"].item() == pytest.approx(expected[0], abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_relative_loss_is_the_same_for_a_louder_batch(kind):
    model, (mixture, sources) = made(), batch_of()
    for relative in (True, False):
        soft, loud = (MaskLoss(kind, relative)(model, (g * mixture, g * sources), 0.0)["loss"] for g in (1, 10))
        power = 0 if relative else 2 if kind == "l2" else 1
        assert (loud / soft).item() == pytest.approx(10**power, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("relative", [True, False])
def test_perfect_masks_cost_nothing_and_silence_is_no_trouble(kind, relative):
    model = made(masks="ratio")
    mixture, _ = batch_of()
    analysis = model.analyse(mixture)
    exact = (analysis.estimates * analysis.scale.unsqueeze(1)).detach()
    assert MaskLoss(kind, relative).terms(model.stft, analysis, exact)["loss"].item() == pytest.approx(0, abs=1e-4)
    terms = MaskLoss(kind, relative)(model, (torch.zeros(2, 1, 4000), torch.zeros(2, 2, 1, 4000)), 0.0)
    terms["loss"].backward()
    assert terms["loss"] == 0 and all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_can_be_learnt_from(kind):
    torch.manual_seed(0)
    model = LSTMNet(hidden=8, width=16, code=8, **SMALL)
    low, high = noise(4, 1, 4000), noise(4, 1, 4000, seed=2)
    low, high = (
        signal.sosfilt(signal.butter(4, 1500, kind, fs=8000, output="sos"), x)
        for x, kind in ((low, "low"), (high, "high"))
    )
    sources = torch.from_numpy(np.stack((low, high), 1)).float()
    loss, optimiser = MaskLoss(kind), torch.optim.Adam(model.parameters(), 1e-2)
    terms = []
    for _ in range(25):
        terms.append(loss(model, (sources.sum(1), sources), 0.0))
        optimiser.zero_grad()
        terms[-1]["loss"].backward()
        optimiser.step()
    assert terms[-1]["loss"] < 0.6 * terms[0]["loss"] and terms[-1]["sdr"] > terms[0]["sdr"] + 4


@pytest.mark.parametrize("eta", [0.99, 0.9, 0.0])
def test_smoothing_is_pandas_weighted_mean(eta):
    values = np.random.default_rng(0).normal(size=500) + 5
    expected = pandas.Series(values).ewm(alpha=1 - eta, adjust=True).mean()
    assert np.allclose(smoothed(values, eta), expected)
    assert smoothed([torch.tensor(3.0)]) == [pytest.approx(3)] and smoothed([]) == []


def test_a_recorded_loss_is_kept_for_training_steps_only():
    model, batch = made(), batch_of()
    loss = Recorded(MaskLoss("kl"))
    terms = [loss(model.train(), batch, 0.0), loss(model.eval(), batch, 0.0), loss(model.train(), batch, 0.0)]
    assert [float(value) for value in loss.values] == [terms[0]["loss"].item(), terms[2]["loss"].item()]
    assert not loss.values[0].requires_grad and repr(loss) == repr(MaskLoss("kl"))


def test_the_losses_of_steps_outlast_their_process(tmp_path):
    path, first = tmp_path / "losses" / "steps.npy", Recorded(MaskLoss("kl"))
    first.values = [torch.tensor(4.0), torch.tensor(3.0)]
    first.keep(path, 2)
    first.values.append(torch.tensor(2.0))
    first.keep(path, 3)
    assert first.values == [4, 3, 2]

    resumed = Recorded(MaskLoss("kl"))  # from the state after two steps: the third is run again
    resumed.keep(path, 2)
    resumed.values.append(torch.tensor(1.0))
    resumed.keep(path, 3)
    loaded = Recorded(MaskLoss("kl"))
    loaded.keep(path, 3)
    assert resumed.values == loaded.values == [4, 3, 1]
    anew = Recorded(MaskLoss("kl"))
    anew.values = [torch.tensor(9.0)]
    anew.keep(path, 1)
    assert anew.values == [9] and np.load(path).tolist() == [9]


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="unknown kind 'l3'"):
        MaskLoss("l3")
    with pytest.raises(ValueError, match="eta lies in"):
        smoothed([1.0], 1.0)
