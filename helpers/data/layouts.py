"""How the public corpora lie on disk: each function lists the tracks of one folder, every track with its split.

Nothing is read here, not even headers, except in a folder of the user's own.
"""

import re
from dataclasses import replace

from helpers.data import audio
from helpers.data.tracks import FileStem, Track
from helpers.runtime import UserError

STEMS = ("vocals", "drums", "bass", "other")
STEM_STREAMS = ("mixture", "drums", "bass", "other", "vocals")  # the audio streams of MUSDB18's .stem.mp4 files
MIXTURES = ("mixture", "mix", "mixdown", "master")  # what the mixture's file or stream may be called
ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".m4a")
MIR1K_TRAINING = ("abjones", "amy")  # the singers that train and validate; the other 17 test
IRMAS_VOICES = 778  # excerpts of the class "voi", of 6,705 in all
MIR1K_VALIDATION = ("abjones_5", "amy_5", "amy_10")  # 25 of these two singers' 175 clips, whole songs

# The 14 songs of the training folder that the package musdb, and with it most published work, validates on.
MUSDB_VALIDATION = (
    "Actions - One Minute Smile", "Clara Berry And Wooldog - Waltz For My Victims", "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave", "Triviul - Angelsaint", "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants", "Leaf - Summerghost", "Skelpolu - Human Mistakes", "Young Griffo - Pennies",
    "ANiMAL - Rockshow", "James May - On The Line", "Meaxic - Take A Step", "Traffic Experiment - Sirens",
)  # fmt: skip


def below(folder, pattern="*"):
    """Return what matches in a folder, sorted by name, without hidden files."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def hold_out(keys, every, offset):
    """Return the keys that a split takes: of the sorted different ones, every `every`-th from number `offset` on."""
    return set(sorted(set(keys))[offset::every])


def mir1k(folder):
    """List MIR-1K: Wavfile/<singer>_<song>_<clip>.wav, 16 kHz, accompaniment on the left and voice on the right.

    The recordings are level: over each clip both channels have the same energy, so that their sum is a mixture at 0 dB.
    """
    tracks = []
    for path in below(folder / "Wavfile", "*.wav"):
        singer, _, rest = path.stem.partition("_")
        song = f"{singer}_{rest.partition('_')[0]}"
        split = "test" if singer not in MIR1K_TRAINING else "validation" if song in MIR1K_VALIDATION else "train"
        stems = {name: (FileStem(path, 16_000, channel),) for name, channel in (("vocals", 1), ("accompaniment", 0))}
        tracks.append(Track(path.stem, 16_000, stems, split=split, artist=singer, song=song))
    return tracks


def song_track(name, split, stems, mix, sample_rate=44_100):
    """Return the Track of one multitrack song called 'title', 'artist - title' or '012 - artist - title'."""
    artist = re.fullmatch(r"(?:\d+ - )?(.+?) - .+", name)
    return Track(name, sample_rate, stems, mix, split=split, artist=artist and artist[1], song=name)


def with_validation(tracks):
    """Return the tracks, some of the training ones made validation: MUSDB18's usual 14, else every fifth artist's."""
    artists = {track.name: track.artist or track.name for track in tracks if track.split == "train"}
    chosen = set(MUSDB_VALIDATION) & set(artists)
    if len(chosen) < 2:
        held_out = hold_out(artists.values(), every=5, offset=2)
        chosen = {name for name, artist in artists.items() if artist in held_out}
    return [
        replace(track, split="validation") if track.split == "train" and track.name in chosen else track
        for track in tracks
    ]


def wav_song(name, split, folder, mixture):
    """Return the Track of a song whose four stems lie in a folder; `mixture` is used where that file is there."""
    missing = [f"{name}.wav" for name in STEMS if not (folder / f"{name}.wav").exists()]
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}: unpack the archive again, or move this song away")
    stems = {name: (FileStem(folder / f"{name}.wav", 44_100),) for name in STEMS}
    return song_track(name, split, stems, (FileStem(mixture, 44_100),) if mixture.exists() else ())


def dsd100(folder):
    """List DSD100: {Sources,Mixtures}/{Dev,Test}/<song>/*.wav; every fifth artist of Dev validates."""
    tracks = []
    for part, split in (("Dev", "train"), ("Test", "test")):
        for song in below(folder / "Sources" / part, "*/"):
            mixture = folder / "Mixtures" / part / song.name / "mixture.wav"
            tracks.append(wav_song(song.name, split, song, mixture))
    return with_validation(tracks)


