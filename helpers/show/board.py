"""What is seen while a model trains: a line per epoch, and one figure of losses and pictures that is redrawn."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from IPython import get_ipython
from IPython.display import Image, display
from matplotlib.ticker import MaxNLocator

from helpers.runtime import write_atomically
from helpers.show.figures import SPLITS, WIDTH, Picture, draw_image_grid, image_grid, image_stack
from helpers.training import epoch_line


class LiveBoard:
    """What fit() calls after each epoch: prints one line, and redraws one figure every so many epochs.

    Args:
        epochs: how many there will be.
        every: the figure is redrawn after every so many epochs, and after the first and the last.
        pictures: a function without arguments that returns rows for image_grid; about eight columns look well.
        label: the loss and its unit. log: a logarithmic loss axis.
        terms: further terms of the history, each drawn below the loss.
        state_path: the state file that fit() keeps; the pictures are kept beside it, for a run that goes on from it.

    filmstrip() shows what the pictures were in earlier epochs. Outside a notebook the board prints, and keeps pictures
    where it has a `state_path`.
    """

    def __init__(self, epochs, every=1, pictures=None, label="loss", log=False, terms=(), state_path=None):
        self.epochs, self.every, self.pictures, self.label, self.log = epochs, every, pictures, label, log
        self.terms = ("loss", *terms)
        self.path = Path(f"{state_path}.pictures.npz") if state_path and pictures else None
        self.kept = []  # (epoch, {label: uint8 images}) of each redrawing
        self.printed = 0  # epochs whose line is printed
        self.handle = None  # of the figure in the notebook

    def __call__(self, epoch, history):
        """epoch: counted from 1; history: as fit() gives it."""
        if not self.printed and epoch > 1 or self.epochs == 1:  # going on from a state
            self.kept = [(number, rows) for number, rows in read_pictures(self.path) if number <= epoch]
        due = not self.printed or epoch % self.every == 0 or epoch == self.epochs
        if self.pictures and due and (self.path or in_notebook()):
            self.keep(epoch)
        if due and in_notebook():
            picture = Image(data=self.figure(history).png(), format="png")
            if self.handle:
                self.handle.update(picture)
            else:
                self.handle = display(picture, display_id=True)
        for number in history["epoch"][self.printed :]:  # several when a run is resumed, else one
            print(epoch_line(history, number, self.epochs), flush=True)
        self.printed = len(history["epoch"])

    def keep(self, epoch):
        """Make the pictures of an epoch, unless there are some, and keep them in memory and beside the state."""
        if self.kept and self.kept[-1][0] == epoch:
            return
        rows = {label: torch.as_tensor(images).detach().cpu().float() for label, images in self.pictures().items()}
        shades = {label: torch.nan_to_num(images).clamp(0, 1) * 255 for label, images in rows.items()}
        self.kept.append((epoch, {label: images.round().to(torch.uint8).numpy() for label, images in shades.items()}))
        if self.path:
            arrays = {
                f"{epoch}|{row}|{label}": images
                for epoch, rows in self.kept
                for row, (label, images) in enumerate(rows.items())
            }
            write_atomically(self.path, lambda file: np.savez_compressed(file, **arrays))

    def figure(self, history):
        """Return the board as it stands: losses at the left, the pictures kept last at the right."""
        if not self.kept:
            fig = Picture(min(WIDTH, 5.5 if len(self.terms) == 1 else 4.2 * len(self.terms)), 3.2)
            for axes, term in zip(fig.subplots(1, len(self.terms), squeeze=False)[0], self.terms, strict=True):
                draw_curves(axes, history, term, self.label if term == "loss" else term, self.log)
            return fig
        epoch, rows = self.kept[-1]
        rows = {label: images / 255 for label, images in rows.items()}
        count, height, width = image_stack(rows).shape[1:]
        share = 0.62 * WIDTH  # inches for the pictures
        tall = max(2.8, 1.9 * len(self.terms))
        fig = Picture(WIDTH, max(tall, 0.3 + (share - 1.2) / count * len(rows) * height / width))
        places = fig.add_gridspec(len(self.terms), 2, width_ratios=[WIDTH - share, share])
        for number, term in enumerate(self.terms):
            axes = fig.add_subplot(places[number, 0])
            draw_curves(axes, history, term, self.label if term == "loss" else term, self.log)
            axes.set_xlim(0, self.epochs)
        grid = fig.add_subplot(places[:, 1])
        draw_image_grid(grid, rows, interpolation="hanning")  # too small to show every pixel as a square
        grid.set_title(f"after epoch {epoch}")
        return fig

    def filmstrip(self, item=0, columns=8):
        """Return a figure of one item in `columns` of the kept epochs: a row per row of the pictures."""
        chosen = np.unique(np.linspace(0, len(self.kept) - 1, columns).round().astype(int))
        epochs, pictures = zip(*(self.kept[number] for number in chosen), strict=True)
        rows = {label: np.stack([rows[label][item] for rows in pictures]) / 255 for label in pictures[0]}
        return image_grid(rows, captions=[f"epoch {epoch}" for epoch in epochs])


def read_pictures(path):
    """Return what a board has kept in a file, or an empty list: pictures that are lost or damaged stop no training."""
    kept = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                epoch, _, label = name.split("|", 2)
                kept.setdefault(int(epoch), {})[label] = arrays[name]
    except (OSError, TypeError, ValueError, zipfile.BadZipFile):
        return []
    return sorted(kept.items())


def draw_curves(axes, history, term, label, log):
    """Draw one term of a history into given axes, with the epoch of the lowest validation loss marked.

    log: a logarithmic axis, where all values are positive and differ threefold or more.
    """
    epochs, train, validation = history["epoch"], history["train"][term], history["validation"][term]
    marker = "o" if len(epochs) < 3 else None  # a line of one point would show nothing
    for (split, colour), values in zip(SPLITS.items(), (train, validation), strict=True):
        axes.plot(epochs, values, color=colour, marker=marker, markersize=3, label=split)
    axes.set_ylabel(label)
    best = history["validation"]["loss"].index(min(history["validation"]["loss"]))
    axes.axvline(epochs[best], color="black", linewidth=0.8, linestyle=":")
    axes.plot(epochs[best], validation[best], "o", color=SPLITS["validation"], markeredgecolor="black")
    axes.set_xlabel(f"epoch (best: {epochs[best]}, {validation[best]:.4g})")
    if log and 0 < 3 * min([*train, *validation]) < max([*train, *validation]):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(left=0)
    axes.legend()


def in_notebook():
    """True in the kernel of a notebook."""
    return getattr(get_ipython(), "kernel", None) is not None
