"""Write a trained model to one file, and rebuild it from that file alone, without running code from it."""

import contextlib
import json
import pickle
import zipfile
from pathlib import Path

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from helpers import models
from helpers.runtime import UserError, git_revision, versions, write_atomically

FORMAT = 1  # raise it when a reader of the old files would misunderstand the new ones
FIELDS = {"format": int, "architecture": str, "arguments": dict, "weights": dict}
RECORD_BYTES = 64  # the least that one weight takes in a file besides its numbers: torch aligns every record to that


def save_checkpoint(path, model, half=False, **facts):
    """Write `model` to `path`: its weights, its constructor's arguments, and `facts` about its training.

    Args:
        model: an instance of a class in helpers.models, with its constructor's arguments in `model.arguments`.
        half: store the weights as 16-bit floats (half the size; measure what that costs).
        facts: numbers, strings, lists and dicts: training data, profile, validation loss, ...

    Raises UserError if the file cannot be written; whatever was at `path` before is then still there.
    """
    facts = json.loads(json.dumps(facts, default=lambda number: number.item()))  # the reader refuses NumPy's numbers
    weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    if half:
        weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    content = {
        "format": FORMAT,
        "architecture": type(model).__name__,
        "arguments": model.arguments,
        "weights": weights,
        "facts": {"git": git_revision(), "versions": versions(), **facts},
    }
    write_atomically(path, lambda file: torch.save(content, file))


def check_archive(path):
    """Raise BadZipFile unless `path` is a whole archive with the right checksums, no bigger inside than outside.

    torch.load looks at neither: a flipped bit would become a wrong weight.
    """
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise zipfile.BadZipFile("more bytes inside than outside")
        broken = archive.testzip()
    if broken:
        raise zipfile.BadZipFile(f"wrong checksum of {broken}")


def read_safely(path):
    """Return what torch.save wrote to `path`, refusing anything but tensors and plain data.

    Raises UserError if the file is missing, damaged, or asks for code to be run.
    """
    path = Path(path)
    try:
        check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}: train the model, or check the file's name") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder: give the checkpoint file inside it") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): change its permissions") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is refused, opening it could run code: get it from a source you trust") from error
    except Exception as error:  # there is nothing that torch's reader may not stumble over in a damaged file
        raise UserError(f"{path} is damaged or no checkpoint: delete it, then train or download it again") from error


@contextlib.contextmanager
def at_most(size):
    """Raise ValueError, before memory is used, where modules are built whose weights do not fit in `size` bytes."""

    def count(module, name, weight):
        nonlocal size
        size -= weight.numel() + RECORD_BYTES
        if size < 0:
            raise ValueError("the arguments ask for a bigger model than the file holds")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def load_checkpoint(path, expect=None):
    """Rebuild the model stored in `path`; return (model in evaluation mode on the CPU, facts).

    Args:
        expect: the architecture's class name, where only that one will do.

    Raises:
        UserError: missing or damaged file, file that would run code, another format, architecture or set of weights.
    """
    content = read_safely(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(name), kind) for name, kind in FIELDS.items()):
        raise UserError(f"{path} holds no model of this project: give a file written by save_checkpoint")
    if content["format"] != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {content['format']}, this version reads {FORMAT}: train the model again"
        )
    name = content["architecture"]
    if expect and name != expect:
        raise UserError(f"{path} holds a {name}, not the {expect} asked for: give the checkpoint of a {expect}")
    if name not in models.ARCHITECTURES:
        raise UserError(f"{path} holds a {name}, unknown to this version of the project: update it")
    try:
        with at_most(Path(path).stat().st_size):  # arguments from a file may ask for any width
            model = models.ARCHITECTURES[name](**content["arguments"])
        model.load_state_dict(content["weights"])  # copies into float32, whatever the file's precision
    except Exception as error:  # arguments and weights from a file may be anything
        raise UserError(f"the weights in {path} do not fit this version's {name}: train the model again") from error
    return model.eval(), content.get("facts", {})
