"""Scores by name and track: against mir_eval and closed forms; silence, lengths, intervals, results files."""

import json

import mir_eval
import numpy as np
import pytest
import torch
from audio_models import Identity, noise, register
from toy_corpus import track_of

from helpers import runtime
from helpers.checkpoints import save_checkpoint
from helpers.data import audio, corpora
from helpers.data.tracks import Corpus, Track
from helpers.metrics import bss_eval
from helpers.results import Run, load_results
from helpers.runtime import UserError
from helpers.separation import catalogue, evaluation
from helpers.separation.anchors import PublishedEstimates
from helpers.separation.baselines import BASELINES
from helpers.separation.catalogue import list_models
from helpers.separation.evaluation import Evaluation, evaluate, evaluate_models

RATE = 8000
pytestmark = pytest.mark.filterwarnings("ignore:mir_eval.separation:FutureWarning")


def track(name="one", frames=6000, channels=1, seed=0, sources=("vocals", "accompaniment"), **facts):
    waves = {source: noise(channels, frames, seed + number) for number, source in enumerate(sources)}
    return track_of(name, RATE, waves, **facts)


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
    assert by(found, track="one", separator="mixture", source="vocals")["NSDR"] == 0


def test_ratios_that_are_rounding_alone_are_no_values_and_enter_no_mean():
    tracks = [track("one"), track("two", seed=4)]
    perfect_once = Leaky(tracks, 0.1)
    perfect_once.mixtures[0] = torch.zeros(1)  # track one is given to the other
    perfect = Leaky(tracks[:1], 0.0)

    def separate(waveform, rate):
        one = torch.equal(waveform, tracks[0].mixture)
        return perfect(waveform, rate) if one else perfect_once(waveform, rate)

    found = evaluate({"perfect once": separate, "mixture": mixture_twice}, tracks)
    line = by(found, track="one", separator="perfect once", source="vocals")
    assert all(line[metric] is None for metric in ("SDR", "SIR", "SAR", "NSDR"))
    row = found.rows()[0]
    assert row["SDR"] == by(found, track="two", separator="perfect once", source="vocals")["SDR"]
    assert (row["tracks"], row["SDR tracks"], row["NSDR tracks"]) == (2, 1, 1)
    mixture = found.rows()[2]
    assert "SAR" not in mixture and mixture["NSDR"] == 0 and "SAR tracks" not in mixture  # "–" in a table


def test_stereo_is_mixed_down_to_be_scored():
    one = track(channels=2)
    mono = track_of("one", RATE, {name: wave.mean(0, keepdim=True) for name, wave in one.sources.items()})
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


# ---- what cannot be measured -------------------------------------------------------------------------------------


def silenced(name, **options):
    one = track(name, **options)
    return track_of(name, RATE, {"vocals": torch.zeros(1, one.frames), "accompaniment": one.sources["accompaniment"]})


def test_silent_references_are_skipped_and_counted():
    tracks = [track("one"), silenced("two", seed=4), track("three", seed=7)]
    found = evaluate({"mixture": mixture_twice}, tracks)
    assert by(found, track="two", source="vocals") | {"computing": 0} == {
        "track": "two", "song": "two", "singer": "two", "separator": "mixture", "source": "vocals",
        "seconds": 6000 / RATE, "computing": 0, "silent": True, "empty": False,
        "SDR": None, "SIR": None, "SAR": None, "NSDR": None,
    }  # fmt: skip
    vocals, rest = found.rows()
    assert (vocals["tracks"], vocals["silent"], rest["tracks"]) == (2, 1, 3) and "silent" not in rest
    expected = np.mean([by(found, track=name, source="vocals")["SDR"] for name in ("one", "three")])
    assert vocals["SDR"] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["instrumental", "one stem", "identical stems"])
def test_where_one_source_sounds_alone_there_is_no_improvement(kind):
    wave = noise(1, 6000)
    stems = {
        "instrumental": {"vocals": 0 * wave, "accompaniment": wave},
        "one stem": {"accompaniment": wave},
        "identical stems": {"vocals": wave, "accompaniment": wave.clone()},
    }[kind]
    tracks = [track_of("odd", RATE, stems)]
    methods = {
        "half": lambda wave, rate: {name: 0.5 * wave + 0.1 * noise(1, 6000, 7) for name in stems},
        "mixture": lambda wave, rate: {name: wave for name in stems},
    }
    found = evaluate(methods, tracks)
    for name in methods:
        line = by(found, separator=name, source="accompaniment")
        assert line["NSDR"] is None and line["SIR"] is None
        assert (line["SDR"] is None) == (name == "mixture")
    assert all("NSDR" not in row for row in found.rows())


