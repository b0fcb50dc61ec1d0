"""The command line, `python -m helpers`: arguments only, the work is done by the modules it calls."""

import argparse
import json
import os
import sys
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

    separate = commands.add_parser(
        "separate",
        help="take audio files apart, into DIR/SONG/MODEL/SOURCE.wav",
        description="Take audio files (WAV, FLAC, OGG, MP3; with ffmpeg also M4A and the sound of videos) and those in "
        "folders apart, into DIR/SONG/MODEL/SOURCE.wav: as long as the input, at its sample rate, of its depth (16 or "
        "24 bit, or 32-bit float; float also where the others would clip). Files of any length, block by block. Prints "
        "the files' names.",
        epilog="example: python -m helpers separate song.mp3 -o separated --model repet-sim. A name that begins with a "
        "dash is given as ./-name.wav",
    )
    separate.add_argument("inputs", metavar="INPUT", nargs="+", type=Path, help="an audio file, or a folder of them")
    separate.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the results")
    separate.add_argument("--model", metavar="NAME|FILE", required=True, help="as `models` lists it, or a checkpoint")
    _add_computing(separate)
    separate.add_argument(
        "--every-speed", action="store_true", help="hear INPUT at five speeds: five times as long, a little better"
    )
    separate.add_argument("--format", choices=("wav", "flac", "mp3"), default="wav", help="default: wav")
    which = separate.add_mutually_exclusive_group()
    which.add_argument("--only", metavar="SOURCE", nargs="+", default=(), help="write these alone, such as vocals")
    which.add_argument("--two-stems", action="store_true", help="write vocals and accompaniment, the rest added up")
    separate.add_argument("--add-up", action="store_true", help="share what is left over: they add up to INPUT")
    separate.set_defaults(handler=_separate)

    evaluate = commands.add_parser(
        "evaluate",
        help="measure models on a corpus: SDR, SIR, SAR, NSDR",
        description="Measure models on tracks whose sources are known (BSS Eval 3). Prints the table, and the name of "
        "the JSON file with every track's values. Nothing is downloaded, and data that is missing is refused.",
        epilog="example: python -m helpers evaluate --model repet-sim wiener --data mir1k --limit 20",
    )
    evaluate.add_argument("--model", metavar="NAME|FILE", dest="models", nargs="+", required=True, help="one or more")
    evaluate.add_argument(
        "--data", metavar="CORPUS", required=True,
        help="mir1k, dsd100, musdb18hq, musdb18, musdb18-7s, multitrack (the first of MUSDB18-HQ, DSD100, MUSDB18 and "
        "its previews that is there), embedded (songs made by code), or a folder of songs: FOLDER/SONG/SOURCE.wav",
    )  # fmt: skip
    evaluate.add_argument("--data-dir", metavar="DIR", type=Path, help="default: $BSS_DATA_DIR, else data/")
    evaluate.add_argument("--split", default="test", help="train, validation or test (default); all for a plain folder")
    evaluate.add_argument("--limit", metavar="N", type=_positive(int), help="the first N tracks only")
    _add_computing(evaluate)
    evaluate.set_defaults(handler=_evaluate)

    train = commands.add_parser(
        "train",
        help="train a model on a corpus, in one process or in several",
        description="Train a model on a corpus's train split into a checkpoint that `separate` takes: the epoch with "
        "the lowest validation loss. Prints a line per epoch (* is the best so far); the run's state is kept in FILE's "
        "folder. Started by accelerate launch or torchrun, all processes share every batch. Nothing is downloaded.",
        epilog="example, on two GPUs: accelerate launch --num_processes 2 -m helpers train music-vae --data mir1k "
        "--epochs 30 --steps 300 --batch-size 32 -o build/music-vae.safetensors",
    )
    train.add_argument("model", metavar="MODEL", help="such as deep-unet or music-vae; a wrong name lists them all")
    train.add_argument("--data", metavar="CORPUS", required=True, help="as for `evaluate`, a corpus with stems")
    train.add_argument("--data-dir", metavar="DIR", type=Path, help="default: $BSS_DATA_DIR, else data/")
    train.add_argument("--epochs", metavar="N", type=_positive(int), required=True, help="each ends in a validation")
    train.add_argument("--steps", metavar="N", type=_positive(int), required=True, help="batches per epoch")
    train.add_argument(
        "--batch-size", metavar="N", type=_positive(int), required=True,
        help="segments per batch, of all processes together: a multiple of their number",
    )  # fmt: skip
    train.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the checkpoint to write")
    train.add_argument("--from", metavar="CHECKPOINT", dest="start", type=Path, help="begin with its weights")
    train.add_argument("--seconds", type=_positive(float), help="length of a segment (default: the model's)")
    train.add_argument("--learning-rate", metavar="RATE", type=_positive(float), help="default: the model's")
    train.add_argument("--seed", metavar="N", type=_seed, default=0, help="from 0 to 2^32 - 1 (default: 0)")
    train.add_argument("--resume", action="store_true", help="go on with the run of these settings that was stopped")
    train.add_argument(
        "--set", metavar="NAME=VALUE", dest="arguments", nargs="+", type=_setting, default=[],
        help="arguments of the model's class instead of the recipe's, such as width=64",
    )  # fmt: skip
    _add_device(train)
    train.set_defaults(handler=_train)

    models = commands.add_parser(
        "models",
        help="list the models and how good they were measured to be",
        description="List what `separate` and `evaluate` take by name, with what the results files say of each: "
        "networks of audio, baselines, and oracles, which need the true sources (`evaluate` only). The networks of "
        "images, listed too, belong to notebook 01.",
    )
    models.add_argument("--all", action="store_true", help="also what trial runs measured, of build/results")
    models.set_defaults(handler=_models)

    fetch = commands.add_parser(
        "fetch",
        help="download data sets, verified; what is there is kept",
        description="Download data sets, verify and unpack them. What is there is kept. Prints the folders.",
        epilog="example: python -m helpers fetch mir1k musdb18-7s",
    )
    fetch.add_argument(
        "corpora", metavar="CORPUS", nargs="*",
        help="mir1k (1.3 GB), musdb18hq (22.7 GB), musdb18 (4.7 GB), musdb18-7s (its 7 s previews, "
        "147 MB), irmas (3.2 GB); none: MNIST and Fashion-MNIST",
    )  # fmt: skip
    fetch.add_argument(
        "--data-dir", metavar="DIR", type=Path, help="the data folder (default: $BSS_DATA_DIR, else data/)"
    )
    fetch.set_defaults(handler=_fetch)
    return top


