"""Scores by name and track: against mir_eval and closed forms; silence, lengths, intervals, results files."""

import json

import mir_eval
import numpy as np
import pytest
import torch
from audio_models import Identity, noise, register

from helpers import runtime
from helpers.checkpoints import save_checkpoint
from helpers.data import corpora
from helpers.data.tracks import Corpus, Track
from helpers.metrics import bss_eval
from helpers.results import Run, load_results
from helpers.runtime import UserError
from helpers.separation import evaluation
from helpers.separation import networks as separation
from helpers.separation.baselines import BASELINES
from helpers.separation.evaluation import evaluate, evaluate_models, list_models

RATE = 8000
pytestmark = pytest.mark.filterwarnings("ignore:mir_eval.separation:FutureWarning")


def track(name="one", frames=6000, channels=1, seed=0, sources=("vocals", "accompaniment")):
    return Track.from_waveforms(
        name, RATE, {source: noise(channels, frames, seed + number) for number, source in enumerate(sources)}
    )


class Leaky:
    """A Separator that knows two sources and lets a part of the other through."""

    def __init__(self, tracks, leak):
        self.truth = [dict(track.sources) for track in tracks]
        self.mixtures = [track.mixture for track in tracks]
        self.leak = leak

    def __call__(self, waveform, sample_rate):
        number = next(i for i, mixture in enumerate(self.mixtures) if torch.equal(mixture, waveform))
        voice, rest = self.truth[number].values()
        return {"vocals": voice + self.leak * rest, "accompaniment": rest + self.leak * voice}


def mixture_twice(waveform, sample_rate):
    return {"vocals": waveform, "accompaniment": waveform.clone()}


def by(found, **wanted):
    (line,) = [one for one in found.tracks if all(one[key] == value for key, value in wanted.items())]
    return line


# ---- values ------------------------------------------------------------------------------------------------------


def test_every_value_is_mir_evals_and_nsdr_is_the_gain_over_the_mixture():
    tracks = [track("one"), track("two", 9000, seed=5)]
    methods = {"good": Leaky(tracks, 0.01), "bad": Leaky(tracks, 0.7), "mixture": mixture_twice}
    found = evaluate(methods, tracks)
    assert len(found.tracks) == 2 * 3 * 2
    for song in tracks:
        truth = torch.cat(list(song.sources.values())).double().numpy()
        mixed = mir_eval.separation.bss_eval_sources(truth, np.repeat(song.mixture.double().numpy(), 2, 0), False)[0]
        for name, method in methods.items():
            estimates = torch.cat(list(method(song.mixture, RATE).values())).double().numpy()
            expected = mir_eval.separation.bss_eval_sources(truth, estimates, False)[:3]
            for number, source in enumerate(song.stems):
                line = by(found, track=song.name, separator=name, source=source)
                for metric, values in zip(("SDR", "SIR", "SAR"), expected, strict=True):
                    if values[number] < 100:
                        assert line[metric] == pytest.approx(values[number], abs=1e-3)
                assert line["NSDR"] == pytest.approx(expected[0][number] - mixed[number], abs=2e-3)
    assert by(found, track="one", separator="mixture", source="vocals")["NSDR"] == pytest.approx(0, abs=1e-9)


def test_a_perfect_estimate_is_capped_and_finite():
    one = track()
    found = evaluate({"perfect": Leaky([one], 0.0)}, [one])
    assert all(100 < line["SDR"] <= evaluation.CAP for line in found.tracks)


def test_stereo_is_mixed_down_to_be_scored():
    one = track(channels=2)
    mono = Track.from_waveforms("one", RATE, {name: wave.mean(0, keepdim=True) for name, wave in one.sources.items()})
    stereo = evaluate({"leaky": Leaky([one], 0.1)}, [one]).tracks
    for line, expected in zip(stereo, evaluate({"leaky": Leaky([mono], 0.1)}, [mono]).tracks, strict=True):
        assert line["SDR"] == pytest.approx(expected["SDR"], abs=1e-4)


def test_references_are_prepared_once_a_track_whatever_the_number_of_methods(monkeypatch):
    made = []

    class Counted(bss_eval.References):
        def __init__(self, *arguments, **named):
            made.append(arguments)
            super().__init__(*arguments, **named)

    monkeypatch.setattr(evaluation, "References", Counted)
    tracks = [track("one"), track("two", seed=3)]
    evaluate({str(leak): Leaky(tracks, leak) for leak in (0.1, 0.2, 0.3)}, tracks, {"ibm": BASELINES["ibm"].make})
    assert len(made) == 2


