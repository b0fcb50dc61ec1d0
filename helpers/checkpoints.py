"""Trained models as .safetensors files: the weights, and as metadata all that it takes to build the model again."""

import json

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.overrides import TorchFunctionMode

from helpers import models
from helpers.runtime import UserError, git_revision, versions, write_atomically

FORMAT = "2"  # of the metadata
CHARACTERS = 2000  # the longest JSON of a constructor's arguments: lists of a few hundred items at most
LARGEST = 400_000  # of the numbers in it: sample rates are the largest
NARROWEST = 0.01  # of the numbers in its lists: band-split bands of less would be too many
CALLS = 20  # of torch's functions, to make one tensor of a model; it takes about four


def save_checkpoint(path, model, half=False, **facts):
    """Write `model`, of a class in helpers.models, to `path` (NAME.safetensors) with `facts` about its training.

    half: store 16-bit floats, which halves the size. facts: numbers, strings, lists and dicts: data, profile,
    validation loss, ... Raises UserError if the file cannot be written, or could not be loaded; what was at `path`
    before is then still there.
    """
    arguments = json.dumps(model.arguments)
    try:
        _read_arguments(arguments)
    except ValueError as error:
        raise UserError(f"{path} could not be loaded again, {error}: choose smaller ones") from error
    weights = {}
    for name, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        weights[name] = value.half() if half and value.is_floating_point() else value
    facts = {"git": git_revision(), "versions": versions(), **facts}
    metadata = {"format": FORMAT, "architecture": type(model).__name__, "arguments": arguments}
    metadata["facts"] = json.dumps(facts, default=lambda number: number.item())  # numbers of NumPy and torch
    write_atomically(path, save(weights, metadata))


def load_checkpoint(path, expect=None):
    """Rebuild the model stored in `path`; return (model in evaluation mode on the CPU, facts).

    The file holds numbers and text only: reading it runs no code. expect: the architecture's class name, where only
    that one will do. Raises UserError for a file that is missing, damaged, of another format or architecture, or whose
    weights are not those of the model that its arguments describe.
    """
    try:
        file = safe_open(path, framework="pt")
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}: train the model, or check the file's name") from error
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is damaged or no checkpoint ({error}): give a .safetensors file of `train`") from error
    with file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT or "architecture" not in metadata:
            raise UserError(f"{path} holds no model of this version: give a file that its save_checkpoint wrote")
        name = metadata["architecture"]
        if expect and name != expect:
            raise UserError(f"{path} holds a {name}, not the {expect} asked for: give the checkpoint of a {expect}")
        try:
            arguments = _read_arguments(metadata["arguments"])
            weights = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            with torch.device("meta"), CallLimit(CALLS * len(weights)):  # tensors of any size, without memory
                model = models.ARCHITECTURES[name](**arguments)
            model.load_state_dict(weights, assign=True)
            return model.float().eval(), dict(json.loads(metadata["facts"]))
        except Exception as error:  # the arguments may be anything, and a constructor may raise anything for them
            raise UserError(f"the weights in {path} do not fit this version's {name}: train the model again") from error


def _read_arguments(text):
    """Return a constructor's arguments, from JSON; ValueError if they could cost any amount of time or memory."""
    if len(text) > CHARACTERS:
        raise ValueError(f"the model's arguments take {len(text)} characters, of at most {CHARACTERS}")
    arguments = json.loads(text)
    if not all(_is_modest(value) for value in arguments.values()):
        raise ValueError(f"not all numbers of the model's arguments {text} are within the limits")
    return arguments


def _is_modest(value, least=0):
    if isinstance(value, list | dict):
        parts = value.values() if isinstance(value, dict) else value
        return all(_is_modest(part, NARROWEST) for part in parts)
    return not isinstance(value, int | float) or value == 0 or least <= abs(value) <= LARGEST


class CallLimit(TorchFunctionMode):
    """Raises ValueError after so many calls of torch's functions in this thread: a model of endless layers."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.calls -= 1
        if self.calls < 0:
            raise ValueError("the arguments describe more layers than the file holds")
        return function(*args, **(kwargs or {}))
