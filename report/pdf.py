"""A notebook as a PDF, without LaTeX and without a browser.

pandoc reads the Markdown and the HTML of the cells (helpers/markup.py), Typst sets the pages in the style of
`notebook.typ`; both come as wheels (requirements-dev.txt). What only lives in a notebook (players, widgets) leaves a
line that says where it is.
"""

import base64
import binascii
import mimetypes
import re
import tempfile
import urllib.parse
from pathlib import Path

import nbformat

from helpers.runtime import ROOT, UserError, write_atomically
from report.markup import COLUMNS, literal, to_typst

STYLE = Path(__file__).with_name("notebook.typ")
PICTURES = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg", "image/gif": "gif"}
WIDGET = "application/vnd.jupyter.widget-view+json"
LISTEN = "▶ listen in the notebook"
LOOK = "Interactive control: open the notebook to use it."
PLAYER = re.compile(r"<(audio|video)\b.*?(</\1\s*>|$)", re.DOTALL | re.IGNORECASE)
CODE_WIDTH = 494  # points of a page's width that a line of code can fill
CHARACTER = 0.6021  # width of DejaVu Sans Mono, in font sizes
FEWEST = 96  # columns: short code is not set larger than this many would be


def notebook_to_pdf(path, output):
    """Typeset an executed notebook; return the path of the PDF, `output`/NAME.pdf.

    Pictures come from the outputs (PNG, JPEG, SVG) and from files that Markdown cells name, relative to the notebook
    or to the project. Raises UserError where the notebook cannot be read, a picture is missing, a formula cannot be
    set, or pandoc or Typst is not installed.
    """
    path = Path(path)
    notebook = read_notebook(path)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(path, Path(folder))
        pieces = [piece for cell in notebook.cells for piece in work.cell(cell)]
        body = to_typst(pieces, work.linked, path)
        size = CODE_WIDTH / CHARACTER / work.columns
        head = f"#let mono = {size:.2f}pt\n#let footer-name = {literal(path.name)}\n"
        source = work.folder / "notebook.typ"
        source.write_text(head + STYLE.read_text(encoding="utf-8") + body, encoding="utf-8")
        pdf = compile_pdf(source, path)
    return write_atomically(Path(output) / f"{path.stem}.pdf", pdf)


def read_notebook(path):
    """Return the notebook at `path` (nbformat version 4). Raises UserError where there is none or it is damaged."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such notebook, check the name") from error
    except (OSError, AttributeError, KeyError, TypeError, ValueError, nbformat.ValidationError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise UserError(f"{path}: not a readable notebook ({reason}), restore it, e.g. by 'git checkout'") from error
    return notebook


class Work:
    """One export: the notebook's pieces, and the folder that takes its pictures.

    A piece is (kind, text), kind being 'markdown', 'html' or 'typst'.
    """

    def __init__(self, path, folder):
        self.path, self.folder = path, folder
        self.columns = FEWEST
        self.pictures = 0
        self.attachments = {}

    # ---- cells and outputs to pieces

    def cell(self, cell):
        """Yield a cell's pieces."""
        if cell.cell_type == "markdown":
            yield "markdown", self._attach(cell)
        elif cell.cell_type == "code" and cell.source.strip():
            longest = max(len(line) for line in cell.source.expandtabs(4).splitlines())
            self.columns = min(max(self.columns, longest), COLUMNS)
            count = literal(f"[{cell.execution_count or ' '}]")
            yield "typst", f"#source({count}, {literal(cell.source)})"
            for output in _merged(cell.outputs):
                yield from self.output(output)

    def output(self, output):
        """Yield the pieces of one output: of its forms, the one that says most on paper."""
        if output.output_type == "stream":
            yield "typst", f"#{'warning' if output.name == 'stderr' else 'stream'}({literal(output.text)})"
        elif output.output_type == "error":
            trace = "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
            yield "typst", f"#failure({literal(trace)})"
        else:
            yield from self._display(output.data)

    def _display(self, data):
        picture = next((kind for kind in PICTURES if kind in data), None)
        if picture:
            content = data[picture] if picture == "image/svg+xml" else self._decode(data[picture])
            yield "typst", f"#picture({literal(self.picture(content, picture))})"
        elif WIDGET in data:
            yield "typst", f"#note({literal(LOOK)})"
        elif "text/html" in data:
            html, players = PLAYER.subn(LISTEN, data["text/html"])
            frame = "#players[" if players and "<table" not in html else "#fitted["
            yield from [("typst", frame), ("html", html), ("typst", "]")]
        elif "text/markdown" in data or "text/latex" in data:
            yield "markdown", data.get("text/markdown") or data["text/latex"]
        elif "text/plain" in data:
            yield "typst", f"#stream({literal(data['text/plain'])})"

    def _attach(self, cell):
        """Keep a Markdown cell's attached pictures, under names of their own; return its text with those names."""
        text = cell.source
        for name, forms in cell.get("attachments", {}).items():
            kind, content = next(iter(forms.items()))
            token = f"attachment:{len(self.attachments)}"
            self.attachments[token] = (kind, content)
            text = text.replace(f"attachment:{name}", token)
        return text

    # ---- pictures

    def picture(self, content, kind):
        """Lay a picture beside the pages' source; return its name there."""
        if kind not in PICTURES:
            raise UserError(f"{self.path}: a picture of type {kind} cannot be set, save it as PNG")
        self.pictures += 1
        name = f"picture-{self.pictures}.{PICTURES[kind]}"
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def _decode(self, text):
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise UserError(f"{self.path}: a picture in it is damaged ({error}), execute it again") from error

    def linked(self, target):
        """Return the name of a copy of the picture that `target` names; None for one on the web."""
        if target in self.attachments:
            kind, content = self.attachments[target]
            return self.picture(self._decode(content), kind)
        if target.startswith("data:"):
            kind, _, content = target[5:].partition(",")
            text = self._decode(content) if kind.endswith(";base64") else urllib.parse.unquote(content)
            return self.picture(text, kind.split(";")[0])
        if re.match(r"[a-z]+://", target):
            return None
        relative = urllib.parse.unquote(target)
        for folder in (self.path.parent, ROOT):
            if (folder / relative).is_file():
                return self.picture((folder / relative).read_bytes(), mimetypes.guess_type(relative)[0])
        raise UserError(f"{self.path}: its picture {relative} does not exist, run the notebook that saves it")


def _merged(outputs):
    """Return outputs with neighbouring texts of the same stream as one."""
    merged = []
    for output in outputs:
        same = merged and output.output_type == merged[-1].output_type == "stream" and output.name == merged[-1].name
        if same:
            merged[-1] = nbformat.from_dict({**merged[-1], "text": merged[-1].text + output.text})
        else:
            merged.append(output)
    return merged


def compile_pdf(source, path):
    """Return the PDF, as bytes, of the Typst file `source`, in the fonts that Typst brings; errors name `path`."""
    try:
        import typst
    except ImportError as error:
        raise UserError("typst is not installed: pip install -r requirements-dev.txt") from error
    try:
        return typst.compile(source, root=source.parent, font_paths=[], ignore_system_fonts=True)
    except (typst.TypstError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be typeset ({' '.join(str(error).split())[:300]})") from error
