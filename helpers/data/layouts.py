"""How the corpora lie on disk: each function lists the tracks of one folder, every track with its split.

Of the public corpora nothing is read here, not even headers.
"""

import re
from dataclasses import replace

import numpy as np
from scipy.optimize import nnls

from helpers.data import audio, decoding
from helpers.data.tracks import FileStem, Track
from helpers.runtime import UserError

SPLITS = ("train", "validation", "test")
STEMS = ("vocals", "drums", "bass", "other")
VOCALS_AND_REST = ("vocals", "accompaniment")
STEM_STREAMS = ("mixture", "drums", "bass", "other", "vocals")  # the audio streams of MUSDB18's .stem.mp4 files
MIR1K_TRAINING = ("abjones", "amy")  # the singers that train and validate; the other 17 test
MIR1K_VALIDATION = ("abjones_5", "amy_5", "amy_10")  # 25 of these two singers' 175 clips, whole songs
IRMAS_VOICES = 778  # excerpts of the class "voi", of 6,705 in all

# What the mixture's file or stream may be called: mix, Master, full-mix, Mix Down, "My song_mix"; but not drums_mix.
MIXTURE = re.compile(
    r"(?!.*(?:voc|voi|vox|drum|perc|bass|guitar|piano|key|synth|string|other|inst|accomp|back|karaoke))"
    r"(?:.*[\W_])?(?:full[\W_]*)?(?:mix(?:ture|ed|[\W_]*down)?|master(?:ed)?|full)",
    re.IGNORECASE,
)
LEFT_OVER = 0.03  # part of a file's energy that may differ from a sum of others: coding as MP3 changes half of that

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


def audio_files(folder):
    """Return the audio files in a folder, sorted by name."""
    return [path for path in below(folder) if path.suffix.lower() in decoding.ENDINGS]


def with_validation(tracks, usual=(), by="song", every=5):
    """Return the tracks, some of the training ones made validation: the songs `usual`.

    Where none of these is there, or no others, every `every`-th song takes their place, or every such artist's songs.
    """
    groups = {track.song: getattr(track, by) or track.song for track in tracks if track.split == "train"}
    chosen = groups.keys() & set(usual)
    if chosen in (set(), groups.keys()):
        keys = sorted(set(groups.values()))
        held_out = keys[min(2, len(keys) - 1) :: every] if len(keys) > 1 else []
        chosen = {song for song, key in groups.items() if key in held_out}
    moved = [track.split == "train" and track.song in chosen for track in tracks]
    return [replace(track, split="validation") if move else track for track, move in zip(tracks, moved, strict=True)]


def mir1k(folder):
    """List MIR-1K: Wavfile/<singer>_<song>_<clip>.wav, 16 kHz, accompaniment on the left and voice on the right."""
    tracks = []
    for path in below(folder / "Wavfile", "*.wav"):
        singer, _, rest = path.stem.partition("_")
        split = "train" if singer in MIR1K_TRAINING else "test"
        stems = {name: (FileStem(path, 16_000, channel),) for name, channel in (("vocals", 1), ("accompaniment", 0))}
        song = f"{singer}_{rest.partition('_')[0]}"
        tracks.append(Track(path.stem, 16_000, stems, split=split, artist=singer, song=song))
    return with_validation(tracks, MIR1K_VALIDATION)


def song_track(name, split, stems, mix, sample_rate=44_100):
    """Return the Track of a song called 'title', 'artist - title', '012 - artist - title' or 'artist___title'."""
    artist = re.fullmatch(r"(?:\d+ - )?(.+?)(?: - |___).+", name)
    return Track(name, sample_rate, stems, mix, split=split, artist=artist and artist[1], song=name)


def wav_song(folder, split, sources=STEMS, mixture=None):
    """Return the Track of a song whose sources lie in a folder, and its `mixture` (mixture.wav there) if it exists."""
    missing = [f"{name}.wav" for name in sources if not (folder / f"{name}.wav").exists()]
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}: unpack the archive again, or move this song away")
    stems = {name: (FileStem(folder / f"{name}.wav", 44_100),) for name in sources}
    mixture = mixture or folder / "mixture.wav"
    return song_track(folder.name, split, stems, (FileStem(mixture, 44_100),) if mixture.exists() else ())


def dsd100(folder):
    """List DSD100: {Sources,Mixtures}/{Dev,Test}/<song>/*.wav; every fifth artist of Dev validates."""
    tracks = []
    for part, split in (("Dev", "train"), ("Test", "test")):
        for song in below(folder / "Sources" / part, "*/"):
            tracks.append(wav_song(song, split, mixture=folder / "Mixtures" / part / song.name / "mixture.wav"))
    return with_validation(tracks, by="artist")


def songs_by_split(folder, sources=VOCALS_AND_REST):
    """List {train,validation,test}/<song>/<source>.wav, as the excerpts of SiSEC 2018 and of MUSDB18 lie."""
    return [wav_song(song, split, sources) for split in SPLITS for song in below(folder / split, "*/")]


def published_systems(folder):
    """Return the names of the systems whose voices lie in a folder as <song>/<system>.wav: SiSEC-excerpts/systems."""
    return sorted({path.stem for path in folder.glob("*/*.wav")})


def musdb18hq(folder):
    """List MUSDB18-HQ: {train,test}/<song>/{mixture,vocals,drums,bass,other}.wav."""
    return with_validation(songs_by_split(folder, STEMS), MUSDB_VALIDATION, by="artist")


