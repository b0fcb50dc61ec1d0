"""What the notebooks' sentences say in numbers is what their results files hold: what was typed must not drift."""

import functools
import re

import nbformat
import pytest

from helpers.runtime import ROOT
from report.paper import Paper


def cell(file, column, **where):
    """Return a function that reads one cell of a results file, which refuses trials and uncommitted code."""
    return lambda: Paper().raw(file, column, **where)


def minus(one, other):
    return lambda: one() - other()


def interval(file, column, **where):
    return [cell(file, column + end, **where) for end in ("", " low", " high")]


def of(file, column, source=None, name="separator", **more):
    """Return a function of names: the cells of these rows."""
    where = {"source": source} if source else {}
    return lambda *names: [cell(file, column, **where, **{name: one}, **more) for one in names]


loss = of("01_losses_matched", "conditioned", name="loss")
(learnt,), (bce,), (l1,), (l2,) = loss("learnt"), loss("BCE"), loss("L1"), loss("L2")
digit = of("01_results", "PSNR of the mean")
made = digit("learnt variance, conditioned", "learnt variance, equal sharing", "trained through conditioning")
conditioned, shared, through = made
excerpt, rung = of("02_excerpts", "NSDR vocals"), of("02_ladder", "GNSDR vocals")
unseen = of("02_results", "GNSDR", "vocals")
codes = of("02_kl", "rate (kbit/s)", name="weight")
homework, steps = of("03_homework", "NSDR", "vocals"), of("03_steps", "vocals")
known, four = of("03_memory", "vocals"), "03_four_sources"
songs, band = of("03_songs", "NSDR", "vocals"), of("03_songs", "NSDR", "accompaniment")
real, clips = of("03_excerpts", "NSDR", "vocals"), of("03_clips", "GNSDR", "vocals")
lost = of("03_singers", "lost (dB)")
ranked = of("04_leaderboard", "GNSDR", name="method")
WIDE = "U-Net of the document, α = 0.707, one seed"


def alpha(source):
    return of("04_alpha", "SDR", source, name="loss")


def stems(name):
    return [cell("04_stems", "NSDR", separator=name, source=one) for one in ("vocals", "drums", "bass", "other")]


def ahead(name, other):
    return interval("03_pairs", "NSDR", separator=name, against=other)


