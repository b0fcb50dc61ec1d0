"""Figures show what they are given; the live board leaves one figure and its lines in a saved notebook."""

import base64
import hashlib
import io
import itertools
import math
from types import SimpleNamespace

import matplotlib
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image

from helpers.runtime import ROOT
from helpers.show import figures as show


def history(epochs, best):
    losses = [0.01 + 0.02 * abs(epoch - best) for epoch in range(1, epochs + 1)]
    terms = {"loss": losses, "kl": [2 * loss for loss in losses]}
    return {
        "epoch": list(range(1, epochs + 1)),
        "train": {term: [0.9 * value for value in values] for term, values in terms.items()},
        "validation": terms,
        "seconds": [12.345] * epochs,
    }


def opened(fig):
    return Image.open(io.BytesIO(fig._repr_png_()))


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        show.set_style()
        yield


def test_the_style_changes_matplotlib_and_colours_are_distinct():
    assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == show.CYCLE
    assert len(set(show.COLOURS.values())) == len(show.COLOURS)


def test_a_grid_holds_every_picture_in_its_place_unscaled():
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)) / 2
    fig = show.image_grid({"mixture": images, "true digit": 1 - images[:, 0]}, "Title", ["a", "b", "c"])
    axes = fig.axes[0]
    canvas = np.asarray(axes.images[0].get_array())
    step = 28 + show.GAP
    np.testing.assert_array_equal(canvas[:28, step : step + 28], images[1, 0])
    np.testing.assert_array_equal(canvas[step : step + 28, 2 * step :], 1 - images[2, 0])
    assert axes.images[0].get_clim() == (0, 1)
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == ["mixture", "true digit"]
    assert [label.get_color() for label in labels] == [show.COLOURS["mixture"], show.COLOURS["digit"]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize("count", [1, 4, 10, 16])
def test_a_grid_fits_the_notebook(count):
    width, height = opened(show.image_grid({"estimated garment": torch.zeros(count, 28, 28)})).size
    assert 100 < width <= 930 and height < 300


def test_unequal_rows_are_refused():
    for rows in (
        {"a": torch.zeros(3, 28, 28), "b": torch.zeros(2, 28, 28)},
        {"a": torch.zeros(28, 28)},
        {"a": torch.zeros(0, 1, 28, 28)},
        {},
    ):
        with pytest.raises(ValueError, match="rows of one shape"):
            show.image_grid(rows)


def test_curves_show_both_splits_and_the_best_epoch():
    fig = show.curves(history(9, best=6), terms=("loss", "kl"), labels={"kl": "KL (nats)"}, log=True)
    losses, kl = fig.axes
    assert losses.get_xlabel() == "epoch (best: 6, 0.01)" and kl.get_xlabel() == "epoch (best: 6, 0.02)"
    assert (losses.get_ylabel(), kl.get_ylabel()) == ("loss", "KL (nats)")
    assert losses.get_yscale() == "log"
    train, validation, _, best = kl.lines
    np.testing.assert_allclose(train.get_ydata(), history(9, 6)["train"]["kl"])
    np.testing.assert_allclose(validation.get_ydata(), history(9, 6)["validation"]["kl"])
    assert best.get_xydata().tolist() == [[6, 0.02]]
    assert [text.get_text() for text in kl.get_legend().get_texts()] == ["train", "validation"]
    assert opened(fig).width <= 930


def test_curves_bear_losses_that_a_log_axis_cannot_show():
    past = history(4, best=2)
    past["train"]["loss"] = [-2.0, -1.0, 0.0, float("nan")]
    fig = show.curves(past, log=True)
    assert fig.axes[0].get_yscale() == "linear"
    past["validation"]["loss"] = [float("nan")] * 4
    assert show.curves(past).axes[0].get_xlabel() == "epoch"
    assert opened(show.curves(history(1, best=1), log=True)).width > 100


def test_a_heatmap_prints_its_values_and_leaves_empty_cells_empty():
    matrix = [[1.25, -20.0, math.nan], [30.0, 2.0, 3.0]]
    fig = show.heatmap(matrix, ["0", "1"], ["bag", "boot", "coat"], "PSNR (dB)", row_label="digit")
    axes, bar = fig.axes
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "1.2", (1, 0): "−20.0", (0, 1): "30.0", (1, 1): "2.0", (2, 1): "3.0"}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["bag", "boot", "coat"]
    assert (axes.get_ylabel(), bar.get_ylabel()) == ("digit", "PSNR (dB)")
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert (colours["−20.0"], colours["30.0"]) == ("white", "black")
    with pytest.raises(ValueError, match="2 row and 2 column names"):
        show.heatmap(matrix, ["0", "1"], ["bag", "boot"], "PSNR (dB)")


def test_bars_start_at_zero_and_carry_intervals_and_values():
    nan = float("nan")
    fig = show.bars(["VAE", "U-Net", "published"], [20, 30, 35], [19, 29, nan], [21, 31.5, nan], "PSNR (dB)")
    axes = fig.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [20, 30, 35]
    assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > 35
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts] == ["20.00", "30.00", "35.00"]
    assert [text.xy[0] for text in axes.texts] == [21, 31.5, 35]
    ends = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments() if np.size(segment)]
    assert ends == [[19, 21], [29, 31.5]]
    assert show.bars(["a", "b"], [-3, 4], [-4, 3], [-2, 5], "SDR (dB)").axes[0].get_xlim()[0] < -4


