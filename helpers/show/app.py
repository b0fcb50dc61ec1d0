"""The separation app in a notebook: choose a song and a model, separate, listen, download. See show_app()."""

import base64
import html
import os
import re
from functools import partial
from pathlib import Path

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import HTML, display

from helpers.data import audio
from helpers.runtime import BUILD, UserError, write_atomically
from helpers.separation import list_models, load_separator, separate_file
from helpers.separation.catalogue import by_use
from helpers.show import players

FOLDER = BUILD / "separated"  # results are written to FOLDER/SONG/MODEL/SOURCE.wav
UPLOAD, PATH = "upload", "path"  # the entries of the list of songs that are no tracks
RED = "#c62828"
PICTURED = 4.0  # seconds that the players of a picture of the app hold
LINKED = 100_000_000  # bytes of a song's sources up to which the page itself offers them for download


def separating_models(model=None):
    """Return [(name with its first measurement, name)] of what can separate: `model` first, then those of USES."""
    rows = [row for row in list_models() if row["kind"].startswith(("audio", "baseline")) and row["model"] != "mixture"]
    first = [model, *(row["model"] for _, row in by_use(rows))]
    rows.sort(key=lambda row: first.index(row["model"]) if row["model"] in first else len(first))
    return [(f"{row['model']}: {row['measured'].partition(';')[0]}", row["model"]) for row in rows]


def uploaded_file(value):
    """Return (name, bytes) of the file in a FileUpload's value, None where there is none."""
    if not value:
        return None
    # ipywidgets 7: {name: {'content': bytes}}; ipywidgets 8: ({'name': ..., 'content': memoryview},)
    name, entry = list(value.items())[-1] if isinstance(value, dict) else (value[-1]["name"], value[-1])
    return name, bytes(entry["content"])


def safe_name(text):
    """Return the last part of a path or name, with nothing in it that a file name may not have."""
    return re.sub(r"[^\w .-]", "_", re.split(r"[/\\]", str(text))[-1]).strip(" .")[-100:] or "song"


class SeparationApp:
    """The widgets of the app, for the tracks to choose from, and the model chosen; `view` is the one to display."""

    def __init__(self, tracks, model=None):
        songs = [("a file to upload", UPLOAD), ("a file by its path", PATH), *((one.name, one) for one in tracks)]
        self.song = widgets.Dropdown(options=songs, value=songs[2][1], description="song")
        self.on_colab, self.colab_upload = bool(os.environ.get("COLAB_RELEASE_TAG")), None  # (name, bytes)
        if self.on_colab:  # where FileUpload loses files of 1 MB and more
            self.upload = widgets.Button(description="Upload", icon="upload")
            self.upload.on_click(lambda button: self._guarded(self._upload_on_colab))
        else:
            label = "Upload (a server may lose over 10 MB: give larger files by their path)"
            self.upload = widgets.FileUpload(accept="audio/*", description=label, layout={"width": "max-content"})
        place = "where the file lies on the machine that computes, such as /content/song.mp3 (folder icon on the left)"
        self.path = widgets.Text(placeholder=place, layout={"width": "40em"})
        models = separating_models(model)
        self.model = widgets.Dropdown(options=models, description="model", layout={"width": "max-content"})
        self.button = widgets.Button(description="Separate", button_style="primary", icon="play")
        self.bar = widgets.FloatProgress(min=0, max=1)
        self.status, self.results = widgets.HTML(), widgets.VBox()
        self.song.observe(self._song_changed, "value")
        self.button.on_click(lambda button: self._guarded(self._separate))
        self._song_changed()
        choices = self.song, self.upload, self.path, self.model, self.button
        self.view = widgets.VBox([*choices, self.bar, self.status, self.results])

    def _song_changed(self, change=None):
        self.upload.layout.display = None if self.song.value == UPLOAD else "none"
        self.path.layout.display = None if self.song.value == PATH else "none"

    def _upload_on_colab(self):
        from google.colab import files

        self.colab_upload = next(iter(files.upload().items()), None)

    def _guarded(self, work):
        """Call `work` for a click, and show what goes wrong: an exception in a handler is seen in no cell."""
        self.button.disabled = True
        try:
            work()
        except (UserError, KeyboardInterrupt) as error:
            self._say(str(error) or "interrupted", RED)
        except Exception as error:
            self._say(f"{type(error).__name__}: {error}", RED)
            raise  # its traceback goes to the log of Jupyter
        finally:
            self.button.disabled = False

    def _say(self, text, colour="inherit"):
        self.status.value = f'<span style="color:{colour}">{html.escape(text)}</span>'

    def _separate(self):
        self.results.children, self.bar.value, warnings = (), 0.0, []
        song, path = self._song()
        model, shape = self.model.value, audio.audio_shape(path)
        self._say(f"{song} ({shape.frames / shape.sample_rate:.0f} s): separating with {model}")
        folder = FOLDER / song / safe_name(Path(model).stem)
        show = partial(setattr, self.bar, "value")
        files = separate_file(path, folder, load_separator(model), warn=warnings.append, progress=show)
        self._show({"mixture": path} | {file.stem: file for file in files}, song, shape)
        self.bar.value = 1.0
        self._say(" ".join([f"{song}: separated with {model} into {os.path.relpath(folder)}.", *warnings]))

    def _song(self):
        """Return the chosen song's name and its file; an upload and a track's mixture are written to the folder."""
        chosen = self.song.value
        if chosen == PATH:
            if not self.path.value.strip():
                raise UserError("no path was given: type that of an audio file")
            path = Path(self.path.value.strip()).expanduser()
            return safe_name(path.stem), path
        if chosen == UPLOAD:
            given = self.colab_upload if self.on_colab else uploaded_file(self.upload.value)
            if given is None:
                raise UserError("no file was uploaded: choose one with the button 'Upload', or pick another song")
            file = Path(safe_name(given[0]))
            return file.stem, write_atomically(FOLDER / file.stem / file, given[1])
        mixture, path = chosen.mixture, FOLDER / safe_name(chosen.name) / "mixture.wav"
        audio.write_audio(path, mixture, chosen.sample_rate, "PCM_16" if mixture.abs().max() <= 1 else "FLOAT")
        return path.parent.name, path

    def _show(self, files, song, shape):
        """Show players of a part of {name: file}, a slider that chooses the part, and links to the whole sources."""
        rows, last = widgets.HTML(), max(0.0, shape.frames / shape.sample_rate - players.SECONDS)
        slider = widgets.FloatSlider(max=last, step=1.0, description="from second", continuous_update=False)

        def listen(change=None):
            frames = min(round(players.SECONDS * shape.sample_rate), shape.frames)
            first = min(round(slider.value * shape.sample_rate), shape.frames - frames)
            clips = {name: audio.read_audio(file, first, frames)[0] for name, file in files.items()}
            rows.value = players.listen(clips, shape.sample_rate).data

        slider.observe(lambda change: self._guarded(listen), "value")
        listen()
        links = widgets.HTML(download_links(song, [file for name, file in files.items() if name != "mixture"]))
        self.results.children = ([slider] if last else []) + [rows, links]