def _add_computing(command):
    """Add the options that say where, and on how much at a time, a network computes."""
    _add_device(command)
    command.add_argument(
        "--chunk", metavar="SECONDS", type=_positive(float), default=10.0,
        help="a network sees so much at a time; less takes less memory (default: 10)",
    )  # fmt: skip


def _add_device(command):
    """Add the option that says where a network computes."""
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto",
        help="what a network runs on (default: auto, a GPU where there is one)",
    )  # fmt: skip


def _setting(text):
    """Read NAME=VALUE: the value is a number, true, false or a list as in JSON, anything else a word."""
    name, given, value = text.partition("=")
    if not given or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _seed(text):
    """Read a seed: NumPy's generator takes 32 bits."""
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to {2**32 - 1}")
    return number


def _positive(kind):
    """Return a function that reads a positive number of a kind from an argument."""

    def read(text):
        number = kind(text)
        if not 0 < number < 1e9:
            raise argparse.ArgumentTypeError(f"{text} is not a positive number")
        return number

    read.__name__ = "number"
    return read


def _separate(options):
    from helpers.separation.catalogue import load_separator
    from helpers.separation.every_speed import EverySpeed
    from helpers.separation.files import progress_line, separate_files

    show, name = progress_line("separating"), Path(options.model).stem
    if options.every_speed:
        once = load_separator(options.model, options.device, options.chunk)
        separator, name = EverySpeed(once, progress=show), f"{name}-every-speed"
    else:
        separator = load_separator(options.model, options.device, options.chunk, show)
    failed = False
    done = separate_files(
        options.inputs, options.output, separator, name, form=options.format, only=options.only,
        two_stems=options.two_stems, add_up=options.add_up, warn=_warn,
    )  # fmt: skip
    for _, files, error in done:
        if error:
            failed = True
            _complain(error)
        for file in files:
            print(file, flush=True)
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

    train(
        options.model, options.data, options.output, epochs=options.epochs, steps=options.steps,
        batch_size=options.batch_size, seconds=options.seconds, seed=options.seed, device=options.device,
        learning_rate=options.learning_rate, resume=options.resume, start=options.start, data_dir=options.data_dir,
        arguments=dict(options.arguments), show=lambda line: print(line, flush=True),
    )  # fmt: skip


def _models(options):
    from helpers.separation.catalogue import list_models

    columns = {"model": 22, "kind": 16, "sources": 22}
    print("".join(f"{column:{width}}" for column, width in columns.items()) + "measured")
    for row in list_models(options.all):
        print("".join(f"{row.get(column, ''):{width - 1}} " for column, width in columns.items()) + row["measured"])


def _fetch(options):
    from helpers.data import corpora, images

    for name in options.corpora:
        print(corpora.fetch(name, options.data_dir or data_dir()))
    if not options.corpora:
        images.fetch_images(options.data_dir or data_dir())


def _complain(error):
    print(f"python -m helpers: error: {error}", file=sys.stderr)


def _warn(sentence):
    print(f"python -m helpers: warning: {sentence}", file=sys.stderr)


def main(arguments=None):
    """Run one command; return the exit status: 0, 1 for what the user can mend, 130 where interrupted."""
    options = parser().parse_args(arguments)
    try:
        return options.handler(options) or 0
    except UserError as error:
        _complain(error)
        return 1
    except KeyboardInterrupt:
        print("\npython -m helpers: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as of `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        return 141


if __name__ == "__main__":
    sys.exit(main())