def test_one_instrumental_does_not_ruin_the_mean():
    tracks = [track("one"), silenced("two", seed=4), track("three", seed=7)]
    found = evaluate({"leaky": Leaky(tracks, 0.1), "mixture": mixture_twice}, tracks)
    leaky, mixture = (row for row in found.rows() if row["source"] == "accompaniment")
    expected = np.mean([by(found, track=name, separator="leaky", source="accompaniment")["NSDR"]
                        for name in ("one", "three")])  # fmt: skip
    assert leaky["NSDR"] == pytest.approx(expected) and 10 < expected < 40
    assert (mixture["NSDR"], mixture["tracks"], mixture["NSDR tracks"], mixture["SDR tracks"]) == (0, 3, 2, 2)


def test_returning_nothing_does_not_pay_and_is_counted():
    one = track()
    found = evaluate({"nothing": lambda wave, rate: {"vocals": 0 * wave, "accompaniment": wave}}, [one])
    vocals = by(found, source="vocals")
    assert vocals["empty"] and -40 < vocals["SDR"] < -5 and vocals["NSDR"] < -5
    assert found.rows()[0]["empty"] == 1 and "empty" not in found.rows()[1]
    assert by(found, source="accompaniment")["NSDR"] == 0  # the other estimate is scored as it is


def test_computing_is_told_for_a_minute_of_audio():
    one = track()
    found = Evaluation([line | {"computing": 1.5} for line in evaluate({"mixture": mixture_twice}, [one]).tracks], "")
    assert found.rows()[0]["computing s/min"] == pytest.approx(1.5 * 60 / one.seconds)


def test_what_does_not_fit_is_named():
    one = track()
    with pytest.raises(UserError, match="'drummer' separates drums; 'one' has vocals, accompaniment: choose"):
        evaluate({"drummer": lambda wave, rate: {"drums": wave}}, [one])
    with pytest.raises(ValueError, match=r"the references' \(2, 6000\), to the sample, got \(1, 2, 5999\)"):
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
    four = {"drums": 0.5 * rest, "bass": 0.2 * rest, "other": 0.3 * rest + 1e-3 * voice, "vocals": voice + 0.1 * rest}
    found = evaluate({"four": lambda *_: four}, [one])
    assert by(found, source="accompaniment")["SDR"] == pytest.approx(60, abs=1)
    assert by(found, source="vocals")["SDR"] == pytest.approx(20, abs=1)


def test_published_systems_are_scored_beside_ours(tmp_path):
    tracks = [track("one"), track("two", seed=4)]
    for one in tracks:
        voice, rest = one.sources.values()
        audio.write_audio(tmp_path / one.name / "ABC1.wav", voice + 0.1 * rest, RATE, "FLOAT")
    found = evaluate({"ABC1": PublishedEstimates(tmp_path, "ABC1")}, tracks)
    assert found.rows()[0]["SDR"] == pytest.approx(20, abs=1)


# ---- means -------------------------------------------------------------------------------------------------------


def test_weighted_means_are_those_of_the_literature():
    tracks = [track("short", 6000), track("long", 12_000, seed=5), track("longer", 18_000, seed=8)]
    found = evaluate({"leaky": Leaky(tracks, 0.3)}, tracks)
    row = found.rows(weighted=True)[0]
    values = [by(found, track=one.name, source="vocals")["SDR"] for one in tracks]
    assert row["GSDR"] == pytest.approx((values[0] + 2 * values[1] + 3 * values[2]) / 6)
    assert {"GNSDR", "GSIR"} < set(row) and "SDR" not in row
    assert row["GSDR low"] <= row["GSDR"] <= row["GSDR high"]
    assert found.rows()[0]["SDR"] == pytest.approx(np.mean(values))


