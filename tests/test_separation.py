"""Separators give back what they are given: any length, rate, channels; in chunks; by name; in constant memory."""

import itertools

import pytest
import torch
from audio_models import Broken, Identity, noise, register
from torch import nn

from helpers.checkpoints import save_checkpoint
from helpers.data import audio
from helpers.models import DeepUNet
from helpers.models.image_unet import ImageUNet
from helpers.runtime import UserError
from helpers.separation import catalogue, files
from helpers.separation.baselines import BASELINES
from helpers.separation.catalogue import load_separator
from helpers.separation.networks import ModelSeparator


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    register(monkeypatch)
    monkeypatch.setattr(catalogue, "FOLDERS", (tmp_path / "committed", tmp_path / "trial"))
    for folder in catalogue.FOLDERS:
        folder.mkdir()
    return catalogue.FOLDERS


# ---- a model as a Separator --------------------------------------------------------------------------------------


def test_the_identity_is_exact_for_any_length_and_channels():
    for channels, frames in itertools.product((1, 2, 3, 6), (1, 7999, 8000, 8001, 33_333)):
        wave, model = noise(channels, frames), Identity(8000)
        estimates = ModelSeparator(model, "cpu", chunk=1.5, overlap=0.2)(wave, 8000)
        assert list(estimates) == ["vocals", "accompaniment"]
        torch.testing.assert_close(estimates["vocals"], 0.75 * wave)
        torch.testing.assert_close(estimates["accompaniment"], 0.25 * wave)
        assert {shape[:2] for shape in model.seen} == {(1, 1)}
        assert all(8000 <= shape[2] <= 12_000 for shape in model.seen)


def test_any_rate_comes_back_at_its_rate_and_length():
    separate = ModelSeparator(Identity(8000), "cpu")
    for rate, frames in itertools.product((4000, 11_025, 44_100, 96_000), (1, 100, 44_099, 44_100, 44_101)):
        assert all(estimate.shape == (2, frames) for estimate in separate(noise(2, frames), rate).values())


@pytest.mark.parametrize("rate", [11_025, 44_100])
def test_resampling_keeps_what_the_model_can_hear_in_time(rate):
    times = torch.arange(3 * rate, dtype=torch.float64) / rate
    wave = (torch.sin(2 * torch.pi * 440 * times) * torch.hann_window(3 * rate, dtype=torch.float64)).float()[None]
    found = ModelSeparator(Identity(8000, parts=(1.0, 0.0)), "cpu")(wave, rate)["vocals"]
    assert (found - wave).square().mean() < 1e-6 * wave.square().mean()  # one sample off: 1e-3


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_shared_residual_makes_the_sources_add_up(rate):
    wave = noise(2, 3 * rate)
    plain = ModelSeparator(Identity(parts=(0.5, 0.1)), "cpu")(wave, rate)
    assert (sum(plain.values()) - wave).abs().max() > 0.01
    found = ModelSeparator(Identity(parts=(0.5, 0.1)), "cpu", add_up=True)(wave, rate)
    torch.testing.assert_close(sum(found.values()), wave, atol=1e-6, rtol=0)
    change = found["vocals"] - plain["vocals"]
    torch.testing.assert_close(found["accompaniment"] - plain["accompaniment"], change, atol=1e-6, rtol=0)


def test_bad_waveforms_and_models_are_refused():
    separate = ModelSeparator(Identity(), "cpu")
    for shape in ((0,), (100,), (1, 0), (0, 10), (1, 1, 100)):
        with pytest.raises(ValueError, match="channels, time"):
            separate(torch.zeros(shape), 8000)
    with pytest.raises(UserError, match="NaN or infinity: export"):
        separate(torch.tensor([[0.0, torch.nan]]), 8000)
    with pytest.raises(UserError, match="the Broken gave NaN or infinity: train it again"):
        ModelSeparator(Broken(), "cpu")(noise(1, 100), 8000)
    with pytest.raises(UserError, match="Linear is no audio model"):
        ModelSeparator(nn.Linear(1, 1), "cpu")
    for wrong in ({"sources": ("../../x",)}, {"sources": ()}, {"sources": ("a", "a")}, {"sample_rate": 1}):
        with pytest.raises(UserError, match=r"Identity is no audio model \(sources: "):
            ModelSeparator(Identity(**wrong), "cpu")


# ---- by name -----------------------------------------------------------------------------------------------------


def test_a_model_is_found_by_its_files_name_its_own_name_or_its_path(folders, tmp_path):
    save_checkpoint(folders[0] / "mine.safetensors", Identity(parts=(1.0, 0.0)))
    save_checkpoint(folders[1] / "mine.safetensors", Identity(parts=(0.0, 1.0)))
    save_checkpoint(folders[1] / "savedModel_RNN_best.safetensors", Identity(16_000))
    save_checkpoint(tmp_path / "elsewhere.safetensors", Identity(11_025))
    assert set(catalogue.known_checkpoints()) == {"mine", "lstm"}
    wave = noise(1, 8000)
    assert torch.equal(load_separator("mine", "cpu")(wave, 8000)["vocals"], wave)  # the committed one
    assert load_separator("lstm", "cpu").sample_rate == 16_000
    assert load_separator(tmp_path / "elsewhere.safetensors", "cpu", chunk=2.0).chunk == 22_050