def stem_song(path, split, streams=STEM_STREAMS):
    """Return the Track of a .stem.mp4 with these audio streams; the mixture is only nearly the stems' sum."""
    stems = {name: (FileStem(path, 44_100, stream=number),) for number, name in enumerate(streams)}
    mix = stems.pop("mixture")
    return song_track(path.name.removesuffix(".stem.mp4"), split, stems, mix)


def musdb18(folder):
    """List MUSDB18 and its 7-second previews: {train,test}/<song>.stem.mp4."""
    songs = [stem_song(path, split) for split in ("train", "test") for path in below(folder / split, "*.stem.mp4")]
    return with_validation(songs, MUSDB_VALIDATION, by="artist")


def by_recording(paths):
    """Yield (path, recording, split) of excerpts called [voi][...]<recording>__<number>, or 008__[voi][...]... .

    All excerpts of a recording go to one split: every tenth recording validates, another tenth tests.
    """
    names = {path: re.fullmatch(r"(?:\d+__)?(?:\[\w+\])+(\d+)__\d+(?:\.wav)?", path.name) for path in paths}
    recordings = sorted({name[1] for name in names.values() if name})
    for path, name in names.items():
        if name:
            yield path, name[1], {3: "validation", 8: "test"}.get(recordings.index(name[1]) % 10, "train")


def irmas(folder):
    """List the voices of IRMAS' training data: voi/<excerpt>.wav, 3 s of a mixture, no stems; see by_recording."""
    return [
        Track(path.stem, 44_100, {}, (FileStem(path, 44_100),), split=split, song=recording)
        for path, recording, split in by_recording(below(folder / "voi", "*.wav"))
    ]


def irmas_stand_ins(folder):
    """List <excerpt>/{vocals,accompaniment}.wav, cut from the training songs and called as IRMAS' excerpts are."""
    excerpts = by_recording(below(folder, "[[]voi]*/"))
    return [replace(wav_song(path, split, VOCALS_AND_REST), song=recording) for path, recording, split in excerpts]


def voices_and_bands(folder):
    """List voices/ and bands/: takes of a voice alone, and of music without one, for training by remixing.

    The other source of each track has no stems: it is silence. Reads the files' headers, for their sample rates.
    """
    tracks = []
    for part, source in (("voices", "vocals"), ("bands", "accompaniment")):
        for path in audio_files(folder / part):
            rate = audio.audio_shape(path).sample_rate
            stems = dict.fromkeys(VOCALS_AND_REST, ()) | {source: (FileStem(path, rate),)}
            tracks.append(Track(path.stem, rate, stems, split="train"))
    return tracks


def song_folder(folder, split=None):
    """List a folder of songs: <song>/<source>.{wav,flac,ogg,mp3,...}, any names of sources, and <song>.stem.mp4.

    A file called as MIXTURE says is the mixture, else the sum of the sources is. Raises UserError for a song with two
    files of one name, with none, or with one that is the sum of others.
    """
    packed = [stem_song(path, split, named_streams(path)) for path in below(folder, "*.stem.mp4")]
    return [user_song(path, split) for path in below(folder, "*/")] + packed


def named_streams(path):
    """Return what the audio streams of a .stem.mp4 are, by their titles; by MUSDB18's order where these do not say."""
    titles = [source_name(title) for title in decoding.stream_titles(path)]
    if "mixture" not in titles:
        titles[:1] = ["mixture"]  # the format's first stream
    usable = len(titles) > 1 and all(titles) and len(set(titles)) == len(titles)
    return tuple(titles) if usable else STEM_STREAMS


def source_name(title):
    """Return the source that a file or stream of this title is: 'mixture', or the title in small letters."""
    return "mixture" if MIXTURE.fullmatch(title) else title.lower()


def user_song(folder, split):
    """Return the Track of one folder of stems, at the sample rate of its first file."""
    files = {}
    for path in audio_files(folder):
        name = source_name(path.stem)
        if name in files:
            raise UserError(f"{path} and {files[name].name} are one source twice: move one of them away")
        files[name] = path
    if not files:
        raise UserError(f"{folder} holds no audio: put the song's stems there, or remove it")
    rate = audio.audio_shape(next(iter(files.values()))).sample_rate
    stems = {name: (FileStem(path, rate),) for name, path in files.items()}
    mix = stems.pop("mixture", ())
    track = song_track(folder.name, split, stems, mix, rate)
    refuse_sums(track)
    return track


def refuse_sums(track):
    """Raise UserError if a source is the sum of others, at any gains, in four excerpts of half a second.

    Such files would count twice: a mixture of another name, or an instrumental beside its drums, bass and rest.
    """
    if not 2 < len(track.stems) < 50:
        return
    frames, waves = track.sample_rate // 2, {}
    for name in track.stems:
        parts = [track.source(name, track.frames * fifth // 5, frames).mean(0) for fifth in (1, 2, 3, 4)]
        waves[name] = np.concatenate(parts).astype(float)[::4]  # a quarter of the samples will do
    waves = {name: wave for name, wave in waves.items() if wave.any()}
    for name, wave in waves.items():
        others = [other for other in waves if other != name]
        gains, rest = nnls(np.stack([waves[other] for other in others], axis=1), wave) if others else ([], 0)
        parts = [other for other, gain in zip(others, gains, strict=True) if gain > max(gains) / 4]
        if len(parts) > 1 and rest**2 < LEFT_OVER * (wave**2).sum():
            path = track.stems[name][0].path
            what = f"{path} is the sum of {', '.join(parts)}, which would count twice"
            remedy = f"call it mixture{path.suffix} if it is the mixture, else move the files of this name away"
            raise UserError(f"{what}: {remedy}")
