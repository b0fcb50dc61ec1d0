"""`separate`, `evaluate` and `models` as a user calls them: files in and out, bad input of every kind, exit status."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from audio_models import Broken, Identity, noise, register

from helpers import __main__ as program
from helpers import runtime
from helpers.__main__ import main
from helpers.checkpoints import save_checkpoint
from helpers.data import audio, decoding
from helpers.runtime import ROOT
from helpers.separation import catalogue, files, networks
from helpers.separation.every_speed import EverySpeed

RATE = 16_000


class LoudestIsOne(Identity):
    """What it gives of a chunk depends on all of the chunk."""

    def forward(self, batch):
        return super().forward(batch) / batch.abs().amax(dim=(1, 2))[:, None, None, None]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, bare_environment):
    register(monkeypatch)
    monkeypatch.setattr("helpers.runtime.cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(runtime, "BUILD", tmp_path / "build")
    monkeypatch.setattr(catalogue, "FOLDERS", (tmp_path / "checkpoints",))
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "checkpoints" / "mine.safetensors", Identity(8000))
    save_checkpoint(tmp_path / "checkpoints" / "exact.safetensors", Identity(RATE, parts=(1.0, 0.0)))
    return tmp_path


def tone(seconds=1.0, rate=RATE, channels=2):
    times = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (0.4 * torch.sin(2 * torch.pi * 440 * times)).float().expand(channels, -1).contiguous()


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def separate(*arguments, model="exact"):
    return main(["separate", *map(str, arguments), "-o", "out", "--model", str(model), "--device", "cpu"])


# ---- good input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_every_format_becomes_a_folder_of_sources(home, capsys, ending):
    audio.write_audio(f"song.{ending}", tone(), RATE)
    assert separate(f"song.{ending}", model="mine") == 0
    assert files_in(home / "out") == ["song/mine/accompaniment.wav", "song/mine/vocals.wav"]
    shown = capsys.readouterr()
    assert shown.out.split() == ["out/song/mine/vocals.wav", "out/song/mine/accompaniment.wav"] and shown.err == ""
    read, rate = audio.read_audio(f"song.{ending}")
    for name, part in (("vocals", 0.75), ("accompaniment", 0.25)):
        found, found_rate = audio.read_audio(f"out/song/mine/{name}.wav")
        assert found_rate == rate == RATE and found.shape == read.shape
        middle = slice(4000, 12_000)
        assert (found[:, middle] - part * read[:, middle]).abs().max() < 2e-3


def test_m4a_goes_through_ffmpeg(home, capsys):
    try:
        program = decoding.ffmpeg()
    except runtime.UserError:
        (home / "song.m4a").write_bytes(b"x")
        assert separate("song.m4a") == 1
        assert "need the program ffmpeg" in capsys.readouterr().err
        return
    audio.write_audio("song.wav", tone(), RATE)
    subprocess.run([program, "-v", "error", "-i", "song.wav", "-c:a", "aac", "song.m4a"], check=True)
    assert separate("song.m4a") == 0
    assert audio.audio_shape("out/song/exact/vocals.wav").frames == audio.audio_shape("song.m4a").frames


@pytest.mark.parametrize(
    ("rate", "channels", "subtype", "frames"),
    [(8000, 1, "PCM_U8", 1), (96_000, 2, "PCM_24", 4001), (44_100, 6, "PCM_16", 4001), (11_025, 1, "FLOAT", 1),
     (RATE, 2, "DOUBLE", 4001)],
)  # fmt: skip
def test_odd_files_come_back_as_long_as_they_were(rate, channels, subtype, frames):
    audio.write_audio("song.wav", noise(channels, frames), rate, subtype)
    assert separate("song.wav", model="mine") == 0
    assert audio.audio_shape("out/song/mine/vocals.wav") == audio.Shape(rate, channels, frames)


@pytest.mark.parametrize(
    ("ending", "subtype", "form", "expected"),
    [("wav", "PCM_24", "wav", "PCM_24"), ("wav", "FLOAT", "wav", "FLOAT"), ("wav", "FLOAT", "flac", "PCM_24"),
     ("ogg", None, "wav", "PCM_16"), ("flac", "PCM_24", "mp3", "MPEG_LAYER_III")],
)  # fmt: skip
def test_the_depth_is_the_inputs_and_samples_are_kept(ending, subtype, form, expected):
    audio.write_audio(f"song.{ending}", noise(2, 5000), RATE, subtype or "VORBIS")
    assert separate(f"song.{ending}", "--format", form) == 0
    assert soundfile.info(f"out/song/exact/vocals.{form}").subtype == expected
    found, truth = audio.read_audio(f"out/song/exact/vocals.{form}")[0], audio.read_audio(f"song.{ending}")[0]
    if form != "mp3":
        assert found.shape == truth.shape and (found - truth).abs().max() < 2.0 ** -(22 if "24" in expected else 14)
    if form == "wav" and subtype:
        assert torch.equal(found, truth)


def test_what_would_clip_is_written_as_floats_or_made_softer(capsys):
    save_checkpoint("loud.safetensors", Identity(RATE, parts=(4.0, 1.0)))
    audio.write_audio("song.wav", tone(), RATE)
    assert separate("song.wav", model="loud.safetensors") == 0 and capsys.readouterr().err == ""
    assert soundfile.info("out/song/loud/vocals.wav").subtype == "FLOAT"
    assert audio.read_audio("out/song/loud/vocals.wav")[0].max() == pytest.approx(1.6, abs=0.01)
    assert separate("song.wav", "--format", "flac", model="loud.safetensors") == 0
    assert "the sources are made 1.60 times softer" in capsys.readouterr().err
    peaks = [float(audio.read_audio(f"out/song/loud/{name}.flac")[0].max()) for name in ("vocals", "accompaniment")]
    assert peaks == pytest.approx([1, 0.25], abs=0.01)


def test_some_sources_alone_and_two_stems(home, capsys):
    stems, parts = ("vocals", "drums", "bass", "other"), (0.1, 0.2, 0.3, 0.4)
    save_checkpoint(home / "checkpoints" / "four.safetensors", Identity(RATE, stems, parts=parts))
    audio.write_audio("song.wav", noise(2, 9000), RATE, "FLOAT")
    assert separate("song.wav", "--only", "bass", "vocals", model="four") == 0
    assert files_in(home / "out") == ["song/four/bass.wav", "song/four/vocals.wav"]
    assert separate("song.wav", "--only", "guitar", model="four") == 1
    assert "no source 'guitar' to write alone: choose from vocals, drums, bass, other" in capsys.readouterr().err
    assert separate("song.wav", "--two-stems", model="four") == 0
    rest = audio.read_audio("out/song/four/accompaniment.wav")[0]
    torch.testing.assert_close(rest, 0.9 * audio.read_audio("song.wav")[0])
    audio.write_audio("pair.wav", noise(2, 9000), RATE)
    assert separate("pair.wav", "--two-stems", model="ica") == 1
    assert "not vocals from the rest" in capsys.readouterr().err


def test_formats_that_cannot_hold_a_file_are_refused(home, capsys):
    audio.write_audio("six.wav", noise(6, 500), RATE)
    audio.write_audio("odd.wav", noise(1, 500), 12_345)
    for name in ("six", "odd"):
        assert separate(f"{name}.wav", "--format", "mp3") == 1
        assert "which mp3 cannot hold: take --format wav" in capsys.readouterr().err
    assert not (home / "out").exists()


def test_a_folder_is_taken_apart_with_its_structure(home, capsys):
    for name in ("album/one.wav", "album/disc 2/one.wav", "album/disc 2/two.flac", "album/.hidden.wav", "single.wav"):
        audio.write_audio(name, tone(0.1), RATE)
    (home / "album" / "cover.jpg").write_text("no sound")
    assert separate("album", "single.wav", "--only", "vocals") == 0
    expected = ["album/disc 2/one", "album/disc 2/two", "album/one", "single"]
    assert files_in(home / "out") == [f"{song}/exact/vocals.wav" for song in expected]
    assert main(["separate", ".", "-o", "out", "--model", "exact", "--only", "vocals"]) == 0  # not its own results
    assert len(files_in(home / "out" / home.name)) == 4 and capsys.readouterr().err == ""


def test_results_among_the_songs_are_not_taken_for_songs(home, capsys):
    for name in ("music/album/one.wav", "music/album/live/One.WMA"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(name, tone(0.1).T.numpy(), RATE, format="WAV")
    command = ["separate", "music/album", "--model", "exact", "--only", "vocals", "-o"]
    for output in (".", "music/album", "music/album"):
        assert main([*command, output]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 2
    assert main([*command, "music"]) == 1
    assert "the results would lie among the songs of music/album: choose another" in capsys.readouterr().err


def test_a_source_that_the_model_does_not_give_is_told_once_and_before_any_work(capsys, monkeypatch):
    for name in ("songs/one.wav", "songs/two.wav"):
        audio.write_audio(name, tone(0.1), RATE)
    monkeypatch.setattr(networks.ModelSeparator, "__call__", None)
    for arguments in (["--only", "guitar"], ["--only", "guitar", "--every-speed"]):
        assert separate("songs", *arguments) == 1
        assert capsys.readouterr().err.count("no source 'guitar' to write alone") == 1


def test_what_a_killed_run_of_the_same_process_number_left_does_not_matter(home):
    (home / f".exact.{os.getpid()}.part").mkdir()
    audio.write_audio("song.wav", tone(0.1), RATE)
    assert separate("song.wav") == 0


@pytest.mark.parametrize("model", ["exact", "ica"])
def test_long_songs_are_separated_block_by_block(model, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 2.0)
    monkeypatch.setattr(files, "SHARED", 0.2)
    longest, read = [], audio.read_audio
    monkeypatch.setattr(audio, "read_audio", lambda *a: longest.append(a[2]) or read(*a))
    audio.write_audio("song.wav", noise(2, 5 * RATE + 77), RATE, "FLOAT")
    assert separate("song.wav", "--chunk", "2", model=model) == 0
    assert set(longest) == {2 * RATE}
    total = sum(read(path)[0] for path in Path(f"out/song/{model}").iterdir())
    truth = read("song.wav")[0]
    assert total.shape == truth.shape
    torch.testing.assert_close(total, truth, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rate", "batch"), [(RATE, 1), (RATE, 3), (8000, 1), (44_100, 1)])
def test_a_file_gets_the_estimates_that_it_gets_in_memory(rate, batch):
    audio.write_audio("song.wav", noise(2, 9 * RATE + 77), RATE, "FLOAT")
    separator = networks.ModelSeparator(LoudestIsOne(rate), "cpu", chunk=2.0)
    separator.batch = batch
    files.separate_file("song.wav", "out", separator, warn=len)
    for name, whole in separator(audio.read_audio("song.wav")[0], RATE).items():
        part = audio.read_audio(f"out/{name}.wav")[0]
        assert part.shape == whole.shape
        if rate == RATE:
            assert torch.equal(part, whole)
        else:  # the filters begin anew in every block, and the last chunk begins a sample earlier or later
            assert (part - whole)[:, : 7 * RATE].abs().max() < 1e-4


def test_a_method_with_chunks_of_its_own_gets_them():
    audio.write_audio("song.wav", noise(1, 5 * RATE), RATE, "FLOAT")
    separator = catalogue.load_separator("hpss")
    assert separator.block(RATE) == (30 * RATE, RATE)
    separator.chunk, separator.overlap = 2.0, 0.5
    files.separate_file("song.wav", "out", separator)
    whole = separator(audio.read_audio("song.wav")[0], RATE)["vocals"]
    assert torch.equal(audio.read_audio("out/vocals.wav")[0], whole)


@pytest.mark.parametrize("every_speed", [False, True])
def test_what_a_network_gets_grows_with_its_rate_no_more_than_with_the_song(every_speed, monkeypatch):
    monkeypatch.setattr("helpers.separation.every_speed.SEMITONES", (0,))
    for rate, seconds in ((16_000, 10), (32_000, 10), (44_100, 3)):
        model = Identity(rate)
        separator = networks.ModelSeparator(model, "cpu")
        assert separator.block(rate) == (seconds * rate, rate)
        audio.write_audio("song.wav", noise(1, 31 * rate), rate)
        files.separate_file("song.wav", "out", EverySpeed(separator) if every_speed else separator)
        assert {shape[-1] for shape in model.seen} == {seconds * rate}
    tiny = networks.ModelSeparator(Identity(8000), "cpu", chunk=0.01)
    assert 8000 <= tiny.block(8000)[0] <= 8200 and tiny.block(1000)[1] == 5


@pytest.mark.parametrize("every_speed", [False, True])
def test_progress_of_all_blocks_rises_to_one(every_speed):
    audio.write_audio("song.wav", noise(1, 5 * RATE), RATE)
    done = []
    separator = catalogue.load_separator("exact", "cpu", chunk=1.0)
    separator = EverySpeed(separator) if every_speed else separator
    files.separate_file("song.wav", "out", separator, progress=done.append)
    assert done == sorted(set(done)) and done[-1] == 1 and len(done) > 3


def test_progress_says_the_time_left_and_is_rare_in_a_log(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(files.time, "monotonic", lambda: clock[0])
    show = files.progress_line("separating")
    for second in range(1, 101):
        clock[0] = float(second)
        show(second / 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["separating  31%, 1:09 left", "separating  62%, 0:38 left", "separating  93%, 0:07 left"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show = files.progress_line("separating")
    clock[0] += 10
    show(0.5)
    show(1.0)
    shown = capsys.readouterr().err
    assert "\rseparating" not in shown and "50%, 0:10 left" in shown and shown.endswith("\r\033[K")


def test_add_up_makes_the_files_add_up():
    save_checkpoint("weak.safetensors", Identity(8000, parts=(0.3, 0.1)))
    audio.write_audio("song.wav", noise(2, 30_000), 44_100, "FLOAT")
    assert separate("song.wav", "--add-up", model="weak.safetensors") == 0
    total = sum(audio.read_audio(f"out/song/weak/{name}.wav")[0] for name in ("vocals", "accompaniment"))
    assert (total - audio.read_audio("song.wav")[0]).abs().max() < 2**-14


def test_every_speed_gives_files_as_long_as_the_song(home, capsys):
    audio.write_audio("song.wav", tone(), RATE)
    assert separate("song.wav", "--every-speed") == 0 and capsys.readouterr().err == ""
    found, truth = audio.read_audio("out/song/exact-every-speed/vocals.wav")[0], audio.read_audio("song.wav")[0]
    assert found.shape == truth.shape and (found - truth)[:, 500:-500].abs().max() < 1e-3


def test_a_file_of_a_lower_rate_than_the_model_s_is_separated_with_a_warning(home, capsys):
    save_checkpoint(home / "checkpoints" / "high.safetensors", Identity(32_000))
    audio.write_audio("low.wav", tone(), RATE)
    audio.write_audio("high.wav", tone(rate=44_100), 44_100)
    assert separate("low.wav", "high.wav", model="high") == 0 and len(files_in(home / "out")) == 4
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warning.startswith("python -m helpers: warning: low.wav has a sample rate of 16,000 Hz, the")


def test_a_later_run_replaces_an_earlier_one_and_keeps_other_files(home):
    audio.write_audio("song.wav", tone(), RATE)
    assert separate("song.wav") == 0
    (home / "out/song/exact/notes.txt").write_text("mine")
    audio.write_audio("song.wav", tone(0.5), RATE)
    assert separate("song.wav", "song.wav") == 0
    assert files_in(home / "out") == ["song/exact/accompaniment.wav", "song/exact/notes.txt", "song/exact/vocals.wav"]
    assert audio.audio_shape("out/song/exact/vocals.wav").frames == RATE // 2


def test_songs_of_one_name_get_folders_of_their_own(home):
    for name in ("a/song.wav", "b/song.wav", "a/Song.flac", "c/a/song.wav", "other.wav"):
        audio.write_audio(name, tone(0.1), RATE)
    assert separate("a/song.wav", "b/song.wav", "a/Song.flac", "c/a/song.wav", "other.wav", "other.wav") == 0
    expected = ["a-Song.flac", "a-song.wav", "b-song.wav", "other", "song"]
    assert sorted(path.name for path in (home / "out").iterdir()) == expected


def test_any_name_will_do(home):
    names = [
        "naïve 曲 🎵.wav",
        "x" * 240 + ".wav",
        "a'b\"c $(d) %s\n.wav",
        ".hidden.wav",
        "UPPER.WAV",
        "none",
        "...wav",
    ]
    for name in names:
        soundfile.write(name, noise(1, 2000).T.numpy(), RATE, format="WAV")
    assert separate(*(home / name for name in names), "--only", "vocals") == 0
    paths = list((home / "out").rglob("vocals.wav"))
    assert len(paths) == len(names) and all(path.parts[-2:] == ("exact", "vocals.wav") for path in paths)


# ---- bad input ---------------------------------------------------------------------------------------------------


def make_nan():
    samples = noise(1, 1000).numpy().T.copy()
    samples[500] = np.nan
    soundfile.write("bad.wav", samples, RATE, "FLOAT")


def make_cut():
    audio.write_audio("whole.flac", noise(2, 40_000), RATE)
    data = Path("whole.flac").read_bytes()
    Path("bad.flac").write_bytes(data[: len(data) // 2])


BAD = {
    "absent": (lambda: None, "nowhere.wav", "there is no file nowhere.wav: check its name"),
    "empty folder": (lambda: os.mkdir("bad"), "bad", "bad is a folder: give the audio files in it"),
    "no bytes": (lambda: Path("bad.wav").touch(), "bad.wav", "bad.wav cannot be read as audio"),
    "no audio": (lambda: Path("bad.mp3").write_text("text " * 999), "bad.mp3", "bad.mp3 cannot be read as audio"),
    "no samples": (lambda: soundfile.write("bad.wav", np.zeros((0, 2)), RATE), "bad.wav", "bad.wav holds no samples"),
    "NaN": (make_nan, "bad.wav", "bad.wav holds samples that are no finite numbers: export it again"),
    "cut": (make_cut, "bad.flac", "bad.flac"),
    "wrong ending": (lambda: Path("bad.m4a").write_text("text"), "bad.m4a", "bad.m4a"),
}


@pytest.mark.parametrize("make, name, words", BAD.values(), ids=BAD)
def test_a_bad_input_is_one_sentence_and_the_others_are_done(home, capsys, make, name, words):
    make()
    for good in ("first", "last"):
        audio.write_audio(f"{good}.wav", tone(0.2), RATE)
    assert separate("first.wav", name, "last.wav") == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and shown.err.startswith("python -m helpers: error: ")
    assert words in shown.err or "ffmpeg" in shown.err
    assert shown.out.count("\n") == 4
    assert sorted(path.name for path in (home / "out").iterdir()) == ["first", "last"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(capsys):
    audio.write_audio("song.wav", tone(0.2), RATE)
    os.chmod("song.wav", 0)
    assert separate("song.wav") == 1 and "may not be read (Permission denied): change its" in capsys.readouterr().err


def test_nothing_is_left_where_nothing_could_be_done(home, capsys):
    assert separate("nowhere.wav") == 1
    assert not (home / "out").exists() and capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_made_is_told_before_any_work(home, capsys, monkeypatch):
    audio.write_audio("song.wav", tone(0.2), RATE)
    (home / "out").write_text("a file")
    monkeypatch.setattr(networks.ModelSeparator, "__call__", pytest.fail)
    assert separate("song.wav") == 1
    shown = capsys.readouterr().err
    assert "cannot write to out/song/exact (" in shown and "choose another folder" in shown and shown.count("\n") == 1


def test_a_full_disk_leaves_the_earlier_result_and_no_scraps(home, capsys):
    """A limit of the size of files makes writing fail half-way, as a full disk does."""
    audio.write_audio("song.wav", tone(0.2), RATE)
    assert separate("song.wav") == 0
    before = (home / "out/song/exact/vocals.wav").read_bytes()
    audio.write_audio("song.wav", tone(3), RATE)
    capsys.readouterr()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        status = separate("song.wav")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    shown = capsys.readouterr()
    assert status == 1 and "cannot write to out/song/exact (" in shown.err and "free disk space" in shown.err
    assert files_in(home / "out") == ["song/exact/accompaniment.wav", "song/exact/vocals.wav"]
    assert ".part" not in shown.err
    assert (home / "out/song/exact/vocals.wav").read_bytes() == before and shown.out == ""


def test_a_model_that_fails_is_told_for_each_input(home, capsys):
    save_checkpoint("broken.safetensors", Broken())
    audio.write_audio("song.wav", tone(0.2), RATE)
    assert separate("song.wav", model="broken.safetensors") == 1
    assert "the Broken gave NaN" in capsys.readouterr().err and not (home / "out").exists()


def test_a_model_that_cannot_be_had_is_told_once(home, capsys):
    audio.write_audio("song.wav", tone(0.2), RATE)
    assert separate("song.wav", "song.wav", model="nothing") == 1
    shown = capsys.readouterr().err
    assert "there is no model 'nothing'" in shown and shown.count("\n") == 1 and not (home / "out").exists()


def test_an_interrupted_run_leaves_no_scraps(home, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    audio.write_audio("song.wav", tone(0.2), RATE)
    monkeypatch.setattr(networks.ModelSeparator, "__call__", interrupt)
    assert separate("song.wav") == 130
    assert files_in(home / "out") == [] and "interrupted" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="Windows ends processes otherwise")
def test_a_run_that_is_terminated_leaves_no_scraps(home):
    """In a process of its own, as `kill` meets it."""
    audio.write_audio("song.wav", noise(1, 600 * RATE), RATE)
    command = [sys.executable, "-m", "helpers", "separate", home / "song.wav", "-o", home / "out", "--model", "hpss"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not list(home.glob(".hpss.*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(home.glob(".hpss.*.part")) and run.poll() is None
    run.terminate()
    shown, errors = run.communicate(timeout=100)
    assert (run.returncode, shown, errors) == (128 + signal.SIGTERM, "", "")
    assert not list(home.glob(".*.part")) and not (home / "out").exists()


def become_an_import_error():
    """NumPy's C interface turns every exception that it meets into an ImportError."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except SystemExit:
        raise ImportError("numpy._core.multiarray failed to import") from None


