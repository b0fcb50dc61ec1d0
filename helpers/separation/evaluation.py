"""Separators and tracks in, SDR, SIR, SAR and NSDR out, track by track and as rows of a table."""

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from helpers import runtime
from helpers.data import audio, corpora
from helpers.metrics.bss_eval import References
from helpers.metrics.intervals import mean_and_interval
from helpers.results import Run, interval
from helpers.runtime import UserError
from helpers.separation.baselines import BASELINES, VOICE
from helpers.separation.catalogue import known_checkpoints, load_separator

METRICS = ("SDR", "SIR", "SAR", "NSDR")
PERFECT = 120.0  # dB: above it are the rounding errors of float32 alone, no measurement
ALONE = 60.0  # dB: a source whose mixture scores as much has nothing beside it, and an improvement has no meaning
NOISE_SEED = 271_828  # of the noise that stands for an empty estimate; no other data is made with it
MULTITRACK = ("musdb18hq", "dsd100", "musdb18", "musdb18-7s")  # what 'multitrack' stands for: the first that is there
PROTOCOL = "BSS Eval 3 (512 taps), stereo mixed down to be scored"


@dataclass(frozen=True)
class Evaluation:
    """What evaluate() measured.

    tracks: a dict for each track, separator and source: these, 'song', 'singer', 'seconds' (of the track), 'computing'
    (seconds it took), METRICS in dB (None: see evaluate), 'silent' (the reference is), 'empty' (an estimate of a
    sounding one is).
    """

    tracks: list
    protocol: str

    def rows(self, weighted=False, by="singer"):
        """Return one flat dict for each separator and source: means over tracks with 95 % bootstrap intervals.

        weighted: means weighted by the tracks' lengths, called GSDR, GSIR, GSAR and GNSDR as in MIR-1K's literature
        (Hsu and Jang 2010). by: what the intervals resample: 'singer', 'song' or 'track'; of one there is no interval.

        'tracks' is how many sounding references were measured, 'singers' (or 'songs') how many those are by, '<metric>
        tracks' how many the mean holds, 'silent' how many silent references were left out, 'empty' how many silent
        estimates were scored as noise: absent where they say nothing. 'computing s/min' is for a minute of audio.
        """
        groups = {}
        for score in self.tracks:
            groups.setdefault((score["separator"], score["source"]), []).append(score)
        rows = []
        for (separator, source), scores in groups.items():
            row = {"separator": separator, "source": source}
            sounding = [score for score in scores if not score["silent"]]
            counts = {"tracks": len(sounding)}
            if (clusters := len({score[by] for score in sounding})) < len(sounding):
                counts[f"{by}s"] = clusters
            for metric in METRICS:
                measured = [score for score in sounding if score[metric] is not None]
                if not measured:
                    continue
                values, clusters = ([score[key] for score in measured] for key in (metric, by))
                weights = [score["seconds"] if weighted else 1.0 for score in measured]
                name = f"G{metric}" if weighted else metric
                if len(set(clusters)) == 1:
                    row[name] = float(np.average(values, weights=weights))
                else:
                    row |= interval(name, *mean_and_interval(values, weights, clusters))
                if len(measured) < len(sounding):
                    counts[f"{metric} tracks"] = len(measured)
            for what in ("silent", "empty"):
                if count := sum(score[what] for score in scores):
                    counts[what] = count
            minutes = sum(score["seconds"] for score in scores) / 60
            computing = sum(score["computing"] for score in scores) / minutes
            rows.append(row | counts | {"computing s/min": computing})
        return rows


def evaluate(separators, tracks, oracles=None, device="cpu", progress=None, every=None):
    """Separate the mixture of every track by every method and score the estimates; return an Evaluation.

    Args:
        separators: {name: Separator} of the tracks' sources; for 'vocals' and 'accompaniment', all estimates but the
            vocals are added up. One with a method `for_track` is asked for each track's (PublishedEstimates).
        tracks: Tracks with sources, such as a Corpus. One is in memory at a time.
        oracles: {name: function of the true sources {name: waveform} that returns a Separator}.
        device: where the scores are computed.
        progress: called after each track with (how many are done, what Evaluation.tracks holds of that track).
        every: {name: n}: methods that get every nth track only, from the first on.

    Stereo is mixed down to be scored. NSDR is the SDR minus that of the unprocessed mixture. There is no NSDR and no
    SIR where one source sounds alone, and no ratio above PERFECT, where rounding is all that is measured. A silent
    reference is not scored; a silent estimate of a sounding one is scored as if it were white noise: a method must not
    gain by returning nothing. Raises UserError for a track without sources, a separator with others, or NaN.
    """
    if not len(tracks):
        raise UserError("there are no tracks to evaluate on: choose another split, or a larger limit")
    scores, oracles, every = [], oracles or {}, every or {}
    methods = separators | oracles
    for done, track in enumerate(tracks):
        heard = {name: method for name, method in methods.items() if done % every.get(name, 1) == 0}
        scores_of_track = _score_track(track, heard, oracles, device)
        scores += scores_of_track
        if progress:
            progress(done + 1, scores_of_track)
    return Evaluation(scores, PROTOCOL)


