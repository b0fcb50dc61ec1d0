"""Blind source separation, for images and for music: the code the four notebooks share."""

__version__ = "0.1.0"
