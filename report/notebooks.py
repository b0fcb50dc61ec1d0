"""Notebooks to executed copies, to PDFs, and the tables of the results they wrote."""

import asyncio
import os
import time
from pathlib import Path

import nbformat

from helpers.results import load_results, to_table
from helpers.runtime import BUILD, ROOT, UserError, write_atomically
from report.markup import ANSI
from report.pdf import notebook_to_pdf, read_notebook

RESULTS = (ROOT / "report" / "results", BUILD / "results")  # the committed ones, and those of trial runs
PROFILES = ("auto", "smoke", "quick", "long", "full")


def execute_notebook(path, output, profile="auto", timeout=None):
    """Run a notebook from top to bottom in a fresh kernel, in the project's folder; return the executed copy's path.

    `output` is the folder that takes the copy; `profile` reaches the notebook as BSS_PROFILE; `timeout` is in seconds
    a cell, None for no limit. What the cells print is shown as it comes, after a line that names the cell.
    Raises UserError where a cell fails: the cells up to there are then kept as NAME.failed.ipynb.
    """
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    path, output = Path(path), Path(output)
    notebook = read_notebook(path)
    client = _client(notebook, path.name, timeout)
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning of the debugger that older kernels load
    environment = os.environ | {"BSS_PROFILE": profile}
    environment.pop("MPLBACKEND", None)  # figures inline
    failed = output / f"{path.stem}.failed.ipynb"
    try:
        asyncio.run(_execute(client, environment))
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        write_atomically(failed, _notebook_bytes(notebook))
        reason = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else str(error)
        reason = ANSI.sub("", reason).strip().splitlines()[0]
        raise UserError(f"{path.name}, cell {client.number}: {reason} (see {failed})") from error
    done = write_atomically(output / path.name, _notebook_bytes(notebook))
    failed.unlink(missing_ok=True)
    return done


def run_notebooks(notebooks=None, profile="auto", output=BUILD, pdf=True):
    """Execute notebooks (all of the project's where None are named), export them, print the results they wrote.

    Executed copies and PDFs go to `output`. Returns the executed copies' paths. Raises UserError at the first failure.
    """
    paths = [Path(name) for name in notebooks or sorted(ROOT.glob("0*.ipynb"))]
    if not paths:
        raise UserError(f"{ROOT}: there is no notebook 0*.ipynb here, name one on the command line")
    for path in paths:  # a damaged one is told before the others have run for minutes
        read_notebook(path)
    started, done = time.time(), []
    for path in paths:
        begun = time.monotonic()
        done.append(execute_notebook(path, output, profile))
        print(f"{done[-1]}: executed in {time.monotonic() - begun:.0f} s", flush=True)
        if pdf:
            print(notebook_to_pdf(done[-1], output), flush=True)
    try:
        print(f"\n{results_table(since=started - 1)}")
    except UserError:
        print("\nNo notebook wrote results.")
    return done


def results_table(*folders, since=0.0):
    """Return as text the rows of every results file in the folders, each table under its provenance.

    Without folders: the committed results, then those of trial runs. `since`: only files changed after that time.
    Raises UserError where there is none, or where one is damaged.
    """
    folders = [Path(folder) for folder in folders or RESULTS]
    files = [file for folder in folders for file in sorted(folder.glob("*.json")) if file.stat().st_mtime >= since]
    if not files:
        raise UserError(f"{' and '.join(map(str, folders))}: no results are there yet, write some with 'make run'")
    return "\n\n".join(_one_table(load_results(file)) for file in files)


def _one_table(results):
    facts = (
        f"{results['data']}, {results['split']}, {results['items']} items · {results['metric']} · "
        f"profile {results['profile']}, seed {results['seed']} · {results['device']}, {results['seconds']:.0f} s"
    )
    table = to_table(results)
    corner, table.columns.name = table.columns.name, None
    return f"{results['title']}\n{facts}\n{table.rename_axis(corner).reset_index().to_string(index=False)}"


async def _execute(client, environment):
    """Run the client's notebook; Ctrl-C ends the kernel and raises KeyboardInterrupt."""
    from nbclient.exceptions import DeadKernelError

    def refuse(*_):
        raise RuntimeError("the handler of asyncio.run stays")

    # nbclient handles Ctrl-C by ending the kernel twice, which fails. It does without where it may set no handler: then
    # asyncio.run cancels this task, which nbclient takes for the kernel's death, and cleans up after in good order.
    asyncio.get_running_loop().add_signal_handler = refuse
    try:
        await client.async_execute(env=environment)
    except DeadKernelError as error:
        if asyncio.current_task().cancelling():
            raise KeyboardInterrupt from error
        raise


def _client(notebook, name, timeout):
    """Return an nbclient that runs `notebook` on this very Python and shows what its cells print."""
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient

    class Client(NotebookClient):
        number = 0  # of the cell at work, counted from 1 over cells of every kind

        def create_kernel_manager(self):
            manager = super().create_kernel_manager()
            manager.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])  # no 'python3' of some other project
            return manager

        def output(self, outs, msg, display_id, cell_index):
            if msg["msg_type"] == "stream":
                print(msg["content"]["text"], end="", flush=True)
            out = super().output(outs, msg, display_id, cell_index)
            last = [(item.output_type, item.get("name")) for item in outs[-2:]]
            if msg["msg_type"] == "stream" and len(last) == 2 and last[0] == last[1]:  # one text, not a scrap a line
                outs[-2].text += outs.pop().text
            return out

    def announce(cell, cell_index):
        client.number = cell_index + 1
        if cell.cell_type == "code":
            first = next((line for line in cell.source.splitlines() if line.strip()), "")
            print(f"[{name} {client.number}/{len(notebook.cells)}] {first[:80]}", flush=True)

    client = Client(
        notebook,
        kernel_name="python3",
        timeout=timeout,
        resources={"metadata": {"path": str(ROOT)}},
        extra_arguments=["--log-level=CRITICAL"],  # of the kernel itself; errors of cells come as messages
        store_widget_state=False,
        record_timing=False,
        on_cell_start=announce,
    )
    return client


def _notebook_bytes(notebook):
    notebook.metadata.pop("widgets", None)
    return nbformat.writes(notebook).encode()
