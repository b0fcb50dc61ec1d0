"""The command line, `python -m report`: execute notebooks, export them, typeset the report, pack the submission."""

import argparse
import os
import sys
from pathlib import Path

from helpers.runtime import BUILD, UserError


def parser():
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="python -m report", description="Execute and export notebooks, make the report and what is handed in."
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    run = commands.add_parser("run", help="execute notebooks, export them as PDF, print their results")
    run.add_argument("notebooks", metavar="NOTEBOOK", nargs="*", type=Path, help="default: all of them, in order")
    profiles = ("auto", "smoke", "quick", "full")
    run.add_argument("--profile", choices=profiles, default=os.environ.get("BSS_PROFILE") or "auto",
                     help="default: $BSS_PROFILE, else auto (full on a GPU, else quick)")  # fmt: skip
    run.add_argument("--output", metavar="DIR", type=Path, default=BUILD, help="folder of the copies (default: build/)")
    run.add_argument("--no-pdf", dest="pdf", action="store_false", help="leave the PDFs out")

    pdf = commands.add_parser("pdf", help="export executed notebooks as PDF")
    pdf.add_argument("notebooks", metavar="NOTEBOOK", nargs="+", type=Path)
    pdf.add_argument("-o", "--output", metavar="DIR", type=Path, default=BUILD, help="their folder (default: build/)")

    report = commands.add_parser("report", help="fill report/report.md with the results: report/report.pdf")
    report.add_argument("--draft", action="store_true", help="build/report.pdf, also of trial runs, uncommitted code")

    table = commands.add_parser("table", help="print the measured results")
    table.add_argument("folders", metavar="DIR", nargs="*", type=Path, help="default: report/results, build/results")

    submission = commands.add_parser("submission", help="pack what is handed in: FirstFamily-123.zip")
    submission.add_argument("--name", required=True, help='first and family name, "First Family"')
    submission.add_argument("--id", metavar="ID", required=True, help="student number: letters and digits")
    submission.add_argument(
        "--limit-mb", metavar="MB", type=float, default=60.0,
        help="leave the largest checkpoints out until the others take no more than this (default: 60)",
    )  # fmt: skip
    submission.add_argument("-o", "--output", metavar="DIR", type=Path, default=BUILD, help="default: build/")
    return top


def work(options):
    """Do what a command asks for, and print what it made."""
    from report import notebooks, paper, pdf, submission

    match options.command:
        case "run":
            notebooks.run_notebooks(options.notebooks, options.profile, options.output, options.pdf)
        case "pdf":
            for path in options.notebooks:
                print(pdf.notebook_to_pdf(path, options.output))
        case "report":
            path, pages = paper.write_report(options.draft)
            print(f"{path}: {pages} page{'s' * (pages > 1)}")
        case "table":
            print(notebooks.results_table(*options.folders))
        case "submission":
            path, left_out = submission.write_submission(options.name, options.id, options.output, options.limit_mb)
            for name in left_out:
                print(f"left out, the checkpoints would take more than {options.limit_mb:g} MB: {name}")
            print(path)


def main(arguments=None):
    """Run one command; return the exit status: 0, 1 for what the user can mend, 130 where interrupted."""
    try:
        work(parser().parse_args(arguments))
    except UserError as error:
        print(f"python -m report: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\npython -m report: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as of `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        return 141
    return 0


if __name__ == "__main__":
    sys.exit(main())
