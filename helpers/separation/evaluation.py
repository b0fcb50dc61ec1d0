"""evaluate(): Separators and tracks in, SDR, SIR, SAR and NSDR out, track by track and as rows of a table.

And what the command line makes of it: evaluate_models(), by name.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from helpers import runtime
from helpers.data import audio, corpora
from helpers.metrics.bss_eval import References
from helpers.metrics.intervals import mean_and_interval
from helpers.results import Run, interval
from helpers.runtime import UserError
from helpers.separation.baselines import BASELINES
from helpers.separation.catalogue import known_checkpoints, load_separator
from helpers.separation.chunks import CHUNK

METRICS = ("SDR", "SIR", "SAR", "NSDR")
PERFECT = 120.0  # dB: above it are the rounding errors of float32 alone, no measurement
ALONE = 60.0  # dB: a source whose mixture scores as much has nothing beside it, and an improvement has no meaning
NOISE_SEED = 271_828  # of the noise that stands for an empty estimate; no other data is made with it
MULTITRACK = ("musdb18hq", "dsd100", "musdb18", "musdb18-7s")  # what 'multitrack' stands for: the first that is there
PROTOCOLS = {512: "BSS Eval 3 (512 taps)", 1: "BSS Eval 2, gain only (1 tap)"}


@dataclass(frozen=True)
class Evaluation:
    """What evaluate() measured.

    tracks: a dict for each track, separator and source, with 'track', 'song' and 'singer' (the track's, or its name),
    'separator', 'source', 'seconds' (of the track), 'computing' (seconds it took), and METRICS in dB: None where there
    is nothing to measure (see evaluate). 'silent': the reference is; 'empty': the estimate of a sounding one is.
    """

    tracks: list
    protocol: str

    def rows(self, weighted=False, by="singer"):
        """Return one flat dict for each separator and source: means over tracks with 95 % bootstrap intervals.

        weighted: means weighted by the tracks' lengths, called GSDR, GSIR, GSAR and GNSDR as in MIR-1K's literature
        (Hsu and Jang 2010), instead of plain ones.
        by: what the intervals resample: 'singer', 'song' or 'track'; below two of these there is no interval.

        'tracks' is how many sounding references were measured, 'singers' (or 'songs') how many those are by;
        '<metric> tracks' how many the mean holds, where it holds fewer; 'silent' how many were left out because the
        reference is silent; 'empty' how many estimates were silent and scored as noise. These are absent where they
        say nothing. 'computing s/min' is seconds of computing for a minute of audio.
        """
        groups = {}
        for one in self.tracks:
            groups.setdefault((one["separator"], one["source"]), []).append(one)
        rows = []
        for (separator, source), lines in groups.items():
            row = {"separator": separator, "source": source}
            heard = [one for one in lines if not one["silent"]]
            counts = {"tracks": len(heard)}
            if (clusters := len({one[by] for one in heard})) < len(heard):
                counts[f"{by}s"] = clusters
            for metric in METRICS:
                scored = [one for one in heard if one[metric] is not None]
                if scored:
                    row |= _mean(scored, metric, weighted, by)
                if 0 < len(scored) < len(heard):
                    counts[f"{metric} tracks"] = len(scored)
            counts |= {what: count for what in ("silent", "empty") if (count := sum(one[what] for one in lines))}
            minutes = sum(one["seconds"] for one in lines) / 60
            rows.append(row | counts | {"computing s/min": sum(one["computing"] for one in lines) / minutes})
        return rows


def _mean(lines, metric, weighted, by):
    """Return the cells of the mean of a metric over lines of Evaluation.tracks, and of its interval if there is one."""
    values, lengths = [one[metric] for one in lines], [one["seconds"] for one in lines]
    clusters = [one[by] for one in lines]
    name, weights = (f"G{metric}", lengths) if weighted else (metric, [1.0] * len(lines))
    if len(set(clusters)) > 1:
        return interval(name, *mean_and_interval(values, weights, clusters))
    return {name: sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)}


def evaluate(separators, tracks, oracles=None, taps=512, device="cpu", progress=None, every=None):
    """Separate the mixture of every track by every method and score the estimates; return an Evaluation.

    Args:
        separators: {name: Separator}. Its sources must be the track's; of more than 'vocals', all others are added up
            where the track has 'vocals' and 'accompaniment' alone. One with a method `for_track` is asked for each
            track's Separator (PublishedEstimates).
        tracks: Tracks with sources, such as a Corpus. One is in memory at a time.
        oracles: {name: function of the true sources {name: waveform} that returns a Separator}.
        taps: 512 for BSS Eval 3, 1 for the gain-only variant.
        device: where the scores are computed.
        progress: called after each track with (how many are done, what Evaluation.tracks holds of that track).
        every: {name: n}: methods that get every n-th track only, from the first on; slow ones that learn nothing.

    Separators get the track as it is; of stereo tracks, references and estimates are mixed down to be scored. A track's
    references are factorised once for all methods. NSDR is the SDR minus that of the unprocessed mixture, exactly 0 for
    the mixture itself. There is no NSDR and no SIR where one source sounds alone, and no ratio at all above PERFECT,
    where rounding is all that is measured. A silent reference is not scored. A silent estimate of a sounding reference,
    for which no ratio exists, is scored as if it were white noise: a method must not gain by returning nothing. All
    these are counted (Evaluation.rows).
    Raises UserError for a track without sources or a separator with others, or for NaN in an estimate.
    """
    lines, done = [], 0
    for track in tracks:
        left_out = {name for name, n in (every or {}).items() if done % n}
        found = _score_track(track, separators, oracles or {}, left_out, taps, device)
        lines += found
        done += 1
        if progress:
            progress(done, found)
    if not done:
        raise UserError("there are no tracks to evaluate on: choose another split, or a larger limit")
    protocol = f"{PROTOCOLS.get(taps, f'BSS Eval with {taps} taps')}, stereo mixed down to be scored"
    return Evaluation(lines, protocol)


def _score_track(track, separators, oracles, left_out, taps, device):
    """Return the dicts of one track that Evaluation.tracks holds."""
    truth = {name: track.source(name) for name in track.stems}  # each (channels, time)
    if not truth:
        raise UserError(f"track '{track.name}' has no sources to compare with: take a corpus with stems")
    mixture = track.mixture
    references = References(_mono(truth.values()).to(device), taps, truth)
    mixed = _mono([mixture] * len(truth))  # (sources, time): the mixture as the estimate of each source
    baseline = references.score(mixed.to(device)).sdr.tolist()
    song, singer = track.song or track.name, track.artist or track.song or track.name
    lines = []
    for name, separator in [*separators.items(), *oracles.items()]:
        if name in left_out:
            continue
        started = time.perf_counter()
        if name in oracles:
            separator = separator(truth)
        elif hasattr(separator, "for_track"):
            separator = separator.for_track(track)
        estimates = _named_as(separator(mixture, track.sample_rate), truth, name, track)
        computing = time.perf_counter() - started
        estimates = _mono(estimates.values())
        empty = (estimates == 0).all(-1)
        if empty.any():
            noise = torch.randn(estimates.shape, generator=torch.Generator().manual_seed(NOISE_SEED))
            estimates = torch.where(empty.unsqueeze(-1), noise, estimates)
        scores = references.score(estimates[None].to(device), [name])
        for number, source in enumerate(truth):
            ratios = {"SDR": scores.sdr, "SIR": scores.sir, "SAR": scores.sar}
            values = {metric: float(ratio[0, number]) for metric, ratio in ratios.items()}
            if torch.equal(estimates[number], mixed[number]):
                values["SDR"] = baseline[number]
            values["NSDR"] = values["SDR"] - baseline[number] if baseline[number] < ALONE else math.nan
            values = {metric: value if abs(value) < PERFECT else None for metric, value in values.items()}
            if values["SDR"] is None:
                values["NSDR"] = None
            silent = number in references.silent
            facts = {"track": track.name, "song": song, "singer": singer, "separator": name, "source": source}
            facts |= {"seconds": track.seconds, "computing": computing}
            lines.append(facts | {"silent": silent, "empty": bool(empty[number]) and not silent} | values)
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
    """Evaluate models by name (see catalogue.load_separator; oracles too) on a corpus; return the results file's path.

    Args:
        data: a name that corpora.load_corpus takes, or 'multitrack': the first of MULTITRACK in the data folder. On
            'mir1k' the means are weighted by length. Nothing is downloaded, and a corpus that is missing is refused.
        limit: take the first so many tracks only.
        device, chunk: as for load_separator.
        progress: called after each track with the part that is done.

    Of corpora with more sources than a model separates, all but the vocals are added up. Raises UserError.
    """
    device = runtime.pick_device(device)
    names = [str(name) for name in dict.fromkeys(names)]
    baselines = {name: BASELINES[name] for name in names if name in BASELINES and name not in known_checkpoints()}
    separators = {name: load_separator(name, device, chunk) for name in names if name not in baselines}
    if data == "multitrack":
        folder = Path(data_dir) if data_dir else runtime.data_dir()
        data = next((name for name in MULTITRACK if corpora.place(name, folder)), MULTITRACK[0])
    corpus = corpora.load_corpus(data, split, data_dir, real=True)
    fits = all(set(corpus.sources) <= set(separator.sources) for separator in separators.values())
    if not fits or any(entry.voice for entry in baselines.values()):
        corpus = corpus.vocals_and_accompaniment()
    oracles = {name: entry.make for name, entry in baselines.items() if entry.truth}
    separators |= {name: entry.make(corpus.sources) for name, entry in baselines.items() if not entry.truth}
    tracks = corpus.tracks[:limit]
    run = Run("evaluate", "command line", 0, corpus.name, corpus.embedded, runtime.describe_device(device))
    show = progress and (lambda done, _: progress(done / len(tracks)))
    found = evaluate(separators, tracks, oracles, device=device, progress=show)
    weighted = data == "mir1k"
    means = "means weighted by length (GSDR, GSIR, GSAR, GNSDR)" if weighted else "means over tracks"
    rows = sorted(found.rows(weighted), key=lambda row: names.index(row["separator"]))
    label = "-".join([Path(data).name, split, *(Path(name).stem for name in names)])
    return run.save(
        label[:100], f"{corpus.name}, {split}: {', '.join(names)}", rows, split=split, items=len(tracks),
        metric=f"SDR, SIR, SAR, NSDR in dB: {means}, 95 % bootstrap intervals over singers or songs",
        protocol=found.protocol, tracks=found.tracks, sample_rate=tracks[0].sample_rate,
    )  # fmt: skip
