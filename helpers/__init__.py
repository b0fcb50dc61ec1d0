"""Blind source separation, for images and for music: the code the four notebooks share."""

from helpers.runtime import give_numba_a_cache

__version__ = "0.1.0"

give_numba_a_cache()  # before any module imports librosa
