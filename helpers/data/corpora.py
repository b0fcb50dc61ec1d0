"""The corpora by name: public ones, folders of the user's own, songs made by code, and several joined.

load_corpus() is the way in. Sources are called alike everywhere: vocals, drums, bass, other; vocals, accompaniment.
To add a corpus, write a function in helpers.data.layouts that lists its tracks, and a row of KINDS.
"""

import glob
import importlib.util
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from helpers import runtime
from helpers.data import embedded, layouts
from helpers.data.download import UNASKED_MB, Archive, fetch_archive, online
from helpers.data.layouts import SPLITS, STEMS, VOCALS_AND_REST, below
from helpers.data.tracks import Corpus
from helpers.runtime import UserError

ZENODO = "https://zenodo.org/records"
MUSDB_SPLIT = "train but for the 14 usual validation songs; where none of these is there, every fifth artist validates"


@dataclass(frozen=True)
class Kind:
    """A corpus by name."""

    title: str
    folders: tuple  # what its folder may be called, the first for a download; '.' is the data folder itself
    layout: str  # where files lie in it
    listing: Callable  # lists its tracks
    about: str  # how it is split, what it is for
    sources: tuple = STEMS
    archive: Archive | None = None  # None where there is nothing to download
    count: int | None = None  # tracks of a complete copy; None: any number
    names: tuple = ()  # of some of these
    stand_in: str = "multitrack-{count} ({title} layout)"  # name of a folder of its layout with other, or fewer, tracks


KINDS = {
    "mir1k": Kind(
        "MIR-1K", ("MIR-1K",), "Wavfile/<singer>_<song>_<clip>.wav", layouts.mir1k,
        "the usual protocol, singers abjones and amy train and validate, all others test, mixed at 0 dB; whole songs "
        f"validate: {', '.join(layouts.MIR1K_VALIDATION)}; where none of these is there, every fifth song does",
        VOCALS_AND_REST,
        Archive("http://mirlab.org/dataset/public/MIR-1K.zip", 1_300, "md5:3a4e5acd740110ae481a836460dabb6a"),
        count=1000, stand_in="MIR-1K, {count} of 1,000 clips",
    ),
    "dsd100": Kind(
        "DSD100", ("DSD100",), "Sources/<Dev or Test>/<song>/vocals.wav", layouts.dsd100,
        "every fifth artist of Dev validates, the others train; Test tests",
        archive=Archive("http://liutkus.net/DSD100.zip", 14_000, None), count=100,
    ),
    "musdb18hq": Kind(
        "MUSDB18-HQ", ("MUSDB18-HQ",), "<train or test>/<song>/vocals.wav", layouts.musdb18hq, MUSDB_SPLIT,
        archive=Archive(
            f"{ZENODO}/3338373/files/musdb18hq.zip", 22_657,
            "sha256:baac80d0483c61d74b2e5f3be75fa557eec52898339e6aa45c1fa48833c5d21d",
        ),
        count=150, names=layouts.MUSDB_VALIDATION,
    ),
    "musdb18": Kind(
        "MUSDB18", ("MUSDB18",), "<train or test>/<song>.stem.mp4", layouts.musdb18, MUSDB_SPLIT,
        archive=Archive(f"{ZENODO}/1117372/files/musdb18.zip", 4_684, "md5:af06762477334799bfc5abf237648207"),
        count=150, names=layouts.MUSDB_VALIDATION,
    ),
    "musdb18-7s": Kind(
        "MUSDB18 7 s previews", ("MUSDB18-7", "MUSDB18-7-STEMS"), "<train or test>/<song>.stem.mp4", layouts.musdb18,
        MUSDB_SPLIT,
        archive=Archive(f"{ZENODO}/3270814/files/MUSDB18-7-STEMS.zip", 147, "md5:dc2bdfac5b46ce742bd60009866758a5"),
        count=144, names=layouts.MUSDB_VALIDATION,
    ),
    "irmas": Kind(
        "IRMAS training data, voi", ("IRMAS-TrainingData",), "voi/<excerpt>.wav", layouts.irmas,
        "by recording: every tenth validates, another tenth tests; mixtures only, there are no stems", (),
        Archive(f"{ZENODO}/1290750/files/IRMAS-TrainingData.zip", 3_200, "md5:4fd9f5ed5a18d8e2687e6360b5f60afe"),
        count=layouts.IRMAS_VOICES, stand_in="{count} excerpts (IRMAS layout), voi",
    ),
    "irmas-stand-ins": Kind(
        "IRMAS stand-ins, cut from the training songs", ("IRMAS-stems",), "[voi]<excerpt>/vocals.wav",
        layouts.irmas_stand_ins, "3 s, with stems; not IRMAS, but split as IRMAS is, by recording", VOCALS_AND_REST,
    ),
    "sisec-excerpts": Kind(
        "SiSEC 2018 excerpts", ("SiSEC-excerpts",), "test/<song>/vocals.wav", layouts.songs_by_split,
        "7 s, mono, 44.1 kHz, of 12 test songs of MUSDB18: score them once, at the end, never train on them",
        VOCALS_AND_REST,
    ),
    "musdb18-excerpts": Kind(
        "MUSDB18 validation excerpts", ("MUSDB18-excerpts",), "validation/<song>/vocals.wav", layouts.songs_by_split,
        "7 s, mono, 44.1 kHz, of 10 training songs of MUSDB18: to validate what was not trained on MUSDB18",
        VOCALS_AND_REST,
    ),
    "voices-and-bands": Kind(
        "voices and bands", ("voices-and-bands", "."), "voices/<take>.<ending>", layouts.voices_and_bands,
        "voices alone and bands alone, for training only, by remixing; take them together with another corpus, such as "
        "mir1k+voices-and-bands", VOCALS_AND_REST,
    ),
}  # fmt: skip
PREVIEWS = "musdb18-7s"  # what takes the place of songs with four stems, which are all too large to download unasked


