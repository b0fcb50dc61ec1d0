"""evaluate(): Separators and tracks in, SDR, SIR, SAR and NSDR out, track by track and as rows of a table.

And what the command line makes of it: evaluate_models() by name, and the list of the models with what they reach.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from helpers.checkpoints import load_checkpoint
from helpers.data import audio, corpora
from helpers.metrics.bss_eval import References
from helpers.metrics.images import mean_and_interval
from helpers.metrics.signals import global_means
from helpers.results import Run, interval, load_results
from helpers.runtime import BUILD, ROOT, UserError, describe_device, pick_device
from helpers.runtime import data_dir as default_data_dir
from helpers.separation.baselines import BASELINES
from helpers.separation.networks import CHUNK, NAMES, known_checkpoints, load_separator

METRICS = ("SDR", "SIR", "SAR", "NSDR")
NOISE = 271_828  # the seed of the noise that stands for an empty estimate: none that anything else is made of
CAP = 200.0  # dB, given where an estimate is perfect to the last digit
RESULTS = (ROOT / "report" / "results", BUILD / "results")  # the committed ones first
MULTITRACK = ("musdb18hq", "dsd100", "musdb18", "musdb18-7s")  # what 'multitrack' stands for: the first that is there
PROTOCOLS = {512: "BSS Eval 3 (512 taps)", 1: "BSS Eval 2, gain only (1 tap)"}


@dataclass(frozen=True)
class Evaluation:
    """What evaluate() found.

    tracks: a dict for each track, separator and source, with 'track', 'separator', 'source', 'seconds' (of the track),
    'computing' (seconds it took), METRICS in dB, None where there is nothing to measure, and why: 'silent' (the
    reference is), 'empty' (the estimate of a sounding one is).
    """

    tracks: list
    protocol: str

    def rows(self, weighted=False, confidence=0.95):
        """Return one flat dict for each separator and source: means over tracks with bootstrap intervals.

        weighted: means weighted by the tracks' lengths, called GSDR, GSIR, GSAR and GNSDR as in MIR-1K's literature
        (Hsu and Jang 2010), instead of plain ones. 'tracks' is how many were measured; 'silent' how many were left out
        because the reference is silent; 'empty' how many estimates were silent and scored as noise. Some of these are
        absent where all are zero. 'computing s/min' is seconds of computing for a minute of audio. Below two tracks
        there is no interval.
        """
        rows = []
        for separator, source in dict.fromkeys((one["separator"], one["source"]) for one in self.tracks):
            found = [one for one in self.tracks if (one["separator"], one["source"]) == (separator, source)]
            row = {"separator": separator, "source": source}
            for metric in METRICS:
                scored = [one for one in found if one[metric] is not None]
                values, lengths = [one[metric] for one in scored], [one["seconds"] for one in scored]
                row |= _mean(metric, values, lengths if weighted else None, confidence)
            row["tracks"] = sum(one["SDR"] is not None for one in found)
            row |= {what: count for what in ("silent", "empty") if (count := sum(one[what] for one in found))}
            minutes = sum(one["seconds"] for one in found) / 60
            row["computing s/min"] = sum(one["computing"] for one in found) / minutes
            rows.append(row)
        return rows


def evaluate(separators, tracks, oracles=None, taps=512, device="cpu", progress=None):
    """Separate the mixture of every track by every method and score the estimates; return an Evaluation.

    Args:
        separators: {name: Separator}. Its sources must be the track's; of more than 'vocals', all others are added up
            where the track has 'vocals' and 'accompaniment' alone.
        tracks: Tracks with sources, such as a Corpus. One is in memory at a time.
        oracles: {name: function of the true sources {name: waveform} that returns a Separator}.
        taps: 512 for BSS Eval 3, 1 for the gain-only variant.
        device: where the scores are computed.
        progress: called after each track with (how many are done, what Evaluation.tracks holds of that track).

    Separators get the track as it is; of stereo tracks, references and estimates are mixed down to be scored. NSDR is
    the SDR minus that of the unprocessed mixture. A track's references are factorised once for all methods. A silent
    reference is not scored, but counted. A silent estimate of a sounding reference, for which no ratio exists, is
    scored as if it were white noise, and counted: a method must not gain by returning nothing.
    Raises UserError for a track without sources or a separator with others, or for NaN in an estimate.
    """
    lines, done = [], 0
    for track in tracks:
        found = _score_track(track, separators, oracles or {}, taps, device)
        lines += found
        done += 1
        if progress:
            progress(done, found)
    if not done:
        raise UserError("there are no tracks to evaluate on: choose another split, or a larger limit")
    protocol = f"{PROTOCOLS.get(taps, f'BSS Eval with {taps} taps')}, stereo mixed down to be scored"
    return Evaluation(lines, protocol)


def _score_track(track, separators, oracles, taps, device):
    """Return the dicts of one track that Evaluation.tracks holds."""
    truth = {name: track.source(name) for name in track.stems}  # each (channels, time)
    if not truth:
        raise UserError(f"track '{track.name}' has no sources to compare with: take a corpus with stems")
    mixture = track.mixture
    true = _mono(truth.values())  # (sources, time)
    references = References(true.to(device), taps, truth)
    baseline = references.score(_mono([mixture] * len(truth)).to(device)).sdr
    alone = int((true != 0).any(1).sum()) < 2  # no other source, no interference
    lines = []
    for name, separator in [*separators.items(), *oracles.items()]:
        started = time.perf_counter()
        if name in oracles:
            separator = separator(truth)
        estimates = _named_as(separator(mixture, track.sample_rate), truth, name, track)
        seconds = time.perf_counter() - started
        estimates = _mono(estimates.values())
        empty = (estimates == 0).all(-1)
        noise = torch.randn(estimates.shape, generator=torch.Generator().manual_seed(NOISE))
        scores = references.score(torch.where(empty.unsqueeze(-1), noise, estimates).unsqueeze(0).to(device), [name])
        for number, source in enumerate(truth):
            silent = number in references.silent
            values = {"SDR": scores.sdr[0, number], "SIR": scores.sir[0, number], "SAR": scores.sar[0, number]}
            values = {metric: min(float(value), CAP) for metric, value in values.items()}
            values["NSDR"] = values["SDR"] - float(baseline[number])
            if alone:
                values["SIR"] = math.nan
            values = {metric: value if math.isfinite(value) else None for metric, value in values.items()}
            facts = {"track": track.name, "separator": name, "source": source, "seconds": track.seconds}
            facts |= {"computing": seconds, "silent": silent, "empty": bool(empty[number]) and not silent}
            lines.append(facts | values)
    return lines


def _named_as(estimates, truth, name, track):
    """Return the estimates of the true sources, in their order; see evaluate for what is added up."""
    if set(truth) == {"vocals", "accompaniment"} and "vocals" in estimates and "accompaniment" not in estimates:
        others = [estimate for source, estimate in estimates.items() if source != "vocals"]
        if others:
            estimates = {"vocals": estimates["vocals"], "accompaniment": sum(others)}
    if not set(truth) <= set(estimates):
        have, want = ", ".join(estimates), ", ".join(truth)
        raise UserError(f"'{name}' separates {have}; '{track.name}' has {want}: choose a model or corpus that fits")
    for source in truth:
        if estimates[source].shape != truth[source].shape:
            shapes = f"{tuple(estimates[source].shape)} for {tuple(truth[source].shape)}"
            raise ValueError(f"'{name}' returned '{source}' of shape {shapes} of '{track.name}'")
    return {source: estimates[source] for source in truth}


def _mono(waveforms):
    """Mix waveforms (channels, time) down and stack them: (sources, time)."""
    return torch.cat([audio.to_mono(waveform).cpu() for waveform in waveforms])


# ---- by name -----------------------------------------------------------------------------------------------------


def evaluate_models(names, data, split="test", limit=None, data_dir=None, device="auto", chunk=CHUNK, progress=None):
    """Evaluate models by name (see separation.load_separator; oracles too) on a corpus; return the results file's path.

    Args:
        data: a name that corpora.load_corpus takes, or 'multitrack': the first of MULTITRACK in the data folder. On
            'mir1k' the means are weighted by length. Nothing is downloaded.
        limit: take the first so many tracks only.
        device, chunk: as for load_separator.
        progress: called after each track with the part that is done.

    Of corpora with more sources than a model separates, all but the vocals are added up. Raises UserError.
    """
    device = pick_device(device)
    names = [str(name) for name in dict.fromkeys(names)]
    baselines = {name: BASELINES[name] for name in names if name in BASELINES and name not in known_checkpoints()}
    separators = {name: load_separator(name, device, chunk) for name in names if name not in baselines}
    if data == "multitrack":
        folder = Path(data_dir) if data_dir else default_data_dir()
        data = next((name for name in MULTITRACK if corpora.place(name, folder)), MULTITRACK[0])
    corpus = corpora.load_corpus(data, split, data_dir, download=False)
    fits = all(set(corpus.sources) <= set(separator.sources) for separator in separators.values())
    if not fits or any(entry.voice for entry in baselines.values()):
        corpus = corpus.vocals_and_accompaniment()
    oracles = {name: entry.make for name, entry in baselines.items() if entry.truth}
    separators |= {name: entry.make(corpus.sources) for name, entry in baselines.items() if not entry.truth}
    tracks = corpus.tracks[:limit]
    run = Run("evaluate", "command line", 0, corpus.name, corpus.embedded, describe_device(device))
    show = progress and (lambda done, _: progress(done / len(tracks)))
    found = evaluate(separators, tracks, oracles, device=device, progress=show)
    weighted = data == "mir1k"
    means = "means weighted by length (GSDR, GSIR, GSAR, GNSDR)" if weighted else "means over tracks"
    rows = sorted(found.rows(weighted), key=lambda row: names.index(row["separator"]))
    label = "-".join([Path(data).name, split, *(Path(name).stem for name in names)])
    return run.save(
        label[:100], f"{corpus.name}, {split}: {', '.join(names)}", rows,
        split=split, items=len(tracks), metric=f"SDR, SIR, SAR, NSDR in dB: {means}, 95 % bootstrap intervals",
        protocol=found.protocol, tracks=found.tracks, sample_rate=tracks[0].sample_rate,
    )  # fmt: skip


def list_models():
    """Return a row {'model', 'kind', 'measured', 'sources', 'file'} for everything that can be asked for by name.

    'measured' comes from the results files, where a row's 'separator' is the model's name; without one, a checkpoint's
    own validation loss is given.
    """
    records = [load_results(path) for folder in RESULTS for path in sorted(folder.glob("*.json"))]
    rows = []
    for name, path in known_checkpoints().items():
        try:
            model, facts = load_checkpoint(path)
        except UserError as error:
            rows.append({"model": name, "kind": "unreadable", "measured": str(error)})
            continue
        rate = getattr(model, "sample_rate", None)
        own = f"validation loss {facts['validation_loss']:.4g}" if "validation_loss" in facts else "not measured"
        rows.append(
            {
                "model": name,
                "kind": f"audio, {rate / 1000:g} kHz" if rate else "image",
                "sources": ", ".join(getattr(model, "sources", None) or facts.get("sources", [])),
                "measured": _measured(name, records) or f"{own} ({facts.get('data', 'data unknown')})",
                "file": str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path),
            }
        )
    for name, (_, notebook) in NAMES.items():
        if name not in known_checkpoints():
            rows.append({"model": name, "kind": "not trained yet", "measured": f"python -m helpers run {notebook}"})
    for name, entry in BASELINES.items():
        kind = "oracle" if entry.truth else "baseline"
        rows.append({"model": name, "kind": kind, "measured": _measured(name, records) or entry.about})
    return rows


def _measured(name, records):
    """Return in words how good the results files say a model is, on each data set: '' where they do not say it."""
    found = {}
    for record in records:
        for row in record["rows"]:
            metric = next((metric for metric in ("GNSDR", "NSDR", "SDR", "PSNR") if metric in row), None)
            if row.get("separator") == name and metric:
                where = (record["data"], record["split"])
                source = f"{row['source']} " if "source" in row else ""
                found.setdefault(where, f"{source}{metric} {row[metric]:.2f} dB ({record['data']}, {record['split']})")
    return "; ".join(found.values())


# ---- means -------------------------------------------------------------------------------------------------------


def _mean(name, values, lengths, confidence):
    """Return the cells of a mean, weighted if lengths are given: none without values, no interval of a single one."""
    if not values:
        return {}
    if len(values) == 1:
        return {f"G{name}" if lengths else name: float(values[0])}
    if lengths is None:
        return interval(name, *mean_and_interval(values, confidence))
    ((name, mean),) = global_means({name: values}, lengths, confidence).items()
    return interval(name, mean.value, mean.low, mean.high)
