"""The interface: upload or pick a song, choose a model, separate, look, listen, download; in a notebook or by Voilà.

show_app() in a cell shows it; `python -m helpers app` serves it alone. It runs on ipywidgets 7.7 and 8. A song takes
the same way as on the command line (separation.separate_file): the same formats and refusals, whole files on the disk.
The browser gets a bounded part to hear and to see, and links that hold the files while they are not too large.
"""

import contextlib
import html
import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import HTML, display

from helpers.data import audio
from helpers.runtime import BUILD, ROOT, UserError, write_atomically
from helpers.separation.evaluation import list_models
from helpers.separation.networks import load_separator, separate_file
from helpers.show import links, players

FOLDER = BUILD / "separated"  # FOLDER/SONG/MODEL/SOURCE.wav
UPLOAD, PATH = "upload", "path"  # what the list of songs offers before any track
FORMATS = "audio/*,.wav,.flac,.ogg,.mp3,.aiff,.m4a"  # what the file dialog shows
UPLOADED = 10  # MB that a Jupyter server takes in one message from the browser, unless it is told otherwise
TITLE = "# Separate a song\nPick a song or upload one, choose a model, listen to the sources, download them."
CELL = """from helpers.show.app import show_app
from helpers.data.corpora import load_corpus
show_app(tracks=load_corpus("embedded", "test"), live=True)"""
VOILA = (  # with room for larger uploads
    "import sys; from voila.app import Voila; "
    "Voila.launch_instance(sys.argv[1:], tornado_settings={'websocket_max_message_size': 500_000_000})"
)
LINE, WIDE = {"width": "100%"}, {"width": "620px", "max_width": "100%"}
NARROW, REST = {"flex": "0 0 300px"}, {"flex": "1 1 300px"}
WRAPPED = {"flex_flow": "row wrap"}  # in a row, on a narrow page below each other
HINTS = {
    UPLOAD: f"JupyterLab loses uploads over about {UPLOADED} MB: give larger files by their path.",
    PATH: "The file lies on the machine that computes; on Colab put it there with the folder icon on the left.",
}


# ---- what there is to choose -------------------------------------------------------------------------------------


def separating_models():
    """Return the rows of evaluation.list_models() that take a song apart without its sources, the best first.

    Networks before baselines, then by NSDR, although it may come from different data; what was not measured last.
    """

    def rank(row):
        measured = re.search(r"NSDR (-?[\d.]+) dB", row["measured"])
        return row["kind"] == "baseline", -float(measured[1]) if measured else float("inf")

    rows = [row for row in list_models() if row["kind"].startswith("audio") or row["kind"] == "baseline"]
    return sorted((row for row in rows if row["model"] != "mixture"), key=rank)  # which takes nothing apart


def uploaded(value):
    """Return (name, bytes) of the file in a FileUpload's value, None where there is none.

    ipywidgets 7 gives {name: {'content': bytes}}, ipywidgets 8 ({'name': ..., 'content': memoryview},).
    """
    if not value:
        return None
    name, entry = list(value.items())[-1] if isinstance(value, dict) else (value[-1]["name"], value[-1])
    return name, bytes(entry["content"] or b"")


def safe_name(text):
    """Return a name for a file or folder that is made of the last part of `text`, which may be anybody's."""
    return re.sub(r"[^\w .-]", "_", re.split(r"[/\\]", str(text))[-1]).strip(" .")[-100:] or "song"


# ---- the interface -----------------------------------------------------------------------------------------------