def download_links(song, files):
    """Return HTML links that hold the files themselves, so that they work wherever the server is."""
    if sum(file.stat().st_size for file in files) > LINKED:
        return f"Over {LINKED / 1e6:.0f} MB are too much for download links: take the files from their folder."
    data = {f"{song}-{file.name}": base64.b64encode(file.read_bytes()).decode() for file in files}
    links = [f'<a download="{name}" href="data:audio/wav;base64,{text}">⬇ {name}</a>' for name, text in data.items()]
    return " &nbsp; ".join(links)


def is_live():
    """True where somebody can click, not where a notebook is executed without a reader."""
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and kernel.get_parent("shell").get("content", {}).get("allow_stdin", False)


BOX = "display:inline-block;border:1px solid #9e9e9e;border-radius:2px;padding:3px 8px;margin:2px 6px 2px 0"
FILLED = BOX.replace("#9e9e9e", "#1976d2") + ";background:#1976d2;color:white"


def picture_of(tracks, model=None):
    """Return HTML that looks as a SeparationApp does after the first track was separated, and holds no widget."""
    (title, name), *_ = separating_models(model)
    song, rate = safe_name(tracks[0].name), tracks[0].sample_rate
    mixture = tracks[0].read_mixture(0, min(tracks[0].frames, round(PICTURED * rate)))
    estimates = load_separator(name)(mixture, rate)
    titles = {"song": song, "model": html.escape(title)}
    lines = [
        *(f'{title} <span style="{BOX}">{text} ▾</span>' for title, text in titles.items()),
        f'<span style="{FILLED}">▶ Separate</span><progress value="1" max="1"></progress>',
        f"{song}: separated with {html.escape(name)}.",
        players.listen({"mixture": mixture} | estimates, rate).data,
        " &nbsp; ".join(f"⬇ {song}-{source}.wav" for source in estimates),
    ]
    inside = "".join(f'<div style="margin:4px 0">{line}</div>' for line in lines)
    return f'<div style="border:1px solid #bdbdbd;border-radius:6px;padding:8px 12px;max-width:900px">{inside}</div>'


def show_app(tracks, model=None):
    """Show a SeparationApp with these tracks, `model` chosen; where a widget would be dead, a picture of it."""
    if is_live():
        return display(SeparationApp(tracks, model).view)
    todo = "Run this cell in Jupyter or on Colab to choose another song and model, or to upload a song of your own."
    display(HTML(f"{picture_of(tracks, model)}<p>A picture of the interface. {todo}</p>"))
