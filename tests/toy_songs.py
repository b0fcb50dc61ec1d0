"""Tiny songs in the layouts of the corpora, for the tests of helpers.data.corpora and helpers.data.layouts."""

from toy_corpus import STEMS, noise

from helpers.data import audio, decoding

RATE = 44_100


def write_song(folder, frames=3000, seed=0, names=STEMS, mixture=True, channels=2, ending="wav", rate=RATE):
    waves = {name: noise(channels, frames, seed * 10 + number) for number, name in enumerate(names)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, wave in waves.items():
        audio.write_audio(folder / f"{name}.{ending}", wave, rate)
    if mixture:
        audio.write_audio(folder / f"mixture.{ending}", sum(waves.values()), rate)
    return waves


def stub_streams(monkeypatch, waves, tmp_path):
    """Let the five streams of every .stem.mp4 be these waveforms, as ffmpeg would unpack them."""
    unpacked = []

    def unpack(path, stream):
        unpacked.append(path.name)
        audio.write_audio(tmp_path / "unpacked" / f"{stream}.wav", waves[stream], RATE)
        return tmp_path / "unpacked" / f"{stream}.wav"

    monkeypatch.setattr(decoding, "unpack_stream", unpack)
    return unpacked
