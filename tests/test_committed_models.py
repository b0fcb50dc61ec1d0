"""The models that come with the project load, keep the contract, and separate music they were not trained on."""

import math

import pytest

from helpers.checkpoints import load_checkpoint
from helpers.corpora import load_corpus
from helpers.evaluation import evaluate
from helpers.runtime import COMMITTED_PROFILES, ROOT
from helpers.separation import ModelSeparator, load_separator
from helpers.tracks import Track

PATHS = sorted((ROOT / "checkpoints").glob("*.pt"))
LARGEST = 16_000_000  # bytes


@pytest.fixture(scope="module")
def song():
    """Ten seconds of an embedded test song at 44.1 kHz, as songs are: a voice over a band, both made by code."""
    track = load_corpus("embedded", "test", sample_rate=44_100, mono=True).vocals_and_accompaniment()[0]
    sources = {name: track.source(name, 0, 10 * 44_100) for name in track.stems}
    return Track.from_waveforms(track.name, 44_100, sources)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_checkpoint_says_what_it_was_made_of(path):
    assert path.stat().st_size < LARGEST
    _, facts = load_checkpoint(path)
    assert facts["profile"] in COMMITTED_PROFILES and facts["device"] and math.isfinite(facts["validation_loss"])
    assert facts["data"] and "embedded" not in facts["data"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_music_model_takes_apart_a_song_of_another_kind(path, song):
    model, _ = load_checkpoint(path)
    if not hasattr(model, "sample_rate"):
        pytest.skip("a model of images")
    rows = evaluate({path.stem: ModelSeparator(model, "cpu")}, [song]).rows()
    assert {row["source"]: row["NSDR"] > 2 for row in rows} == {"vocals": True, "accompaniment": True}


def test_the_command_line_s_names_are_those_of_the_files():
    assert {path.stem for path in PATHS} >= {"01_vae", "01_unet"}
    networks = {"music-vae": "MusicVAE", "feedforward": "SingleFrameNet", "lstm": "LSTMNet", "mir1k-lstm": "LSTMNet"}
    for name, network in networks.items():
        separator = load_separator(name, "cpu")
        assert type(separator.model).__name__ == network and separator.sources == ("vocals", "accompaniment")
