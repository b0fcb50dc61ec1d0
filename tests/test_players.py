"""listen() holds the sounds it is given, at their levels, and says where it must change them."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile
import torch
from audio_models import noise
from IPython.display import HTML
from PIL import Image

from helpers.runtime import UserError
from helpers.show import listen
from helpers.show.figures import COLOURS

RATE = 16_000


def sine(frequency, seconds=1.0, rate=RATE, level=0.5):
    times = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (level * torch.sin(2 * torch.pi * frequency * times)).float()[None]


def sounds(shown):
    """Return (samples (time, channels), rate) of every player."""
    decoded = []
    for media, text in re.findall(r'<audio controls[^>]* src="data:audio/(\w+);base64,([^"]+)"></audio>', shown.data):
        with soundfile.SoundFile(io.BytesIO(base64.b64decode(text, validate=True))) as file:
            assert (media, file.format) == ("mpeg", "MP3")
            decoded.append((file.read(always_2d=True), file.samplerate))
    return decoded


def pictures(shown):
    texts = re.findall(r'<img[^>]* src="data:image/png;base64,([^"]+)"', shown.data)
    return [Image.open(io.BytesIO(base64.b64decode(text, validate=True))).convert("RGB") for text in texts]


def level(samples):
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.sqrt((middle**2).mean()))


def test_one_row_per_source_with_name_player_and_picture():
    shown = listen({"mixture": sine(440), "vocals <b>": sine(880), "rest": sine(220)}, RATE)
    assert isinstance(shown, HTML) and shown.data.count("<audio") == 3 and len(pictures(shown)) == 3
    assert all(name in shown.data for name in ("mixture", "vocals &lt;b&gt;", "rest", COLOURS["vocals"]))
    assert "would clip" not in shown.data and "http" not in shown.data
    for (samples, rate), frequency in zip(sounds(shown), (440, 880, 220), strict=True):
        assert rate == RATE and abs(len(samples) - RATE) < 0.1 * RATE
        spectrum = np.abs(np.fft.rfft(samples[2000:14_000, 0]))
        assert spectrum.argmax() * RATE / 12_000 == pytest.approx(frequency, abs=2)


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
    ("rate", "channels", "expected"), [(8000, 1, (8000, 1)), (44_100, 2, (44_100, 2)), (96_000, 6, (48_000, 1)),
                                       (30_000, 2, (32_000, 2))]
)  # fmt: skip
def test_any_rate_and_number_of_channels_can_be_heard(rate, channels, expected):
    ((samples, played_rate),) = sounds(listen({"a": sine(440, 0.5, rate).expand(channels, -1)}, rate))
    assert (played_rate, samples.shape[1]) == expected
    assert len(samples) / played_rate == pytest.approx(0.5, abs=0.15)
    assert level(samples) == pytest.approx(0.354, rel=0.05)


def test_the_part_asked_for_is_heard():
    wave = torch.cat([sine(440, 2.0), sine(880, 20.0)], dim=1)
    ((samples, *_),) = sounds(listen({"a": wave}, RATE, seconds=1, start=2.5))
    assert np.abs(np.fft.rfft(samples[:16_000, 0])).argmax() == pytest.approx(880, abs=3)
    ((samples, *_),) = sounds(listen({"a": wave}, RATE))
    assert len(samples) / RATE == pytest.approx(12, abs=0.15)


def test_parts_that_are_not_there_are_refused():
    wave = sine(440, 2.0)
    for wrong in (wave[0], wave[:, :0]):
        with pytest.raises(ValueError, match="must be .channels, time."):
            listen({"a": wrong}, RATE)
    for options in ({"start": 30}, {"start": -1}, {"seconds": 0}):
        with pytest.raises(ValueError, match="must be .channels, time. and go on after"):
            listen({"a": wave}, RATE, **options)
    with pytest.raises(UserError, match="'bad' holds NaN"):
        listen({"bad": wave * torch.nan}, RATE)


def test_rows_are_light():
    shown = listen({"a": noise(2, 12 * 44_100)}, 44_100)  # noise compresses worst
    assert len(shown.data) < 600_000


def test_silence_and_single_samples_can_be_shown():
    shown = listen({"silent": torch.zeros(1, 4000), "short": torch.ones(1, 1)}, RATE)
    assert len(pictures(shown)) == 2 and not sounds(shown)[0][0].any()


def test_row_pictures_share_their_scales():
    """The same waveform ten times quieter has a smaller waveform and a darker spectrogram."""
    loud, quiet = (
        np.asarray(picture)
        for picture in pictures(listen({"vocals": sine(3000), "vocals too": sine(3000, level=0.05)}, RATE))
    )
    blue = np.array([0x00, 0x72, 0xB2])
    ink = [(np.abs(picture[:90].astype(int) - blue).sum(-1) < 60).sum() for picture in (loud, quiet)]
    assert loud.shape == quiet.shape and ink[0] > 3 * ink[1] > 0
    assert loud[110:200].max(-1).sum() > quiet[110:200].max(-1).sum()


def test_remarks_stand_at_their_players_and_the_source_named_first_gives_the_colour():
    shown = listen({"vocals: mixture's phase": sine(440)}, RATE, remarks={"vocals: mixture's phase": "NSDR < 3 dB"})
    assert "NSDR &lt; 3 dB" in shown.data and f"solid {COLOURS['vocals']}" in shown.data
