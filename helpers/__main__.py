"""The command line, `python -m helpers`: arguments only, the work is done by the modules it calls."""

import argparse
import json
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

from helpers.runtime import UserError, data_dir


def parser():
    """Return the parser of all commands; each sets `handler`, a function of the parsed arguments."""
    top = argparse.ArgumentParser(
        prog="python -m helpers",
        description="Blind source separation: separate songs, evaluate and train models, fetch data. "
        "Notebooks and the report have commands of their own: python -m report --help",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_command in (_add_separate, _add_evaluate, _add_train, _add_models, _add_fetch):
        add_command(commands)
    return top


def _setting(text):
    """Read NAME=VALUE: the value is a number, true, false or a list as in JSON, anything else a word."""
    name, given, value = text.partition("=")
    if not given or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError as error:
        if value[:1] in ("[", "{"):
            raise argparse.ArgumentTypeError(f"{text} is no list: quote it for the shell, '{name}=[...]'") from error
        return name, value


def _number(kind, least=1e-9, most=1e9):
    """Return a function that reads a number of a kind, within limits, from an argument."""

    def read(text):
        number = kind(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not from {least:g} to {most:g}")
        return number

    read.__name__ = "number"
    return read


DATA_DIR = {"metavar": "DIR", "type": Path, "help": "default: $BSS_DATA_DIR, else data/"}
DEVICE = {"choices": ("auto", "cpu", "cuda", "mps"), "default": "auto", "help": "a GPU where there is one, by default"}
HEARD = "that a network hears at once (default: 10, above 32 kHz 3)"
CHUNK = {"metavar": "SECONDS", "type": _number(float), "help": HEARD}


def _add(commands, handler, text, example=None):
    """Add the command that is called as its handler; the first sentence of `text` stands in the list of commands."""
    epilog = f"example: python -m helpers {example}" if example else None
    summary = text.partition(". ")[0]
    command = commands.add_parser(handler.__name__.strip("_"), help=summary, description=text, epilog=epilog)
    command.set_defaults(handler=handler)
    return command


def _add_separate(commands):
    text = (
        "Take audio files apart, into DIR/SONG/MODEL/SOURCE.wav. Reads WAV, FLAC, OGG, MP3, with ffmpeg also M4A and "
        "the sound of videos, of any length. Results have the input's length and sample rate; WAV has its depth, or "
        "floats where samples would clip. Prints the files' names."
    )
    command = _add(commands, _separate, text, "separate song.mp3 -o separated --model repet-sim")
    add = command.add_argument
    add("inputs", metavar="INPUT", nargs="+", type=Path, help="an audio file, or a folder of them")
    add("-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the results")
    add("--model", metavar="NAME|FILE", required=True, help="as `models` lists it, or a checkpoint")
    add("--device", **DEVICE)
    add("--chunk", **CHUNK)
    add("--every-speed", action="store_true", help="hear INPUT at five speeds: five times as long, a little better")
    add("--format", choices=("wav", "flac", "mp3"), default="wav", help="default: wav")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--only", metavar="SOURCE", nargs="+", default=(), help="write these alone, such as vocals")
    which.add_argument("--two-stems", action="store_true", help="write vocals and accompaniment, the rest added up")
    add("--add-up", action="store_true", help="share the remainder among the sources: they add up to INPUT")


def _add_evaluate(commands):
    text = (
        "Measure models on a corpus: SDR, SIR, SAR, NSDR. Prints the table, and the name of the JSON file with every "
        "track's values. Nothing is downloaded."
    )
    command = _add(commands, _evaluate, text, "evaluate --model repet-sim wiener --data mir1k --limit 20")
    add = command.add_argument
    add("--model", metavar="NAME|FILE", dest="models", nargs="+", required=True, help="one or more")
    corpora = (
        "mir1k, dsd100, musdb18hq, musdb18, musdb18-7s, multitrack (the first of MUSDB18-HQ, DSD100, MUSDB18 and its "
        "previews that is there), voices-and-bands (train only), irmas-stand-ins, sisec-excerpts, musdb18-excerpts, "
        "embedded (songs made by code), or a folder of songs: FOLDER/SONG/SOURCE.wav; several joined as A+B+C"
    )
    add("--data", metavar="CORPUS", required=True, help=corpora)
    add("--data-dir", **DATA_DIR)
    add("--split", default="test", help="train, validation or test (default); all for a plain folder")
    add("--limit", metavar="N", type=_number(int), help="the first N tracks only")
    add("--device", **DEVICE)
    add("--chunk", **CHUNK)


def _add_train(commands):
    text = (
        "Train a model on a corpus, in one process or, by accelerate launch, in several. Makes a checkpoint that "
        "`separate` takes: the epoch with the lowest validation loss. Prints a line per epoch (* is the best so far); "
        "the run's state is kept in FILE's folder. Nothing is downloaded."
    )
    example = "train music-vae --data mir1k --epochs 30 --steps 300 -o build/music-vae.safetensors"
    command = _add(commands, _train, text, example)
    add = command.add_argument
    add("name", metavar="MODEL", help="such as deep-unet or music-vae; a wrong name lists them all")
    add("--data", metavar="CORPUS", required=True, help="as for `evaluate`, such as mir1k+voices-and-bands")
    add("--data-dir", **DATA_DIR)
    add("--epochs", metavar="N", type=_number(int), required=True, help="each ends in a validation")
    add("--steps", metavar="N", type=_number(int), required=True, help="batches per epoch")
    add("-o", "--output", metavar="FILE", type=Path, required=True, help="the checkpoint to write")
    add("--from", metavar="CHECKPOINT", dest="start", type=Path, help="begin with its weights")
    together = "segments per batch, of all processes together: a multiple of their number (default: the model's)"
    add("--batch-size", metavar="N", type=_number(int), help=together)
    add("--seconds", type=_number(float, 1e-3), help="length of a segment (default: the model's)")
    add("--learning-rate", metavar="RATE", type=_number(float), help="default: the model's")
    add("--seed", metavar="N", type=_number(int, 0, 2**32 - 1), default=0, help="from 0 to 2^32 - 1 (default: 0)")
    add("--resume", action="store_true", help="go on with the run of these settings that was stopped")
    changes = "arguments of the model's class instead of the recipe's, such as width=64"
    add("--set", metavar="NAME=VALUE", dest="arguments", nargs="+", type=_setting, default=[], help=changes)
    add("--device", **DEVICE)


def _add_models(commands):
    text = (
        "List the models and how good they were measured to be. First comes which to take for what, then all: notebook "
        "01's networks, networks of audio, baselines, and oracles, which need the true sources (`evaluate` only)."
    )
    command = _add(commands, _models, text)
    command.add_argument("--all", action="store_true", help="also what trial runs measured, of build/results")


def _add_fetch(commands):
    text = "Download data sets, verify and unpack them. What is there is kept. Prints the folders."
    command = _add(commands, _fetch, text, "fetch mir1k musdb18-7s")
    corpora = (
        "mir1k (1.3 GB), musdb18hq (22.7 GB), musdb18 (4.7 GB), musdb18-7s (its 7 s previews, 147 MB), irmas (3.2 GB); "
        "none: MNIST and Fashion-MNIST"
    )
    command.add_argument("corpora", metavar="CORPUS", nargs="*", help=corpora)
    command.add_argument("--data-dir", **DATA_DIR)


def _separate(options):
    from helpers.separation.catalogue import load_separator
    from helpers.separation.every_speed import EverySpeed
    from helpers.separation.files import chosen, progress_line, separate_file, song_folders

    name = Path(options.model).name.removesuffix(".safetensors")
    separator = load_separator(options.model, options.device, options.chunk)
    if options.every_speed:
        separator, name = EverySpeed(separator), f"{name}-every-speed"
    sources = separator.sources if hasattr(separator, "sources") else separator.names
    chosen(dict.fromkeys(sources, 0), options.only, options.two_stems)  # told once, and before any work
    settings = options.format, options.only, options.two_stems, options.add_up, partial(_say, "warning")
    settings += (progress_line("separating"),)
    failed = False
    for path, song in song_folders(options.inputs, options.output).items():
        try:
            print(*separate_file(path, options.output / song / name, separator, *settings), sep="\n", flush=True)
        except UserError as error:  # the others are done all the same
            failed = True
            _say("error", error if str(path) in str(error) else f"{path}: {error}")
    return int(failed)


def _evaluate(options):
    from helpers.results import load_results, to_table
    from helpers.separation import evaluation
    from helpers.separation.files import progress_line

    path = evaluation.evaluate_models(
        options.models, options.data, options.split, options.limit, options.data_dir, options.device, options.chunk,
        progress_line("evaluating"),
    )  # fmt: skip
    found = load_results(path)
    print(f"{found['title']}\n{found['metric']}\n{found['protocol']}\n{to_table(found, digits=2)}\n{path}")


def _train(options):
    from helpers.recipes import train

    settings = vars(options) | {"arguments": dict(options.arguments)}  # called as train() calls them
    del settings["handler"]
    train(**settings, show=lambda line: print(line, flush=True))


def _models(options):
    from helpers.separation.catalogue import by_use, list_models

    rows, columns = list_models(options.all), {"model": 22, "kind": 16, "sources": 27}
    print(f"{'for':30}{'take':22}measured")
    for use, row in by_use(rows):
        print(f"{use:29} {row['model']:21} {row['measured']}")
    print("\n" + "".join(f"{column:{width}}" for column, width in columns.items()) + "measured")
    for row in rows:
        print("".join(f"{row.get(column, ''):{width - 1}} " for column, width in columns.items()) + row["measured"])


def _fetch(options):
    from helpers.data import corpora, images

    folder = options.data_dir or data_dir()
    for name in options.corpora:
        print(corpora.fetch(name, folder))
    if not options.corpora:
        images.fetch_images(folder)
        print(folder / "MNIST", folder / "FashionMNIST", sep="\n")


def _say(kind, sentence):
    print(f"python -m helpers: {kind}: {sentence}", file=sys.stderr)


def main(arguments=None):
    """Run one command; return the exit status: 0, 1 for what the user can mend, 130 where interrupted."""
    options = parser().parse_args(arguments)
    try:
        return options.handler(options) or 0
    except UserError as error:
        _say("error", error)
        return 1
    except KeyboardInterrupt:
        print("\npython -m helpers: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as of `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        return 141


def run_to_the_end():
    """Run the command and exit: with 143 where the process is told to end, after what is half done was removed."""
    ended = []

    def end(number, _frame):
        ended.append(128 + number)
        sys.exit(128 + number)  # an exception, as Ctrl-C is

    def again(unraisable):
        if unraisable.exc_type is SystemExit:  # it came in a destructor or a callback, whose exceptions Python drops
            threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
        else:
            sys.__unraisablehook__(unraisable)

    signal.signal(signal.SIGTERM, end)
    sys.unraisablehook = again
    try:
        status = main()
    except Exception:  # an extension module that is being imported makes an ImportError of any exception
        if not ended:
            raise
    sys.exit(ended[0] if ended else status)


if __name__ == "__main__":
    run_to_the_end()
