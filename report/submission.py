"""The archive to hand in, FirstFamily-123.zip: code, executed notebooks, report and checkpoints, and nothing else."""

import io
import json
import re
import subprocess
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from helpers.runtime import BUILD, ROOT, UserError, write_atomically

REPORT = "report/report.pdf"
REQUIRED = ("README.md", "requirements.txt", REPORT)  # besides at least one notebook and the package
SUFFIXES = (".py", ".ipynb", ".md", ".txt", ".toml", ".json", ".typ", ".png", ".pdf", ".pt")
NAMES = ("Makefile", ".gitignore", "run")  # files without one of these endings that belong to the project
CHECKPOINTS_MB = 60.0  # the most that all checkpoints together may take, unless another limit is given
NOTEBOOK_BYTES = 6_000_000  # the most that an executed notebook should weigh
MOMENT = (1980, 1, 1, 0, 0, 0)  # the date of every file: the same content makes the same archive


def archive_name(name, number):
    """Return the archive's name without its ending: 'First Family' and '123' make 'FirstFamily-123'.

    Raises UserError for a name that is not a first and a family name, or a number of anything but letters and digits.
    """
    name = unicodedata.normalize("NFC", name)
    words = re.findall(r"[^\W\d_]+", name)
    if len(name.split()) < 2 or not words or re.search(r"[^\w\s.'’-]|[\d_]", name):
        raise UserError(f"'{name}' is not a first and a family name: give them as in NAME=\"First Family\"")
    if not re.fullmatch(r"[A-Za-z0-9]+", number):
        raise UserError(f"'{number}' is not a student number: give letters and digits alone, as in ID=123")
    return "".join(word[0].upper() + word[1:] for word in words) + f"-{number}"


# ---- what goes in ------------------------------------------------------------------------------------------------


def tracked_files(root):
    """Return the paths, relative to the folder `root`, of all files in it that are in version control, sorted.

    Raises UserError if it is not in version control.
    """
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True)
    except FileNotFoundError as error:
        raise UserError(f"git is not installed, and says which files of {root} are code: install it") from error
    paths = sorted(set(done.stdout.decode().split("\0")) - {""})
    if done.returncode or not paths:
        raise UserError(f"{root} is not in version control, which says what is code: work in a clone of the project")
    return paths


def gather(root=ROOT, limit_mb=CHECKPOINTS_MB):
    """Return ({path relative to `root`: content} of what is handed in, [checkpoints that are left out]).

    That is all that is in version control, and the report. Where the checkpoints together take more than `limit_mb`,
    the largest are left out until the others fit. Raises UserError for a missing file or notebook.
    """
    root = Path(root)
    paths = tracked_files(root)
    forgotten = [path.name for path in sorted(root.glob("0*.ipynb")) if path.name not in paths]
    if forgotten:
        raise UserError(f"{forgotten[0]} is not in version control: add it with 'git add {forgotten[0]}'")
    if not (root / REPORT).is_file():
        raise UserError(f"{root / REPORT} is missing: make the report first")
    missing = [path for path in paths if not (root / path).is_file()]
    if missing:
        raise UserError(f"{root / missing[0]} is in version control but not there: restore it, or 'git rm' it")
    sizes = {path: (root / path).stat().st_size for path in paths if path.startswith("checkpoints/")}
    left_out = []
    while sum(sizes.values()) > limit_mb * 1e6:
        left_out.append(max(sizes, key=sizes.get))
        del sizes[left_out[-1]]
    wanted = sorted({*paths, REPORT} - set(left_out))
    return {path: (root / path).read_bytes() for path in wanted}, left_out


# ---- what it must be ---------------------------------------------------------------------------------------------


def check_content(files):
    """Raise UserError unless {path: content} is a whole submission: see REQUIRED, SUFFIXES and check_notebook()."""
    missing = [path for path in REQUIRED if path not in files]
    notebooks = [path for path in files if path.endswith(".ipynb")]
    if missing or not notebooks:
        raise UserError(f"{(missing or ['a notebook 0*.ipynb'])[0]} is missing: a submission holds it")
    for path in sorted(files):
        if PurePosixPath(path).suffix not in SUFFIXES and PurePosixPath(path).name not in NAMES:
            raise UserError(f"{path} is neither code nor a result: take it out of version control with 'git rm'")
    for path in notebooks:
        check_notebook(path, files[path])
    if not files[REPORT].startswith(b"%PDF-") or b"%%EOF" not in files[REPORT][-1024:]:
        raise UserError(f"{REPORT} is not a whole PDF: make the report again")


def check_notebook(path, content):
    """Raise UserError unless a notebook was executed, whole and in order, without an error, and is light."""
    again = f"execute it again with 'python -m helpers run {path}'"
    try:
        notebook = json.loads(content)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
        counts = [cell["execution_count"] for cell in cells]
        failed = [cell for cell in cells if any(output["output_type"] == "error" for output in cell["outputs"])]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a readable notebook: restore it, or {again}") from error
    if not cells or None in counts:
        raise UserError(f"{path} has cells that were not executed: {again}")
    if failed:
        raise UserError(f"{path} has a cell that ended in an error (In [{failed[0]['execution_count']}]): {again}")
    if counts != list(range(1, len(cells) + 1)):
        raise UserError(f"{path} was not executed from top to bottom: {again}")
    if "widgets" in notebook.get("metadata", {}):
        raise UserError(f"{path} holds the state of widgets: {again}")
    if len(content) > NOTEBOOK_BYTES:
        size = len(content) / 1e6
        raise UserError(f"{path} takes {size:.1f} MB, more than {NOTEBOOK_BYTES / 1e6:.0f}: shorten its players")


# ---- the archive -------------------------------------------------------------------------------------------------


def write_submission(name, number, output=BUILD, limit_mb=CHECKPOINTS_MB, root=ROOT):
    """Write `output`/FirstFamily-123.zip and read it again; return (its path, [checkpoints that are left out]).

    It holds one folder of that name. Raises UserError, with nothing written, if anything is missing or does not belong.
    """
    title = archive_name(name, number)
    files, left_out = gather(root, limit_mb)
    check_content(files)
    executable = {path for path in files if (Path(root) / path).stat().st_mode & 0o100}
    path = write_atomically(Path(output) / f"{title}.zip", pack(title, files, executable))
    try:
        check_archive(path, files)
    except UserError:
        path.unlink()
        raise
    return path, left_out


def pack(title, files, executable=()):
    """Return the bytes of a ZIP archive of {path: content} in the folder `title`, the same for the same files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(f"{title}/{path}", MOMENT)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3  # Unix, whose permissions follow
            entry.external_attr = (0o100755 if path in executable else 0o100644) << 16
            archive.writestr(entry, files[path])
    return packed.getvalue()


def check_archive(path, files):
    """Raise UserError unless the archive at `path` can be read, is a whole submission, and holds exactly `files`."""
    path, remedy = Path(path), "delete it and make it again"
    try:
        with zipfile.ZipFile(path) as archive:
            found = {entry: archive.read(entry) for entry in archive.namelist()}  # raises for a wrong checksum
            twice = len(found) != len(archive.namelist())
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): {remedy}") from error
    folder = f"{path.stem}/"
    if twice or not all(entry.startswith(folder) for entry in found):
        raise UserError(f"{path} is not one folder '{path.stem}': {remedy}")
    found = {entry.removeprefix(folder): content for entry, content in found.items()}
    differing = [name for name in sorted({*found, *files}) if found.get(name) != files.get(name)]
    if differing:
        raise UserError(f"{path} differs from the project in {differing[0]}: {remedy}")
    check_content(found)