class SeparationApp(widgets.VBox):
    """A column of widgets that separates songs.

    Args:
        models: names or checkpoints that separation.load_separator takes; None: all of separating_models().
        tracks: Tracks to pick from, such as a Corpus; their mixtures are separated.
        device: what a network runs on, as runtime.pick_device takes it.
        folder: where the results are written, as SONG/MODEL/SOURCE.wav; None: build/separated.

    The work is done in a thread of its own (`worker`), so that the page stays alive: a second click while it runs is
    refused, and 'Stop' ends it after the chunk at hand. What cannot be done is said in one sentence in `status`.
    """

    def __init__(self, models=None, tracks=None, device="auto", folder=None):
        self.rows = {row["model"]: row for row in separating_models()} if models is None else {}
        names = list(self.rows) if models is None else [str(name) for name in models]
        if not names:
            raise ValueError("there are no models to choose from")
        self.device, self.folder, self.worker = device, Path(folder or FOLDER), None
        songs = [("a file to upload", UPLOAD), ("a file by its path", PATH)]
        songs += [(track.name, track) for track in tracks or ()]
        chosen = songs[min(2, len(songs) - 1)][1] if tracks else UPLOAD
        self.song = widgets.Dropdown(options=songs, value=chosen, description="song", layout=NARROW)
        self.upload = widgets.FileUpload(accept=FORMATS, multiple=False, layout=NARROW)
        self.path = widgets.Text(placeholder="/content/song.mp3", layout=NARROW)
        self.model = widgets.Dropdown(options=names, description="model", layout=NARROW)
        self.measured, self.results = widgets.HTML(layout=REST), widgets.VBox(layout=WRAPPED)
        self.hint, self.status, self.warning = (widgets.HTML() for _ in range(3))
        self.button = widgets.Button(description="Separate", button_style="primary", icon="play")
        self.stop = widgets.Button(description="Stop", icon="stop", disabled=True)
        self.bar = widgets.FloatProgress(min=0, max=1, layout=NARROW)
        self.song.observe(self._choice_changed, "value")
        self.model.observe(self._choice_changed, "value")
        self.upload.observe(self._choice_changed, "value")
        self.button.on_click(self._clicked)
        self.stop.on_click(self._stop_clicked)
        self._choice_changed()
        choices = [[self.song, self.upload, self.path], [self.model, self.measured], [self.button, self.stop, self.bar]]
        first, *others = (widgets.HBox(row, layout=WRAPPED) for row in choices)
        super().__init__([first, self.hint, *others, self.status, self.warning, self.results])

    # ---- what a click does

    def _choice_changed(self, change=None):
        self.upload.layout.display = None if self.song.value == UPLOAD else "none"
        self.path.layout.display = None if self.song.value == PATH else "none"
        self.hint.value = self._hint()
        row = self.rows.get(self.model.value, {})
        text = html.escape("; ".join(filter(None, map(row.get, ("kind", "sources", "measured")))))
        self.measured.value = f'<div style="line-height:1.4;padding-top:5px">{text}</div>'

    def _hint(self):
        given = uploaded(self.upload.value) if self.song.value == UPLOAD else None
        if given:
            return f"{html.escape(given[0])}, {len(given[1]) / 1e6:.1f} MB"
        if self.song.value == UPLOAD and by_voila():  # serve() gives room for larger uploads
            return ""
        return HINTS.get(self.song.value, "")

    def _stop_clicked(self, button):
        self.stopping = True

    def _clicked(self, button):
        if self.worker and self.worker.is_alive():  # a click that was on its way as the button was switched off
            return
        self.button.disabled, self.stop.disabled, self.stopping, self.bar.value = True, False, False, 0.0
        self.worker = threading.Thread(target=self._work, daemon=True)
        self.worker.start()

    def _work(self):
        self._guarded(self._separate)
        self.button.disabled, self.stop.disabled = False, True

    def _guarded(self, work):
        """Call `work`; say in the widget what went wrong, for outside a cell nobody would see it."""
        try:
            work()
        except UserError as error:
            self._say(str(error), wrong=True)
        except Exception as error:  # a mistake in the code: shown with its type and place, not only swallowed
            self._say(f"{type(error).__name__}: {error}", wrong=True, details=traceback.format_exc())

    def _say(self, text, wrong=False, details=""):
        """Show one sentence; of an error in red, with details to unfold."""
        more = f"<details><summary>where</summary><pre>{html.escape(details)}</pre></details>" if details else ""
        look = 'role="alert" style="color:#c62828;font-weight:bold"' if wrong else 'role="status"'
        self.status.value = f"<span {look}>{html.escape(text)}</span>{more}"

    def _warn(self, text):
        self.warning.value = f'<span role="status" style="color:#b45309">{html.escape(text)}</span>'

    def _progress(self, done):
        if self.stopping:
            raise UserError("stopped: nothing of this song was kept")
        self.bar.value = done

    def _separate(self):
        self._clear()
        self._say("reading the song")
        name = self.model.value
        with self._mixture() as (song, path):
            self._say(f"{song}: loading {name}")
            shape = audio.audio_shape(path)
            separator = load_separator(name, self.device, progress=self._progress)
            seconds, started = shape.frames / shape.sample_rate, time.perf_counter()
            self._say(f"{song} ({seconds:.0f} s): separating with {name}")
            folder = self.folder / song / safe_name(Path(name).stem)
            files = separate_file(path, folder, separator, warn=lambda text: self._warn(_named(text, path)))
        self._say(f"{song} ({seconds:.0f} s): drawing")
        self._show(song, {"mixture": path, **{file.stem: file for file in files}}, seconds)
        self.bar.value = 1.0
        self._say(f"{song} ({seconds:.0f} s): separated with {name} in {time.perf_counter() - started:.1f} s.")

    @contextlib.contextmanager
    def _mixture(self):
        """Give the song's name and its file; one that was written for it goes away again if the separation fails."""
        chosen, written = self.song.value, None
        typed, given = self.path.value.strip(), uploaded(self.upload.value)
        if chosen == PATH and not typed:
            raise UserError("no path was given: type that of an audio file")
        if chosen == UPLOAD and given is None:
            raise UserError("no file was uploaded: choose one with the button 'Upload', or pick another song")
        if chosen == PATH:
            path, song = Path(typed).expanduser(), safe_name(Path(typed).stem)
        elif chosen == UPLOAD:
            file = safe_name(given[0])
            song = safe_name(Path(file).stem)
            path = written = write_atomically(self.folder / song / file, given[1])
        else:
            song, mixture = safe_name(chosen.name), chosen.mixture
            path = written = self.folder / song / "mixture.wav"
            audio.write_audio(path, mixture, chosen.sample_rate, "PCM_16" if mixture.abs().max() <= 1 else "FLOAT")
        try:
            yield song, path
        except BaseException as error:
            if written:
                written.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it was not made yet, or holds another model's results
                (self.folder / song).rmdir()
            if written and isinstance(error, UserError):
                raise UserError(_named(error, written)) from error
            raise

    # ---- the results

    def _clear(self):
        """Take the last song's results out of the page and out of memory: a widget lives until it is closed."""
        children, self.results.children, self.warning.value = self.results.children, (), ""
        for child in children:
            child.close()

    def _show(self, song, files, seconds):
        """Show rows of a bounded part of {name: file}, and what is there to download: all but the mixture."""
        sources = [file for name, file in files.items() if name != "mixture"]
        rows, folder = widgets.HTML(layout=LINE), sources[0].parent
        start = widgets.FloatSlider(
            min=0.0, max=max(0.0, seconds - players.SECONDS), step=1.0, readout_format=".0f", continuous_update=False,
            description="listen from second", style={"description_width": "initial"},
            layout=WIDE | {"display": None if seconds > players.SECONDS + 1 else "none"},
        )  # fmt: skip

        def listen():
            rows.value = players.listen(*_clips(files, start.value)).data

        start.observe(lambda change: self._guarded(listen), "value")
        listen()
        place = html.escape(str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder))
        lie = widgets.HTML(f"The whole sources lie in <code>{place}</code>.", layout=LINE)
        self.results.children = (start, rows, *links.save_links(song, sources), lie)


