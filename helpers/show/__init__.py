"""What is seen and heard: figures, players, the interface."""

from helpers.show.comparisons import grouped_bars, scatter
from helpers.show.figures import LiveBoard, Picture, bars, curves, heatmap, image_grid, light, set_style
from helpers.show.players import listen, spectrograms
from helpers.show.sound_pictures import lines, panels, trade_off