def musdb18hq(folder):
    """List MUSDB18-HQ: {train,test}/<song>/{mixture,vocals,drums,bass,other}.wav."""
    songs = [(split, song) for split in ("train", "test") for song in below(folder / split, "*/")]
    return with_validation([wav_song(song.name, split, song, song / "mixture.wav") for split, song in songs])


def stem_song(path, split, streams=STEM_STREAMS):
    """Return the Track of a .stem.mp4 whose audio streams are the mixture and the stems, in the order of `streams`.

    The mixture was compressed like the others, and mastered in some songs, so that it is only nearly their sum.
    """
    count = len(streams)
    stems = {name: (FileStem(path, 44_100, stream=n, streams=count),) for n, name in enumerate(streams)}
    mix = stems.pop("mixture")
    return song_track(path.name.removesuffix(".stem.mp4"), split, stems, mix)


def musdb18(folder):
    """List MUSDB18 and its 7-second previews: {train,test}/<song>.stem.mp4."""
    songs = [(split, path) for split in ("train", "test") for path in below(folder / split, "*.stem.mp4")]
    return with_validation([stem_song(path, split) for split, path in songs])


def irmas(folder):
    """List the voices of IRMAS' training data: voi/[voi][...]<recording>__<excerpt>.wav, 3 s of a mixture, no stems.

    All excerpts of a recording go to one split: every tenth recording validates, another tenth tests.
    """
    songs = {}
    for path in below(folder / "voi", "*.wav"):
        # Both forms are known: '[voi][pop_roc]0013__3.wav' and '008__[voi][nod][cla]0058__1.wav'.
        name = re.fullmatch(r"(?:\d+__)?(?:\[\w+\])+(\d+)__\d+\.wav", path.name)
        if name:
            songs[path] = name[1]
    validation, test = (hold_out(songs.values(), every=10, offset=offset) for offset in (3, 8))
    tracks = []
    for path, song in songs.items():
        split = "validation" if song in validation else "test" if song in test else "train"
        tracks.append(Track(path.stem, 44_100, {}, (FileStem(path, 44_100),), split=split, song=song))
    return tracks


def song_folder(folder, split=None):
    """List a folder of songs: <song>/<source>.{wav,flac,ogg,mp3,...}, and <song>.stem.mp4; any names of sources.

    A file called 'mixture' (or one of MIXTURES) is the mixture, else the sum of the sources is. Raises UserError for a
    song with two files of one name, or with none.
    """
    tracks = []
    for path in below(folder):
        if path.name.endswith(".stem.mp4"):
            tracks.append(stem_song(path, split, named_streams(path)))
        elif path.is_dir():
            tracks.append(user_song(path, split))
    return tracks


def named_streams(path):
    """Return what the audio streams of a .stem.mp4 are, by their titles; by MUSDB18's order where these do not say."""
    titles = ["mixture" if title.lower() in MIXTURES else title.lower() for title in audio.stream_titles(path)]
    if "mixture" not in titles:
        titles[:1] = ["mixture"]  # the format's first stream
    usable = len(titles) > 1 and all(titles) and len(set(titles)) == len(titles)
    return tuple(titles) if usable else STEM_STREAMS


def user_song(folder, split):
    """Return the Track of one folder of stems, at the sample rate of its first file."""
    files = {}
    for path in below(folder):
        if path.suffix.lower() in ENDINGS:
            name = "mixture" if path.stem.lower() in MIXTURES else path.stem.lower()
            if name in files:
                raise UserError(f"{path} and {files[name].name} are one source twice: move one of them away")
            files[name] = path
    if not files:
        raise UserError(f"{folder} holds no audio ({', '.join(ENDINGS)}): put the song's stems there, or remove it")
    rate = audio.audio_shape(next(iter(files.values()))).sample_rate
    stems = {name: (FileStem(path, rate),) for name, path in files.items()}
    mix = stems.pop("mixture", ())
    return song_track(folder.name, split, stems, mix, rate)
