"""The separation app separates what is uploaded, typed or picked, says what goes wrong, and leaves no widget behind."""

import base64
import io
import re
import sys
import types
from functools import partial

import ipywidgets
import numpy as np
import pytest
import soundfile
import torch
from audio_models import Identity, noise
from toy_corpus import track_of

from helpers.data import audio
from helpers.runtime import UserError
from helpers.separation import ModelSeparator
from helpers.show import app, blind, players

RATE = 8000
FORMS = {
    "ipywidgets 7": lambda name, content: {name: {"metadata": {"name": name}, "content": content}},
    "ipywidgets 8": lambda name, content: ({"name": name, "size": len(content), "content": memoryview(content)},),
}
ROWS = [
    {"model": "digits", "kind": "image", "measured": "PSNR 30.00 dB"},
    {"model": "b", "kind": "audio, 16 kHz", "measured": "not measured"},
    {"model": "a", "kind": "audio, 16 kHz", "measured": "vocals GNSDR 3.10 dB (X, test)"},
    {"model": "mine", "kind": "audio, 8 kHz", "measured": "vocals NSDR 10.20 dB (X, test)"},
    {"model": "hurt", "kind": "unreadable", "measured": ""},
    {"model": "mixture", "kind": "baseline", "measured": "vocals GNSDR 0.00 dB (X, test)"},
    {"model": "worse", "kind": "baseline", "measured": "vocals GNSDR -1.00 dB (X, test)"},
    {"model": "better", "kind": "baseline", "measured": "vocals GNSDR 20.00 dB (X, test)"},
    {"model": "ibm", "kind": "oracle", "measured": "vocals GNSDR 30.00 dB (X, test)"},
]


def load_identity(name, **settings):
    """Stands for load_separator: the sources are known parts of the mixture."""
    return ModelSeparator(Identity(RATE), "cpu", **settings)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The app offers the models of ROWS, all of them the same, and writes to a temporary folder."""
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.setattr(app, "list_models", lambda: ROWS)
    monkeypatch.setattr(app, "by_use", lambda rows: [("your songs", ROWS[3])])
    monkeypatch.setattr(app, "FOLDER", tmp_path / "out")
    monkeypatch.setattr(app, "load_separator", load_identity)
    monkeypatch.setattr(players, "_pictures", lambda clips, *_: dict.fromkeys(clips, b""))  # slow, and tested elsewhere
    return tmp_path


def content(waveform, rate=RATE, subtype="PCM_16"):
    """Return the bytes of a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, waveform.T.numpy(), rate, subtype, format="WAV")
    return file.getvalue()


def uploading():
    """Return the app of one track, where a file to upload is chosen instead."""
    made = app.SeparationApp([track_of("clip", RATE, {"vocals": noise(1, RATE)})])
    made.song.value = app.UPLOAD
    return made


def separate(made):
    made.button.click()
    assert not made.button.disabled
    return made.status.value


def upload(made, name, given, form="ipywidgets 8"):
    """Put a value of either version of ipywidgets where the uploads arrive, and separate."""
    made.upload = types.SimpleNamespace(value=FORMS[form](name, given))
    return separate(made)


def downloads(made):
    """Return {name: bytes} of the links."""
    links = re.findall(r'<a download="([^"]+)" href="data:audio/wav;base64,([^"]+)">', made.results.children[-1].value)
    return {name: base64.b64decode(data, validate=True) for name, data in links}


# ---- what goes in and out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_an_uploaded_song_is_separated_shown_and_can_be_downloaded(home, form):
    made, wave = uploading(), noise(2, 2 * RATE)
    assert "my song: separated with mine into" in upload(made, "my song.wav", content(wave), form)
    rows, _ = made.results.children
    assert rows.value.count("<audio") == rows.value.count("<img") == 3 and made.bar.value == 1
    given = audio.read_audio(home / "out/my song/my song.wav")[0]
    for name, part in (("vocals", 0.75), ("accompaniment", 0.25)):
        written = audio.read_audio(home / f"out/my song/mine/{name}.wav")[0]
        assert (written - part * given).abs().max() < 2e-3
        samples, rate = soundfile.read(io.BytesIO(downloads(made)[f"my song-{name}.wav"]), dtype="float32")
        assert rate == RATE and np.array_equal(samples, written.T.numpy())


