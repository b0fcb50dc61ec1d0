"""Files to batches on the device: corpora, audio files, samplers, augmentation, images."""

from helpers.data.audio import (
    Shape,
    audio_shape,
    converted,
    read_audio,
    resample,
    resampled_length,
    to_channels,
    to_mono,
    write_audio,
)
from helpers.data.audio_data import AudioData, mixture_files
from helpers.data.augment import (
    FasterStem,
    at_speeds,
    equalised,
    log_envelopes,
    move_formants,
    transposed,
    with_new_singers,
)
from helpers.data.batches import (
    Samples,
    SegmentSampler,
    fixed_batches,
    load_samples,
    mix_crops,
    sequential_segments,
)
from helpers.data.corpora import (
    KINDS,
    Kind,
    banner,
    embedded_corpus,
    fetch,
    joined,
    kind_of,
    leave_one_singer_out,
    load_corpus,
    place,
    split_table,
)
from helpers.data.decoding import ffmpeg, unpack_streams
from helpers.data.download import Archive, fetch_archive, online
from helpers.data.images import (
    ImageSet,
    PairSampler,
    embedded_images,
    fetch_images,
    fixed_pairs,
    gather_pairs,
    image_banner,
    load_images,
)
from helpers.data.layouts import dsd100, irmas, mir1k, musdb18, musdb18hq, published_systems, song_folder
from helpers.data.ordered import ordered_batches
from helpers.data.tracks import Corpus, FileStem, MemoryStem, Track
