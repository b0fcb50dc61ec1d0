"""The live board prints a line per epoch, and leaves one figure and its lines in a saved notebook."""

import base64
import hashlib
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from helpers import show
from helpers.runtime import ROOT
from helpers.show import board as module


def history(epochs, best):
    losses = [0.01 + 0.02 * abs(epoch - best) for epoch in range(1, epochs + 1)]
    terms = {"loss": losses, "kl": [2 * loss for loss in losses]}
    return {
        "epoch": list(range(1, epochs + 1)),
        "train": {term: [0.9 * value for value in values] for term, values in terms.items()},
        "validation": terms,
        "seconds": [12.345] * epochs,
    }


def test_curves_show_both_splits_and_the_best_epoch():
    losses, kl = show.LiveBoard(9, label="nats", log=True, terms=["kl"]).figure(history(9, best=6)).axes
    assert losses.get_xlabel() == "epoch (best: 6, 0.01)" and kl.get_xlabel() == "epoch (best: 6, 0.02)"
    assert (losses.get_ylabel(), kl.get_ylabel()) == ("nats", "kl") and losses.get_yscale() == "log"
    train, validation, _, best = kl.lines
    np.testing.assert_allclose(train.get_ydata(), history(9, 6)["train"]["kl"])
    np.testing.assert_allclose(validation.get_ydata(), history(9, 6)["validation"]["kl"])
    assert best.get_xydata().tolist() == [[6, 0.02]]
    assert [text.get_text() for text in kl.get_legend().get_texts()] == ["train", "validation"]


def test_curves_of_losses_that_a_log_axis_cannot_show():
    past = history(4, best=2)
    past["train"]["loss"] = [-2.0, -1.0, 0.0, 1.0]
    assert show.LiveBoard(4, log=True).figure(past).axes[0].get_yscale() == "linear"


def test_outside_a_notebook_the_board_only_prints(capsys):
    board = show.LiveBoard(12, pictures=lambda: pytest.fail("nothing is drawn"))
    board(3, history(3, best=2))
    resumed = capsys.readouterr().out.splitlines()  # a resumed run shows the lines of its earlier epochs
    assert len(resumed) == 3 and resumed[2] == "epoch  3/12  train 0.02700    validation 0.03000       12.3 s"
    board(4, history(4, best=2))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch  4/12")


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as in a notebook."""
    displayed = []
    monkeypatch.setattr(module, "in_notebook", lambda: True)

    def display(data, **_):
        displayed.append(data)
        return SimpleNamespace(update=lambda data, **_: displayed.append(data))

    monkeypatch.setattr(module, "display", display)
    return displayed


def test_the_board_draws_losses_and_further_terms_beside_pictures(shown):
    board = show.LiveBoard(40, pictures=lambda: {"mixture": torch.zeros(8, 1, 28, 28)}, label="nats", terms=["kl"])
    board(5, history(5, best=4))
    loss, kl, grid = board.figure(history(5, best=4)).axes
    assert (loss.get_ylabel(), kl.get_ylabel(), loss.get_xlim()) == ("nats", "kl", (0, 40))
    assert loss.get_position().y0 > kl.get_position().y1 and grid.get_position().x0 > kl.get_position().x1
    assert grid.get_title() == "after epoch 5" and len(shown) == 1


def test_a_filmstrip_shows_one_item_over_the_epochs(shown):
    epoch = 0
    board = show.LiveBoard(9, every=2, pictures=lambda: {"digit": torch.arange(3.0)[:, None, None] / 10 + epoch / 100})
    for epoch in range(1, 10):
        board(epoch, history(epoch, best=1))
    assert [number for number, _ in board.kept] == [1, 2, 4, 6, 8, 9] and len(shown) == 6
    (axes,) = board.filmstrip(item=1, columns=3).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["epoch 1", "epoch 4", "epoch 9"]
    np.testing.assert_allclose(axes.images[0].get_array()[0, ::3], [0.11, 0.14, 0.19], atol=0.5 / 255)


def test_a_finished_run_shows_the_pictures_that_were_kept_beside_its_state(tmp_path, capsys):
    """Outside a notebook too: a training's pictures may be made on one machine and shown on another."""
    epoch, state = 0, tmp_path / "run.pt"
    rows = lambda: {"a|b": torch.full((2, 1, 4, 5), epoch / 10), "c": torch.eye(4, 5).repeat(2, 1, 1) * 2}  # noqa: E731
    grey = show.LiveBoard(6, 2, rows, state_path=state)
    for epoch in range(1, 7):
        grey(epoch, history(epoch, best=1))
    assert [number for number, _ in grey.kept] == [1, 2, 4, 6] and grey.kept[0][1]["c"].max() == 255

    finished = show.LiveBoard(6, 2, lambda: pytest.fail("the model is not asked again"), state_path=state)
    finished(6, history(6, best=1))
    assert [number for number, _ in finished.kept] == [1, 2, 4, 6]
    for (_, rows), (_, again) in zip(grey.kept, finished.kept, strict=True):
        assert list(rows) == list(again) == ["a|b", "c"]
        assert all(np.array_equal(rows[label], again[label]) for label in rows)
    assert finished.figure(history(6, best=1)).axes[1].get_title() == "after epoch 6"

    resumed = show.LiveBoard(6, 2, lambda: {"a|b": torch.zeros(2, 1, 4, 5)}, state_path=state)
    resumed(3, history(3, best=1))  # stopped after epoch 3 of an earlier try, which had pictures of later epochs
    assert [number for number, _ in resumed.kept] == [1, 2, 3]

    fresh = show.LiveBoard(6, 2, lambda: {"a|b": torch.ones(2, 1, 4, 5)}, state_path=state)
    fresh(1, history(1, best=1))
    assert [number for number, _ in fresh.kept] == [1] and fresh.kept[0][1]["a|b"].min() == 255
    (tmp_path / "run.pt.pictures.npz").write_bytes(b"no archive")
    assert module.read_pictures(fresh.path) == []


