"""Notebooks to executed copies and PDFs, and the tables of the results they wrote."""

import asyncio
import os
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from helpers.results import load_results, to_table
from helpers.runtime import BUILD, ROOT, UserError, write_atomically
from report.pdf import ANSI, notebook_to_pdf, read_notebook

RESULTS = (ROOT / "report" / "results", BUILD / "results")  # the committed ones, and those of trial runs


def run_notebooks(notebooks=None, profile="auto", output=BUILD, pdf=True):
    """Execute notebooks (all of the project's where None are named), export them, print the results they wrote.

    Executed copies and PDFs go to `output`. Raises UserError at the first failure.
    """
    paths = [Path(name) for name in notebooks or sorted(ROOT.glob("0*.ipynb"))]
    for path in paths:  # a damaged one is told before the others have run for minutes
        read_notebook(path)
    started = time.time()
    for path in paths:
        begun = time.monotonic()
        done = execute_notebook(path, output, profile)
        print(f"{done}: executed in {time.monotonic() - begun:.0f} s", flush=True)
        if pdf:
            print(notebook_to_pdf(done, output), flush=True)
    try:
        print(f"\n{results_table(since=started - 1)}")
    except UserError as error:
        print(f"\n{error}")


def execute_notebook(path, output, profile="auto", timeout=None):
    """Run a notebook from top to bottom in a fresh kernel, in the project's folder; return the executed copy's path.

    `output` is the folder that takes the copy; `profile` reaches the notebook as BSS_PROFILE; `timeout` is in seconds
    a cell, None for no limit. What the cells print is shown as it comes, after a line that names the cell.
    Raises UserError where a cell fails: the cells up to there are then kept as failed-NAME.ipynb.
    """
    path, output, notebook = Path(path), Path(output), read_notebook(path)
    notebook.metadata.pop("widgets", None)
    client = Client(
        notebook, kernel_name="python3", timeout=timeout, resources={"metadata": {"path": str(ROOT)}},
        extra_arguments=["--log-level=CRITICAL"],  # of the kernel itself; errors of cells come as messages
        coalesce_streams=True, store_widget_state=False, record_timing=False,
    )  # fmt: skip
    client.on_cell_start = client.announce
    environment = os.environ | {"BSS_PROFILE": profile, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # no debugger's warning
    environment.pop("MPLBACKEND", None)  # figures inline
    failed = output / f"failed-{path.stem}.ipynb"
    try:
        asyncio.run(client.run(environment))
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        write_atomically(failed, nbformat.writes(notebook).encode())
        reason = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else str(error)
        reason = ANSI.sub("", reason).strip().splitlines()[0]
        raise UserError(f"{path.name}, cell {client.number}: {reason} (see {failed})") from error
    done = write_atomically(output / path.name, nbformat.writes(notebook).encode())
    failed.unlink(missing_ok=True)
    return done


class Client(NotebookClient):
    """Runs a notebook on this very Python and shows what its cells print."""

    number = 0  # of the cell at work, counted from 1 over cells of every kind

    def create_kernel_manager(self):
        manager = super().create_kernel_manager()
        manager.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])  # no 'python3' of some other project
        return manager

    def announce(self, cell, cell_index):
        self.number = cell_index + 1
        if cell.cell_type == "code" and cell.source.strip():
            print(f"[{self.number}/{len(self.nb.cells)}] {cell.source.strip().splitlines()[0][:80]}", flush=True)

    def output(self, outs, msg, display_id, cell_index):
        if msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        return super().output(outs, msg, display_id, cell_index)

    async def run(self, environment):
        """Run the notebook; Ctrl-C ends the kernel and raises KeyboardInterrupt."""

        def refuse(*_):
            raise RuntimeError("the handler of asyncio.run stays")

        # nbclient handles Ctrl-C by ending the kernel twice, which fails. Where it may set no handler, asyncio.run
        # cancels this task, which nbclient takes for the kernel's death, and cleans up after in good order.
        asyncio.get_running_loop().add_signal_handler = refuse
        try:
            await self.async_execute(env=environment)
        except DeadKernelError as error:
            if asyncio.current_task().cancelling():
                raise KeyboardInterrupt from error
            raise


def results_table(*folders, since=0.0):
    """Return as text the rows of every results file in the folders, each table under its provenance.

    Without folders: the committed results, then those of trial runs. `since`: only files changed after that time.
    Raises UserError where there is none, or where one is damaged.
    """
    folders = [Path(folder) for folder in folders or RESULTS]
    files = [file for folder in folders for file in sorted(folder.glob("*.json")) if file.stat().st_mtime >= since]
    if not files:
        raise UserError(f"{' and '.join(map(str, folders))}: no results there, 'make run' writes them")
    facts = "{title}\n{data}, {split}, {items} items · {metric} · profile {profile}, seed {seed} · {device}\n"
    return "\n\n".join(facts.format(**found) + str(to_table(found)) for found in map(load_results, files))
