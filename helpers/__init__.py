"""Blind source separation, for images and for music: the code the four notebooks share."""

import os

from helpers.runtime import cache_dir

os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_dir() / "numba"))  # before any module imports librosa
