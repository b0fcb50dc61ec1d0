"""What a training run is kept by: a fingerprint of its settings, and a file to go on from after an interruption."""

import ast
import dataclasses
import functools
import hashlib
import inspect
import io
import textwrap
import types
import zipfile

import torch

from helpers.runtime import UserError, write_atomically

PLAIN = (int, float, str, bytes, tuple, types.NoneType, types.FunctionType, functools.partial)


def fingerprint(*settings):
    """Return eight hex digits that change when any of `settings` does: a part of a state file's name.

    A run whose loss, data or batch size was edited then begins afresh, and the earlier one stays to go back to.
    Numbers, texts, lists, dicts, dataclasses and partial functions count by what they hold, functions by their source,
    defaults and the plain values they enclose (but not by the functions that they call).
    """
    return hashlib.sha256(repr(_described(settings)).encode()).hexdigest()[:8]


def _described(setting):
    """Return plain data that is the same for equal settings in every process."""
    if isinstance(setting, functools.partial):
        setting = (setting.func, setting.args, setting.keywords)
    elif isinstance(setting, types.MethodType):
        setting = (setting.__func__, setting.__self__)
    elif isinstance(setting, types.FunctionType):
        enclosed = [cell.cell_contents for cell in setting.__closure__ or ()]
        enclosed = [value if isinstance(value, PLAIN) else type(value).__name__ for value in enclosed]
        setting = (_code(setting), setting.__defaults__, setting.__kwdefaults__, enclosed)
    elif isinstance(setting, types.CodeType):
        setting = (setting.co_code, setting.co_names, setting.co_consts)
    elif dataclasses.is_dataclass(type(setting)):
        fields = [field.name for field in dataclasses.fields(setting) if field.repr]
        setting = (type(setting).__qualname__, {name: getattr(setting, name) for name in fields})
    elif type(setting).__repr__ is object.__repr__:  # which tells no more than an address
        setting = (type(setting).__qualname__, vars(setting))
    if isinstance(setting, dict):
        setting = list(setting.items())
    if isinstance(setting, list | tuple):
        return [_described(part) for part in setting]
    if isinstance(setting, set | frozenset):
        return sorted(repr(_described(part)) for part in setting)
    return repr(setting)


def _code(function):
    """Return what a function does: its source without comments, the same in every Python.

    Its compiled code where there is no source, and of a lambda, whose source is whatever stands on its lines.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        return function.__code__
    return ast.unparse(tree) if isinstance(tree.body[0], ast.FunctionDef) else function.__code__


def save_run(path, plan, parts, history, best):
    """Write all that fit() needs to go on: its plan, {name: what has a state_dict()}, history and best weights."""
    states = {name: part.state_dict() for name, part in parts.items() if part is not None}
    state = {"plan": plan, "parts": states, "history": history, "best": best}
    buffer = io.BytesIO()
    torch.save(state, buffer)  # to memory first: of a full disk torch makes a RuntimeError
    write_atomically(path, buffer.getbuffer())


def restore_run(path, plan, parts):
    """Load a state that save_run() wrote into `parts`; return (history, best weights).

    A part that the file lacks stays as it is, such as the gradient scaler of a run that was begun without one. Of a
    finished run the file holds the best weights alone, and these are loaded.
    Raises UserError if the file is damaged, or of another plan.
    """
    remedy = "delete it, or begin again without --resume (resume=False)"
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch looks at no checksum: a flipped bit would become a wrong weight
                raise zipfile.BadZipFile
        state = torch.load(path, map_location="cpu", weights_only=True)  # runs no code of the file's
        others = [name.replace("_", " ") for name, value in plan.items() if state["plan"].get(name) != value]
    except Exception as error:  # torch's reader raises errors of many kinds where a file is damaged
        raise UserError(f"{path} is damaged or holds no training run: {remedy}") from error
    if others:
        raise UserError(f"{path} holds a training run with other settings ({', '.join(others)}): {remedy}")
    try:
        if not state["parts"]:  # a finished run keeps its best weights only
            parts["weights"].load_state_dict(state["best"])
        for name, part in parts.items():
            if part is not None and name in state["parts"]:
                part.load_state_dict(state["parts"][name])
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the weights in {path} do not fit this version's {plan['architecture']}: {remedy}") from error
    return state["history"], state["best"]