def test_intervals_resample_singers_or_songs_and_rows_say_how_many():
    tracks = []
    for number, (singer, song) in enumerate([("ann", "ann_1"), ("ann", "ann_2"), ("bob", "bob_1")]):
        for clip in (1, 2):
            one = track(f"{song}_{clip}", 5000 + 500 * clip, seed=10 * number + clip, artist=singer, song=song)
            tracks.append(one)
    found = evaluate({"leaky": Leaky(tracks, 0.1), "mixture": mixture_twice}, tracks)
    by_singer, by_song, by_track = (found.rows(by=by)[0] for by in ("singer", "song", "track"))
    assert (by_singer["tracks"], by_singer["singers"], by_song["songs"]) == (6, 2, 3) and "songs" not in by_track
    assert by_singer["SDR"] == pytest.approx(by_track["SDR"]) and by_singer["SDR low"] != by_track["SDR low"]
    alone = Evaluation([one for one in found.tracks if one["singer"] == "bob"], found.protocol)
    assert "SDR low" not in alone.rows()[0] and "SDR low" in alone.rows(by="track")[0]


def test_slow_methods_get_every_nth_track():
    tracks = [track(f"song {number}", seed=10 * number) for number in range(5)]
    separators, oracles = {"all": mixture_twice, "slow": mixture_twice}, {"ibm": BASELINES["ibm"].make}
    found = evaluate(separators, tracks, oracles, every={"slow": 3, "ibm": 2})
    heard = {"all": "", "slow": "", "ibm": ""}
    for one in found.tracks[::2]:  # a line for each of the two sources
        heard[one["separator"]] += one["track"][-1]
    assert heard == {"all": "01234", "slow": "03", "ibm": "024"}
    assert [row["tracks"] for row in found.rows()[::2]] == [5, 2, 3]


def test_a_single_track_has_no_interval():
    found = evaluate({"mixture": mixture_twice}, [track()])
    for weighted, name in ((False, "SDR"), (True, "GSDR")):
        row = found.rows(weighted)[0]
        assert row[name] == pytest.approx(found.tracks[0]["SDR"]) and f"{name} low" not in row


# ---- by name -----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project's folders of its own, and a corpus of four stems that goes by any name."""
    register(monkeypatch)
    monkeypatch.setattr(runtime, "BUILD", tmp_path / "build")
    monkeypatch.setattr(catalogue, "RESULTS", (tmp_path / "results", tmp_path / "build" / "results"))
    monkeypatch.setattr(catalogue, "FOLDERS", (tmp_path / "checkpoints",))
    (tmp_path / "checkpoints").mkdir()
    stems = ("vocals", "drums", "bass", "other")
    songs = tuple(track(f"song {seed}", 6000 + 2000 * seed, seed=10 * seed, sources=stems) for seed in range(3))

    def load(name, split, data_dir, real):
        assert real
        known = {"mir1k": "MIR-1K, 3 of 1,000 clips", "mine": "MIR-1K-mine (3 songs)"}
        names = [known.get(part, f"corpus {part}") for part in name.split("+")]
        return Corpus(" + ".join(names), split, songs, stems, "made here", embedded=True)

    monkeypatch.setattr(corpora, "load_corpus", load)
    return tmp_path


def test_a_corpus_that_is_missing_is_refused(tmp_path):
    with pytest.raises(UserError, match="MIR-1K is not in"):
        evaluate_models(["hpss"], "mir1k", limit=1, data_dir=tmp_path, device="cpu")


def test_models_are_evaluated_by_name_and_the_file_holds_every_track(home):
    save_checkpoint(home / "checkpoints" / "mine.safetensors", Identity(RATE))
    shown = []
    path = evaluate_models(["mine", "ibm", "mixture"], "mir1k", limit=2, device="cpu", progress=shown.append)
    assert path == home / "build/results/evaluate_mir1k-test-mine-ibm-mixture.json" and shown == [0.5, 1]
    record = load_results(path)
    assert record["items"] == 2 and record["embedded"] and record["data"] == "MIR-1K, 3 of 1,000 clips"
    assert [(row["separator"], row["source"]) for row in record["rows"]] == [
        (name, source) for name in ("mine", "ibm", "mixture") for source in ("vocals", "accompaniment")
    ]
    assert all("GNSDR" in row for row in record["rows"])
    assert len(record["extra"]["tracks"]) == 2 * 3 * 2 and "BSS Eval 3" in record["protocol"]
    json.loads(path.read_text(), parse_constant=pytest.fail)


