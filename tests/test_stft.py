"""The STFT against librosa, torch and its own inverse; decibels, padding and cropping against closed forms."""

import librosa
import numpy as np
import pytest
import torch
from scipy import signal

from helpers import stft
from helpers.stft import STFT

SETTINGS = [(512, 128), (512, 256), (1024, 256), (2048, 512), (4096, 2048)]


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def lengths(n_fft, hop):
    """Shorter than a hop, than half a window, than a window; on, before and after every edge; odd and long."""
    edges = [1, 2, hop - 1, hop, hop + 1, n_fft // 2, n_fft - 1, n_fft, n_fft + 1]
    tails = [7 * hop + rest for rest in (0, 1, n_fft // 4, n_fft // 4 + 1, hop - 1)]
    return sorted({*edges, *tails, 22_051, 44_100})


@pytest.mark.parametrize("n_fft, hop", SETTINGS)
def test_round_trip_of_any_length(n_fft, hop):
    transform = STFT(n_fft, hop)
    for length in lengths(n_fft, hop):
        waveform = noise(2, 2, length, seed=length)
        spectrogram = transform(waveform)
        assert spectrogram.shape == (2, 2, n_fft // 2 + 1, transform.frames(length)) and spectrogram.is_complex()
        back = transform.inverse(spectrogram, length)
        assert back.shape == waveform.shape and back.dtype == waveform.dtype
        assert (back - waveform).abs().max() < 1e-6, length


@pytest.mark.parametrize("n_fft, hop", SETTINGS)
def test_no_sample_lies_under_the_edge_of_a_window_alone(n_fft, hop):
    """A changed spectrogram (all a model gives) must not be blown up anywhere, least of all at the end."""
    transform = STFT(n_fft, hop)
    for length in lengths(n_fft, hop):
        spectrogram = transform(noise(1, 1, length, seed=length))
        changed = transform.inverse(spectrogram * torch.polar(torch.ones(()), noise(*spectrogram.shape) * 3), length)
        assert changed.abs().max() < 8, length


@pytest.mark.parametrize("n_fft, hop", SETTINGS)
@pytest.mark.filterwarnings("ignore:n_fft=.* is too large")
@pytest.mark.parametrize("length", [700, 9_001, 16_384])
def test_equals_librosa(n_fft, hop, length):
    waveform = noise(2, length, dtype=torch.float64)
    expected = librosa.stft(waveform.numpy(), n_fft=n_fft, hop_length=hop, pad_mode="constant")
    ours = STFT(n_fft, hop)(waveform)
    assert expected.shape[-1] <= ours.shape[-1] <= expected.shape[-1] + (hop > n_fft // 4)
    np.testing.assert_allclose(ours[..., : expected.shape[-1]], expected, atol=1e-5)


def test_two_seconds_of_the_u_net():
    transform = STFT(2048, 512)
    waveform = noise(1, 2, 88_200)
    spectrogram = transform(waveform)
    assert spectrogram.shape == (1, 2, 1025, 173)
    padded = stft.pad_to_multiple(spectrogram, (16, 16))
    assert padded.shape == (1, 2, 1040, 176) and padded.is_complex()
    assert not padded[..., 1025:, :].any() and not padded[..., 173:].any()
    assert torch.equal(stft.crop_to(padded, (1025, 173)), spectrogram)
    with pytest.raises(ValueError, match="1040, 176"):
        transform.inverse(padded, 88_200)
    assert (transform.inverse(stft.crop_to(padded, (1025, 173)), 88_200) - waveform).abs().max() < 1e-6


def test_padding_keeps_multiples():
    spectrogram = torch.ones(1, 1, 32, 48)
    assert stft.pad_to_multiple(spectrogram, (16, 16)).equal(spectrogram)
    padded = stft.pad_to_multiple(spectrogram, (32, 32))
    assert padded.shape == (1, 1, 32, 64) and padded.sum() == 32 * 48


def test_a_sine_of_amplitude_one_is_full_scale():
    transform = STFT(2048, 512)
    sine = torch.sin(2 * torch.pi * 100 / 2048 * torch.arange(20_480, dtype=torch.float64)).view(1, 1, -1)
    spectrogram = transform(sine)
    middle = spectrogram.abs()[0, 0, :, 20]
    assert middle.argmax() == 100
    assert stft.to_decibels(middle, reference=transform.full_scale)[100] == pytest.approx(0, abs=1e-4)


def test_white_noise_has_its_magnitude_in_every_bin():
    transform = STFT(512, 128)
    waveform = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    power = transform(waveform).abs().square().mean(-1)[1:-1]
    assert power.sqrt().allclose(torch.full((255,), transform.noise_magnitude), rtol=0.1)


def test_magnitude_and_phase_make_the_spectrogram_again():
    spectrogram = STFT(512, 128)(noise(1, 2, 3_000))
    again = stft.with_phase(spectrogram.abs(), stft.phase(spectrogram))
    assert (again - spectrogram).abs().max() < 1e-4 and spectrogram.abs().max() > 10


@pytest.mark.parametrize("floor, reference", [(-80.0, 1.0), (-60.0, 512.0)])
def test_decibels_and_back(floor, reference):
    magnitude = reference * torch.logspace(-6, 2, 1000, dtype=torch.float64)
    decibels = stft.to_decibels(magnitude, floor, reference)
    expected = librosa.amplitude_to_db(magnitude.numpy(), ref=reference, amin=1e-12, top_db=None)
    above = magnitude > reference * 10 ** (floor / 20)
    assert 0 < above.sum() < len(above)
    np.testing.assert_allclose(decibels[above], expected[above], atol=1e-9)
    np.testing.assert_allclose(decibels[~above], floor, atol=1e-9)
    torch.testing.assert_close(stft.from_decibels(decibels, reference)[above], magnitude[above], rtol=1e-12, atol=0)
    assert stft.to_decibels(torch.zeros(3)).tolist() == pytest.approx([-80] * 3)


def test_gradients_pass_through_the_round_trip():
    transform = STFT(512, 128)
    waveform = noise(1, 1, 2_000).requires_grad_()
    transform.inverse(transform(waveform), 2_000).sum().backward()
    torch.testing.assert_close(waveform.grad, torch.ones_like(waveform), atol=1e-4, rtol=0)


def test_the_window_follows_the_input_and_is_no_weight():
    transform, waveform = STFT(512, 128), noise(1, 1, 2_000)
    assert transform(waveform.double()).dtype == torch.complex128 and transform(waveform).dtype == torch.complex64
    assert transform.inverse(transform(waveform.double()), 2_000).dtype == torch.float64
    assert transform.inverse(transform(waveform.to("meta")), 2_000).device.type == "meta"
    assert not transform.state_dict()
    with torch.inference_mode():
        first = STFT(640, 160)(waveform)
    again = STFT(640, 160)(waveform.requires_grad_())  # with a window that was first made in inference
    again.abs().sum().backward()
    assert again.detach().equal(first) and waveform.grad.any()


def test_mixed_precision_does_not_reach_the_stft():
    transform, waveform = STFT(512, 128), noise(1, 1, 2_000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectrogram = transform(waveform.bfloat16())
        assert spectrogram.dtype == torch.complex64
        assert transform.inverse(spectrogram, 2_000).allclose(waveform.bfloat16().float(), atol=1e-5)


@pytest.mark.parametrize("n_fft, hop", SETTINGS + [(1000, 300)])
def test_the_inverse_of_a_changed_spectrogram_is_torchs(n_fft, hop):
    transform = STFT(n_fft, hop)
    for length in (9 * hop, 9 * hop + n_fft // 4):
        spectrogram = transform(noise(2, 2, length)) * torch.polar(torch.ones(()), 3 * noise(2, 2, 1, 1, seed=1))
        spectrogram = (spectrogram * noise(*spectrogram.shape, seed=2)).requires_grad_()
        ours = transform.inverse(spectrogram, length)
        window = torch.from_numpy(signal.get_window("hann", n_fft)).float()
        theirs = torch.istft(spectrogram.flatten(0, 1), n_fft, hop, window=window, length=length)
        assert (ours.flatten(0, 1) - theirs).abs().max() < 1e-6
        gradients = [torch.autograd.grad(one.square().sum(), spectrogram)[0] for one in (ours, theirs)]
        assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[1].abs().max()


@pytest.mark.parametrize("settings", [(16, 4, 9), (16, 8, 1), (10, 3, 5)])
def test_overlap_add_is_a_sum_of_shifted_frames(settings):
    n_fft, hop_length, count = settings
    frames = noise(2, count, n_fft)
    expected = np.zeros((2, (count - 1) * hop_length + n_fft))
    for frame in range(count):
        expected[:, frame * hop_length : frame * hop_length + n_fft] += frames[:, frame].numpy()
    np.testing.assert_allclose(stft.overlap_add(frames, hop_length)[:, : expected.shape[-1]], expected, atol=1e-6)


def test_what_cannot_be_transformed_is_refused():
    for n_fft, hop in [(511, 128), (512, 0), (512, 257), (0, 0)]:
        with pytest.raises(ValueError, match="n_fft"):
            STFT(n_fft, hop)
    for waveform in (torch.zeros(1, 1, 0), torch.zeros(1, 1, 512, dtype=torch.int16)):
        with pytest.raises(ValueError, match="waveform"):
            STFT(512, 128)(waveform)
    spectrogram = STFT(512, 128)(noise(1, 1, 2_000))
    for length in (1_000, 2_100, 0):
        with pytest.raises(ValueError, match="frames"):
            STFT(512, 128).inverse(spectrogram, length)
