"""The corpora by name: MIR-1K, DSD100, MUSDB18 and MUSDB18-HQ, its previews, IRMAS, a folder of stems, embedded songs.

load_corpus() is the way in. Sources are called alike everywhere: vocals, drums, bass, other; vocals, accompaniment.
To add a corpus, write a function in helpers.data.layouts that lists its tracks, and a row of KINDS.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers import runtime
from helpers.data import audio, embedded, layouts
from helpers.data.download import UNASKED_MB, Archive, fetch_archive, online
from helpers.data.tracks import Corpus
from helpers.runtime import UserError

SPLITS = ("train", "validation", "test")
ZENODO = "https://zenodo.org/records"


def has_musdb_names(tracks):
    """True if tracks bear the names of MUSDB18's songs."""
    return len({track.name for track in tracks} & set(layouts.MUSDB_VALIDATION)) > 7


@dataclass(frozen=True)
class Kind:
    """A public corpus.

    title: its name. folders: names its folder may have, the first for a download. listing: the function that lists its
    tracks. tracks: how many a complete copy has. about: how it is split. has_its_names: whether tracks are its own.
    stand_in: the name of a folder that has its layout and other, or fewer, tracks.
    """

    title: str
    folders: tuple
    listing: Callable
    archive: Archive
    tracks: int
    about: str
    sources: tuple = layouts.STEMS
    has_its_names: Callable = lambda tracks: True
    stand_in: str = "multitrack-{count} ({title} layout)"


MUSDB_SPLIT = "train but for the 14 usual validation songs; where none of these is there, every fifth artist validates"
KINDS = {
    "mir1k": Kind(
        title="MIR-1K",
        stand_in="MIR-1K, {count} of 1,000 clips",
        folders=("MIR-1K",),
        listing=layouts.mir1k,
        archive=Archive("http://mirlab.org/dataset/public/MIR-1K.zip", 1_300, "md5:3a4e5acd740110ae481a836460dabb6a"),
        tracks=1000,
        about="the usual protocol, singers abjones and amy train and validate, all others test, mixed at 0 dB; "
        "whole songs validate: " + ", ".join(layouts.MIR1K_VALIDATION),
        sources=("vocals", "accompaniment"),
    ),
    "dsd100": Kind(
        title="DSD100",
        folders=("DSD100",),
        listing=layouts.dsd100,
        archive=Archive("http://liutkus.net/DSD100.zip", 14_000, None),
        tracks=100,
        about="every fifth artist of Dev validates, the others train; Test tests",
        has_its_names=lambda tracks: all(track.name[:3].isdigit() and track.artist for track in tracks),
    ),
    "musdb18hq": Kind(
        title="MUSDB18-HQ",
        folders=("MUSDB18-HQ", "musdb18hq", "MUSDB18HQ"),
        listing=layouts.musdb18hq,
        archive=Archive(
            f"{ZENODO}/3338373/files/musdb18hq.zip",
            22_657,
            "sha256:baac80d0483c61d74b2e5f3be75fa557eec52898339e6aa45c1fa48833c5d21d",
        ),
        tracks=150,
        about=MUSDB_SPLIT,
        has_its_names=has_musdb_names,
    ),
    "musdb18": Kind(
        title="MUSDB18",
        folders=("MUSDB18", "musdb18"),
        listing=layouts.musdb18,
        archive=Archive(f"{ZENODO}/1117372/files/musdb18.zip", 4_684, "md5:af06762477334799bfc5abf237648207"),
        tracks=150,
        about=MUSDB_SPLIT,
        has_its_names=has_musdb_names,
    ),
    "musdb18-7s": Kind(
        title="MUSDB18 7 s previews",
        folders=("MUSDB18-7", "MUSDB18-7-STEMS"),
        listing=layouts.musdb18,
        archive=Archive(f"{ZENODO}/3270814/files/MUSDB18-7-STEMS.zip", 147, "md5:dc2bdfac5b46ce742bd60009866758a5"),
        tracks=144,
        about=MUSDB_SPLIT,
        has_its_names=has_musdb_names,
    ),
    "irmas": Kind(
        title="IRMAS training data, voi",
        stand_in="{count} excerpts (IRMAS layout), voi",
        folders=("IRMAS-TrainingData",),
        listing=layouts.irmas,
        archive=Archive(
            f"{ZENODO}/1290750/files/IRMAS-TrainingData.zip", 3_200, "md5:4fd9f5ed5a18d8e2687e6360b5f60afe"
        ),
        tracks=layouts.IRMAS_VOICES,
        about="by recording: every tenth validates, another tenth tests; mixtures only, there are no stems",
        sources=(),
    ),
}
PREVIEWS = "musdb18-7s"  # what takes the place of songs with four stems, which are all too large to download unasked