def drop_it():
    """Python drops what a destructor raises; imports have callbacks of this kind."""

    class Dropped:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    Dropped()
    time.sleep(60)


@pytest.mark.skipif(os.name != "posix", reason="Windows ends processes otherwise")
@pytest.mark.parametrize("command", [become_an_import_error, drop_it])
def test_a_run_that_is_terminated_at_a_bad_moment_exits_as_any_other(command, monkeypatch, capsys):
    before, began = signal.getsignal(signal.SIGTERM), time.monotonic()
    monkeypatch.setattr(program, "main", command)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # as it was, afterwards
    try:
        with pytest.raises(SystemExit) as ended:
            program.run_to_the_end()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM and time.monotonic() - began < 30
    assert capsys.readouterr() == ("", "")


# ---- the other commands ------------------------------------------------------------------------------------------


def test_evaluate_prints_the_table_and_writes_the_file(home, capsys):
    for song in ("one", "two"):
        for seed, source in enumerate(("vocals", "drums")):
            audio.write_audio(f"songs/{song}/{source}.wav", noise(1, 9000, seed + len(song)), RATE)
    arguments = ["evaluate", "--model", "mixture", "ibm", "--data", "songs", "--split", "all", "--device", "cpu"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "songs (2 songs), all: mixture, ibm" in shown.out and "NSDR" in shown.out and "BSS Eval 3" in shown.out
    path = shown.out.splitlines()[-1]
    assert path == str(home / "build/results/evaluate_songs-all-mixture-ibm.json") and os.path.exists(path)
    assert main([*arguments[:-4], "--split", "test"]) == 1
    assert "error" in capsys.readouterr().err


def test_models_lists_everything(capsys):
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    for words in ("mine ", "audio, 8 kHz", "hpss", "oracle", "measured"):
        assert words in shown
    assert "without any training          hpss " in shown and "deep-unet-songs" not in shown  # it is not there


def test_models_says_first_which_one_to_take(home, capsys, monkeypatch):
    monkeypatch.setattr(catalogue, "RESULTS", ())
    for name in ("deep-unet-songs", "deep-unet-stems"):
        save_checkpoint(home / "checkpoints" / f"{name}.safetensors", Identity(RATE), data="songs", validation_loss=2)
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split("  ")[0] == "voice and rest of your songs"
    assert lines[1].split()[-5:] == ["deep-unet-songs", "validation", "loss", "2", "(songs)"]
    assert lines[2].startswith("four stems of your songs      deep-unet-stems ") and lines[4] == ""


def test_wrong_usage_is_status_2_and_help_is_there(capsys):
    wrong = ("separate", "separate a.wav --model x", "separate a.wav -o out", "evaluate", "models x",
             "evaluate --model x --data y --limit 0", "separate a.wav -o o --model x --chunk nan",
             "separate -dash.wav -o o --model x",
             "separate a.wav -o o --model x --only vocals --two-stems")  # fmt: skip
    for line in wrong:
        with pytest.raises(SystemExit) as caught:
            main(line.split())
        assert caught.value.code == 2 and capsys.readouterr().err.startswith("usage: python -m helpers")
    for command in ("separate", "evaluate", "models"):
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0 and capsys.readouterr().out.startswith(f"usage: python -m helpers {command}")
