"""The mask models: shapes at odd sizes, masks that are shares, memory that carries on, levels that do not matter."""

import itertools

import numpy as np
import pytest
import torch
from scipy import signal

from helpers.checkpoints import load_checkpoint, save_checkpoint
from helpers.losses.masks import MaskLoss
from helpers.models.mask_nets import LSTMNet, SingleFrameNet, SourceLSTM, fit_statistics
from helpers.separation.networks import ModelSeparator
from helpers.separation.streaming import overlap_add, streaming_separator

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


def noise(*shape, seed=1):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- shapes and masks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("length", [8000, 8001, 9_999])
def test_estimates_have_the_mixtures_shape_and_add_up_to_it(name, length):
    mixture = noise(2, 1, length)
    estimates = made(name)(mixture)
    assert estimates.shape == (2, 2, 1, length)
    assert estimates.sum(1).allclose(mixture, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("features", ["log", "magnitude"])
@pytest.mark.parametrize("masks", ["sigmoid", "sum", "ratio"])
def test_masks_are_shares(name, features, masks):
    model = made(name, features=features, masks=masks)
    found = model.describe(noise(3, 1, 5001))
    assert found.masks.shape == (3, 2, 129, 79) and found.magnitudes.shape == found.spectrogram.shape == (3, 129, 79)
    assert 0 <= found.masks.min() < found.masks.max() <= 1 and found.masks.std() > 0.01
    assert found.masks.sum(1).allclose(torch.ones(3, 129, 79))
    assert found.magnitudes.equal(found.spectrogram.abs())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("masks", ["sum", "ratio"])
def test_any_number_of_sources(name, masks):
    stems = ("vocals", "drums", "bass", "other")
    mixture = noise(1, 1, 8000)
    estimates = made(name, masks=masks, sources=stems)(mixture)
    assert estimates.shape == (1, 4, 1, 8000) and estimates.sum(1).allclose(mixture, atol=1e-6)
    assert all(not one.allclose(other, atol=1e-4) for one, other in itertools.combinations(estimates[0], 2))


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


@pytest.mark.parametrize("model", [SingleFrameNet, SourceLSTM])
@pytest.mark.parametrize("settings", [(32_000, 4096, 2048), (16_000, 1024, 256), (44_100, 1000, 300)])
def test_any_stft_will_do(model, settings):
    torch.manual_seed(0)
    sample_rate, n_fft, hop_length = settings
    made = model(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length).eval()
    masks, _ = made.forward_frames(torch.rand(2, n_fft // 2 + 1, 5))
    assert masks.shape == (2, 2, n_fft // 2 + 1, 5)
    conv = SingleFrameNet("conv", sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length).eval()
    assert conv.forward_frames(torch.rand(2, n_fft // 2 + 1, 5))[0].shape == masks.shape


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
def test_what_a_frame_is_heard_in(name):
    found = changed_frames(made(name))
    assert 20 in found
    if name in ("dense", "conv"):
        assert found == [20]
    elif name == "two-way":
        assert min(found) < 20 < max(found)
    else:
        assert min(found) == 20 and max(found) > 22
    assert made(name).causal == (name != "two-way")


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
    with pytest.raises(ValueError, match="no state to carry on"):
        model.forward_frames(torch.rand(1, 129, 5), (torch.zeros(4, 1, 10), torch.zeros(4, 1, 10)))
    with pytest.raises(ValueError, match="also reads backwards"):
        streaming_separator(model, "cpu")


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("two_way", [False, True])
def test_the_memory_starts_from_the_single_frame_model(network, two_way):
    single = made(network)
    fit_statistics(single, [(noise(4, 1, 4000),)])
    net = LSTMNet.from_single_frame(single, hidden=7, layers=2, bidirectional=two_way).eval()
    magnitudes = torch.rand(2, 129, 9)
    features = net.features_of(magnitudes)
    assert features.equal(single.features_of(magnitudes))
    h = single.encoder(features)
    assert net.encoder(features).equal(h) and net.decoder(h).equal(single.decoder(h))
    assert net.forward_frames(magnitudes)[0].allclose(single.forward_frames(magnitudes)[0], atol=1e-6)
    assert net.arguments == single.arguments | {"hidden": 7, "layers": 2, "bidirectional": two_way}
    # and what it starts as is no dead end: after one step every parameter learns
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)
    batch = noise(2, 1, 4000), noise(2, 2, 1, 4000, seed=2)
    for _ in range(2):
        optimiser.zero_grad()
        MaskLoss()(net.train(), batch, 0.0)["loss"].backward()
        optimiser.step()
    assert not dead(net)


def dead(model):
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("masks", ["sigmoid", "sum", "ratio"])
def test_every_parameter_gets_a_gradient(name, masks):
    model = made(name, masks=masks).train()
    terms = MaskLoss()(model, (noise(2, 1, 4000), noise(2, 2, 1, 4000, seed=2)), 0.0)
    terms["loss"].backward()
    assert not dead(model) and terms["loss"].isfinite()


# ---- levels and statistics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("level", ["rms", "max", "none"])
def test_a_louder_mixture_gives_louder_sources_and_nothing_else(name, level):
    model, mixture = made(name, level=level), noise(1, 1, 8000)
    soft, loud = model(mixture), model(8 * mixture)
    assert loud.allclose(8 * soft, atol=1e-5) == (level != "none")
    silent = model(torch.zeros(1, 1, 8000))
    assert silent.isfinite().all() and not silent.any()


def test_the_scale_is_what_white_noise_has_in_every_bin():
    mixture = noise(2, 1, 80_000) * torch.tensor([1.0, 5.0])[:, None, None]
    _, _, reference = signal.stft(mixture[:, 0].numpy(), nperseg=256, noverlap=192, scaling="psd", fs=1)
    rms = mixture.square().mean((1, 2), keepdim=True).sqrt()
    model = made()
    magnitudes = model.stft(mixture.squeeze(1)).abs() / model.scale_of(mixture)
    assert magnitudes.square().mean((1, 2)).sqrt().allclose(torch.ones(2), atol=0.02)
    density = np.sqrt((np.abs(reference) ** 2).mean((1, 2)))  # white noise has its variance as density
    assert np.allclose(density, rms.flatten(), rtol=0.02)
    peak = made(level="max").scale_of(mixture) / model.scale_of(mixture)
    assert peak.allclose(mixture.abs().amax((1, 2), keepdim=True) / rms)
    assert made(level="none").scale_of(mixture).allclose(model.scale_of(mixture) / rms)


@pytest.mark.parametrize("features", ["log", "magnitude"])
def test_statistics_are_numpys(features):
    model = made(features=features, level="none")
    batches = [(noise(2, 1, 4000) * 3, None), (noise(1, 1, 7000, seed=2), None)]
    fit_statistics(model, batches)
    frames = []
    for mixture, _ in batches:
        spectra = np.abs(model.stft(mixture.squeeze(1)).numpy()) / np.sqrt((signal.get_window("hann", 256) ** 2).sum())
        frames.append(spectra.transpose(0, 2, 1).reshape(-1, 129))
    read = np.concatenate(frames)
    read = np.log(np.maximum(read, 1e-4)) if features == "log" else read
    assert np.allclose(model.mean, read.mean(0), atol=1e-5) and np.allclose(model.std, read.std(0), rtol=1e-4)
    magnitudes = model.stft(batches[0][0].squeeze(1)).abs() / model.scale_of(batches[0][0])
    expected = (read[: 2 * 63] - read.mean(0)) / read.std(0)
    assert np.allclose(model.features_of(magnitudes).reshape(-1, 129), expected, atol=1e-3)


def test_bins_that_never_change_are_not_blown_up():
    model = made(level="none")
    spectrum = torch.fft.rfft(noise(1, 1, 8000))
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


# ---- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_separates_as_the_model_did(name, tmp_path):
    model, mixture = made(name), noise(2, 24_000)
    fit_statistics(model, [(noise(4, 1, 4000, seed=3),)])
    save_checkpoint(tmp_path / "model.pt", model)
    again, _ = load_checkpoint(tmp_path / "model.pt", expect=type(model).__name__)
    ours, theirs = (ModelSeparator(one, "cpu", chunk=2)(mixture, 16_000) for one in (model, again))
    assert set(ours) == {"vocals", "accompaniment"} and all(ours[source].equal(theirs[source]) for source in ours)
    assert ours["vocals"].shape == (2, 24_000)


@pytest.mark.parametrize("name", ["dense", "lstm", "conv-lstm", "source"])
@pytest.mark.parametrize("length", [8000, 20_011, 7_999])
def test_a_streamed_song_is_one_long_pass(name, length):
    model, song = made(name), noise(2, length)
    song[:, : length // 2] *= 0.1  # so that a level of the beginning alone would be another
    parts = []
    found = streaming_separator(model, "cpu", block=37, progress=parts.append)(song, 8000)
    padded = torch.nn.functional.pad(song, (0, max(0, 8000 - length)))  # as every Separator does: a second at least
    with torch.no_grad():
        whole = model(padded.unsqueeze(1))[..., :length]  # (channels, sources, 1, time)
    for row, source in enumerate(model.sources):
        assert found[source].shape == song.shape and found[source].allclose(whole[:, row, 0], atol=1e-6)
    assert parts == sorted(parts) and parts[-1] == 1 and len(parts) > 1


def test_streaming_does_not_depend_on_the_block():
    model, song = made("lstm"), noise(1, 12_345)
    one, many = (streaming_separator(model, "cpu", block)(song, 8000)["vocals"] for block in (1, 10_000))
    assert one.allclose(many, atol=1e-6)


@pytest.mark.parametrize("settings", [(16, 4, 9), (16, 8, 1), (10, 3, 5)])
def test_overlap_add_is_a_sum_of_shifted_windows(settings):
    n_fft, hop_length, frames = settings
    windows = torch.rand(2, 3, n_fft, frames, generator=torch.Generator().manual_seed(0))
    expected = np.zeros((2, 3, (frames - 1) * hop_length + n_fft))
    for frame in range(frames):
        expected[..., frame * hop_length : frame * hop_length + n_fft] += windows[..., frame].numpy()
    assert np.allclose(overlap_add(windows, hop_length), expected, atol=1e-6)


def test_unknown_settings_are_refused():
    for setting in ("features", "masks", "level", "network"):
        with pytest.raises(ValueError, match=f"unknown {setting} 'odd'"):
            SingleFrameNet(**{setting: "odd"})
    with pytest.raises(ValueError, match="take masks='sum'"):
        SingleFrameNet(sources=("a", "b", "c"))
    with pytest.raises(ValueError, match="1 to 3 layers, not 4"):
        SourceLSTM(layers=4)
