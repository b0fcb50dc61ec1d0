"""Separators give back what they are given: any length, rate, channels; in chunks; by name; in constant memory."""

import subprocess
import sys

import pytest
import torch
from audio_models import Broken, Identity, SwapSides, noise, register
from torch import nn

from helpers.checkpoints import save_checkpoint
from helpers.models.image_unet import ImageUNet
from helpers.runtime import ROOT, UserError
from helpers.separation import networks as separation
from helpers.separation.baselines import BASELINES
from helpers.separation.networks import ModelSeparator, in_chunks, load_separator, share_residual


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    register(monkeypatch)
    monkeypatch.setattr(separation, "FOLDERS", (tmp_path / "committed", tmp_path / "trial"))
    for folder in separation.FOLDERS:
        folder.mkdir()
    return separation.FOLDERS


# ---- chunks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0, 1, 7, 50])
@pytest.mark.parametrize("frames", [1, 2, 49, 50, 51, 99, 100, 101, 149, 150, 151, 199, 1000, 1023])
def test_chunks_of_the_identity_are_the_waveform_to_the_bit(frames, overlap):
    wave, lengths = noise(2, frames), []

    def separate(chunk):
        lengths.append(chunk.shape[-1])
        return torch.stack([chunk, 2 * chunk])

    found = in_chunks(separate, wave, 100, overlap)
    assert torch.equal(found, torch.stack([wave, 2 * wave]))
    assert set(lengths) == {min(100, frames)}


def test_weights_of_neighbours_are_complementary_and_fade():
    """Chunk i gives the constant i: the result must rise from each to the next in a straight line."""
    count = iter(range(100))
    found = in_chunks(lambda chunk: torch.full((1, *chunk.shape), float(next(count))), noise(1, 260), 100, 20)[0, 0]
    ramp = (torch.arange(20) + 0.5) / 20
    expected = torch.cat([torch.zeros(80), ramp, torch.ones(60), 1 + ramp, torch.full((80,), 2.0)])
    torch.testing.assert_close(found, expected)


def test_the_last_chunk_has_real_samples_before_it_and_fades_in_the_middle_of_what_is_shared():
    starts, wave = [], torch.arange(170.0)[None]
    count = iter(range(9))

    def separate(chunk):
        starts.append(int(chunk[0, 0]))
        return torch.full((1, *chunk.shape), float(next(count)))

    found = in_chunks(separate, wave, 100, 20)[0, 0]
    assert starts == [0, 70]  # 30 are shared, 20 of them fade
    assert torch.all(found[:75] == 0) and torch.all(found[95:] == 1)
    assert torch.all(found[75:95].diff() > 0)


def test_neighbours_cannot_click():
    """An estimate whose level jumps from chunk to chunk: no step is larger than the fade's."""
    count = iter(range(100))
    found = in_chunks(lambda chunk: torch.full((1, *chunk.shape), float(next(count) % 2)), noise(1, 977), 100, 40)
    assert found.diff().abs().max() <= 1 / 40 + 1e-6


def test_progress_grows_to_one_and_wrong_settings_are_errors():
    done = []
    in_chunks(lambda chunk: chunk[None], noise(1, 1000), 100, 10, done.append)
    assert done == sorted(done) and done[-1] == 1 and len(done) == 11
    for frames, chunk, overlap in ((0, 10, 0), (10, 0, 1), (10, 10, 6), (10, 10, -1)):
        with pytest.raises(ValueError, match="in chunks of"):
            in_chunks(lambda chunk: chunk[None], noise(1, frames), chunk, overlap)
    with pytest.raises(ValueError, match="became"):
        in_chunks(lambda chunk: chunk[None, :, :-1], noise(1, 100), 50, 5)


def test_memory_beyond_waveform_and_result_does_not_grow_with_the_length():
    """The peak of a process that separates 1 minute, then 40: it grows by the input and two outputs, little else."""
    code = (
        "import re, sys, torch; sys.path.insert(0, 'tests'); from audio_models import Identity\n"
        "from helpers.separation.networks import ModelSeparator\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "torch.set_num_threads(1); separate = ModelSeparator(Identity(8000), 'cpu')\n"
        "separate(torch.rand(2, 60 * 8000), 8000)\n"
        "before = peak()\n"
        "wave = torch.rand(2, int(sys.argv[1]) * 8000); found = separate(wave, 8000)\n"
        "print(peak() - before)"
    )
    if sys.platform != "linux":
        pytest.skip("only Linux tells the peak of a process by itself")
    call = [sys.executable, "-c", code, "2400"]
    grown = int(subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout) * 1024
    waveform = 2 * 2400 * 8000 * 4
    assert waveform * 2 < grown < waveform * 3.5 + 20e6  # itself, two sources, and a look at what is finite


