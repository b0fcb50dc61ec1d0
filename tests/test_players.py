"""listen() carries what it is given, at its level, and says where it must not; spectrograms have true axes."""

import base64
import io
import re

import nbformat
import numpy as np
import pytest
import soundfile
import torch
from audio_models import noise
from IPython.display import HTML
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from helpers.runtime import UserError
from helpers.show import players
from helpers.show.players import listen, spectrograms
from report.pdf import notebook_to_pdf

RATE = 16_000


def sine(frequency, seconds=1.0, rate=RATE, level=0.5):
    times = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (level * torch.sin(2 * torch.pi * frequency * times)).float()[None]


def sounds(shown):
    """Return (samples (time, channels), rate, format) of every player."""
    found = []
    for media, text in re.findall(r'<audio controls[^>]* src="data:audio/(\w+);base64,([^"]+)"></audio>', shown.data):
        with soundfile.SoundFile(io.BytesIO(base64.b64decode(text, validate=True))) as file:
            assert file.format == {"mpeg": "MP3", "ogg": "OGG"}[media]
            found.append((file.read(always_2d=True), file.samplerate, file.format))
    return found


def pictures(shown):
    texts = re.findall(r'<img[^>]* src="data:image/png;base64,([^"]+)"', shown.data)
    return [Image.open(io.BytesIO(base64.b64decode(text, validate=True))).convert("RGB") for text in texts]


def level(samples):
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.sqrt((middle**2).mean()))


# ---- players -----------------------------------------------------------------------------------------------------


def test_one_row_a_source_with_name_player_and_picture():
    shown = listen({"mixture": sine(440), "vocals <b>": sine(880), "rest": sine(220)}, RATE)
    assert isinstance(shown, HTML) and shown.data.count("<audio") == 3
    assert [name in shown.data for name in ("mixture", "vocals &lt;b&gt;", "rest")] == [True] * 3
    assert len(pictures(shown)) == 3 and "would clip" not in shown.data
    for (samples, rate, kind), frequency in zip(sounds(shown), (440, 880, 220), strict=True):
        assert rate == RATE and kind == "MP3" and abs(len(samples) - RATE) < 0.1 * RATE
        spectrum = np.abs(np.fft.rfft(samples[2000:14_000, 0]))
        assert spectrum.argmax() * RATE / 12_000 == pytest.approx(frequency, abs=2)
    assert "http" not in shown.data


def test_levels_are_kept_and_not_evened_out():
    shown = listen({"loud": sine(440, level=0.9), "quiet": sine(440, level=0.009)}, RATE)
    loud, quiet = (level(samples) for samples, *_ in sounds(shown))
    assert loud == pytest.approx(0.9 / 2**0.5, rel=0.05) and quiet == pytest.approx(0.009 / 2**0.5, rel=0.05)


def test_only_clipping_makes_all_rows_quieter_alike_and_it_says_so():
    shown = listen({"loud": sine(440, level=2.0), "quiet": sine(440, level=0.5)}, RATE)
    loud, quiet = (level(samples) for samples, *_ in sounds(shown))
    assert loud == pytest.approx(1 / 2**0.5, rel=0.05) and quiet == pytest.approx(0.25 / 2**0.5, rel=0.05)
    assert "All players are 6.0 dB quieter than the waveforms, which would clip" in shown.data