def test_a_path_or_a_track_does_as_well(home):
    wave = noise(1, RATE)
    audio.write_audio(home / "a.flac", wave, RATE)
    track = track_of("clip/1", RATE, {"vocals": wave, "rest": 12 * wave})
    made = app.SeparationApp([track])
    assert made.song.value is track and made.upload.layout.display == made.path.layout.display == "none"
    assert "1: separated" in separate(made)
    mixture = audio.read_audio(home / "out/1/mixture.wav")[0]
    assert mixture.abs().max() > 1 and torch.allclose(mixture, 13 * wave, atol=1e-5)  # beyond full scale: as floats
    made.song.value, made.path.value = app.PATH, f" {home / 'a.flac'} "
    assert made.path.layout.display is None and "a: separated" in separate(made)
    assert list(downloads(made)) == ["a-vocals.wav", "a-accompaniment.wav"]


def test_on_colab_uploads_go_through_colab_s_own_dialog(home, monkeypatch):
    uploads = [{"big.wav": content(noise(1, 2 * RATE))}, {}]
    files = types.SimpleNamespace(upload=lambda: uploads.pop(0))
    colab = types.ModuleType("google.colab")
    colab.files = files
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "test")
    made = uploading()
    assert isinstance(made.upload, ipywidgets.Button) and "10 MB" not in made.upload.description
    assert "no file was uploaded" in separate(made)
    made.upload.click()
    assert "big: separated with mine" in separate(made)
    made.upload.click()  # and the dialog is cancelled
    assert "no file was uploaded" in separate(made)


def test_elsewhere_it_says_how_large_an_upload_may_be():
    made = uploading()
    assert isinstance(made.upload, ipywidgets.FileUpload) and "over 10 MB" in made.upload.description


def test_the_bar_shows_the_progress(monkeypatch):
    made, shown = uploading(), []
    made.bar.observe(lambda change: shown.append(change["new"]), "value")
    monkeypatch.setattr(app, "load_separator", partial(load_identity, chunk=2.0))
    assert "separated" in upload(made, "a.wav", content(noise(1, 5 * RATE)))
    assert len(shown) > 2 and shown == sorted(shown) and shown[-1] == 1


def test_any_part_of_a_long_song_can_be_heard(home):
    quiet = torch.zeros(1, 36 * RATE)
    quiet[:, -RATE:] = noise(1, RATE)
    audio.write_audio(home / "long.wav", quiet, RATE)
    made = uploading()
    made.song.value, made.path.value = app.PATH, str(home / "long.wav")
    separate(made)
    slider, rows, _ = made.results.children
    assert slider.max == 24

    def loudest():
        data = re.search(r'src="data:audio/\w+;base64,([^"]+)"', rows.value)[1]
        return np.abs(soundfile.read(io.BytesIO(base64.b64decode(data)))[0]).max()

    assert loudest() < 1e-3
    slider.value = slider.max
    assert loudest() > 0.05
    (home / "long.wav").unlink()
    slider.value = 0
    assert "there is no file" in made.status.value


