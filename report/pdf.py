"""A notebook as a PDF, without LaTeX and without a browser: pandoc reads it, Typst sets the pages.

Both come as wheels (requirements-dev.txt). The pages look as notebook.typ says; page.lua turns HTML (tables, players
with their pictures) into what a page can show. What only lives in a notebook leaves a line that says so.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from helpers.runtime import ROOT, UserError, write_atomically

HERE = Path(__file__).parent
ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")  # colours of a terminal
FORMS = (  # of an output, the one that says most on paper comes first
    "image/png", "image/jpeg", "image/svg+xml", "application/vnd.jupyter.widget-view+json",
    "text/html", "text/markdown", "text/latex", "text/plain",
)  # fmt: skip
PLAYER = re.compile(r"<(audio|video)\b.*?(</\1\s*>|$)", re.DOTALL | re.IGNORECASE)
FORMULA = re.compile(
    r"\$\$(.+?)\$\$|^(\\begin\{(align|equation|gather)\*?\}.+?\\end\{\3\*?\})", re.DOTALL | re.MULTILINE
)
LONG_WORD = re.compile(r"(\S{40})(?=\S{20})")


def notebook_to_pdf(path, output):
    """Typeset an executed notebook; return the path of the PDF, `output`/NAME.pdf.

    A formula that cannot be set, a picture that is missing, and characters that no font has are warned of.
    Raises UserError where the notebook cannot be read or set at all, or pandoc or Typst is not installed.
    """
    path = Path(path).resolve()
    notebook = read_notebook(path)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":  # a formula in one line, where no sign in it can begin a list
            cell.source = FORMULA.sub(lambda found: f"$${' '.join((found[1] or found[2]).split())}$$", cell.source)
        elif cell.cell_type == "code":
            cell.source = _printable(cell.source)
            cell.outputs = [_on_paper(output) for output in cell.outputs]
    reader = ("--from=ipynb+implicit_figures", "--ipynb-output=all")
    pdf = typeset(nbformat.writes(notebook), HERE / "notebook.typ", path, *reader)
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


def _on_paper(output):
    """Return an output in one form only, without what needs a browser."""
    if output.output_type == "stream":
        output.text = _printable(output.text)
    elif output.output_type == "error":
        output.traceback = [_printable(line) for line in output.traceback]
    else:
        form = next((form for form in FORMS if form in output.data), "text/plain")
        content = output.data.get(form, "")
        if form == "text/html":
            content = PLAYER.sub("▶ listen in the notebook", content)
        elif form == "text/plain":
            content = _printable(content)
        elif "widget" in form:
            form, content = "text/markdown", "*Interactive control: open the notebook to use it.*"
        output.data = {form: content}
    return output


def _printable(text):
    """Return text as a terminal shows it in the end, with places at which its longest words may be broken."""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in ANSI.sub("", text).split("\n")]
    return LONG_WORD.sub("\\1\u200b", "\n".join(lines).expandtabs(4))


def typeset(text, template, path, *arguments):
    """Return, as bytes, the PDF of `text`: by pandoc, with more `arguments`, into the Typst `template`, then by Typst.

    path: the file that the text is from; pictures lie beside it or in the project, and warnings and errors name it.
    """
    try:
        import pypandoc
        import typst

        pandoc = pypandoc.get_pandoc_path()
    except (ImportError, OSError) as error:
        raise UserError("pandoc or Typst is not installed: pip install -r requirements-dev.txt") from error
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.typ"
        command = [pandoc, *arguments, "--to=typst", f"--template={template}", f"--output={source}"]
        command += [f"--lua-filter={HERE / 'page.lua'}", "--wrap=none", "--columns=10000"]
        command += ["--extract-media=media", f"--resource-path={path.parent}{os.pathsep}{ROOT}"]
        done = subprocess.run(command, input=text, cwd=folder, capture_output=True, encoding="utf-8")
        for complaint in re.findall(r"^\[WARNING\] (.+)", done.stderr, re.MULTILINE):
            print(f"warning: {path}: {complaint}", file=sys.stderr)
        if done.returncode:
            raise UserError(f"{path}: cannot be read by pandoc ({' '.join(done.stderr.split())[:300]})")
        rare = "".join(sorted(set(re.sub(r"[\x00-\xff]", "", source.read_text(encoding="utf-8")))))
        compiler = typst.Compiler(source, root=folder, sys_inputs={"name": path.name, "rare": rare})
        try:
            pdf = compiler.compile()
            missing = json.loads(compiler.query("<missing>", field="value", one=True))
        except (typst.TypstError, RuntimeError) as error:
            raise UserError(f"{path}: cannot be typeset ({' '.join(str(error).split())[:300]})") from error
        if missing:
            print(f"warning: {path}: no font here has {' '.join(missing)}; install one, e.g. Noto", file=sys.stderr)
    return pdf