def test_oracles_are_made_of_each_tracks_truth():
    tracks = [track("one", seed=0), track("two", 7000, seed=9)]
    rows = evaluate({"mixture": mixture_twice}, tracks, {"ibm": BASELINES["ibm"].make}).rows()
    assert [row["separator"] for row in rows] == ["mixture"] * 2 + ["ibm"] * 2
    assert all(row["NSDR"] > 1 > 1e-6 > abs(other["NSDR"]) for row, other in zip(rows[2:], rows[:2], strict=True))


def test_gain_only_scores_are_worse_than_filtered_ones():
    one = track()
    late = {name: torch.roll(wave, 3, -1) for name, wave in one.sources.items()}
    scores = {taps: evaluate({"late": lambda *_: late}, [one], taps=taps) for taps in (1, 512)}
    assert scores[512].tracks[0]["SDR"] > scores[1].tracks[0]["SDR"] + 20
    assert "gain only" in scores[1].protocol and "BSS Eval 3" in scores[512].protocol


# ---- what cannot be measured -------------------------------------------------------------------------------------


def silenced(name, **options):
    one = track(name, **options)
    return Track.from_waveforms(
        name, RATE, {"vocals": torch.zeros(1, one.frames), "accompaniment": one.sources["accompaniment"]}
    )


def test_silent_references_are_skipped_and_counted():
    tracks = [track("one"), silenced("two", seed=4), track("three", seed=7)]
    found = evaluate({"mixture": mixture_twice}, tracks)
    assert by(found, track="two", source="vocals") | {"computing": 0} == {
        "track": "two", "separator": "mixture", "source": "vocals", "seconds": 6000 / RATE, "computing": 0,
        "silent": True, "empty": False, "SDR": None, "SIR": None, "SAR": None, "NSDR": None,
    }  # fmt: skip
    alone = by(found, track="two", source="accompaniment")
    assert alone["SIR"] is None and alone["SDR"] is not None  # no interference where nothing else sounds
    vocals, rest = found.rows()
    assert (vocals["tracks"], vocals["silent"], rest["tracks"]) == (2, 1, 3) and "silent" not in rest
    expected = np.mean([by(found, track=name, source="vocals")["SDR"] for name in ("one", "three")])
    assert vocals["SDR"] == pytest.approx(expected)


def test_all_silent_gives_a_row_without_means():
    rows = evaluate({"mixture": mixture_twice}, [silenced("two")]).rows()
    assert rows[0]["silent"] == 1 and "SDR" not in rows[0] and rows[0]["tracks"] == 0


def test_returning_nothing_does_not_pay_and_is_counted():
    one = track()
    found = evaluate({"nothing": lambda wave, rate: {"vocals": 0 * wave, "accompaniment": wave}}, [one])
    vocals = by(found, source="vocals")
    assert vocals["empty"] and -40 < vocals["SDR"] < -5 and vocals["NSDR"] < -5
    assert found.rows()[0]["empty"] == 1 and "empty" not in found.rows()[1]


def test_what_does_not_fit_is_named():
    one = track()
    with pytest.raises(UserError, match="'drummer' separates drums; 'one' has vocals, accompaniment: choose"):
        evaluate({"drummer": lambda wave, rate: {"drums": wave}}, [one])
    with pytest.raises(ValueError, match=r"'short' returned 'vocals' of shape \(1, 5999\)"):
        evaluate({"short": lambda wave, rate: mixture_twice(wave[:, 1:], rate)}, [one])
    with pytest.raises(UserError, match="'vocals'.*'broken'.*NaN"):
        evaluate({"broken": lambda wave, rate: mixture_twice(wave * torch.nan, rate)}, [one])
    with pytest.raises(UserError, match="no tracks"):
        evaluate({"mixture": mixture_twice}, [])
    with pytest.raises(UserError, match="'bare' has no sources"):
        evaluate({"mixture": mixture_twice}, [Track("bare", RATE, {}, one.stems["vocals"])])


def test_four_estimates_are_added_up_for_two_true_sources():
    one = track()
    voice, rest = one.sources.values()
    four = {"drums": 0.5 * rest, "bass": 0.2 * rest, "other": 0.3 * rest, "vocals": voice + 0.1 * rest}
    found = evaluate({"four": lambda *_: four}, [one])
    assert by(found, source="accompaniment")["SDR"] > 80
    assert by(found, source="vocals")["SDR"] == pytest.approx(20, abs=1)


# ---- means -------------------------------------------------------------------------------------------------------