@pytest.mark.parametrize(
    ("rate", "expected"), [(8000, 8000), (44_100, 44_100), (48_000, 48_000), (96_000, 48_000), (30_000, 32_000)]
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_number_of_channels_can_be_heard(rate, expected, channels):
    wave = sine(440, 0.5, rate).expand(channels, -1)
    ((samples, found, _),) = sounds(listen({"a": wave}, rate))
    assert found == expected and samples.shape[1] == min(channels, 2 if channels < 3 else 1)
    assert len(samples) / found == pytest.approx(0.5, abs=0.15) and level(samples) == pytest.approx(0.354, rel=0.05)


def test_the_part_asked_for_is_heard_and_clips_are_bounded():
    wave = torch.cat([sine(440, 2.0), sine(880, 20.0)], dim=1)
    ((samples, *_),) = sounds(listen({"a": wave}, RATE, seconds=1, start=2.5))
    assert np.abs(np.fft.rfft(samples[:16_000, 0])).argmax() == pytest.approx(880, abs=3)
    ((samples, *_),) = sounds(listen({"a": wave}, RATE))
    assert len(samples) / RATE == pytest.approx(12, abs=0.15)
    for seconds in (0, 31, -1):
        with pytest.raises(ValueError, match="take between 0 and 30 s"):
            listen({"a": wave}, RATE, seconds=seconds)
    for wrong in (wave[0], wave[:, :0]):
        with pytest.raises(ValueError, match="must be .channels, time."):
            listen({"a": wrong}, RATE)
    with pytest.raises(ValueError, match="go on after 30 s"):
        listen({"a": wave}, RATE, start=30)
    with pytest.raises(UserError, match="'bad' holds NaN"):
        listen({"bad": wave * torch.nan}, RATE)
    with pytest.raises(ValueError, match="no waveforms"):
        listen({}, RATE)


def test_ogg_takes_the_place_of_mp3_and_it_says_so(monkeypatch):
    formats = {name: text for name, text in soundfile.available_formats().items() if name != "MP3"}
    monkeypatch.setattr(soundfile, "available_formats", lambda: formats)
    shown = listen({"a": noise(2, 12 * 44_100)}, 44_100)
    ((samples, rate, kind),) = sounds(shown)
    assert kind == "OGG" and samples.shape == (12 * 44_100, 2) and "hold OGG" in shown.data


def test_rows_are_light():
    shown = listen({str(seed): noise(2, 12 * 44_100, seed) for seed in range(3)}, 44_100)  # noise compresses worst
    assert len(shown.data) < 3 * 600_000


def test_silence_and_single_samples_can_be_shown():
    shown = listen({"silent": torch.zeros(1, 4000), "short": torch.ones(1, 1)}, RATE)
    assert len(pictures(shown)) == 2 and not sounds(shown)[0][0].any()


def test_a_pdf_of_it_has_the_pictures_and_says_where_to_listen(tmp_path):
    data = {"text/html": listen({"vocals": sine(440), "drums": noise(1, 9000)}, RATE).data, "text/plain": "HTML"}
    cell = new_code_cell("listen(...)", outputs=[new_output("display_data", data=data)])
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    pdf = notebook_to_pdf(tmp_path / "a.ipynb", tmp_path).read_bytes()
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Subtype /Image") + pdf.count(b"/Subtype/Image") >= 2


# ---- pictures ----------------------------------------------------------------------------------------------------


def test_a_tone_and_a_click_are_where_the_axes_say():
    click = torch.zeros(1, 2 * RATE)
    click[0, RATE] = 1.0
    fig = spectrograms({"tone": sine(2000, 2.0), "click": click}, RATE, 1024, 256)
    for axes, name in zip(fig.axes, ("tone", "click"), strict=False):
        (image,) = axes.images
        shown = np.asarray(image.get_array())
        left, right, bottom, top = image.get_extent()
        bin_, frame = np.unravel_index(shown.argmax(), shown.shape)
        hertz = 1000 * (bottom + (bin_ + 0.5) * (top - bottom) / shown.shape[0])
        second = left + (frame + 0.5) * (right - left) / shown.shape[1]
        if name == "tone":
            assert hertz == pytest.approx(2000, abs=RATE / 1024)
        else:
            assert second == pytest.approx(1.0, abs=256 / RATE)
        assert axes.get_xlim() == (0, 2) and axes.get_ylim() == (0, 8)
    labels = [fig.axes[0].get_ylabel(), fig.get_supxlabel(), fig.axes[-1].get_ylabel()]
    assert labels == ["frequency in kHz", "time in s", "level in dB, 0 is the loudest bin"]


def test_levels_are_decibels_and_the_scale_is_everybodys():
    fig = spectrograms({"loud": sine(2000), "quiet": sine(2000, level=0.05)}, RATE, 1024, 256)
    loud, quiet = (axes.images[0] for axes in fig.axes[:2])
    assert loud.get_clim() == quiet.get_clim() == (-80, 0)
    assert loud.get_array().max() == pytest.approx(0, abs=1e-4)
    assert quiet.get_array().max() == pytest.approx(-20, abs=0.01)


def test_a_lower_frequency_range_and_an_odd_number_of_panels():
    fig = spectrograms({str(number): sine(440) for number in range(3)}, RATE, highest=4000, title="Three")
    assert [axes.get_visible() for axes in fig.axes] == [True, True, True, False, True]
    assert fig.axes[0].get_ylim() == (0, 4)
    assert Image.open(io.BytesIO(fig._repr_png_())).width > 800


def test_row_pictures_share_their_scales():
    """The same waveform ten times quieter: its picture has a smaller waveform and a darker spectrogram."""
    loud, quiet = pictures(listen({"vocals": sine(3000), "vocals too": sine(3000, level=0.05)}, RATE))
    assert loud.size == quiet.size
    text = players.INK["vocals"].lstrip("#")
    blue = np.array([int(text[place : place + 2], 16) for place in (0, 2, 4)])
    ink = [(np.abs(np.asarray(picture)[:80].astype(int) - blue).sum(-1) < 60).sum() for picture in (loud, quiet)]
    assert ink[0] > 3 * ink[1]
    assert np.asarray(loud)[100:].max(-1).sum() > np.asarray(quiet)[100:].max(-1).sum()