FINDINGS = [
    ("01", "study-text", "by {:.1f} dB, with", [minus(learnt, bce)]),
    ("01", "study-text", 'from "equal sharing" to "conditioned", {:.1f} dB',
     [minus(learnt, cell("01_losses_matched", "equal sharing", loss="learnt"))]),
    ("01", "study-text", "L1 is {:.1f} to 0.3 dB below them", [minus(l2, l1)]),
    ("01", "results-text", "another {:.1f} dB;", [minus(conditioned, shared)]),
    ("01", "results-text", "conditioning is worth {:.1f} dB", [minus(through, conditioned)]),
    ("01", "calibration-caption", "the U-Net is {:.1f} dB ahead", [minus(*digit("kept U-Net", "kept VAE"))]),
    ("02", "decibel-caption", "off by 3 dB leave an SNR of {:.1f} dB",
     [cell("02_decibels", "SNR (dB)", **{"error of every level (dB)": "3"})]),
    ("02", "wiener-text", "one fixed mask gains {:.1f}", excerpt("fixed equaliser")),
    ("02", "kl-text", "is {:.1f} dB ahead of painting with the same loss",
     [minus(*rung("4 mask", "3 loss on magnitudes"))]),
    ("02", "kl-text", "likelihood loses {:.1f} dB and the waveforms that leave the filter gain {:.1f} on it",
     [minus(*rung("5 Wiener reading", "6 local Gaussian")), minus(*rung("7 loss on sources", "6 local Gaussian"))]),
    ("02", "kl-text", "(rung 8, +{:.1f} dB)", [minus(*rung("8 deeper encoder", "7 loss on sources"))]),
    ("02", "kl-text", "bring {:.1f} and {:.1f} dB over the two seeds of rung 9",
     [minus(*rung("10 more mixtures", name)) for name in ("9 larger code, seed 1", "9 larger code")]),
    ("02", "discussion", "{:.1f} and {:.1f} with codes, {:.1f} and {:.1f} without",
     rung("9 larger code", "9 larger code, seed 1", "body without codes", "body without codes, seed 1")),
    ("02", "discussion", "({:.1f} dB, magnitudes {:.1f}, waveforms {:.1f};",
     rung("6 local Gaussian", "5 Wiener reading", "7 loss on sources")),
    ("02", "blind-text", "From {:.0f} kbit/s down to {:.1f}", codes("β = 0", "β = 1")),
    ("02", "phase-text", "gains {:.1f} dB, in an order", of("02_blind", "GNSDR vocals", name="model")(
        "blind, 16 numbers, levels' mean")),
    ("02", "phase-text", "average spectra, has {:.1f} and HPSS, which has seen nothing, {:.1f}.",
     rung("fixed equaliser", "hpss")),
    ("02", "published", "Rungs 4 and 5 ({:.1f} and {:.1f} dB) are now behind HPSS ({:.1f})",
     unseen("4 mask", "5 Wiener reading", "hpss")),
    ("02", "published", "is {:.1f} dB ahead of rung 9", [minus(*unseen("10 more mixtures", "9 larger code"))]),
    ("02", "published", "kept VAE has {:.1f} dB on all clips, from {:.1f} (davidson) to {:.1f} (titon)",
     unseen("kept, all clips") + of("02_singers", "GNSDR vocals", name="singer")("davidson", "titon")),
    ("03", "homework-heard", "gains {:.1f} dB, squared errors {:.1f}, KL {:.1f}, the reversed divergence {:.1f}",
     homework("equaliser", "homework, l2", "homework, KL", "homework, reversed kl")),
    ("03", "ablation-learnt", "(+{:.2f} dB for the voice)", [minus(*steps("remixed", "both sources"))]),
    ("03", "ablation-learnt", "**logarithm lost** {:.1f} dB", [minus(*steps("loudness", "log"))]),
    ("03", "memory-caption", "More training alone brings {:.1f} dB. Memory brings {:.1f} to {:.1f} dB more",
     [minus(*known("continued, no memory", "speeds")),
      *(minus(*known(name, "continued, no memory")) for name in ("LSTM, state carried", "LSTM, both ways"))]),
    ("03", "post-learnt", "({:.2f}, {:.2f}, {:.2f} for the voice)",
     of("03_layers", "vocals")(*(f"post, {layers} layers" for layers in (1, 2, 3)))),
    ("03", "four-heard", "gain {:.1f} and {:.1f} dB where that has {:.1f} and {:.1f}",
     [cell(four, "NSDR", separator=name, source=source) for name in ("four sources", "equaliser")
      for source in ("drums", "bass")]),
    ("03", "four-heard", "{:.1f} [{:.1f}, {:.1f}] against {:.1f}",
     [*interval(four, "NSDR", separator="four sources", source="other"),
      cell(four, "NSDR", separator="equaliser", source="other")]),
    ("03", "songs-caption", "{:.1f} dB for the voice, NMF {:.1f}, the equaliser {:.1f}; for the accompaniment {:.1f}",
     [*songs("kept LSTM", "nmf-kl-blind", "equaliser"), *band("kept LSTM")]),
    ("03", "songs-caption", 'on "Caesium" ({:.1f} against {:.1f} dB), NMF ({:.1f} against {:.1f})',
     [cell("03_by_song", column, song=song) for song, columns in (
         ("Caesium", ("repet-sim", "kept LSTM")), ("wave", ("nmf-kl-blind", "kept LSTM"))) for column in columns]),
    ("03", "songs-caption", "networks ({:.1f} to {:.1f} dB)", songs("homework, reversed kl", "homework, KL")),
    ("03", "clips-text", "({:.1f} dB for the voice) is level with blind NMF ({:.1f})",
     real("kept LSTM", "nmf-kl-blind")),
    ("03", "clips-text", "by {:.2f} dB [{:.2f}, {:.2f}]", ahead("kept LSTM", "kept single frame")),
    ("03", "clips-text", "of the equaliser by {:.2f} [{:.2f}, {:.2f}]", ahead("kept LSTM", "equaliser")),
    ("03", "clips-text", "is not shown**: {:.2f} dB [{:.2f}, {:.2f}]", ahead("kept LSTM", "nmf-kl-blind")),
    ("03", "clips-caption", "({:.1f} dB), then the VAE ({:.1f} on every fifth clip, {:.1f} on all), "
     "then the kept models and section 8's LSTMs ({:.1f} to {:.1f})",
     clips("Wiener oracle", "music-vae, notebook 02") + unseen("kept, all clips")
     + clips("LSTM, forwards", "kept single frame")),
    ("03", "clips-caption", "has {:.1f} dB, the LSTMs grown beside it {:.1f} to {:.1f}",
     clips("continued, no memory", "LSTM, forwards", "LSTM, both ways")),
    ("03", "singers-learnt", "lose {:.1f} to {:.1f} dB. HPSS loses {:.1f} and the oracle {:.1f}",
     lost("kept single frame", "remixed", "hpss", "Wiener oracle")),
    ("04", "alpha-verdict-read", "ahead of 0.5, by {:.1f} dB [{:.1f}, {:.1f}] with all three seeds",
     interval("04_alpha_paired", "gain (dB)", source="vocals", against="0.5")),
    ("04", "alpha-verdict-read", "{:.1f} dB [{:.1f}, {:.1f}], two seeds of three",
     interval("04_alpha_paired", "gain (dB)", source="vocals", against="0.707")),
    ("04", "alpha-verdict-read", "paints has {:.1f} dB, what α = 0 paints {:.1f}", alpha("accompaniment")(
        "α = 1, the rest", "α = 0")),
    ("04", "alpha-verdict-read", "has {:.1f} dB for the voice and {:.1f} for the accompaniment; blind NMF, which "
     "learns nothing, {:.1f} and {:.1f}",
     [one for name in (WIDE, "nmf-kl-blind") for source in ("vocals", "accompaniment") for one in alpha(source)(name)]),
    ("04", "stems-found", "gains {:.1f} dB for the voice, {:.1f} for the drums, {:.1f} for the bass and {:.1f} for the "
     "rest, in the mean more than one fixed mask in each ({:.1f}, {:.1f}, {:.1f} and {:.1f})",
     stems("U-Net, eq. (13)") + stems("fixed equaliser")),
    ("04", "stems-found", "has {:.1f}, {:.1f}, {:.1f} and {:.1f}: not shown", stems("deep-unet-stems")),
    ("04", "published-found", "has {:.1f} dB for the voice, more than each of the five (TAU1 {:.1f}, TAK2 {:.1f})",
     of("04_published", "SDR", name="system")("songs-ensemble", "TAU1", "TAK2")),
    ("04", "published-found",
     "has {:.1f} and {:.1f} dB: on these real songs no more than blind NMF ({:.1f} and {:.1f})",
     [cell("04_published", column, system=name) for name in ("U-Net of the document", "nmf-kl-blind")
      for column in ("SDR", "band SDR")]),
    ("04", "great-seen", "by its mean, {:.1f} dB [{:.1f}, {:.1f}], and at five speeds {:.1f}; the kept VAE has {:.1f}",
     [*interval("04_leaderboard", "GNSDR", method="deep-unet"), *ranked("deep-unet, five speeds", "music-vae")]),
    ("04", "great-seen", "({:.1f} dB; Open-Unmix and the mask U-Net {:.1f}, band-split {:.1f}, Wave-U-Net {:.1f})",
     ranked("spectrogram-unet", "open-unmix", "band-split", "wave-unet")),
    ("04", "sweep-found", "a high-pass at 250 Hz, gains {:.1f} dB [{:.1f}, {:.1f}]",
     interval("04_postprocessing_test", "gain (dB)", step="filter")),
    ("04", "ica-found", "lifts the voice from {:.1f} to {:.1f} dB",
     of("04_ica", "vocals SDR", name="method", mixing="at once")("microphones", "ICA")),
    ("01", "results-text", "({:.1f} against {:.1f} million a pair; the U-Net has {:.1f})",
     of("01_results", "M multiply-adds")("conv VAE, L2", "dense VAE, code of 392 numbers", "U-Net, same steps")),
    ("02", "discussion", "deep U-Net has {:.1f} dB against our {:.1f} ({:.1f} when averaged over tape speeds",
     [one for file, name in (("kept_clips", "deep-unet"), ("02_results", "kept, all clips"),
                             ("kept_clips", "deep-unet, every speed")) for one in of(file, "GNSDR", "vocals")(name)]),
    ("02", "discussion", "a U-Net that paints magnitudes, has {:.1f} after 4,000 steps, on that fifth",
     ranked("spectrogram-unet")),
]  # fmt: skip


@functools.cache
def sources(notebook):
    (path,) = ROOT.glob(f"{notebook}_*.ipynb")
    return {one.id: " ".join(one.source.split()) for one in nbformat.read(path, 4).cells}


@pytest.mark.parametrize(("notebook", "name", "words", "numbers"), FINDINGS, ids=[f"{f[0]}-{f[2]}" for f in FINDINGS])
def test_a_number_in_a_sentence_is_the_one_in_the_results(notebook, name, words, numbers):
    text = re.escape(words.format(*(number() for number in numbers)))
    assert re.search(rf"(?<![\d.,−-]){text}(?!\d|[.,]\d)", sources(notebook)[name])  # not a part of a longer number