def test_weighted_means_are_those_of_the_literature():
    tracks = [track("short", 6000), track("long", 12_000, seed=5), track("longer", 18_000, seed=8)]
    found = evaluate({"mixture": mixture_twice}, tracks)
    row = found.rows(weighted=True)[0]
    values = [by(found, track=one.name, source="vocals")["SDR"] for one in tracks]
    assert row["GSDR"] == pytest.approx((values[0] + 2 * values[1] + 3 * values[2]) / 6)
    assert {"GNSDR", "GSIR", "GSAR"} < set(row) and "SDR" not in row
    assert row["GSDR low"] <= row["GSDR"] <= row["GSDR high"]
    assert found.rows()[0]["SDR"] == pytest.approx(np.mean(values))


def test_a_single_track_has_no_interval():
    found = evaluate({"mixture": mixture_twice}, [track()])
    for weighted, name in ((False, "SDR"), (True, "GSDR")):
        row = found.rows(weighted)[0]
        assert row[name] == found.tracks[0]["SDR"] and f"{name} low" not in row


# ---- by name -----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project's folders of its own, and a corpus of four stems that goes by any name."""
    register(monkeypatch)
    monkeypatch.setattr(runtime, "BUILD", tmp_path / "build")
    monkeypatch.setattr(evaluation, "RESULTS", (tmp_path / "results", tmp_path / "build" / "results"))
    monkeypatch.setattr(separation, "FOLDERS", (tmp_path / "checkpoints",))
    (tmp_path / "checkpoints").mkdir()
    stems = ("vocals", "drums", "bass", "other")
    songs = tuple(track(f"song {seed}", 6000 + 2000 * seed, seed=10 * seed, sources=stems) for seed in range(3))

    def load(name, split, data_dir, download):
        assert not download
        return Corpus(f"corpus {name}", split, songs, stems, "made here", embedded=True)

    monkeypatch.setattr(corpora, "load_corpus", load)
    return tmp_path


def test_models_are_evaluated_by_name_and_the_file_holds_every_track(home):
    save_checkpoint(home / "checkpoints" / "mine.pt", Identity(RATE))
    shown = []
    path = evaluate_models(["mine", "ibm", "mixture"], "mir1k", limit=2, device="cpu", progress=shown.append)
    assert path == home / "build/results/evaluate_mir1k-test-mine-ibm-mixture.json" and shown == [0.5, 1]
    record = load_results(path)
    assert record["items"] == 2 and record["embedded"] and record["data"] == "corpus mir1k"
    assert [(row["separator"], row["source"]) for row in record["rows"]] == [
        (name, source) for name in ("mine", "ibm", "mixture") for source in ("vocals", "accompaniment")
    ]
    assert all("GNSDR" in row for row in record["rows"])
    assert len(record["extra"]["tracks"]) == 2 * 3 * 2 and "BSS Eval 3" in record["protocol"]
    json.loads(path.read_text(), parse_constant=pytest.fail)


def test_all_stems_are_kept_where_every_model_has_them(home):
    stems = ("vocals", "drums", "bass", "other")
    save_checkpoint(home / "checkpoints" / "four.pt", Identity(RATE, stems, parts=(0.1, 0.2, 0.3, 0.4)))
    rows = load_results(evaluate_models(["four", "wiener"], "multitrack", limit=1, device="cpu"))["rows"]
    assert [row["source"] for row in rows] == list(stems) * 2 and "SDR" in rows[0]
    rows = load_results(evaluate_models(["four", "hpss"], "multitrack", limit=1, device="cpu"))["rows"]
    assert [row["source"] for row in rows] == ["vocals", "accompaniment"] * 2


def test_the_list_of_models_says_what_was_measured(home):
    save_checkpoint(home / "checkpoints" / "mine.pt", Identity(16_000), data="songs", validation_loss=0.125)
    save_checkpoint(home / "checkpoints" / "other.pt", Identity(16_000), data="songs", validation_loss=0.5)
    (home / "checkpoints" / "hurt.pt").write_bytes(b"nothing")
    run = Run("03", "smoke", 0, "MIR-1K", False, "nothing")
    rows = [{"separator": "mine", "source": "vocals", "GNSDR": 7.456}, {"separator": "hpss", "SDR": 1.0}]
    run.save("results", "t", rows, split="test", items=2, metric="m", protocol="p")
    listed = {row["model"]: row for row in list_models()}
    assert listed["mine"]["measured"] == "vocals GNSDR 7.46 dB (MIR-1K, test)"
    assert listed["mine"]["kind"] == "audio, 16 kHz" and listed["mine"]["sources"] == "vocals, accompaniment"
    assert listed["other"]["measured"] == "validation loss 0.5 (songs)"
    assert listed["hurt"]["kind"] == "unreadable" and "damaged" in listed["hurt"]["measured"]
    assert listed["hpss"]["measured"] == "SDR 1.00 dB (MIR-1K, test)"
    assert listed["lstm"]["kind"] == "not trained yet" and listed["wiener"]["kind"] == "oracle"
