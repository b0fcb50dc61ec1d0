"""Links and buttons that save a song's separated sources from a page, in Jupyter, by Voilà and on Colab."""

import base64
import importlib
import io
import zipfile

import ipywidgets as widgets
import soundfile

from helpers.runtime import on_colab

LINKED = 96e6  # bytes of WAV files up to which links hold the sources themselves
LINK = "display:inline-block;margin:2px 6px 2px 0;padding:3px 10px;border:1px solid;border-radius:3px;color:inherit"


def save_links(song, files):
    """Return widgets that save a song's sources and a ZIP of them.

    Links carry the content in themselves, so that they work in JupyterLab, by Voilà and on Colab alike, wherever the
    server is. Where that would be too much, Colab has a way of its own, and others are told so.
    """
    if sum(file.stat().st_size for file in files) > LINKED:
        text = f"With over {LINKED / 1e6:.0f} MB they are too large for links: take them from the folder named below."
        return _colab_buttons(song, files) if on_colab() else [widgets.HTML(text)]
    contents, archive = dict(_compact(song, file) for file in files), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:  # stored: FLAC is compressed
        for name, content in contents.items():
            packed.writestr(name, content)
    contents[f"{song}.zip"] = archive.getvalue()
    return [widgets.HTML(_link(name, content)) for name, content in contents.items()]


def _compact(song, file):
    """Return (name, content) of a source for a link: 16-bit WAV as FLAC, half as large; what would clip as it is."""
    name = f"{song}-{file.stem}"
    samples, rate = soundfile.read(file, dtype="int16", always_2d=True)
    if soundfile.info(file).subtype != "PCM_16" or samples.shape[1] > 8:
        return f"{name}.wav", file.read_bytes()
    content = io.BytesIO()
    soundfile.write(content, samples, rate, "PCM_16", format="FLAC")
    return f"{name}.flac", content.getvalue()


def _link(name, content):
    """Return a link that saves `content` (bytes) under a name, which is safe_name's."""
    media = {"flac": "audio/flac", "wav": "audio/wav", "zip": "application/zip"}[name.rsplit(".")[-1]]
    data, label = base64.b64encode(content).decode(), f"⬇ {name} ({len(content) / 1e6:.1f} MB)"
    return f'<a download="{name}" style="{LINK}" href="data:{media};base64,{data}">{label}</a>'


def _colab_buttons(song, files):
    """Return buttons that let Colab hand over files of any size."""

    def button(name, make):
        made = widgets.Button(description=name, icon="download", layout={"width": "300px"})
        made.on_click(lambda _: importlib.import_module("google.colab.files").download(str(make())))
        return made

    def pack():
        path = files[0].parent / f"{song}.zip"
        with zipfile.ZipFile(path, "w") as packed:
            for file in files:
                packed.write(file, f"{song}-{file.name}")
        return path

    return [*(button(file.name, lambda file=file: file) for file in files), button(f"{song}.zip", pack)]