TRAINING = """
import hashlib, torch
from helpers import show
show.set_style()
drawn = []
def pictures():
    drawn.append(len(history["epoch"]))
    return {"mixture": torch.full((8, 1, 28, 28), len(drawn) / 10)}
history = {"epoch": [], "train": {"loss": []}, "validation": {"loss": []}, "seconds": []}
board = show.LiveBoard(7, every=3, pictures=pictures)
for epoch in range(1, 8):
    history["epoch"].append(epoch)
    for part in ("train", "validation"):
        history[part]["loss"].append(1 / epoch)
    history["seconds"].append(0.1)
    board(epoch, history)
"""
LAST = """
print(drawn)
print(hashlib.sha256(board.figure(history)._repr_png_()).hexdigest())
"""
PYPLOT = """
import matplotlib.pyplot as plt
plt.figure(figsize=(1, 1))
plt.close()
show.LiveBoard(7).figure(history)
"""
APP = """
from types import SimpleNamespace
from helpers.show import app
app.list_models = lambda: [{"model": "hpss", "kind": "baseline", "measured": "<b>"}]
app.load_separator = lambda name: lambda mixture, rate: {"vocals": mixture / 2}
waves = lambda start, frames: torch.rand(1, frames)
app.show_app([SimpleNamespace(name="song", sample_rate=8000, frames=8000, read_mixture=waves)])
"""


def test_a_saved_notebook_holds_one_figure_and_every_line_and_no_widget():
    cells = [nbformat.v4.new_code_cell(source) for source in (TRAINING, LAST, "board.filmstrip()", PYPLOT, APP)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    options = {"timeout": 120, "kernel_name": "python3", "coalesce_streams": True}
    NotebookClient(notebook, resources={"metadata": {"path": str(ROOT)}}, **options).execute()
    board, last, *figures, app = (cell.outputs for cell in notebook.cells)

    assert [output.output_type for output in board] == ["display_data", "stream"]
    lines = board[1].text.splitlines()
    assert [line.split()[1] for line in lines] == [f"{epoch}/7" for epoch in range(1, 8)]
    drawn, digest = last[0].text.splitlines()
    assert drawn == "[1, 3, 6, 7]"  # the first, every third, the last
    shown = base64.b64decode(board[0].data["image/png"])
    assert hashlib.sha256(shown).hexdigest() == digest  # the figure of the last epoch stands where the first stood

    for outputs in figures:  # a figure that ends a cell is shown once, with and without pyplot around
        assert [sorted(output.data) for output in outputs] == [["image/png", "text/plain"]]
    (picture,) = app  # where nobody can click there is a picture instead of the widgets
    assert sorted(picture.data) == ["text/html", "text/plain"]
    assert "hpss: &lt;b&gt;" in picture.data["text/html"] and "Run this cell" in picture.data["text/html"]
    assert "widgets" not in notebook.metadata and "jupyter.widget" not in nbformat.writes(notebook)
