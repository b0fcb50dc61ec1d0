"""What is seen and heard: figures, the board shown while training, players.

The separation app is in helpers.show.app: it needs the whole package, and ipywidgets.
"""

from helpers.show.board import LiveBoard
from helpers.show.drawing import blocks
from helpers.show.figures import (
    CYCLE,
    Picture,
    bars,
    grouped_bars,
    heatmap,
    image_grid,
    line_plots,
    set_style,
    small_multiples,
    spectrogram_grid,
    trade_off,
)
from helpers.show.players import listen