def test_a_song_of_a_lower_rate_than_the_model_s_is_separated_with_a_warning():
    made = uploading()
    said = upload(made, "low.wav", content(noise(1, RATE), RATE // 2))
    assert "separated with mine" in said and "has a sample rate of 4,000 Hz, the model one of 8,000 Hz" in said


def test_songs_too_large_for_links_are_left_in_their_folder(monkeypatch):
    monkeypatch.setattr(app, "LINKED", 10_000)
    made = uploading()
    assert "out/a/mine" in upload(made, "a.wav", content(noise(1, RATE)))
    assert "too much for download links" in made.results.children[-1].value and not downloads(made)


# ---- what goes wrong ---------------------------------------------------------------------------------------------

BAD = {
    "text.mp3": (b"no sound at all, only words\n" * 40, "cannot be read as audio"),
    "short.wav": (content(noise(1, 0)), "holds no samples"),
    "nan.wav": (content(torch.full((1, 100), torch.nan), subtype="FLOAT"), "no finite numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_a_sentence_and_the_next_one_is_separated(name):
    made = uploading()
    said = upload(made, name, BAD[name][0])
    assert BAD[name][1] in said and name in said and "#c62828" in said and not made.results.children
    assert "separated with mine" in upload(made, "good.wav", content(noise(1, RATE)))


@pytest.mark.parametrize(
    ("chosen", "path", "words"),
    [
        (app.UPLOAD, "", "no file was uploaded: choose one"),
        (app.PATH, " ", "no path was given: type"),
        (app.PATH, "/no/<b>song.wav", "there is no file /no/&lt;b&gt;song.wav"),
    ],
)
def test_no_file_is_a_sentence_too(chosen, path, words):
    made = uploading()
    made.song.value, made.path.value = chosen, path
    assert words in separate(made)


@pytest.mark.parametrize(
    ("error", "words"),
    [(UserError("get another file"), ">get another file<"), (KeyboardInterrupt(), ">interrupted<")],
)
def test_errors_and_an_interrupted_kernel_are_shown(monkeypatch, error, words):
    def load(name):
        raise error

    monkeypatch.setattr(app, "load_separator", load)
    assert words in upload(uploading(), "a.wav", content(noise(1, RATE)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Music\\my song.mp3", "my song.mp3"),
        ("..", "song"),
        ('a<b>"c.wav', "a_b__c.wav"),
        ("x" * 300 + ".wav", "x" * 96 + ".wav"),
    ],
)
def test_names_of_uploads_are_made_harmless(text, name):
    assert app.safe_name(text) == name


# ---- what is offered ---------------------------------------------------------------------------------------------


def test_what_is_recommended_comes_first_and_what_cannot_separate_is_left_out():
    options = uploading().model.options
    assert [value for _, value in options] == ["mine", "b", "a", "worse", "better"]
    assert options[0][0] == "mine: vocals NSDR 10.20 dB (X, test)"
    tracks = [track_of("clip", RATE, {"vocals": noise(1, RATE)})]
    asked = app.SeparationApp(tracks, model="worse").model
    assert asked.value == "worse" and [value for _, value in asked.options] == ["worse", "mine", "b", "a", "better"]
    assert app.SeparationApp(tracks, model="not there").model.value == "mine"


@pytest.mark.parametrize("asks", [True, False])
def test_only_where_somebody_can_click_there_are_widgets(monkeypatch, asks):
    shown = []
    kernel = types.SimpleNamespace(get_parent=lambda channel: {"content": {"allow_stdin": asks}})
    monkeypatch.setattr(app, "display", shown.append)
    monkeypatch.setattr(app, "get_ipython", lambda: types.SimpleNamespace(kernel=kernel))
    app.show_app([track_of("clip", RATE, {"vocals": noise(1, RATE)})], model="b")
    assert isinstance(shown[0], ipywidgets.Widget) is asks


def test_what_is_saved_looks_like_the_app_after_a_song():
    track = track_of("clip <1>", RATE, {"vocals": noise(1, RATE), "rest": noise(1, RATE, seed=1)})
    page = app.picture_of([track], model="b")
    assert "b: not measured" in page and page.count("<audio") == 3 and "clip <1>" not in page and "vocals.wav" in page
    assert "mine: " in app.picture_of([track])  # the recommended one


# ---- a blind comparison ------------------------------------------------------------------------------------------


def pairs():
    return {f"pair {n}": {"one": noise(1, RATE), "other": noise(1, RATE, seed=1)} for n in range(8)}


@pytest.fixture
def shown(monkeypatch):
    """What a blind test displays where nobody can click."""
    displayed = []
    monkeypatch.setattr(blind, "display", displayed.append)
    monkeypatch.setattr(blind, "is_live", lambda: False)
    return displayed


def test_without_a_reader_the_solution_is_folded_away_and_always_the_same(shown):
    blind.blind_test(pairs(), RATE)
    players_part, _, folded = shown[0].data.partition("<details>")
    assert players_part.count("<audio") == 16 and "other" not in players_part and folded.count(" is one") == 8
    first = re.findall(r"pair \d: A is (\w+), B is (\w+)", folded)
    assert len(first) == 8 and set(first) == {("one", "other"), ("other", "one")}
    blind.blind_test(pairs(), RATE)
    assert shown[1].data.partition("<details>")[2] == folded
    with pytest.raises(ValueError, match="zip"):
        blind.blind_test({"three": dict.fromkeys("abc", noise(1, RATE))}, RATE)


def test_a_choice_is_told_by_its_name(shown, monkeypatch):
    blind.blind_test(pairs(), RATE)
    letters = re.findall(r"pair \d: A is (\w+), B is (\w+)", shown[0].data)
    monkeypatch.setattr(blind, "is_live", lambda: True)
    blind.blind_test(pairs(), RATE)
    *parts, result = shown[1].children
    buttons = [box.children for box in parts if isinstance(box, ipywidgets.HBox)]
    buttons[0][1].click()
    assert result.value == f"pair 0: you chose <b>{letters[0][1]}</b>"
    buttons[2][0].click()
    buttons[0][0].click()
    assert result.value == f"pair 0: you chose <b>{letters[0][0]}</b><br>pair 2: you chose <b>{letters[2][0]}</b>"