def load_corpus(name, split="train", data_dir=None, sample_rate=None, mono=False, real=False):
    """Return one split ('train', 'validation' or 'test') of a corpus.

    Args:
        name: a key of KINDS, however spelt; 'embedded'; the path of a folder with such a corpus, or with songs,
            FOLDER/<song>/<source>.wav, perhaps below folders train, validation and test (without these: 'all', or
            'train', of which every tenth validates); or several as 'a+b+c', see joined().
        data_dir: the data folder, default runtime.data_dir(). sample_rate, mono: resample and down-mix the tracks.
        real: True refuses a corpus that is missing. Otherwise a warning says what takes its place: of songs with four
            stems, MUSDB18's previews; else the embedded songs.

    Raises UserError for an unknown name or split, a folder that lacks files, or a missing corpus.
    """
    folder = Path(data_dir or runtime.data_dir())
    names = [name] if Path(name).expanduser().is_dir() else re.split(r"\s*\+\s*", str(name).strip())
    parts = []
    for part in names:  # no comprehension: it would be a frame of its own, and the warning would name this file
        parts.append(_load_one(part, split, folder, real).at(sample_rate, mono))
    there = [corpus for corpus in parts if corpus.tracks]
    if not there:
        what = "; ".join(f"{corpus.name}: {corpus.about}" for corpus in parts)
        raise UserError(f"{name} has no {split} tracks ({what}): add some, or take another split or corpus")
    return joined(" + ".join(corpus.name for corpus in there), *there) if len(there) > 1 else there[0]


def joined(name, *corpora):
    """Return a Corpus of all tracks of several, of one split and sample rate.

    Where the sources differ, they become the vocals and the rest. Raises UserError for several sample rates.
    """
    if len({frozenset(corpus.sources) for corpus in corpora}) > 1:
        corpora = [corpus.vocals_and_accompaniment() for corpus in corpora]
    tracks = tuple(track for corpus in corpora for track in corpus)
    rates = {track.sample_rate for track in tracks}
    if len(rates) > 1:
        raise UserError(f"{name} has tracks of the sample rates {sorted(rates)}: choose one with sample_rate=")
    about = "; ".join(dict.fromkeys(corpus.about for corpus in corpora))
    return replace(corpora[0], name=name, tracks=tracks, about=about, embedded=any(part.embedded for part in corpora))


def leave_one_singer_out(train, validation, singer):
    """Return (train, validation) split anew: the tracks of one singer (artist) validate, all others train.

    Raises UserError where either would be empty.
    """
    tracks, about = (*train, *validation), f"{singer} validates, all others of train and validation train"
    rest, held_out = (tuple(track for track in tracks if (track.artist == singer) is out) for out in (False, True))
    if not (rest and held_out):
        raise UserError(f"{train.name} has the singers {sorted({t.artist for t in tracks})}: take one of several")
    return replace(train, tracks=rest, about=about), replace(validation, tracks=held_out, about=about)


def kind_of(name):
    """Return the key of KINDS meant by a name or a folder, however spelt (MIR-1K, mir-1k/, DSD100subset), or None."""

    def plain(text):
        return re.sub(r"[^a-z0-9]|(?:master|main|subset)$", "", text.lower())

    given = plain(Path(name).expanduser().name)
    return next((key for key, kind in KINDS.items() if given and given in map(plain, (key, *kind.folders))), None)