def test_outside_a_notebook_the_board_only_prints(capsys):
    board = show.LiveBoard(epochs=12, every=1, pictures=lambda: pytest.fail("nothing is drawn"))
    board(3, history(3, best=2))
    resumed = capsys.readouterr().out.splitlines()  # a run that goes on shows what it did before
    assert len(resumed) == 3 and resumed[2] == "epoch  3/12  train 0.02700   validation 0.03000     12.3 s"
    board(4, history(4, best=2))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch  4/12")
    with pytest.raises(ValueError, match="at least 1"):
        show.LiveBoard(every=0)


def test_the_board_draws_losses_beside_pictures():
    board = show.LiveBoard(epochs=40, pictures=lambda: {"mixture": torch.zeros(8, 1, 28, 28)}, label="MSE")
    losses, grid = board.figure(history(5, best=4)).axes
    assert losses.get_xlim() == (0, 40) and losses.get_ylabel() == "MSE"
    assert grid.get_title(loc="left") == "after epoch 5"
    assert len(show.LiveBoard().figure(history(5, best=4)).axes) == 1


def test_the_board_draws_further_terms_below_the_loss():
    past = history(5, best=4)
    for split in ("train", "validation"):
        past[split]["kl"] = [2.0] * 5
    board = show.LiveBoard(epochs=40, pictures=lambda: {"mixture": torch.zeros(3, 20, 30)}, label="nats", terms=["kl"])
    loss, kl, grid = board.figure(past).axes
    assert (loss.get_ylabel(), kl.get_ylabel()) == ("nats", "kl")
    assert loss.get_position().y0 > kl.get_position().y1 and grid.get_position().x0 > kl.get_position().x1
    assert list(kl.lines[0].get_ydata()) == [2.0] * 5
    board.pictures = None
    assert [axes.get_ylabel() for axes in board.figure(past).axes] == ["nats", "kl"]


def test_a_bar_counts_the_steps_of_an_epoch_and_is_gone_when_it_is_over(monkeypatch):
    lines = []
    seconds = itertools.count()
    monkeypatch.setattr(show, "_in_notebook", lambda: True)
    monkeypatch.setattr(show.time, "monotonic", lambda: next(seconds))

    def display(data, **_):
        lines.append(data["text/plain"])
        return SimpleNamespace(display_id=7)

    monkeypatch.setattr(show, "display", display)
    monkeypatch.setattr(show, "update_display", lambda data, **to: lines.append((to["display_id"], data["text/plain"])))
    board = show.LiveBoard()
    assert list(board.watch("abcd", 4)) == list("abcd")
    assert lines[0].endswith("0 of 4 steps") and lines[-1] == (7, "")
    assert lines[2] == (7, "█" * 15 + "░" * 15 + " 2 of 4 steps")
    monkeypatch.setattr(show, "_in_notebook", lambda: False)
    assert list(show.LiveBoard().watch("ab", 2)) == ["a", "b"] and len(lines) == 5


TRAINING = """
import hashlib, torch
from helpers.show import figures as show
show.set_style()
drawn = []
def pictures():
    drawn.append(len(history["epoch"]))
    return {"mixture": torch.full((8, 1, 28, 28), len(drawn) / 10)}
history = {"epoch": [], "train": {"loss": []}, "validation": {"loss": []}, "seconds": []}
board = show.LiveBoard(epochs=7, every=3, pictures=pictures)
for epoch in range(1, 8):
    history["epoch"].append(epoch)
    for part in ("train", "validation"):
        history[part]["loss"].append(1 / epoch)
    history["seconds"].append(0.1)
    board(epoch, history)
"""
LAST = """
print(drawn)
board.pictures = lambda: {"mixture": torch.full((8, 1, 28, 28), 0.4)}
print(hashlib.sha256(board.figure(history)._repr_png_()).hexdigest())
"""
PYPLOT = """
import matplotlib.pyplot as plt
plt.figure(figsize=(1, 1))
plt.close()
show.curves(history)
"""


def test_a_saved_notebook_holds_one_figure_and_every_line():
    cells = [nbformat.v4.new_code_cell(source) for source in (TRAINING, LAST, "show.curves(history)", PYPLOT)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    options = {"timeout": 120, "kernel_name": "python3", "coalesce_streams": True}
    NotebookClient(notebook, resources={"metadata": {"path": str(ROOT)}}, **options).execute()
    board, last, *figures = (cell.outputs for cell in notebook.cells)

    assert [output.output_type for output in board] == ["display_data", "stream"]
    lines = board[1].text.splitlines()
    assert [line.split()[1] for line in lines] == [f"{epoch}/7" for epoch in range(1, 8)]
    drawn, digest = last[0].text.splitlines()
    assert drawn == "[1, 3, 6, 7]"  # the first, every third, the last
    shown = base64.b64decode(board[0].data["image/png"])
    assert hashlib.sha256(shown).hexdigest() == digest  # the figure of the last epoch stands where the first stood

    for outputs in figures:  # a figure that ends a cell is shown once, with and without pyplot around
        assert [sorted(output.data) for output in outputs] == [["image/png", "text/plain"]]
    assert "widgets" not in notebook.metadata
    assert "widget" not in nbformat.writes(notebook)