def test_the_weights_of_mir1k_alone_are_lengths(home):
    for data, metric, words in (
        ("mir1k", "GNSDR", "means weighted by length"),
        ("mir1k+multitrack", "NSDR", "means over tracks, 95 %"),
        ("dsd100", "NSDR", "means over tracks, 95 %"),
        ("mine", "NSDR", "means over tracks, 95 %"),  # whatever a folder of one's own is called
    ):
        record = load_results(evaluate_models(["hpss"], data, limit=2, device="cpu"))
        assert metric in record["rows"][0] and words in record["metric"]


def test_ica_without_as_many_channels_as_sources_is_refused(home):
    with pytest.raises(UserError, match=r"ICA needs as many mixtures \(channels\) as sources"):
        evaluate_models(["ica"], "dsd100", device="cpu")


def test_all_stems_are_kept_where_every_model_has_them(home):
    stems = ("vocals", "drums", "bass", "other")
    save_checkpoint(home / "checkpoints" / "four.safetensors", Identity(RATE, stems, parts=(0.1, 0.2, 0.3, 0.4)))
    rows = load_results(evaluate_models(["four", "wiener"], "multitrack", limit=1, device="cpu"))["rows"]
    assert [row["source"] for row in rows] == list(stems) * 2 and "SDR" in rows[0]
    rows = load_results(evaluate_models(["four", "hpss"], "multitrack", limit=1, device="cpu"))["rows"]
    assert [row["source"] for row in rows] == ["vocals", "accompaniment"] * 2


def test_the_list_of_models_says_what_was_measured(home):
    save_checkpoint(home / "checkpoints" / "mine.safetensors", Identity(16_000), data="songs", validation_loss=0.125)
    save_checkpoint(home / "checkpoints" / "other.safetensors", Identity(16_000), data="songs", validation_loss=0.5)
    (home / "checkpoints" / "hurt.safetensors").write_bytes(b"nothing")
    (home / "results").mkdir()
    (home / "results" / "old.json").write_text("{}")  # is named, and does not hide the others
    run = Run("03", "smoke", 0, "MIR-1K", False, "nothing")
    rows = [{"separator": "mine", "source": "vocals", "SDR": 9.0, "NSDR": 8.0, "GNSDR": 7.456}]
    rows += [{"separator": "mine", "source": "accompaniment", "GNSDR": 1.0}, {"separator": "hpss", "SDR": 1.0}]
    run.save("results", "t", rows, split="test", items=2, metric="m", protocol="p")
    listed = {row["model"]: row for row in list_models()}
    assert listed["mine"]["measured"] == "validation loss 0.125 (songs)"  # it was a trial run
    listed = {row["model"]: row for row in list_models(trials=True)}
    assert listed["mine"]["measured"] == "vocals GNSDR 7.46 dB (MIR-1K, test)"
    assert listed["mine"]["kind"] == "audio, 16 kHz" and listed["mine"]["sources"] == "vocals, accompaniment"
    assert listed["other"]["measured"] == "validation loss 0.5 (songs)"
    assert listed["hurt"]["kind"] == "unreadable" and "damaged" in listed["hurt"]["measured"]
    assert listed["old.json"]["kind"] == "unreadable" and "old.json has no" in listed["old.json"]["measured"]
    assert len(list_models(trials=True)) == len(listed)
    assert listed["hpss"]["measured"] == "SDR 1.00 dB (MIR-1K, test)"
    assert listed["wiener"]["kind"] == "oracle"


def test_a_checkpoint_is_listed_with_the_benchmark_before_a_notebook(home):
    save_checkpoint(home / "checkpoints" / "mine.safetensors", Identity(16_000), data="songs")
    said = {"split": "test", "items": 2, "metric": "m", "protocol": "p"}
    rows = (("04", "all", {"separator": "mine", "GNSDR": 5.0}), ("kept", "clips", {"separator": "mine", "GNSDR": 4.0}))
    for number, name, row in rows:
        Run(number, "smoke", 0, "MIR-1K", False, "nothing").save(name, "t", [row], **said)
    (listed,) = (row for row in list_models(trials=True) if row["model"] == "mine")
    assert listed["measured"] == "GNSDR 4.00 dB (MIR-1K, test)"