def place(name, data_dir):
    """Return the folder in which a corpus lies, perhaps one deeper than it should; None if there is no such folder."""
    folders = [folder for folder in below(Path(data_dir), "*/") if kind_of(folder.name) == name]
    holding = (_holding(name, folder) for folder in folders + [Path(data_dir)] * ("." in KINDS[name].folders))
    return next(filter(None, holding), folders[0] if folders else None)


def _holding(name, folder):
    """Return the folder that has the layout of a corpus: `folder` or one in it; None where none has."""
    pattern = re.sub("<.*?>", "*", glob.escape(KINDS[name].layout))
    return next((inner for inner in (folder, *below(folder, "*/")) if any(inner.glob(pattern))), None)


def _load_one(name, split, folder, real):
    """Return a split of a single corpus, perhaps without tracks; see load_corpus."""
    path, kind = Path(name).expanduser(), kind_of(name)
    if name and name not in (*KINDS, "embedded") and path.is_dir():
        own, there = _corpus_in(path)
        return _from_folder(own, split, there) if own else _own_folder(path, split)
    if not kind and name != "embedded":
        raise UserError(f"unknown corpus '{name}': take one of {', '.join(KINDS)}, embedded, or an existing folder")
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}': take one of {', '.join(SPLITS)}")
    if name == "embedded":
        return embedded_corpus(name, split)
    missing = f"{KINDS[kind].title} is not in {folder}"
    if real and not place(kind, folder):
        raise UserError(f"{missing}: {_remedy(kind, folder)}")
    taken = _at_hand(kind, folder)
    if taken != kind:
        what = f"{KINDS[taken].title} take" if taken else "the embedded songs take"
        warnings.warn(f"{missing}, {what} its place: {_remedy(kind, folder)}", stacklevel=3)
    return _from_folder(taken, split, place(taken, folder)) if taken else embedded_corpus(kind, split)


def _corpus_in(path):
    """Return (its key in KINDS, its folder) of the public corpus in a folder of the user's; (None, path) if none is."""
    folders = [(kind_of(folder.name), folder) for folder in (path, *below(path, "*/"))] + [("voices-and-bands", path)]
    found = [(key, folder) for key, folder in folders if key and _holding(key, folder)] or [(None, path)]
    several = ", ".join(dict.fromkeys(key for key, _ in found if key))
    if "," in several:
        raise UserError(f"{path} holds several corpora: name one of {several}, and give this as the data folder")
    return found[0]


def _at_hand(name, folder):
    """Return the corpus to read for `name`: itself, the previews, or None; a small one is downloaded if need be."""
    has_ffmpeg = shutil.which("ffmpeg") or importlib.util.find_spec("imageio_ffmpeg")
    for candidate in (name, PREVIEWS) if KINDS[name].sources == STEMS and has_ffmpeg else (name,):
        archive = KINDS[candidate].archive
        if place(candidate, folder):
            return candidate
        if archive and archive.megabytes <= UNASKED_MB and online(archive.url):
            try:
                fetch(candidate, folder)
            except UserError as error:  # the next best takes its place
                warnings.warn(str(error), stacklevel=4)
            else:
                return candidate
    return None


def _from_folder(name, split, there):
    """Return a split of a corpus that lies in the folder `there`, under a name that says what is really there."""
    kind = KINDS[name]
    listed = kind.listing(_checked(name, there))
    known = not kind.names or any(track.name in kind.names for track in listed)
    complete = known and kind.count in (None, len(listed))
    title = kind.title if complete else kind.stand_in.format(count=len(listed), title=kind.title)
    return Corpus(title, split, tuple(t for t in listed if t.split == split), kind.sources, kind.about)


def _checked(name, there):
    """Return the folder, `there` or one in it, that has a corpus's layout; UserError says what it has instead."""
    kind, holding = KINDS[name], _holding(name, there)
    if holding:
        return holding
    other = next((kind for key, kind in KINDS.items() if _holding(key, there)), None)
    if other:
        raise UserError(f"{there} has the layout of {other.title}, {other.layout}: call it {other.folders[0]}")
    names = ", ".join(path.name for path in below(there)[:5]) or "nothing"
    remedy = f"put {kind.title}'s files there, in folders of these names, or take another data folder"
    raise UserError(f"{there} holds {names}, but no {kind.layout}: {remedy}")


