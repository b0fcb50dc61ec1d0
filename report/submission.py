"""The archive to hand in, FirstFamily-123.zip: code, executed notebooks, report and checkpoints, and nothing else."""

import json
import re
import shutil
import subprocess
import unicodedata
import zipfile
from pathlib import Path

from helpers.runtime import BUILD, ROOT, UserError, write_atomically

REPORT = "report/report.pdf"
SUFFIXES = (".py", ".ipynb", ".md", ".txt", ".toml", ".json", ".typ", ".lua", ".png", ".pdf", ".safetensors")
NAMES = ("Makefile", ".gitignore", "run")  # files without one of these endings that belong to the project
NOTEBOOK_BYTES = 6_000_000  # the most that an executed notebook should weigh


def write_submission(name, number, output=BUILD, limit_mb=60.0, root=ROOT):
    """Write `output`/FirstFamily-123.zip, one folder of that name; return (its path, [checkpoints left out]).

    It holds all that tracked_files() lists, and the report. Where the checkpoints together take more than `limit_mb`,
    the largest are left out. Raises UserError, with nothing written, if anything is missing or does not belong.
    """
    title, root = archive_name(name, number), Path(root)
    paths = sorted({*tracked_files(root), REPORT})
    check(root, paths)
    sizes = {path: (root / path).stat().st_size for path in paths if path.startswith("checkpoints/")}
    left_out = []
    while sizes and sum(sizes.values()) > limit_mb * 1e6:
        left_out.append(max(sizes, key=sizes.get))
        del sizes[left_out[-1]]

    def pack(file):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for path in sorted({*paths} - {*left_out}):
                archive.write(root / path, f"{title}/{path}")

    return write_atomically(Path(output) / f"{title}.zip", pack), left_out


def archive_name(name, number):
    """Return the archive's name without its ending: 'First Family' and '123' make 'FirstFamily-123'."""
    name = unicodedata.normalize("NFC", name)
    words = re.findall(r"[^\s.'’-]+", name)
    letters = all(unicodedata.category(letter)[0] in "LM" for letter in "".join(words))  # M: vowel signs
    if min(len(name.split()), len(words)) < 2 or not letters:
        raise UserError(f"'{name}' is not a first and a family name: give them as in NAME=\"First Family\"")
    if not re.fullmatch(r"[A-Za-z0-9]+", number):
        raise UserError(f"'{number}' is not a student number: give letters and digits alone, as in ID=123")
    return "".join(word[0].upper() + word[1:] for word in words) + f"-{number}"


def tracked_files(root):
    """Return the paths, relative to `root`, of all that is in version control, but for trainings/."""
    done = shutil.which("git") and subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True)
    if not done or done.returncode or not done.stdout:
        raise UserError(f"{root} is not in version control, or git is not installed: work in a clone of the project")
    return [path for path in done.stdout.decode().strip("\0").split("\0") if not path.startswith("trainings/")]


def check(root, paths):
    """Raise UserError unless these paths, relative to the folder `root`, make a whole submission."""
    notebooks = [path.name for path in sorted(root.glob("0*.ipynb"))]
    untracked = [name for name in notebooks or ["a notebook"] if name not in paths]
    if untracked:
        raise UserError(f"{untracked[0]} is not in version control: add it with 'git add'")
    missing = [path for path in paths if not (root / path).is_file()]
    if missing:
        raise UserError(f"{root / missing[0]} is missing: restore it, make it again, or take it out by 'git rm'")
    strange = [path for path in paths if not path.endswith(SUFFIXES) and Path(path).name not in NAMES]
    if strange:
        raise UserError(f"{strange[0]} is neither code nor a result: take it out of version control with 'git rm'")
    for path in notebooks:
        problem = notebook_problem((root / path).read_bytes())
        if problem:
            remedy = f"execute it in place with 'python -m report run --no-pdf --output . {path}'"
            raise UserError(f"{path} {problem}: {remedy}")


def notebook_problem(content):
    """Return why a notebook (its bytes) cannot be handed in; None where it is executed in order and light."""
    try:
        notebook = json.loads(content)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
        counts = [cell["execution_count"] for cell in cells]
        outputs = [output for cell in cells for output in cell["outputs"]]
    except (ValueError, KeyError, TypeError):
        return "is not a readable notebook"
    if not cells or counts != list(range(1, len(cells) + 1)):
        return "was not executed from top to bottom"
    if any(output["output_type"] == "error" for output in outputs):
        return "has a cell that ended in an error"
    if "widgets" in notebook.get("metadata", {}):
        return "holds the state of widgets"
    return f"takes more than {NOTEBOOK_BYTES / 1e6:.0f} MB" if len(content) > NOTEBOOK_BYTES else None
