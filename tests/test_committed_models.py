"""The models that come with the project load, say what they were made of, and separate music made by code."""

import math

import pytest
import torch

from helpers.checkpoints import load_checkpoint
from helpers.data.corpora import load_corpus
from helpers.runtime import COMMITTED_PROFILES, ROOT
from helpers.separation.catalogue import load_separator
from helpers.separation.networks import ModelSeparator

PATHS = sorted((ROOT / "checkpoints").glob("*.safetensors"))
MUSIC = [path for path in PATHS if not path.stem.startswith("01_")]
LARGEST = 16_000_000  # bytes


def clip(sample_rate, stems):
    """Four seconds of an embedded test song, as {source: waveform (1, time)}."""
    corpus = load_corpus("embedded", "test", sample_rate=sample_rate, mono=True)
    track = (corpus if stems == 4 else corpus.vocals_and_accompaniment())[0]
    return {name: track.source(name, 0, 4 * sample_rate) for name in track.stems}


def sdr(estimate, source):
    """Energy of the source over that of the error, in dB."""
    return 10 * torch.log10(source.square().sum() / (estimate - source).square().sum()).item()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_checkpoint_says_what_it_was_made_of(path):
    assert path.stat().st_size < LARGEST
    _, facts = load_checkpoint(path)
    assert facts["profile"] in ("long", *COMMITTED_PROFILES)  # the first: of the first edition
    assert facts["device"] and math.isfinite(facts["validation_loss"])
    assert facts["data"] and "embedded" not in facts["data"]


@pytest.mark.parametrize("path", MUSIC, ids=lambda path: path.stem)
def test_a_music_model_takes_apart_a_song_of_another_kind(path):
    model, _ = load_checkpoint(path)
    sources = clip(model.sample_rate, len(model.sources))
    mixture = sum(sources.values())
    estimates = ModelSeparator(model, "cpu")(mixture, model.sample_rate)
    assert all(estimate.isfinite().all() and estimate.shape == mixture.shape for estimate in estimates.values())
    gains = [sdr(estimates[name], source) - sdr(mixture, source) for name, source in sources.items()]
    assert sum(gains) / len(gains) > 1, gains  # dB more than the mixture itself


def test_the_command_line_s_names_are_those_of_the_files():
    assert {path.stem for path in PATHS} >= {"01_vae", "01_unet"}
    networks = {"music-vae": "MusicVAE", "feedforward": "SingleFrameNet", "lstm": "LSTMNet", "mir1k-lstm": "LSTMNet"}
    networks |= {"deep-unet": "DeepUNet", "deep-unet-songs": "DeepUNet"}
    for name, network in networks.items():
        separator = load_separator(name, "cpu")
        assert type(separator.model).__name__ == network and separator.sources == ("vocals", "accompaniment")


@pytest.mark.parametrize(
    ("name", "rest"),
    [("deep-unet-songs", "accompaniment"), ("songs-ensemble", "accompaniment"), ("deep-unet-stems", "drums")],
)
def test_a_stereo_song_at_44_khz_keeps_what_lies_above_the_network_s_band(name, rest):
    song = torch.randn(2, 44_100, generator=torch.Generator().manual_seed(0)) / 10
    estimates = load_separator(name, "cpu")(song, 44_100)
    assert all(wave.shape == song.shape for wave in estimates.values())
    torch.testing.assert_close(sum(estimates.values()), song, atol=1e-5, rtol=0)
    above = {key: torch.fft.rfft(wave)[:, 9000:].abs().square().sum() for key, wave in {**estimates, "": song}.items()}
    assert above[rest] > 0.99 * above[""]  # of a second, bin k is k Hz
