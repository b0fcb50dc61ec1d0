"""Everything that separates, by name: loaded, and listed with what it was measured to reach."""

from pathlib import Path

from helpers.checkpoints import load_checkpoint
from helpers.results import load_results
from helpers.runtime import BUILD, ROOT, UserError, pick_device
from helpers.separation.baselines import BASELINES, VOICE
from helpers.separation.networks import ModelSeparator

RESULTS = (ROOT / "report" / "results", BUILD / "results")  # the committed ones first
METRICS = ("GNSDR", "NSDR", "SDR", "PSNR")  # the first of them that a row has is listed
BLIND = ("source 1", "source 2")  # what sources are called by a method that cannot tell which is which
FOLDERS = (ROOT / "checkpoints", BUILD / "checkpoints")  # the committed ones first, then those of trial runs
NAMES = {"savedModel_feedforward_best": "feedforward", "savedModel_RNN_best": "lstm"}  # {file: model}
USES = {  # which model for what, chosen on validation data and not by what is listed here
    "voice and rest of your songs": "deep-unet-songs",
    "the same, better and slower": "songs-ensemble",
    "four stems of your songs": "deep-unet-stems",
    "clips like those of MIR-1K": "deep-unet",
    "the homework, single frames": "feedforward",
    "the homework, LSTM": "lstm",
    "without any training": "hpss",
}


def known_checkpoints():
    """Return {name: path} of all checkpoints that lie in FOLDERS; a committed one goes before a trial run's."""
    found = {}
    for path in (path for folder in FOLDERS for path in sorted(folder.glob("*.safetensors"))):
        found.setdefault(NAMES.get(path.stem, path.stem), path)
    return found


def load_separator(name, device="auto", chunk=None):
    """Return a Separator by its name (`python -m helpers models` lists them) or by the path of its checkpoint.

    device, chunk: as ModelSeparator's; baselines have no use for a device, and chunks of their own. Raises UserError
    for an unknown name, a model of images, a file that is damaged, or an oracle, which needs the true sources.
    """
    name = str(name)
    path = known_checkpoints().get(name)
    if path is None and name in BASELINES:
        if BASELINES[name].truth:
            command = f"`python -m helpers evaluate --model {name} --data CORPUS`"
            raise UserError(f"'{name}' needs the true sources: run {command}, or choose another model to separate with")
        return BASELINES[name].make(BLIND if name == "ica" else VOICE)
    if path is None and (Path(name).exists() or Path(name).suffix or Path(name).name != name):
        path = Path(name)
    if path is None:
        known = ", ".join([*known_checkpoints(), *(name for name, entry in BASELINES.items() if not entry.truth)])
        raise UserError(f"there is no model '{name}': choose one of {known}, or give the path of a checkpoint")
    device = pick_device(device)  # not below, where what is wrong is the file's fault
    model, _ = load_checkpoint(path)
    try:
        return ModelSeparator(model, device, chunk)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def list_models(trials=False):
    """Return a row {'model', 'kind', 'measured', 'sources'} for everything that can be asked for by name.

    'measured' comes from the committed results files, and from those of trial runs if `trials`; without a result it is
    a checkpoint's own validation loss. A file that cannot be read gets a row of the kind 'unreadable', with the reason.
    """
    records, rows = [], []
    files = [path for folder in RESULTS[: 2 if trials else 1] for path in sorted(folder.glob("*.json"))]
    for path in sorted(files, key=lambda path: not path.name.startswith("kept_")):  # these are of more items
        try:
            records.append(load_results(path))
        except UserError as error:
            rows.append({"model": path.name, "kind": "unreadable", "measured": str(error)})
    for name, path in known_checkpoints().items():
        try:
            model, facts = load_checkpoint(path)
        except UserError as error:
            rows.append({"model": name, "kind": "unreadable", "measured": str(error)})
            continue
        rate = getattr(model, "sample_rate", None)
        own = f"validation loss {facts['validation_loss']:.4g}" if "validation_loss" in facts else "not measured"
        row = {"model": name, "kind": f"audio, {rate / 1000:g} kHz" if rate else "image"}
        row["sources"] = ", ".join(getattr(model, "sources", None) or facts.get("sources", []))
        row["measured"] = _measured(name, records) or f"{own} ({facts.get('data', 'data unknown')})"
        rows.append(row)
    for name, entry in BASELINES.items():
        kind = "oracle" if entry.truth else "baseline"
        rows.append({"model": name, "kind": kind, "measured": _measured(name, records) or entry.about})
    return rows


def by_use(rows):
    """Return [(use, row of list_models())], a row for each of USES whose model is there."""
    there = {row["model"]: row for row in rows if row["kind"] != "unreadable"}
    return [(use, there[name]) for use, name in USES.items() if name in there]


def _measured(name, records):
    """Return in words how good the results files say a model is, on each data set: '' where they do not say it."""
    measured = {}
    for record in records:
        for row in record["rows"]:
            metric = next((metric for metric in METRICS if isinstance(row.get(metric), (int, float))), None)
            if row.get("separator") == name and metric:
                where = f"{record['data']}, {record['split']}"
                source = f"{row['source']} " if "source" in row else ""
                measured.setdefault(where, f"{source}{metric} {row[metric]:.2f} dB ({where})")
    return "; ".join(measured.values())
