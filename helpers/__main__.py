"""The command line, `python -m helpers`: arguments only, the work is done by the modules it calls."""

import argparse
import sys
from pathlib import Path

from helpers.runtime import BUILD, UserError, data_dir


def parser():
    """Return the parser of all commands; each sets `handler`, a function of the parsed arguments."""
    from helpers.report import PROFILES

    top = argparse.ArgumentParser(
        prog="python -m helpers",
        description="Blind source separation: fetch data, run notebooks, export them, show what they found.",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    fetch = commands.add_parser("fetch", help="download MNIST and Fashion-MNIST, verified; what is there is kept")
    fetch.add_argument("--data", metavar="DIR", type=Path, help="the data folder (default: $BSS_DATA_DIR, else data/)")
    fetch.set_defaults(handler=_fetch)

    run = commands.add_parser("run", help="execute notebooks, export them as PDF, print their results")
    run.add_argument("notebooks", metavar="NOTEBOOK", nargs="*", type=Path, help="default: all of them, in order")
    run.add_argument("--profile", choices=PROFILES, default="auto", help="default: auto (full on a GPU, else quick)")
    run.add_argument("--output", metavar="DIR", type=Path, default=BUILD, help="folder of the copies (default: build/)")
    run.add_argument("--no-pdf", dest="pdf", action="store_false", help="leave the PDFs out")
    run.set_defaults(handler=_run)

    pdf = commands.add_parser("pdf", help="export executed notebooks as PDF")
    pdf.add_argument("notebooks", metavar="NOTEBOOK", nargs="+", type=Path)
    pdf.add_argument("-o", "--output", metavar="DIR", type=Path, default=BUILD, help="their folder (default: build/)")
    pdf.set_defaults(handler=_pdf)

    table = commands.add_parser("table", help="print the measured results")
    table.add_argument("folders", metavar="DIR", nargs="*", type=Path, help="default: report/results, build/results")
    table.set_defaults(handler=_table)
    return top


def _fetch(options):
    from helpers import images

    images.fetch(options.data or data_dir())


def _run(options):
    from helpers.report import run_notebooks

    run_notebooks(options.notebooks, options.profile, options.output, options.pdf)


def _pdf(options):
    from helpers.report import notebook_to_pdf

    for path in options.notebooks:
        print(notebook_to_pdf(path, options.output))


def _table(options):
    from helpers.report import results_table

    print(results_table(*options.folders))


def main(arguments=None):
    """Run one command; return the exit status: 0, 1 for what the user can mend, 130 where interrupted."""
    options = parser().parse_args(arguments)
    try:
        options.handler(options)
    except UserError as error:
        print(f"python -m helpers: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\npython -m helpers: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