def _named(text, path):
    """Return a sentence about a file that was written for an upload, which its reader knows by its name alone."""
    return str(text).replace(str(path), path.name)


def _clips(files, start):
    """Return {name: waveform (channels, time)} of a part of each file from `start` seconds on, and the sample rate."""
    clips = {}
    for name, file in files.items():
        shape = audio.audio_shape(file)
        first = min(round(start * shape.sample_rate), shape.frames - 1)
        frames = min(round(players.SECONDS * shape.sample_rate), shape.frames - first)
        clips[name], rate = audio.read_audio(file, first, frames)
    return clips, rate


# ---- in a notebook, and alone ------------------------------------------------------------------------------------


def by_voila():
    """True in a kernel that Voilà has started."""
    return "VOILA_SERVER_URL" in os.environ


def is_live():
    """True where somebody can click: by Voilà, and in a front end that says that it can ask its reader something."""
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None or by_voila():
        return kernel is not None
    return kernel.get_parent("shell").get("content", {}).get("allow_stdin", False)


def show_app(models=None, tracks=None, device="auto", live=None):
    """Show a SeparationApp with these arguments, or, where nobody can click, plain HTML that says what it offers.

    So a notebook that was executed without a reader holds no widget whose state is gone. `live`: None for is_live().
    """
    live = is_live() if live is None else live
    display(SeparationApp(models, tracks, device) if live else HTML(_fallback(models, tracks)))


def _fallback(models, tracks):
    """Return the HTML that stands for the interface in a saved notebook."""
    known, columns = {row["model"]: row for row in separating_models()}, ("model", "kind", "sources", "measured")
    rows = [known.get(str(name), {"model": str(name)}) for name in (known if models is None else models)]
    lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    table = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in line) + "</tr>" for line in lines)
    song = f"upload a song, or pick one of {len(tracks)} tracks" if tracks else "upload a song"
    todo = f"Run this cell in Jupyter or on Colab: {song}, choose a model, listen to the sources, download them."
    return f"<p><b>Separate a song of your own.</b> {todo}</p><table>{table}</table>"


def serve(port=8866, browser=True):
    """Serve the interface alone, on this machine only, until Ctrl-C; raise UserError where Voilà is not installed."""
    if importlib.util.find_spec("voila") is None:
        raise UserError("Voilà, which serves the interface without a notebook, is not installed: `pip install voila`")
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(TITLE), nbformat.v4.new_code_cell(CELL)])
    path = write_atomically(BUILD / "app.ipynb", nbformat.writes(notebook).encode())
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths, "JUPYTER_PREFER_ENV_PATH": "1"}  # the kernel of this very Python
    command = [sys.executable, "-c", VOILA, str(path), f"--port={port}", *([] if browser else ["--no-browser"])]
    subprocess.run(command, cwd=ROOT, env=environment)