# ---- reading a corpus --------------------------------------------------------------------------------------------


def load_corpus(name, split="train", data_dir=None, sample_rate=None, mono=False, real=False):
    """Return one split ('train', 'validation' or 'test') of a corpus.

    Args:
        name: a key of KINDS, 'embedded', or the path of a folder of songs: FOLDER/<song>/<source>.wav (or flac, ogg,
            mp3), with subfolders train, validation and test above the songs; without these its only split is 'all'.
        data_dir: the data folder, default runtime.data_dir().
        sample_rate, mono: resample and down-mix the tracks; converted copies are kept in the cache.
        real: True refuses a corpus that is not in the data folder. Otherwise a warning says what takes its place: of
            songs with four stems, the previews of MUSDB18; else the embedded songs. Only what is smaller than
            UNASKED_MB is downloaded.

    Raises UserError for an unknown name or split, a folder that lacks files, a missing ffmpeg, or a missing corpus.
    """
    path = Path(name).expanduser()
    if name not in (*KINDS, "embedded"):
        if not path.is_dir():
            raise UserError(f"unknown corpus '{name}': take one of {', '.join(KINDS)}, embedded, or an existing folder")
        return _own_folder(path, split).at(sample_rate, mono)
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}': take one of {', '.join(SPLITS)}")
    if name == "embedded":
        return embedded_corpus(name, split).at(sample_rate, mono)
    folder = Path(data_dir or runtime.data_dir())
    missing = f"{KINDS[name].title} is not in {folder}"
    if real and not place(name, folder):
        raise UserError(f"{missing}: {_remedy(name, folder)}")
    taken = _at_hand(name, folder)
    if taken != name:
        what = f"{KINDS[taken].title} take" if taken else "the embedded songs take"
        warnings.warn(f"{missing}, {what} its place: {_remedy(name, folder)}", stacklevel=2)
    corpus = _from_folder(taken, split, folder) if taken else embedded_corpus(name, split)
    return corpus.at(sample_rate, mono)


def place(name, folder):
    """Return the folder in which a corpus lies, None if it is not there."""
    return next((folder / called for called in KINDS[name].folders if (folder / called).is_dir()), None)


def _at_hand(name, folder):
    """Return the corpus to read for `name`: itself, the previews, or None; a small one is downloaded if need be."""
    archive = KINDS[name].archive
    if place(name, folder):
        return name
    if archive.megabytes <= UNASKED_MB and online(archive.url):
        fetch(name, folder)
        return name
    if KINDS[name].sources == layouts.STEMS and name != PREVIEWS and _has_ffmpeg():
        return _at_hand(PREVIEWS, folder)
    return None


def _has_ffmpeg():
    try:
        return bool(audio.ffmpeg())
    except UserError:
        return False


def _from_folder(name, split, folder):
    """Return a split of a corpus that lies in the data folder, under a name that says what is really there."""
    kind, there = KINDS[name], place(name, folder)
    listed = kind.listing(there)
    tracks = tuple(track for track in listed if track.split == split)
    if not tracks:
        what = f"{there} holds no {split} tracks of {kind.title}'s layout"
        raise UserError(f"{what}: move it away, then {_remedy(name, folder)}")
    _check_ffmpeg(tracks)
    complete = len(listed) == kind.tracks and kind.has_its_names(listed)
    title = kind.title if complete else kind.stand_in.format(count=len(listed), title=kind.title)
    return Corpus(title, split, tracks, kind.sources, kind.about)


