"""The mask models: masks that are shares, memory that carries on, levels and statistics."""

import numpy as np
import pytest
import torch
from audio_models import noise
from scipy import signal

from helpers.losses.masks import MaskLoss
from helpers.models.mask_nets import LSTMNet, SingleFrameNet, SourceLSTM, fit_statistics

SMALL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 64}
MODELS = ("dense", "conv", "lstm", "conv-lstm", "two-way", "source")


def made(name="dense", seed=0, **settings):
    """A small model of random weights, whose masks are far from being all alike."""
    torch.manual_seed(seed)
    settings = SMALL | settings
    sizes = {"width": 12, "code": 9, "network": "conv" if "conv" in name else "dense"}
    if name in ("dense", "conv"):
        model = SingleFrameNet(**sizes, **settings)
    elif name == "source":
        model = SourceLSTM(hidden=10, **settings)
    else:
        model = LSTMNet(hidden=10, layers=2, bidirectional=name == "two-way", **sizes, **settings)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(2)
    return model.eval()


def mixtures(batch, length, seed=1):
    """White noise (batch, 1, length)."""
    return noise(batch, length, seed).unsqueeze(1)


def test_masks_are_what_their_equations_say():
    outputs = torch.randn(2, 5, 3, 7, generator=torch.Generator().manual_seed(0)).double()  # (batch, frames, 3, bins)
    y = outputs.numpy().transpose(0, 2, 3, 1)  # (batch, 3, bins, frames)
    stems = ("a", "b", "c")
    expected = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    assert np.allclose(made(masks="sum", sources=stems).masks_of(outputs), expected, atol=1e-6)
    positive, model = np.maximum(y, 0), made(masks="ratio", sources=stems)
    total = positive.sum(1, keepdims=True)
    assert (total == 0).any() and np.allclose(model.masks_of(torch.full((1, 1, 3, 2), -1.0)), 1 / 3)
    expected = np.divide(positive, total, where=total > 0, out=np.full_like(y, 1 / 3))
    clear = np.broadcast_to((total == 0) | (total > 0.5), y.shape)  # ε counts where all outputs are small
    assert clear.mean() > 0.7 and np.allclose(model.masks_of(outputs).numpy()[clear], expected[clear], atol=5e-3)
    voice = 1 / (1 + np.exp(-y[:, 0]))
    assert np.allclose(made().masks_of(outputs[:, :, :1]), np.stack((voice, 1 - voice), 1), atol=1e-6)


@pytest.mark.parametrize("settings", [(32_000, 4096, 2048), (16_000, 1024, 256), (44_100, 1000, 300)])
@torch.no_grad()
def test_any_stft_will_do(settings):
    settings = dict(zip(("sample_rate", "n_fft", "hop_length"), settings, strict=True))
    bins = settings["n_fft"] // 2 + 1
    for model in (SingleFrameNet(**settings), SingleFrameNet("conv", **settings), SourceLSTM(**settings)):
        assert model.forward_frames(torch.rand(2, bins, 5))[0].shape == (2, 2, bins, 5)


def test_the_homeworks_settings_are_the_default():
    model = SingleFrameNet()
    assert model.sample_rate == 32_000 and model.stft.bins == 2049 and model.stft.hop_length == 2048
    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert linear[0].in_features == linear[-1].out_features == 2049


# ---- one frame, or all before it ---------------------------------------------------------------------------------


def changed_frames(model, changed=20, frames=40):
    """Return the frames of the masks that change with one frame of the input."""
    magnitudes = torch.rand(1, 129, frames, generator=torch.Generator().manual_seed(0))
    other = magnitudes.clone()
    other[..., changed] = 1 - other[..., changed]
    difference = (model.forward_frames(magnitudes)[0] - model.forward_frames(other)[0]).abs().amax((0, 1, 2))
    return [int(frame) for frame in (difference > 1e-7).nonzero()]


@pytest.mark.parametrize("name", MODELS)
def test_which_frames_depend_on_a_frame(name):
    frames = changed_frames(made(name))
    assert 20 in frames
    if name in ("dense", "conv"):
        assert frames == [20]
    elif name == "two-way":
        assert min(frames) < 20 < max(frames)
    else:
        assert min(frames) == 20 and max(frames) > 22


@pytest.mark.parametrize("name", ["dense", "conv", "lstm", "conv-lstm", "source"])
def test_frames_read_in_pieces_are_one_long_pass(name):
    model, magnitudes = made(name), torch.rand(2, 129, 50)
    whole, last = model.forward_frames(magnitudes)
    state, pieces = None, []
    for piece in magnitudes.split([1, 20, 13, 16], dim=2):
        masks, state = model.forward_frames(piece, state)
        pieces.append(masks)
    assert torch.cat(pieces, 3).allclose(whole, atol=1e-6)
    if name in ("dense", "conv"):
        assert state is None
    else:
        assert all(one.allclose(other, atol=1e-6) for one, other in zip(state, last, strict=True))
        amnesic = model.forward_frames(magnitudes[..., 21:])[0]
        assert not amnesic.allclose(whole[..., 21:], atol=1e-4)  # the state does matter


