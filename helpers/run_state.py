"""What a training run is kept by: a fingerprint of its settings, and a file to go on from after an interruption."""

import dataclasses
import functools
import hashlib
import types
import zipfile

import torch

from helpers.runtime import UserError, write_atomically

STATE_FORMAT = 2
PLAIN = (int, float, str, bytes, tuple, types.NoneType, types.FunctionType, functools.partial)


# ---- fingerprints ------------------------------------------------------------------------------------------------


def fingerprint(*settings):
    """Return eight hex digits that change when any of `settings` does: a part of a state file's name.

    A run whose loss, data or batch size was edited then begins afresh, and the earlier one stays to go back to.
    Numbers, texts, lists, dicts, dataclasses and partial functions count by what they hold, functions by their compiled
    code, defaults and the plain values they enclose (but not by the functions that they call).
    """
    return hashlib.sha256(repr(_described(settings)).encode()).hexdigest()[:8]


def _described(setting):
    """Return plain data that is the same for equal settings in every process."""
    if isinstance(setting, functools.partial):
        return "partial", _described((setting.func, setting.args, setting.keywords))
    if isinstance(setting, types.MethodType):
        return _described((setting.__func__, setting.__self__))
    if isinstance(setting, types.FunctionType):
        enclosed = [cell.cell_contents for cell in setting.__closure__ or ()]
        enclosed = [value if isinstance(value, PLAIN) else type(value).__name__ for value in enclosed]
        return _described((setting.__code__, setting.__defaults__, setting.__kwdefaults__, enclosed))
    if isinstance(setting, types.CodeType):
        return setting.co_code, setting.co_names, _described(setting.co_consts)
    if isinstance(setting, dict):
        return [(_described(key), _described(value)) for key, value in setting.items()]
    if isinstance(setting, list | tuple):
        return [_described(part) for part in setting]
    if isinstance(setting, set | frozenset):
        return sorted(repr(_described(part)) for part in setting)
    if dataclasses.is_dataclass(setting) and not isinstance(setting, type):
        fields = [field.name for field in dataclasses.fields(setting) if field.repr]
        return type(setting).__qualname__, [(name, _described(getattr(setting, name))) for name in fields]
    if type(setting).__repr__ is object.__repr__:  # which tells no more than an address
        return type(setting).__qualname__, _described(vars(setting))
    return repr(setting)


# ---- the state file ----------------------------------------------------------------------------------------------


def save_run(path, plan, parts, history, best):
    """Write all that fit() needs to go on: its plan, {name: what has a state_dict()}, history and best weights."""
    states = {name: part.state_dict() for name, part in parts.items()}
    state = {"state_format": STATE_FORMAT, "plan": plan, "parts": states, "history": history, "best": best}
    write_atomically(path, lambda file: torch.save(state, file))


def restore_run(path, plan, parts):
    """Load a state that save_run() wrote into `parts`; return (history, best weights).

    A part that the file lacks stays as it is, such as the gradient scaler of a run that was begun without one.
    Raises UserError if the file is damaged, or of another plan.
    """
    remedy = "delete it, or pass resume=False to begin again"
    state = _read(path, remedy)
    if not isinstance(state, dict) or state.get("state_format") != STATE_FORMAT:
        raise UserError(f"{path} holds no training run of this version: {remedy}")
    others = [name.replace("_", " ") for name, value in plan.items() if state["plan"].get(name) != value]
    if others:
        raise UserError(f"{path} holds a training run with other settings ({', '.join(others)}): {remedy}")
    try:
        for name, part in parts.items():
            if name in state["parts"]:
                part.load_state_dict(state["parts"][name])
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the weights in {path} do not fit this version's {plan['architecture']}: {remedy}") from error
    return state["history"], state["best"]


def _read(path, remedy):
    """Return what torch.save() wrote to `path`, without running code from it."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch looks at no checksum: a flipped bit would become a wrong weight
                raise zipfile.BadZipFile
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except Exception as error:  # torch's reader raises errors of many kinds where a file is damaged
        raise UserError(f"{path} is damaged or holds no training run: {remedy}") from error