def _own_folder(folder, split):
    """Return a split of a folder of the user's own songs."""
    parts = [part for part in SPLITS if (folder / part).is_dir()]
    if split not in (parts or ["all"]):
        have = f"has the splits {', '.join(parts)}" if parts else "has no subfolders train, validation and test"
        raise UserError(f"{folder} {have}: make '{split}' and put songs there, or take split='{(parts or ['all'])[0]}'")
    there = folder / split if parts else folder
    tracks = layouts.song_folder(there, split)
    if not tracks:
        raise UserError(f"{there} holds no songs: put folders of stems there")
    _check_ffmpeg(tracks)
    first = tracks[0]
    for track in tracks:
        if set(track.stems) != set(first.stems):
            have = f"song '{track.name}' in {folder} has the sources {sorted(track.stems)}"
            raise UserError(f"{have}, '{first.name}' has {sorted(first.stems)}: give all songs the same")
    usual = tuple(name for name in layouts.STEMS if name in first.stems)
    sources = usual + tuple(sorted(set(first.stems) - set(usual)))
    return Corpus(f"{folder.name} ({len(tracks)} songs)", split, tuple(tracks), sources, "the folder's own splits")


def _check_ffmpeg(tracks):
    """Raise UserError if there is no ffmpeg for tracks whose stems are streams of one file."""
    stems = (stem for track in tracks for group in track.stems.values() for stem in group)
    if any(stem.stream is not None for stem in stems):
        audio.ffmpeg()


def embedded_corpus(name, split):
    """Return the split of the embedded songs that stands in for a corpus: its sources, its rate and channels."""
    tracks = tuple(embedded.songs(split))
    corpus = Corpus("embedded songs", split, tracks, layouts.STEMS, "different songs in each split", embedded=True)
    if name == "mir1k":
        return corpus.vocals_and_accompaniment().at(16_000, mono=True)
    return corpus.regroup({}) if name == "irmas" else corpus


# ---- what is said of a corpus ------------------------------------------------------------------------------------


def banner(corpus):
    """Return a sentence (Markdown) that says what the tracks are; a loud one for the embedded songs."""
    what = f"{corpus.name} ({corpus.split}: {len(corpus)} tracks, {corpus.seconds / 60:.1f} minutes)"
    if not corpus.embedded:
        return f"Data: {what}."
    return (
        f"**Embedded data, no recordings:** {what}. Its numbers are not comparable with published ones. "
        f"`python -m helpers fetch NAME` downloads a real corpus: {', '.join(KINDS)}."
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


# ---- fetching ----------------------------------------------------------------------------------------------------


def _remedy(name, folder):
    """Return what to do about a corpus that is missing or damaged."""
    size = f"{KINDS[name].archive.megabytes:,} MB"
    return f"run `python -m helpers fetch {name} --data-dir {folder}` to download it ({size})"


def fetch(name, data_dir=None):
    """Download a corpus of KINDS unless it is there, verify it, unpack it; return its folder.

    Raises UserError for an unknown name, and as helpers.data.download.fetch_archive does.
    """
    if name not in KINDS:
        raise UserError(f"unknown corpus '{name}': take one of {', '.join(KINDS)}")
    folder = Path(data_dir or runtime.data_dir())
    there = place(name, folder)
    if there and any(path.suffix in (".wav", ".mp4") for path in there.rglob("*")):
        return there
    target = folder / KINDS[name].folders[0]
    print(f"downloading {KINDS[name].title} ({KINDS[name].archive.megabytes:,} MB) to {target}")
    fetch_archive(KINDS[name].archive, target)
    return target
