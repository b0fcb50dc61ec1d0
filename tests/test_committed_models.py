"""The models that come with the project load, keep the contract, and separate music they were not trained on."""

import math

import pytest
import torch

from helpers.checkpoints import load_checkpoint
from helpers.data.corpora import load_corpus
from helpers.data.tracks import Track
from helpers.runtime import COMMITTED_PROFILES, ROOT
from helpers.separation.evaluation import evaluate
from helpers.separation.networks import ModelSeparator, load_separator

PATHS = sorted((ROOT / "checkpoints").glob("*.pt"))
MUSIC = [path for path in PATHS if not path.stem.startswith("01_")]
# Trained for minutes to paint spectrograms or waveforms: they do not carry over to songs made by code.
SPECIALISTS = {"spectrogram-unet", "wave-unet", "unet-songs", "unet-stems"}
LARGEST = 16_000_000  # bytes


def song(stems):
    """Ten seconds of an embedded test song at 44.1 kHz, as songs are: all of it made by code."""
    corpus = load_corpus("embedded", "test", sample_rate=44_100, mono=True)
    track = (corpus if stems == 4 else corpus.vocals_and_accompaniment())[0]
    sources = {name: track.source(name, 0, 10 * 44_100) for name in track.stems}
    return Track.from_waveforms(track.name, 44_100, sources)


def gains(model):
    """{source: NSDR in dB} of that song."""
    rows = evaluate({"model": ModelSeparator(model, "cpu")}, [song(len(model.sources))]).rows()
    return {row["source"]: row["NSDR"] for row in rows}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_checkpoint_says_what_it_was_made_of(path):
    assert path.stat().st_size < LARGEST
    _, facts = load_checkpoint(path)
    assert facts["profile"] in COMMITTED_PROFILES and facts["device"] and math.isfinite(facts["validation_loss"])
    assert facts["data"] and "embedded" not in facts["data"]


@pytest.mark.parametrize("path", MUSIC, ids=lambda path: path.stem)
def test_a_music_model_takes_apart_a_song_of_another_kind(path):
    model, _ = load_checkpoint(path)
    gained = gains(model)
    if path.stem in SPECIALISTS:
        torch.manual_seed(0)
        assert gained["vocals"] > gains(type(model)(**model.arguments))["vocals"] + 3  # dB above an untrained network
    else:
        assert {source: gain > 2 for source, gain in gained.items()} == {"vocals": True, "accompaniment": True}


def test_the_command_line_s_names_are_those_of_the_files():
    assert {path.stem for path in PATHS} >= {"01_vae", "01_unet"}
    networks = {"music-vae": "MusicVAE", "feedforward": "SingleFrameNet", "lstm": "LSTMNet", "mir1k-lstm": "LSTMNet"}
    networks |= {"band-split": "BandSplitModel", "mask-unet": "MaskUNet", "wave-unet": "WaveUNet"}
    networks |= {"spectrogram-unet": "SpectrogramUNet", "unet-songs": "SpectrogramUNet", "deep-unet": "DeepUNet"}
    for name, network in networks.items():
        separator = load_separator(name, "cpu")
        assert type(separator.model).__name__ == network and separator.sources == ("vocals", "accompaniment")