# ---- a model as a Separator --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["each", "joint"])
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("frames", [1, 7999, 8000, 8001, 33_333])
def test_the_identity_is_exact_for_any_length_and_channels(mode, channels, frames):
    wave, model = noise(channels, frames), Identity(8000, channels=mode)
    found = ModelSeparator(model, "cpu", chunk=1.5, overlap=0.2)(wave, 8000)
    assert list(found) == ["vocals", "accompaniment"]
    torch.testing.assert_close(found["vocals"], 0.75 * wave)
    torch.testing.assert_close(found["accompaniment"], 0.25 * wave)
    batch = channels if mode == "each" else -(-channels // 2)
    assert {shape[:2] for shape in model.seen} == {(batch, 1 if mode == "each" else 2)}
    assert all(8000 <= shape[2] <= 12_000 for shape in model.seen)


@pytest.mark.parametrize("rate", [4000, 11_025, 16_000, 44_100, 96_000])
@pytest.mark.parametrize("frames", [1, 100, 44_099, 44_100, 44_101])
def test_any_rate_comes_back_at_its_rate_and_length(rate, frames):
    for channels in (1, 2):
        found = ModelSeparator(Identity(8000), "cpu")(noise(channels, frames), rate)
        assert all(estimate.shape == (channels, frames) for estimate in found.values())


@pytest.mark.parametrize("rate", [11_025, 16_000, 44_100])
def test_resampling_keeps_what_the_model_can_hear_in_time(rate):
    times = torch.arange(3 * rate, dtype=torch.float64) / rate
    wave = (torch.sin(2 * torch.pi * 440 * times) * torch.hann_window(3 * rate, dtype=torch.float64)).float()[None]
    found = ModelSeparator(Identity(8000, parts=(1.0, 0.0)), "cpu")(wave, rate)["vocals"]
    assert (found - wave).square().mean() < 1e-6 * wave.square().mean()  # one sample off: 1e-3


def test_left_and_right_are_seen_together_by_a_joint_model_only():
    wave = noise(2, 20_000)
    found = ModelSeparator(SwapSides(channels="joint"), "cpu")(wave, 8000)
    assert torch.equal(found["vocals"], wave.flip(0)) and torch.equal(found["accompaniment"], wave)
    wave = noise(3, 9000)
    found = ModelSeparator(SwapSides(channels="joint"), "cpu")(wave, 8000)["vocals"]
    torch.testing.assert_close(found, wave[[1, 0, 2]])


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_shared_residual_makes_the_sources_add_up(rate):
    wave = noise(2, 3 * rate)
    plain = ModelSeparator(Identity(parts=(0.5, 0.1)), "cpu")(wave, rate)
    assert (sum(plain.values()) - wave).abs().max() > 0.01
    found = ModelSeparator(Identity(parts=(0.5, 0.1)), "cpu", add_up=True)(wave, rate)
    torch.testing.assert_close(sum(found.values()), wave, atol=1e-6, rtol=0)
    change = found["vocals"] - plain["vocals"]
    torch.testing.assert_close(found["accompaniment"] - plain["accompaniment"], change, atol=1e-6, rtol=0)


def test_sharing_leaves_its_arguments_alone():
    wave = noise(1, 100)
    estimates = {"a": wave, "b": wave}
    found = share_residual(estimates, wave)
    torch.testing.assert_close(found["a"], wave / 2)
    assert torch.equal(wave, noise(1, 100)) and estimates["a"] is wave


def test_silence_gives_silence():
    found = ModelSeparator(Identity(), "cpu")(torch.zeros(2, 5000), 16_000)
    assert all(not estimate.any() for estimate in found.values())


def test_bad_waveforms_and_models_are_refused():
    separate = ModelSeparator(Identity(), "cpu")
    for shape in ((0,), (100,), (1, 0), (0, 10), (1, 1, 100)):
        with pytest.raises(ValueError, match="channels, time"):
            separate(torch.zeros(shape), 8000)
    with pytest.raises(UserError, match="NaN or infinity: check"):
        separate(torch.tensor([[0.0, torch.nan]]), 8000)
    with pytest.raises(UserError, match="the Broken gave NaN or infinity: train it again"):
        ModelSeparator(Broken(), "cpu")(noise(1, 100), 8000)
    with pytest.raises(UserError, match="Linear is no audio model"):
        ModelSeparator(nn.Linear(1, 1), "cpu")
    for wrong in ({"sources": ("../../x",)}, {"sources": ()}, {"sources": ("a", "a")}, {"sample_rate": 1}):
        with pytest.raises(UserError, match="odd sources"):
            ModelSeparator(Identity(**wrong), "cpu")
    with pytest.raises(UserError, match="'each' or 'joint'"):
        ModelSeparator(Identity(channels="both"), "cpu")


# ---- by name -----------------------------------------------------------------------------------------------------


def test_a_model_is_found_by_its_files_name_its_own_name_or_its_path(folders, tmp_path):
    save_checkpoint(folders[0] / "mine.pt", Identity(parts=(1.0, 0.0)))
    save_checkpoint(folders[1] / "mine.pt", Identity(parts=(0.0, 1.0)))
    save_checkpoint(folders[1] / "savedModel_RNN_best.pt", Identity(16_000))
    save_checkpoint(tmp_path / "elsewhere.pt", Identity(11_025))
    assert set(separation.known_checkpoints()) == {"mine", "lstm"}
    wave = noise(1, 8000)
    assert torch.equal(load_separator("mine", "cpu")(wave, 8000)["vocals"], wave)  # the committed one
    assert load_separator("lstm", "cpu").sample_rate == 16_000
    assert load_separator(tmp_path / "elsewhere.pt", "cpu", chunk=2.0).chunk == 22_050


def test_untrained_unknown_and_unfit_models_are_one_sentence_with_a_remedy(folders, tmp_path):
    with pytest.raises(UserError, match=r"'lstm' is not trained yet.*python -m helpers run 03_mask_models_lstm.ipynb"):
        load_separator("lstm")
    with pytest.raises(UserError, match=r"no model 'unheard': choose one of .*repet-sim.*or give the path"):
        load_separator("unheard")
    with pytest.raises(UserError, match="there is no checkpoint .*absent.pt"):
        load_separator(tmp_path / "absent.pt")
    with pytest.raises(UserError, match="'wiener' needs the true sources: run `python -m helpers evaluate"):
        load_separator("wiener")
    save_checkpoint(folders[0] / "pictures.pt", ImageUNet((4, 8), (1, 1)))
    with pytest.raises(UserError, match="pictures.pt: ImageUNet is no audio model"):
        load_separator("pictures", "cpu")
    (folders[0] / "hurt.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="hurt.pt is damaged"):
        load_separator("hurt", "cpu")


@pytest.mark.parametrize("name", [name for name, entry in BASELINES.items() if not entry.truth and "nmf" not in name])
def test_baselines_come_by_name_and_keep_the_contract(name):
    wave = noise(2, 9001)
    found = load_separator(name)(wave, 8000)
    assert len(found) == 2 and all(estimate.shape == wave.shape for estimate in found.values())
    assert set(found) == ({"source 1", "source 2"} if name == "ica" else {"vocals", "accompaniment"})


@pytest.mark.parametrize("name", ["mine", "hpss", "rpca"])
def test_a_network_and_a_baseline_report_progress_the_same_way(folders, name):
    save_checkpoint(folders[0] / "mine.pt", Identity(8000))
    done = []
    separator = load_separator(name, "cpu", chunk=1.0, progress=done.append)
    separator(noise(1, 4000), 8000)
    assert done == [1]
    if name != "mine":
        separator.chunk, separator.overlap = 1.0, 0.1
    separator(noise(1, 5 * 8000), 8000)
    assert len(done[1:]) >= 5 and done[1:] == sorted(set(done[1:])) and done[-1] == 1


@pytest.mark.parametrize(
    ("rate", "own", "warned"), [(16_000, 32_000, True), (32_000, 32_000, False), (44_100, 32_000, False)]
)
def test_a_file_of_a_lower_rate_than_the_model_s_gets_a_sentence_of_warning(rate, own, warned):
    said = separation.low_rate("song.wav", rate, ModelSeparator(Identity(own), "cpu"))
    words = ("song.wav", "16,000 Hz", "32,000 Hz", "`python -m helpers models`")
    assert all(word in said for word in words) if warned else said == ""
    assert separation.low_rate("song.wav", 8000, load_separator("hpss")) == ""


def test_folders_of_songs_do_not_clash():
    names = separation.song_names(["a/one.mp3", "b/two.wav", "a/one.mp3"])
    assert [str(path) for path in names] == ["a/one.mp3", "b/two.wav"] and list(names.values()) == ["one", "two"]
    assert list(separation.song_names(["one.mp3", "One.wav"]).values()) == ["one.mp3", "One.wav"]
    assert list(separation.song_names(["a/one.mp3", "b/one.mp3"]).values()) == ["a-one.mp3", "b-one.mp3"]
    with pytest.raises(UserError, match="same name"):
        separation.song_names(["x/a/one.mp3", "y/a/one.mp3"])