def test_a_bidirectional_model_carries_no_state():
    model = made("two-way")
    assert model.forward_frames(torch.rand(1, 129, 5))[1] is None


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("two_way", [False, True])
def test_the_memory_starts_from_the_single_frame_model(network, two_way):
    single = made(network)
    fit_statistics(single, [(mixtures(4, 4000),)])
    net = LSTMNet.from_single_frame(single, hidden=7, layers=2, bidirectional=two_way, dropout=0.3).eval()
    magnitudes = torch.rand(2, 129, 9)
    features = net.features_of(magnitudes)
    assert features.equal(single.features_of(magnitudes))
    h = single.encoder(features)
    assert net.encoder(features).equal(h) and net.decoder(h).equal(single.decoder(h))
    assert net.forward_frames(magnitudes)[0].allclose(single.forward_frames(magnitudes)[0], atol=1e-6)
    assert net.arguments == single.arguments | {"hidden": 7, "layers": 2, "bidirectional": two_way, "dropout": 0.3}
    # and what it starts as is no dead end: after one step every parameter learns
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)
    batch = mixtures(2, 4000), mixtures(4, 4000, seed=2).view(2, 2, 1, 4000)
    for _ in range(2):
        optimiser.zero_grad()
        MaskLoss()(net.train(), batch, 0.0)["loss"].backward()
        optimiser.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


# ---- levels and statistics ---------------------------------------------------------------------------------------


def test_the_scale_is_what_white_noise_has_in_every_bin():
    mixture = mixtures(2, 80_000) * torch.tensor([1.0, 5.0])[:, None, None]
    _, _, reference = signal.stft(mixture[:, 0].numpy(), nperseg=256, noverlap=192, scaling="psd", fs=1)
    rms = mixture.square().mean((1, 2), keepdim=True).sqrt()
    spectrogram, scale = made().scaled_stft(mixture)
    assert spectrogram.abs().square().mean((1, 2, 3)).sqrt().allclose(torch.ones(2), atol=0.02)
    density = np.sqrt((np.abs(reference) ** 2).mean((1, 2)))  # white noise has its variance as density
    assert np.allclose(density, rms.flatten(), rtol=0.02)
    _, peak = made(level="max").scaled_stft(mixture)
    assert (peak / scale).flatten().allclose((mixture.abs().amax((1, 2), keepdim=True) / rms).flatten())
    _, plain = made(level="none").scaled_stft(mixture)
    assert plain.flatten().allclose(scale.flatten() / rms.flatten())


@pytest.mark.parametrize("features", ["log", "magnitude"])
def test_statistics_are_numpys(features):
    model = made(features=features, level="none")
    batches = [(mixtures(2, 4000) * 3, None), (mixtures(1, 7000, seed=2), None)]
    fit_statistics(model, batches)
    frames = []
    for mixture, _ in batches:
        spectra = np.abs(model.stft(mixture.squeeze(1)).numpy()) / np.sqrt((signal.get_window("hann", 256) ** 2).sum())
        frames.append(spectra.transpose(0, 2, 1).reshape(-1, 129))
    read = np.concatenate(frames)
    read = np.log(np.maximum(read, 1e-4)) if features == "log" else read
    assert np.allclose(model.mean, read.mean(0), atol=1e-5) and np.allclose(model.std, read.std(0), rtol=1e-4)
    magnitudes = model.scaled_stft(batches[0][0])[0].squeeze(1).abs()
    expected = (read[: 2 * 63] - read.mean(0)) / read.std(0)
    assert np.allclose(model.features_of(magnitudes).reshape(-1, 129), expected, atol=1e-3)


def test_bins_that_never_change_are_not_blown_up():
    model = made(level="none")
    spectrum = torch.fft.rfft(mixtures(1, 8000))
    spectrum[..., 2000:] = 0  # nothing above 2 kHz
    mixture = torch.fft.irfft(spectrum, 8000) * torch.from_numpy(signal.get_window("hann", 8000)).float()
    fit_statistics(model, [(mixture,)])
    spectra = np.abs(model.stft(mixture.squeeze(1)).numpy()) / np.sqrt((signal.get_window("hann", 256) ** 2).sum())
    deviations = np.log(np.maximum(spectra, 1e-4)).std((0, 2))
    assert deviations[80:].max() < 1e-6 < 1 < deviations[:60].min()
    assert np.allclose(model.std[80:], 0.1 * deviations.mean(), rtol=1e-4)
    assert np.allclose(model.std[:60], deviations[:60], rtol=1e-4)
    fit_statistics(model, [(torch.zeros(1, 1, 8000),)])
    assert model.std.equal(torch.ones(129))


def test_unknown_settings_are_refused():
    for setting in ("features", "masks", "level"):
        with pytest.raises(ValueError, match=f"unknown {setting} 'odd'"):
            SingleFrameNet(**{setting: "odd"})
    with pytest.raises(ValueError, match="take masks='sum'"):
        SingleFrameNet(sources=("a", "b", "c"))
    with pytest.raises(TypeError, match="colour"):
        SourceLSTM(colour="red")
