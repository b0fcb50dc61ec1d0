"""The corpora by name: MIR-1K, DSD100, MUSDB18 and MUSDB18-HQ, its previews, IRMAS, a folder of stems, embedded songs.

load_corpus() is the way in. Sources are called alike everywhere: vocals, drums, bass, other; vocals, accompaniment.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from helpers import runtime
from helpers.data import audio, download as downloads, layouts
from helpers.data.download import Archive
from helpers.runtime import UserError
from helpers.data.tracks import Corpus, FileStem, MemoryStem, Track

__all__ = ["KINDS", "SPLITS", "Corpus", "FileStem", "MemoryStem", "Track", "banner", "fetch", "load_corpus"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Kind:
    """What there is to know of a public corpus: where it lies, what lists it, where it is had, how large it is.

    tracks: how many a complete copy has, for all splits together. stand_in: what a folder of that layout with other
    songs in it is called.
    """

    title: str
    folders: tuple
    listing: Callable
    archive: Archive
    tracks: int
    stand_in: str
    about: str
    sources: tuple = layouts.STEMS


KINDS = {
    "mir1k": Kind(
        "MIR-1K",
        ("MIR-1K",),
        layouts.mir1k,
        Archive(
            "MIR-1K.zip",
            ("http://mirlab.org/dataset/public/MIR-1K.zip",),
            "1.3 GB",
            checksum="md5:3a4e5acd740110ae481a836460dabb6a",
        ),
        1000,
        "MIR-1K, {count} of 1,000 clips",
        "the usual protocol, singers abjones and amy train and validate, all others test, mixed at 0 dB; "
        "whole songs validate: " + ", ".join(layouts.MIR1K_VALIDATION),
        ("vocals", "accompaniment"),
    ),
    "dsd100": Kind(
        "DSD100",
        ("DSD100",),
        layouts.dsd100,
        Archive("DSD100.zip", ("http://liutkus.net/DSD100.zip",), "14 GB", size=None),
        100,
        "multitrack-{count} (DSD100 layout)",
        "every fifth artist of Dev validates, the others train; Test tests",
    ),
    "musdb18hq": Kind(
        "MUSDB18-HQ",
        ("MUSDB18-HQ", "musdb18hq", "MUSDB18HQ"),
        layouts.musdb18hq,
        Archive(
            "musdb18hq.zip",
            ("https://zenodo.org/records/3338373/files/musdb18hq.zip",),
            "22.7 GB",
            22_656_664_047,
            "sha256:baac80d0483c61d74b2e5f3be75fa557eec52898339e6aa45c1fa48833c5d21d",
        ),
        150,
        "multitrack-{count} (MUSDB18-HQ layout)",
        "train but for the 14 usual validation songs; where none of these is there, every fifth artist validates",
    ),
    "musdb18": Kind(
        "MUSDB18",
        ("MUSDB18", "musdb18"),
        layouts.musdb18,
        Archive(
            "musdb18.zip",
            ("https://zenodo.org/records/1117372/files/musdb18.zip",),
            "4.7 GB",
            4_684_228_845,
            "md5:af06762477334799bfc5abf237648207",
        ),
        150,
        "multitrack-{count} (MUSDB18 layout)",
        "train but for the 14 usual validation songs; where none of these is there, every fifth artist validates",
    ),
    "musdb18-7s": Kind(
        "MUSDB18 7 s previews",
        ("MUSDB18-7", "MUSDB18-7-STEMS"),
        layouts.musdb18,
        Archive(
            "MUSDB18-7-STEMS.zip",  # the file that the package musdb downloads
            (
                "https://github.com/sigsep/sigsep-mus-db/releases/download/v0.4.0/MUSDB18-7-STEMS.zip",
                "https://zenodo.org/records/3270814/files/MUSDB18-7-STEMS.zip",
            ),
            "147 MB",
            147_209_385,
            "md5:dc2bdfac5b46ce742bd60009866758a5",
        ),
        144,
        "multitrack-{count} (MUSDB18 previews' layout)",
        "train but for the usual validation songs; where none of these is there, every fifth artist validates",
    ),
    "irmas": Kind(
        "IRMAS training data",
        ("IRMAS-TrainingData",),
        layouts.irmas,
        Archive(
            "IRMAS-TrainingData.zip",
            ("https://zenodo.org/records/1290750/files/IRMAS-TrainingData.zip",),
            "3.2 GB",
            checksum="md5:4fd9f5ed5a18d8e2687e6360b5f60afe",
        ),
        sum(layouts.IRMAS_FILES.values()),
        "{count} excerpts (IRMAS layout)",
        "by recording: every tenth validates, another tenth tests; mixtures only, there are no stems",
        (),
    ),
}
PREVIEWS = "musdb18-7s"
LARGE = ("dsd100", "musdb18hq", "musdb18")  # too large to fetch unasked: the previews take their place online


def load_corpus(
    name,
    split="train",
    data_dir=None,
    source="auto",
    download=True,
    sample_rate=None,
    mono=False,
    classes=("voi",),
    cache_dir=None,
):
    """Return one split ('train', 'validation' or 'test') of a corpus.

    Args:
        name: a key of KINDS, 'embedded', or the path of a folder of songs: FOLDER/<song>/<source>.wav (or flac, ogg,
            mp3), with subfolders train, validation and test above the songs; without these its only split is 'all'.
        data_dir: the data folder, default runtime.data_dir().
        source: 'real', 'embedded', or 'auto': the real corpus where it lies in the data folder; else downloaded where
            `download` allows it and there is a network; else the embedded songs. In place of the multitrack corpora,
            5 to 23 GB large, 'auto' downloads the previews of MUSDB18. A warning says what took whose place.
        sample_rate, mono: resample and down-mix the tracks; converted copies are kept in `cache_dir`.
        classes: for IRMAS, the instruments to take.

    Raises UserError for an unknown name or split, a folder that lacks files, a missing ffmpeg, or where 'real' cannot
    be had.
    """
    path = Path(name).expanduser()
    if name not in (*KINDS, "embedded") and path.is_dir():
        return _own_folder(path, split, cache_dir).at(sample_rate, mono)
    if name not in (*KINDS, "embedded"):
        raise UserError(f"unknown corpus '{name}': take one of {', '.join(KINDS)}, embedded, or an existing folder")
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}': take one of {', '.join(SPLITS)}")
    if source not in ("auto", "real", "embedded"):
        raise UserError(f"unknown source '{source}': take 'auto', 'real' or 'embedded'")
    if name == "embedded" or source == "embedded":
        return embedded_corpus(name, split).at(sample_rate, mono)
    unknown = set(classes) - set(layouts.IRMAS_FILES)
    if unknown:
        raise UserError(f"unknown class '{min(unknown)}' of IRMAS: take some of {', '.join(layouts.IRMAS_FILES)}")
    folder = Path(data_dir) if data_dir else runtime.data_dir()
    found = _choose(name, folder, source, download)
    if found is None:
        return embedded_corpus(name, split).at(sample_rate, mono)
    return _listed(found, split, folder, classes, cache_dir).at(sample_rate, mono)


def banner(corpus):
    """Return a sentence (Markdown) that says what the tracks are; a loud one for the embedded songs."""
    what = f"{corpus.name} ({corpus.split}: {len(corpus)} tracks, {corpus.seconds / 60:.1f} minutes)"
    if not corpus.embedded:
        return f"Data: {what}."
    return (
        f"**Embedded data, no recordings:** {what}. Its numbers are not comparable with published ones. "
        "`python -m helpers fetch` downloads real corpora."
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


# ---- finding and fetching ----------------------------------------------------------------------------------------


def remedy(name, folder):
    """Return what to do about a corpus that is missing or damaged."""
    return f"run `python -m helpers fetch {name} --data-dir {folder}` to download it ({KINDS[name].archive.about})"


def place(name, folder):
    """Return the folder in which a corpus lies, None if it is not there."""
    return next((folder / called for called in KINDS[name].folders if (folder / called).is_dir()), None)


def fetch(name, data_dir=None):
    """Download a corpus of KINDS unless it is there, check it, unpack it; return its folder.

    A broken download goes on where it stopped. Raises UserError; see helpers.data.download.
    """
    if name not in KINDS:
        raise UserError(f"unknown corpus '{name}': take one of {', '.join(KINDS)}")
    folder = Path(data_dir) if data_dir else runtime.data_dir()
    there = place(name, folder)
    if there and any(there.rglob("*.wav" if KINDS[name].listing is not layouts.musdb18 else "*.mp4")):
        return there
    kind = KINDS[name]
    print(f"downloading {kind.title} ({kind.archive.about}) to {folder}")
    packed = downloads.download(kind.archive, folder)
    target = folder / kind.folders[0]
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()
    downloads.unpack(packed, target)
    packed.unlink()
    return target


def _choose(name, folder, source, download):
    """Return the name of the corpus to read, downloaded if need be: `name`, the previews, or None for the embedded one.

    A warning says what takes whose place.
    """
    if place(name, folder):
        return name
    small = name not in LARGE
    if download and (small or source == "real") and downloads.online(KINDS[name].archive.urls):
        fetch(name, folder)
        return name
    lack = f"{KINDS[name].title} is not in {folder} and was not downloaded"
    if source == "real":
        raise UserError(f"{lack}: {remedy(name, folder)}, or take source='auto'")
    if not small:
        reason = _previews(folder, download)
        if reason is None:
            warnings.warn(f"{lack} ({KINDS[name].archive.about}): the previews take its place", stacklevel=3)
            return PREVIEWS
        lack += reason
    warnings.warn(f"{lack}: the embedded songs take its place", stacklevel=3)
    return None


def _previews(folder, download):
    """Make sure that the previews of MUSDB18 can be read; return None, or why they cannot, as a part of a sentence."""
    if not place(PREVIEWS, folder) and not (download and downloads.online(KINDS[PREVIEWS].archive.urls)):
        return ", nor were its previews"
    try:
        audio.ffmpeg()
    except UserError as error:
        return f"; its previews cannot be read ({error})"
    fetch(PREVIEWS, folder)
    return None


def _listed(name, split, folder, classes, cache_dir):
    """Return a split of a corpus that lies in the data folder, under a name that says what is really there."""
    kind, there = KINDS[name], place(name, folder)
    extra = {"classes": classes} if name == "irmas" else {}
    listed = kind.listing(there, cache_dir, **extra)
    tracks = tuple(track for track in listed if track.split == split)
    if not tracks:
        what = f"{there} holds no {split} tracks of {kind.title}'s layout"
        raise UserError(f"{what}: move it away, then {remedy(name, folder)}")
    if kind.listing is layouts.musdb18:
        audio.ffmpeg()
    complete = kind.tracks
    if name == "irmas":
        complete = sum(layouts.IRMAS_FILES[instrument] for instrument in classes)
    is_real = len(listed) == complete and _known(name, listed)
    title = kind.title if is_real else kind.stand_in.format(count=len(listed))
    if name == "irmas":
        title += f", {'+'.join(classes)}"
    return Corpus(title, split, tracks, kind.sources, kind.about)


def _known(name, tracks):
    """True if tracks bear the names that those of the real corpus have."""
    names = {track.name for track in tracks}
    if name.startswith("musdb18"):
        return len(names & set(layouts.MUSDB_VALIDATION)) > 7
    if name == "dsd100":
        return all(track.name[:3].isdigit() and track.artist for track in tracks)
    return True


def _own_folder(folder, split, cache_dir):
    """Return a split of a folder of the user's own songs."""
    parts = [part for part in SPLITS if (folder / part).is_dir()]
    if split not in (parts or ["all"]):
        have = f"has the splits {', '.join(parts)}" if parts else "has no subfolders train, validation and test"
        raise UserError(f"{folder} {have}: make '{split}' and put songs there, or take split='{(parts or ['all'])[0]}'")
    there = folder / split if parts else folder
    tracks = layouts.song_folder(there, cache_dir, split)
    if not tracks:
        raise UserError(f"{there} holds no songs: put folders of stems there")
    if any(there.glob("*.stem.mp4")):
        audio.ffmpeg()
    for track in tracks:
        if set(track.stems) != set(tracks[0].stems):
            have, others = sorted(track.stems), sorted(tracks[0].stems)
            raise UserError(
                f"song '{track.name}' in {folder} has the sources {have}, '{tracks[0].name}' has {others}: "
                "give all songs the same"
            )
    sources = tuple(name for name in layouts.STEMS if name in tracks[0].stems)
    sources += tuple(sorted(set(tracks[0].stems) - set(sources)))
    return Corpus(f"{folder.name} ({len(tracks)} songs)", split, tuple(tracks), sources, "the folder's own splits")


# ---- the embedded songs ------------------------------------------------------------------------------------------


def embedded_corpus(name, split):
    """Return the split of the embedded songs that stands in for a corpus: its sources, its rate and channels."""
    from helpers.data import synth  # only here: nothing of it is needed where there are recordings

    tracks = tuple(replace(track, split=split) for track in synth.corpus(split))
    corpus = Corpus("embedded songs", split, tracks, layouts.STEMS, "different songs in each split", embedded=True)
    if name == "mir1k":
        return corpus.vocals_and_accompaniment().at(16_000, mono=True)
    return corpus.regroup({}) if name == "irmas" else corpus
