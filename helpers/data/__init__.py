"""Files to batches on the device: corpora, audio files, samplers, augmentation, images."""

from helpers.data.audio import read_audio, write_audio
from helpers.data.audio_data import AudioData, mixture_files
from helpers.data.augment import at_speeds, with_new_singers
from helpers.data.batches import SegmentSampler, fixed_batches, load_samples
from helpers.data.corpora import banner, fetch, joined, load_corpus, place, split_table
from helpers.data.decoding import ffmpeg
from helpers.data.images import fetch_images, load_images
from helpers.data.layouts import published_systems
from helpers.data.ordered import ordered_batches
from helpers.data.tracks import Corpus, Track
