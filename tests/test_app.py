"""The interface separates what is uploaded, typed or picked, says what goes wrong, and works in a real browser."""

import base64
import importlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import types
import zipfile

import ipywidgets
import nbformat
import numpy as np
import pytest
import soundfile
import torch
from audio_models import Identity, noise, register
from nbformat.v4 import new_code_cell, new_notebook

from helpers.checkpoints import save_checkpoint
from helpers.data import audio
from helpers.data.tracks import Track
from helpers.runtime import ROOT, UserError
from helpers.separation import networks as separation
from helpers.show import app, links
from helpers.show.players import SECONDS
from report import notebooks as report

RATE = 8000
SEVEN = "ipywidgets 7", lambda name, content: {name: {"metadata": {"name": name}, "content": content}}
EIGHT = "ipywidgets 8", lambda name, content: ({"name": name, "size": len(content), "content": memoryview(content)},)
each_version = pytest.mark.parametrize("give", [SEVEN[1], EIGHT[1]], ids=[SEVEN[0], EIGHT[0]])


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, bare_environment):
    register(monkeypatch)
    monkeypatch.setattr(audio, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(separation, "FOLDERS", (tmp_path / "checkpoints",))
    monkeypatch.setattr(app, "ROOT", tmp_path)
    save_checkpoint(tmp_path / "checkpoints" / "mine.pt", Identity(RATE))
    return tmp_path


@pytest.fixture
def made(home):
    return app.SeparationApp(["mine"], device="cpu", folder=home / "out")


def content(waveform, rate=RATE, subtype="PCM_16", form="WAV"):
    """Return the bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, waveform.T.numpy(), rate, subtype, format=form)
    return file.getvalue()


def upload(made, value):
    """Put a value of either version of ipywidgets where the uploads arrive."""
    made.upload = types.SimpleNamespace(value=value)


def separate(made):
    made.button.click()
    made.worker.join(60)
    assert not made.button.disabled and made.stop.disabled
    return made.status.value


def saved(made):
    """Return {name: bytes} of the downloads."""
    text = "".join(child.value for child in made.results.children if isinstance(child, ipywidgets.HTML))
    found = re.findall(r'<a download="([^"]+)"[^>]* href="data:[\w/]+;base64,([^"]+)">', text)
    return {name: base64.b64decode(data, validate=True) for name, data in found}


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---- what goes in and out ----------------------------------------------------------------------------------------


@each_version
def test_an_uploaded_song_is_separated_shown_and_can_be_downloaded(made, home, give):
    wave = noise(2, 2 * RATE)
    upload(made, give("my song.wav", content(wave)))
    said = separate(made)
    assert "my song (2 s): separated with mine in" in said and 'role="status"' in said and made.bar.value == 1
    slider, rows, *_ = made.results.children
    assert rows.value.count("<audio") == rows.value.count("<img") == 3 and slider.layout.display == "none"
    found = saved(made)
    assert list(found) == ["my song-vocals.flac", "my song-accompaniment.flac", "my song.zip"]
    given = audio.read_audio(home / "out/my song/my song.wav")[0]
    for name, part in (("vocals", 0.75), ("accompaniment", 0.25)):
        written = audio.read_audio(home / f"out/my song/mine/{name}.wav")[0]
        assert (written - part * given).abs().max() < 2e-3
        samples, rate = soundfile.read(io.BytesIO(found[f"my song-{name}.flac"]), dtype="float32")
        assert rate == RATE and np.array_equal(samples, written.T.numpy())
    with zipfile.ZipFile(io.BytesIO(found["my song.zip"])) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == dict(list(found.items())[:2])
    assert "out/my song/mine" in made.results.children[-1].value


def test_a_path_or_a_track_does_as_well(home):
    wave = noise(1, RATE)
    audio.write_audio(home / "a.flac", wave, RATE)
    track = Track.from_waveforms("clip/1", RATE, {"vocals": wave, "rest": 12 * wave})
    made = app.SeparationApp(["mine"], [track], "cpu", home / "out")
    assert made.song.value is track and made.upload.layout.display == made.path.layout.display == "none"
    assert "1 (1 s): separated" in separate(made)
    mixture = audio.read_audio(home / "out/1/mixture.wav")[0]
    assert mixture.abs().max() > 1 and torch.allclose(mixture, 13 * wave, atol=1e-5)  # beyond full scale: as floats
    assert list(saved(made)) == ["1-vocals.wav", "1-accompaniment.wav", "1.zip"]
    made.song.value, made.path.value = app.PATH, f" {home / 'a.flac'} "
    assert made.path.layout.display is None and "a (1 s): separated" in separate(made)
    assert list(saved(made)) == ["a-vocals.flac", "a-accompaniment.flac", "a.zip"]
    assert (home / "a.flac").exists()


def test_a_song_of_a_lower_rate_than_the_model_s_is_separated_with_a_warning(made, home):
    save_checkpoint(home / "checkpoints" / "mine.pt", Identity(2 * RATE))
    upload(made, EIGHT[1]("low.wav", content(noise(1, RATE))))
    assert "separated with mine" in separate(made)
    assert ">low.wav has a sample rate of 8,000 Hz, the model one of 16,000 Hz" in made.warning.value
    upload(made, EIGHT[1]("high.wav", content(noise(1, RATE), 2 * RATE)))
    assert "separated with mine" in separate(made) and made.warning.value == ""


def test_a_baseline_shows_how_far_it_is(home, monkeypatch):
    def load(*arguments, **options):
        separator = separation.load_separator(*arguments, **options)
        separator.chunk, separator.overlap = 1.0, 0.25
        return separator

    shown = []
    monkeypatch.setattr(app, "load_separator", load)
    monkeypatch.setattr(app.SeparationApp, "_progress", lambda self, done: shown.append(done))
    made = app.SeparationApp(["hpss"], folder=home / "out")
    upload(made, EIGHT[1]("a.wav", content(noise(1, 2 * RATE))))
    assert "separated with hpss" in separate(made) and shown == [1 / 3, 2 / 3, 1]


def test_of_a_long_song_any_part_can_be_heard(made, home):
    quiet = torch.zeros(1, round(3 * SECONDS * RATE))
    quiet[:, -RATE:] = noise(1, RATE)
    audio.write_audio(home / "long.wav", quiet, RATE)
    made.song.value, made.path.value = app.PATH, str(home / "long.wav")
    separate(made)
    slider, rows, *_ = made.results.children
    assert slider.layout.display is None and slider.max == 2 * SECONDS

    def loudest():
        data = re.search(r'src="data:audio/\w+;base64,([^"]+)"', rows.value)[1]
        return np.abs(soundfile.read(io.BytesIO(base64.b64decode(data)))[0]).max()

    assert loudest() < 1e-3
    slider.value = slider.max
    assert loudest() > 0.05
    (home / "long.wav").unlink()
    slider.value = 0
    assert "there is no file" in made.status.value  # and not only in a log


def test_a_new_song_takes_the_old_one_s_widgets_out_of_memory(made):
    upload(made, EIGHT[1]("a.wav", content(noise(1, RATE))))
    separate(made)
    old = made.results.children
    separate(made)
    assert len(made.results.children) == len(old) and not set(made.results.children) & set(old)
    assert all(widget.comm is None for widget in old)


def test_songs_too_large_for_links_are_told_where_they_lie(made, monkeypatch):
    monkeypatch.setattr(links, "LINKED", 10_000)
    upload(made, EIGHT[1]("a.wav", content(noise(1, RATE))))
    separate(made)
    text = " ".join(child.value for child in made.results.children if isinstance(child, ipywidgets.HTML))
    assert "too large for links" in text and "out/a/mine" in text and not saved(made)


def test_colab_hands_over_large_files_itself(made, home, monkeypatch):
    given = []
    colab = types.SimpleNamespace(download=given.append)
    monkeypatch.setitem(sys.modules, "google.colab.files", colab)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "test")
    monkeypatch.setattr(links, "LINKED", 10_000)
    upload(made, EIGHT[1]("a.wav", content(noise(1, RATE))))
    separate(made)
    for button in made.results.children[2:-1]:
        button.click()
    folder = home / "out/a/mine"
    assert given == [str(folder / name) for name in ("vocals.wav", "accompaniment.wav", "a.zip")]
    with zipfile.ZipFile(folder / "a.zip") as archive:
        assert archive.read("a-vocals.wav") == (folder / "vocals.wav").read_bytes()


# ---- what goes wrong ---------------------------------------------------------------------------------------------

NAN = content(torch.full((1, 100), torch.nan), subtype="FLOAT")
BAD = {
    "empty.wav": (b"", "cannot be read as audio"),
    "text.mp3": (b"no sound at all, only words\n" * 40, "cannot be read as audio"),
    "short.wav": (content(noise(1, 0)), "holds no samples"),
    "nan.wav": (NAN, "no finite numbers"),
}


@each_version
@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_a_sentence_and_leaves_nothing_behind(made, home, give, name):
    upload(made, give(name, BAD[name][0]))
    said = separate(made)
    assert BAD[name][1] in said and f">{name}" in said and 'role="alert"' in said and "<details>" not in said
    assert not made.results.children and files(home / "out") == []
    upload(made, give("good.wav", content(noise(1, RATE))))
    assert "separated with mine" in separate(made)


@pytest.mark.parametrize(
    ("chosen", "path", "words"),
    [
        (app.UPLOAD, "", "no file was uploaded: choose one"),
        (app.PATH, " ", "no path was given: type"),
        (app.PATH, "/no/<b>song.wav", "there is no file /no/&lt;b&gt;song.wav"),
    ],
)
def test_no_file_is_a_sentence_too(made, chosen, path, words):
    made.song.value, made.path.value = chosen, path
    assert words in separate(made)


@each_version
def test_it_says_what_was_uploaded_and_what_limits_there_are(made, monkeypatch, give):
    assert "JupyterLab loses uploads over about 10 MB" in made.hint.value
    monkeypatch.setenv("VOILA_SERVER_URL", "/")
    assert made._hint() == ""
    upload(made, give("<my> song.wav", bytes(1_260_000)))
    assert made._hint() == "&lt;my&gt; song.wav, 1.3 MB"


def test_a_mistake_in_the_code_is_shown_with_its_type_and_place(made, monkeypatch):
    monkeypatch.setattr(app, "load_separator", lambda *_, **__: 1 / 0)
    upload(made, EIGHT[1]("a.wav", content(noise(1, RATE))))
    said = separate(made)
    assert "ZeroDivisionError: division by zero" in said and "Traceback" in said.split("<details>")[1]


def test_a_second_click_is_refused_and_stop_stops(made, home, monkeypatch):
    started, go = [], threading.Event()

    def load(name, device, progress):
        def separator(waveform, sample_rate):
            started.append(name)
            assert go.wait(30)
            progress(0.5)
            raise AssertionError("it went on")

        return separator

    monkeypatch.setattr(app, "load_separator", load)
    upload(made, EIGHT[1]("a.wav", content(noise(1, RATE))))
    made.button.click()
    assert made.button.disabled and not made.stop.disabled
    made.button.click()
    made.stop.click()
    go.set()
    assert "stopped" in separate_joined(made) and started == ["mine"]
    assert files(home / "out") == []


def separate_joined(made):
    made.worker.join(60)
    return made.status.value


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("song.wav", "song.wav"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Music\\my song.mp3", "my song.mp3"),
        ("..", "song"),
        ('a<b>"c.wav', "a_b__c.wav"),
        ("Gnossienne nº 1.flac", "Gnossienne nº 1.flac"),
        ("x" * 300 + ".wav", "x" * 96 + ".wav"),
    ],
)
def test_names_of_uploads_are_made_harmless(text, name):
    assert app.safe_name(text) == name


# ---- what is offered ---------------------------------------------------------------------------------------------


def test_the_best_network_comes_first_and_what_cannot_separate_is_left_out(monkeypatch):
    rows = [
        {"model": "digits", "kind": "image", "measured": "PSNR 30.00 dB"},
        {"model": "b", "kind": "audio, 16 kHz", "measured": "not measured"},
        {"model": "a", "kind": "audio, 16 kHz", "measured": "vocals GNSDR 3.10 dB (X, test)"},
        {"model": "c", "kind": "audio, 16 kHz", "measured": "vocals NSDR 10.20 dB (X, test)"},
        {"model": "lstm", "kind": "not trained yet", "measured": ""},
        {"model": "mixture", "kind": "baseline", "measured": "vocals GNSDR 0.00 dB (X, test)"},
        {"model": "worse", "kind": "baseline", "measured": "vocals GNSDR -1.00 dB (X, test)"},
        {"model": "better", "kind": "baseline", "measured": "vocals GNSDR 20.00 dB (X, test)"},
        {"model": "ibm", "kind": "oracle", "measured": "vocals GNSDR 30.00 dB (X, test)"},
    ]
    monkeypatch.setattr(app, "list_models", lambda: rows)
    made = app.SeparationApp()
    assert list(made.model.options) == ["c", "a", "b", "better", "worse"]
    assert ">audio, 16 kHz; vocals NSDR 10.20 dB (X, test)<" in made.measured.value
    with pytest.raises(ValueError, match="no models"):
        app.SeparationApp([])


def test_a_notebook_executed_without_a_reader_keeps_a_table_and_no_widget(tmp_path):
    cell = new_code_cell('from helpers.show.app import show_app\nshow_app(["hpss", "mine"])')
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    done = nbformat.read(report.execute_notebook(tmp_path / "a.ipynb", tmp_path / "out"), as_version=4)
    (output,) = [output for output in done.cells[0].outputs if output.output_type == "display_data"]
    assert sorted(output.data) == ["text/html", "text/plain"] and "widgets" not in done.metadata
    assert "<td>hpss</td><td>baseline</td>" in output.data["text/html"] and "Run this cell" in output.data["text/html"]


def test_where_somebody_can_click_there_is_the_widget(monkeypatch):
    shown = []
    monkeypatch.setattr(app, "display", shown.append)
    for asks, voila, live in ((True, False, True), (False, False, False), (False, True, True)):
        kernel = types.SimpleNamespace(get_parent=lambda channel, asks=asks: {"content": {"allow_stdin": asks}})
        monkeypatch.setattr(app, "get_ipython", lambda kernel=kernel: types.SimpleNamespace(kernel=kernel))
        if voila:
            monkeypatch.setenv("VOILA_SERVER_URL", "/")
        app.show_app(["mine"])
        assert isinstance(shown.pop(), app.SeparationApp) is live
    monkeypatch.setattr(app, "get_ipython", lambda: None)
    assert not app.is_live()


def test_without_voila_serving_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="`pip install voila`"):
        app.serve()


# ---- in a browser ------------------------------------------------------------------------------------------------

PATIENCE = float(os.environ.get("BSS_BROWSER_SECONDS", 90))  # for each thing that is waited for
TAKE_DIALOG = """
HTMLInputElement.prototype.click = function () {
  this.id = "dialog"; this.style.display = "block"; document.body.appendChild(this);
};"""  # the file dialog, which no script can fill in, becomes a field that one can
PLAY = """
const [player, done] = [arguments[0], arguments[1]];
player.ontimeupdate = () => { if (player.currentTime > 0.3) done(player.duration); };
player.play().catch(error => done(String(error)));"""


@pytest.fixture
def address():
    """Serve the interface by Voilà for one test; give its address."""
    if importlib.util.find_spec("voila") is None:
        pytest.skip("Voilà is not installed: pip install voila")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", f"from helpers.show.app import serve; serve({port}, browser=False)"]
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as server:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
        os.killpg(server.pid, 15)


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium that saves downloads in `tmp_path`/saved."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed: pip install selenium")
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("Chromium is not installed: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1200,1600"):
        options.add_argument(f"--{flag}")
    options.add_argument("--autoplay-policy=no-user-gesture-required")
    options.page_load_strategy = "none"  # what is waited for is said below
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "saved")})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    window.set_script_timeout(PATIENCE)
    yield window
    window.quit()


def wait_for(look):
    """Return what `look` finds as soon as it finds something."""
    until = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.1)
    return found


def test_in_a_browser_a_song_is_uploaded_separated_played_and_downloaded(address, browser, tmp_path):
    def find(selector):
        return browser.find_elements("css selector", selector)

    def press(label):
        buttons = wait_for(lambda: [one for one in find("button") if one.text.strip().startswith(label)])
        wait_for(buttons[0].is_enabled)
        buttons[0].click()

    def give(path):
        browser.execute_script(TAKE_DIALOG + 'document.getElementById("dialog")?.remove();')
        press("Upload")
        wait_for(lambda: find("#dialog"))[0].send_keys(str(path))
        wait_for(lambda: f"{path.name}, 0." in browser.find_element("css selector", "body").text)
        press("Separate")

    audio.write_audio(tmp_path / "browser test.wav", noise(2, 2 * 16_000), 16_000)
    (tmp_path / "browser bad.wav").write_text("no sound")
    browser.get(address)
    songs, models = wait_for(lambda: len(found := find("select")) == 2 and found)
    songs.send_keys("a file to")
    models.send_keys("hpss")
    try:
        give(tmp_path / "browser bad.wav")
        said = wait_for(lambda: find("[role=alert]"))[0].text
        assert "browser bad.wav cannot be read as audio" in said and not find("audio")
        give(tmp_path / "browser test.wav")
        players = wait_for(lambda: find("audio"))
        assert len(players) == 3 and not find("[role=alert]")
        for player in players:
            assert browser.execute_async_script(PLAY, player) == pytest.approx(2, abs=0.2)
        assert all(picture.size["width"] > 300 for picture in find("img"))
        names = ["browser test-vocals.flac", "browser test-accompaniment.flac", "browser test.zip"]
        for link in wait_for(lambda: len(found := find("a[download]")) == 3 and found):
            link.click()
        saved = [tmp_path / "saved" / name for name in names]
        wait_for(lambda: all(path.exists() for path in saved))
        assert [audio.audio_shape(path) for path in saved[:2]] == [audio.Shape(16_000, 2, 32_000)] * 2
        with zipfile.ZipFile(saved[2]) as archive:
            assert archive.namelist() == names[:2] and archive.testzip() is None
    finally:
        shutil.rmtree(app.FOLDER / "browser test", ignore_errors=True)