def test_unknown_and_unfit_models_are_one_sentence_with_a_remedy(folders, tmp_path):
    with pytest.raises(UserError, match=r"no model 'unheard': choose one of .*repet-sim.*or give the path"):
        load_separator("unheard")
    with pytest.raises(UserError, match="there is no checkpoint .*absent.safetensors"):
        load_separator(tmp_path / "absent.safetensors")
    with pytest.raises(UserError, match="'wiener' needs the true sources: run `python -m helpers evaluate"):
        load_separator("wiener")
    save_checkpoint(folders[0] / "pictures.safetensors", ImageUNet((4, 8), (1, 1)))
    with pytest.raises(UserError, match="pictures.safetensors: ImageUNet is no audio model"):
        load_separator("pictures", "cpu")
    (folders[0] / "hurt.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="hurt.safetensors is damaged"):
        load_separator("hurt", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_not_the_checkpoint_s_fault(tmp_path):
    with pytest.raises(UserError, match="^device 'cuda' cannot be used here"):
        load_separator(tmp_path / "mine.safetensors", "cuda")


def test_baselines_come_by_name():
    for name in (name for name, entry in BASELINES.items() if not entry.truth):
        names = load_separator(name).names
        assert names == (("source 1", "source 2") if name == "ica" else ("vocals", "accompaniment"))


@pytest.mark.parametrize("name", ["mine", "hpss"])
def test_a_network_and_a_baseline_report_progress_the_same_way(folders, name, tmp_path):
    save_checkpoint(folders[0] / "mine.safetensors", Identity(8000))
    done = []
    separator = load_separator(name, "cpu", chunk=1.0)
    for seconds in (0.5, 5):
        audio.write_audio(tmp_path / f"{seconds}.wav", noise(1, round(seconds * 8000)), 8000)
    files.separate_file(tmp_path / "0.5.wav", tmp_path / "out", separator, progress=done.append)
    assert done == [1]
    if name != "mine":
        separator.chunk, separator.overlap = 1.0, 0.1
    files.separate_file(tmp_path / "5.wav", tmp_path / "out", separator, progress=done.append)
    assert len(done[1:]) >= 5 and done[1:] == sorted(set(done[1:])) and done[-1] == 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_for_a_song_is_a_sentence(tmp_path, error):
    def greedy(waveform, rate):
        raise error

    audio.write_audio(tmp_path / "song.wav", noise(1, 500), 8000)
    with pytest.raises(UserError, match="song.wav takes more memory than there is: choose a smaller --chunk"):
        files.separate_file(tmp_path / "song.wav", tmp_path / "out", greedy)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_a_file_of_a_lower_rate_than_the_model_s_gets_a_sentence_of_warning(tmp_path):
    network, warnings = ModelSeparator(Identity(32_000), "cpu"), []
    for rate, separator in ((31_999, network), (32_000, network), (44_100, network), (8000, load_separator("hpss"))):
        audio.write_audio(tmp_path / f"{rate}.wav", noise(1, 500), rate)
        files.separate_file(tmp_path / f"{rate}.wav", tmp_path / "out", separator, warn=warnings.append)
    (sentence,) = warnings
    assert all(word in sentence for word in ("31999.wav", "31,999 Hz", "32,000 Hz", "`python -m helpers models`"))


def test_a_gpu_gets_several_chunks_at_a_time():
    model, wave = Identity(8000), noise(2, 50_000)
    separate = ModelSeparator(model, "cpu", chunk=1.0, overlap=0.1)
    separate.batch = 4
    found = separate(wave, 8000)
    assert {shape[0] for shape in model.seen} == {8, 6}  # chunks times channels: seven chunks in two batches
    torch.testing.assert_close(found["vocals"], 0.75 * wave)


def test_the_rest_gets_all_that_the_others_leave_above_the_models_band_too():
    torch.manual_seed(0)
    model = DeepUNet(width=4, sample_rate=8000, n_fft=256, hop_length=64, rest="accompaniment")
    assert type(model)(**model.arguments).rest == "accompaniment"
    with pytest.raises(ValueError, match="source"):
        DeepUNet(rest="drums")
    waveform = noise(2, 30_000)
    estimates = ModelSeparator(model, "cpu")(waveform, 22_050)
    torch.testing.assert_close(estimates["vocals"] + estimates["accompaniment"], waveform)
    spectrum = torch.fft.rfft(estimates["accompaniment"]).abs(), torch.fft.rfft(waveform).abs()
    above = int(30_000 / 22_050 * 5000)  # Hz -> bin: beyond what the model hears
    torch.testing.assert_close(spectrum[0][:, above:], spectrum[1][:, above:], rtol=0.02, atol=0.2)  # of about 17


class Full(Identity):
    """Has memory for so many chunks at a time."""

    most = 1

    def forward(self, batch):
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(batch)


def test_where_a_batch_is_too_large_for_a_gpu_chunks_go_one_by_one():
    separate, wave = ModelSeparator(Full(8000), "cpu", chunk=1.0, overlap=0.1), noise(2, 50_000)
    separate.batch = 4
    torch.testing.assert_close(separate(wave, 8000)["vocals"], 0.75 * wave)
    assert separate.batch == 1
    separate.model.most = 0
    with pytest.raises(UserError, match="cpu has too little memory for chunks of 1 s: choose shorter ones"):
        separate(wave, 8000)
