"""How the public corpora lie on disk: each function lists the tracks of one folder, every track with its split.

Nothing is read here, not even headers, except in a folder of the user's own.
"""

import re
from dataclasses import replace
from pathlib import Path

from helpers.data import audio
from helpers.runtime import UserError
from helpers.data.tracks import FileStem, Track

STEMS = ("vocals", "drums", "bass", "other")
ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".m4a")
MIR1K_TRAINING = ("abjones", "amy")  # the singers that train and validate; the other 17 test
MIR1K_VALIDATION = ("abjones_5", "amy_5", "amy_10")  # 25 of these two singers' 175 clips, whole songs

# The 14 songs of the training folder that the package musdb, and with it most published work, validates on.
MUSDB_VALIDATION = (
    "Actions - One Minute Smile", "Clara Berry And Wooldog - Waltz For My Victims", "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave", "Triviul - Angelsaint", "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants", "Leaf - Summerghost", "Skelpolu - Human Mistakes", "Young Griffo - Pennies",
    "ANiMAL - Rockshow", "James May - On The Line", "Meaxic - Take A Step", "Traffic Experiment - Sirens",
)  # fmt: skip

# Files of each class in the published training data, 6,705 in all.
IRMAS_FILES = {
    "cel": 388, "cla": 505, "flu": 451, "gac": 637, "gel": 760, "org": 682,
    "pia": 721, "sax": 626, "tru": 577, "vio": 580, "voi": 778,
}  # fmt: skip
IRMAS_GENRES = ("cou_fol", "cla", "pop_roc", "lat_sou", "jaz_blu")
DRUMS = {"dru": True, "nod": False}


def below(folder, pattern="*"):
    """Return what matches in a folder, sorted by name, without hidden files."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def hold_out(keys, every, offset):
    """Return the keys that a split takes: of the sorted different ones, every `every`-th from number `offset` on."""
    return set(sorted(set(keys))[offset::every])


# ---- MIR-1K ------------------------------------------------------------------------------------------------------


def mir1k(folder, cache_dir):
    """List MIR-1K: Wavfile/<singer>_<song>_<clip>.wav, 16 kHz, accompaniment on the left and voice on the right.

    The recordings are level: over each clip both channels have the same energy, so that their sum is a mixture at 0 dB.
    """
    tracks = []
    for path in below(folder / "Wavfile", "*.wav"):
        singer, _, rest = path.stem.partition("_")
        song, _, _ = rest.partition("_")
        split = "test" if singer not in MIR1K_TRAINING else "train"
        split = "validation" if f"{singer}_{song}" in MIR1K_VALIDATION else split
        stems = {
            source: (FileStem(path, 16_000, channel=channel, cache_dir=cache_dir),)
            for source, channel in (("vocals", 1), ("accompaniment", 0))
        }
        tracks.append(Track(path.stem, 16_000, stems, split=split, artist=singer, song=f"{singer}_{song}"))
    return tracks


# ---- multitrack songs --------------------------------------------------------------------------------------------


def artist_of(name):
    """Return the artist of 'artist - title' or '012 - artist - title', None for another name."""
    found = re.fullmatch(r"(?:\d+ - )?(.+?) - .+", name)
    return found[1] if found else None


def song_track(name, split, stems, mix):
    """Return the Track of one multitrack song at 44.1 kHz."""
    return Track(name, 44_100, stems, mix, split=split, artist=artist_of(name), song=name)


def with_validation(tracks):
    """Return the tracks, some of the training ones made validation: MUSDB18's usual 14, else every fifth artist's."""
    training = {track.name: track.artist or track.name for track in tracks if track.split == "train"}
    known = set(MUSDB_VALIDATION) & set(training)
    held = hold_out(training.values(), every=5, offset=2)
    chosen = known if len(known) > 1 else {name for name, artist in training.items() if artist in held}
    return [
        replace(track, split="validation") if track.name in chosen and track.split == "train" else track
        for track in tracks
    ]


def wav_song(sources, mixture, cache_dir):
    """Return (stems, mix) of a song whose four stems lie in a folder; `mixture` is used where that file is there."""
    lacking = [f"{name}.wav" for name in STEMS if not (sources / f"{name}.wav").exists()]
    if lacking:
        raise UserError(f"{sources} lacks {', '.join(lacking)}: unpack the archive again, or move this song away")
    stems = {name: (FileStem(sources / f"{name}.wav", 44_100, cache_dir=cache_dir),) for name in STEMS}
    return stems, (FileStem(mixture, 44_100, cache_dir=cache_dir),) if mixture.exists() else ()


def dsd100(folder, cache_dir):
    """List DSD100: {Sources,Mixtures}/{Dev,Test}/<song>/*.wav; every fifth artist of Dev validates."""
    tracks = []
    for part, split in (("Dev", "train"), ("Test", "test")):
        for song in below(folder / "Sources" / part, "*/"):
            mixture = folder / "Mixtures" / part / song.name / "mixture.wav"
            tracks.append(song_track(song.name, split, *wav_song(song, mixture, cache_dir)))
    return with_validation(tracks)