def _score_track(track, separators, oracles, device):
    """Return the dicts of one track that Evaluation.tracks holds; separators: {name: Separator, or one of oracles}."""
    truth = {name: track.source(name) for name in track.stems}  # each (channels, time)
    if not truth:
        raise UserError(f"track '{track.name}' has no sources to compare with: take a corpus with stems")
    mixture = track.mixture
    references = References(_mono(truth.values()).to(device), names=truth)
    mixed = _mono([mixture] * len(truth))  # (sources, time): the mixture as the estimate of each source
    mixture_sdr = references.score(mixed.to(device)).sdr.tolist()
    song, singer = track.song or track.name, track.artist or track.song or track.name
    about = {"track": track.name, "song": song, "singer": singer, "seconds": track.seconds}
    scores = []
    for name, separator in separators.items():
        started = time.perf_counter()
        if name in oracles:
            separator = separator(truth)
        elif hasattr(separator, "for_track"):
            separator = separator.for_track(track)
        estimates = _named_as(separator(mixture, track.sample_rate), truth, name, track)
        computing = time.perf_counter() - started
        estimates = _mono(estimates.values())  # (sources, time)
        empty = (estimates == 0).all(-1)
        if empty.any():
            noise = torch.randn(estimates.shape, generator=torch.Generator().manual_seed(NOISE_SEED))
            estimates = torch.where(empty.unsqueeze(-1), noise, estimates)
        ratios = references.score(estimates[None].to(device), [name])
        for number, source in enumerate(truth):
            unchanged = torch.equal(estimates[number], mixed[number])
            sdr = mixture_sdr[number] if unchanged else ratios.sdr[0, number].item()
            nsdr = sdr - mixture_sdr[number] if mixture_sdr[number] < ALONE and abs(sdr) < PERFECT else math.nan
            values = (sdr, ratios.sir[0, number].item(), ratios.sar[0, number].item(), nsdr)
            silent = number in references.silent
            score = about | {"separator": name, "source": source, "computing": computing, "silent": silent}
            score["empty"] = bool(empty[number]) and not silent
            for metric, value in zip(METRICS, values, strict=True):
                score[metric] = value if abs(value) < PERFECT else None  # nor NaN
            scores.append(score)
    return scores


def _named_as(estimates, truth, name, track):
    """Return the estimates of the true sources, in their order; see evaluate for what is added up."""
    others = [estimate for source, estimate in estimates.items() if source != "vocals"]
    if set(truth) == set(VOICE) and others and "vocals" in estimates and "accompaniment" not in estimates:
        estimates = {"vocals": estimates["vocals"], "accompaniment": sum(others)}
    if not set(truth) <= set(estimates):
        have, want = ", ".join(estimates), ", ".join(truth)
        raise UserError(f"'{name}' separates {have}; '{track.name}' has {want}: choose a model or corpus that fits")
    return {source: estimates[source] for source in truth}


def _mono(waveforms):
    """Mix waveforms (channels, time) down and stack them: (sources, time)."""
    return torch.cat([audio.to_mono(waveform).cpu() for waveform in waveforms])


def evaluate_models(names, data, split="test", limit=None, data_dir=None, device="auto", chunk=None, progress=None):
    """Evaluate models by name (see catalogue.load_separator; oracles too) on a corpus; return the results file's path.

    data: a name that corpora.load_corpus takes, or 'multitrack': the first of MULTITRACK in the data folder. Of MIR-1K
    alone the means are weighted by length. Of corpora with more sources than a model separates, all but the vocals are
    added up. progress: called after each track with the part that is done.
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
    evaluation = evaluate(separators, tracks, oracles, device, show)
    weighted = re.fullmatch(r"MIR-1K(, [\d,]+ of 1,000 clips)?", corpus.name) is not None
    means = "means weighted by length (GSDR, GSIR, GSAR, GNSDR)" if weighted else "means over tracks"
    rows = sorted(evaluation.rows(weighted), key=lambda row: names.index(row["separator"]))
    label = "-".join([Path(data).name, split, *(Path(name).stem for name in names)])
    return run.save(
        label[:100], f"{corpus.name}, {split}: {', '.join(names)}", rows, split=split, items=len(tracks),
        metric=f"SDR, SIR, SAR, NSDR in dB: {means}, 95 % bootstrap intervals over singers or songs",
        protocol=evaluation.protocol, tracks=evaluation.tracks, sample_rate=tracks[0].sample_rate,
    )  # fmt: skip