def _own_folder(folder, split):
    """Return a split of a folder of the user's own songs."""
    inside = below(folder)
    if len(inside) == 1 and inside[0].name not in SPLITS and below(inside[0], "*/"):
        folder = inside[0]  # one folder too deep
    parts = [part for part in SPLITS if (folder / part).is_dir()] or ["all"]
    hold_out = parts[0] in ("train", "all") and "validation" not in parts and split in ("train", "validation")
    part, about = parts[0] if hold_out else split, "the folder's own splits"
    if part not in parts:
        have = f"{folder} has no split '{split}', only {', '.join(parts)}"
        raise UserError(f"{have}: take one of these, or put songs into {folder / split}")
    there = folder if part == "all" else folder / part
    tracks = layouts.song_folder(there, split)
    if not tracks:
        one = f"is one song: give {there.parent}" if layouts.audio_files(there) else "holds no songs"
        raise UserError(f"{there} {one}, or put folders of stems there")
    first = tracks[0]
    if other := next((track for track in tracks if track.stems.keys() != first.stems.keys()), None):
        have = " and ".join(f"'{track.name}' the sources {sorted(track.stems)}" for track in (first, other))
        raise UserError(f"in {folder}, song {have}: give all songs the same")
    if hold_out:
        tracks = layouts.with_validation([replace(track, split="train") for track in tracks], every=10)
        names = ", ".join(track.name for track in tracks if track.split == "validation")
        about = f"every tenth song of {part} validates: {names}"
        tracks = [track for track in tracks if track.split == split]
        if not tracks:
            raise UserError(f"{there} holds one song, none is left to validate on: add songs, or {folder / split}")
    sources = (*(name for name in STEMS if name in first.stems), *sorted(first.stems.keys() - set(STEMS)))
    return Corpus(f"{folder.name} ({len(tracks)} songs)", split, tuple(tracks), sources, about)


def embedded_corpus(name, split):
    """Return the split of the embedded songs that stands in for a corpus: its sources; MIR-1K's rate and channel."""
    songs = tuple(embedded.songs(split))
    corpus = Corpus("embedded songs", split, songs, STEMS, "different songs in each split", embedded=True)
    sources = KINDS[name].sources if name in KINDS else STEMS
    if sources != STEMS:
        corpus = corpus.vocals_and_accompaniment() if sources else corpus.regroup({})
    return corpus.at(16_000, mono=True) if name == "mir1k" else corpus


def banner(corpus):
    """Return a sentence (Markdown) that says what the tracks are; a loud one for the embedded songs."""
    what = f"{corpus.name} ({corpus.split}: {len(corpus)} tracks, {corpus.seconds / 60:.1f} minutes)"
    if not corpus.embedded:
        return f"Data: {what}."
    return (
        f"**Embedded data, no recordings:** {what}. Its numbers are not comparable with published ones. "
        f"`python -m helpers fetch NAME` downloads a real corpus: {', '.join(k for k in KINDS if KINDS[k].archive)}."
    )


def split_table(*corpora):
    """Return a table as text, a row for each corpus or split: artists (or singers), songs, tracks and minutes."""
    lines = [f"{'split':<11}{'artists':>8}{'songs':>7}{'tracks':>8}{'minutes':>9}"]
    for corpus in corpora:
        artists = len({track.artist for track in corpus} - {None}) or "-"
        songs = len({track.song or track.name for track in corpus})
        lines.append(f"{corpus.split:<11}{artists:>8}{songs:>7}{len(corpus):>8}{corpus.seconds / 60:>9.1f}")
    titles = dict.fromkeys(f"{corpus.name}: {corpus.about}" for corpus in corpora)
    return "\n".join([*titles, *lines])


def _remedy(name, folder):
    """Return how a corpus comes into the data folder."""
    archive = KINDS[name].archive
    if not archive:
        return f"put its files there, as {folder / KINDS[name].folders[0] / KINDS[name].layout}"
    if not archive.checksum:
        return f"get {archive.url} ({archive.megabytes:,} MB) and unpack it as {folder / KINDS[name].folders[0]}"
    return f"run `python -m helpers fetch {name} --data-dir {folder}` to download it ({archive.megabytes:,} MB)"


def fetch(name, data_dir=None):
    """Download a corpus of KINDS unless it is there, verify it, unpack it; return its folder.

    Raises UserError for an unknown name, a folder of its name with something else in it, and as fetch_archive does.
    """
    name, folder = kind_of(name) or name, Path(data_dir or runtime.data_dir())
    if name not in KINDS or not KINDS[name].archive:
        known = ", ".join(key for key, kind in KINDS.items() if kind.archive and kind.archive.checksum)
        raise UserError(f"'{name}' cannot be downloaded: take one of {known}")
    there, kind = place(name, folder), KINDS[name]
    if there and below(there):
        return _checked(name, there)
    target = folder / kind.folders[0]
    if kind.archive.checksum:  # else fetch_archive refuses it
        print(f"downloading {kind.title} ({kind.archive.megabytes:,} MB) to {target}")
    fetch_archive(kind.archive, target)
    return target