def musdb18hq(folder, cache_dir):
    """List MUSDB18-HQ: {train,test}/<song>/{mixture,vocals,drums,bass,other}.wav."""
    songs = [(split, song) for split in ("train", "test") for song in below(folder / split, "*/")]
    tracks = [song_track(song.name, split, *wav_song(song, song / "mixture.wav", cache_dir)) for split, song in songs]
    return with_validation(tracks)


def stem_song(path, cache_dir):
    """Return (stems, mix) of a .stem.mp4 of MUSDB18: mixture, drums, bass, other and vocals are its five streams.

    The mixture was compressed like the others, and mastered in some songs, so that it is only nearly their sum.
    """
    streams = {
        name: (FileStem(path, 44_100, stream=number, streams=5, cache_dir=cache_dir),)
        for number, name in enumerate(("mixture", "drums", "bass", "other", "vocals"))
    }
    return {name: streams[name] for name in STEMS}, streams["mixture"]


def musdb18(folder, cache_dir):
    """List MUSDB18 and its 7-second previews: {train,test}/<song>.stem.mp4."""
    songs = [(split, path) for split in ("train", "test") for path in below(folder / split, "*.stem.mp4")]
    return with_validation(
        [song_track(path.name.removesuffix(".stem.mp4"), split, *stem_song(path, cache_dir)) for split, path in songs]
    )


# ---- IRMAS -------------------------------------------------------------------------------------------------------


def irmas_tags(file_name):
    """Return what the name of an IRMAS training file says, or None if it is no such name.

    Both forms are known: '[voi][pop_roc]0013__3.wav' and '008__[cel][nod][cla]0058__1.wav'. The first tag is the
    instrument; [dru] and [nod] say whether there are drums; what is left is the genre ([cla] is a clarinet as the first
    tag, classical music as a later one). {"instrument", "drums" (True, False or None), "genre", "recording", "excerpt"}
    """
    found = re.fullmatch(r"(?:\d+__)?((?:\[\w+\])+)(\d+)__(\d+)\.wav", file_name)
    if not found:
        return None
    instrument, *others = re.findall(r"\[(\w+)\]", found[1])
    drums = [DRUMS[tag] for tag in others if tag in DRUMS]
    genres = [tag for tag in others if tag in IRMAS_GENRES]
    return {
        "instrument": instrument,
        "drums": drums[0] if drums else None,
        "genre": genres[0] if genres else None,
        "recording": found[2],
        "excerpt": int(found[3]),
    }


def irmas(folder, cache_dir, classes=("voi",)):
    """List IRMAS' training data: <class>/*.wav, 3 s of a mixture each, no stems; tags say what its name says.

    All excerpts of a recording go to one split: every tenth recording validates, another tenth tests.
    """
    files = [path for name in classes for path in below(folder / name, "*.wav")]
    tagged = [(path, irmas_tags(path.name)) for path in files]
    tagged = [(path, tags) for path, tags in tagged if tags]
    recordings = [tags["recording"] for _, tags in tagged]
    validation, test = (hold_out(recordings, every=10, offset=offset) for offset in (3, 8))
    tracks = []
    for path, tags in tagged:
        song = tags["recording"]
        split = "validation" if song in validation else "test" if song in test else "train"
        mix = (FileStem(path, 44_100, cache_dir=cache_dir),)
        tracks.append(Track(path.stem, 44_100, {}, mix, split=split, song=song, tags=tags))
    return tracks


# ---- a folder of the user's own ----------------------------------------------------------------------------------


def song_folder(folder, cache_dir, split=None):
    """List a folder of songs: <song>/<source>.{wav,flac,ogg,mp3,...}, and <song>.stem.mp4; any names of sources.

    A file 'mixture' is the mixture, else the sum of the sources is. Raises UserError for a song with two files of one
    name, or with none.
    """
    tracks = []
    for path in below(Path(folder)):
        if path.name.endswith(".stem.mp4"):
            stems, mix = stem_song(path, cache_dir)
            tracks.append(song_track(path.name.removesuffix(".stem.mp4"), split, stems, mix))
        elif path.is_dir():
            tracks.append(user_song(path, cache_dir, split))
    return tracks


def user_song(folder, cache_dir, split):
    """Return the Track of one folder of stems, at the sample rate of its first file."""
    files = {}
    for path in below(folder):
        if path.suffix.lower() in ENDINGS:
            name = path.stem.lower()
            if name in files:
                raise UserError(f"{path} and {files[name].name} are one source twice: move one of them away")
            files[name] = path
    if not files:
        raise UserError(f"{folder} holds no audio ({', '.join(ENDINGS)}): put the song's stems there, or remove it")
    rate = audio.audio_shape(next(iter(files.values()))).sample_rate
    stems = {name: (FileStem(path, rate, cache_dir=cache_dir),) for name, path in files.items()}
    mix = stems.pop("mixture", ())
    return Track(folder.name, rate, stems, mix, split=split, artist=artist_of(folder.name), song=folder.name)
