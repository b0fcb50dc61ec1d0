"""A blind comparison: two estimates of the same seconds, in an order that is not told until one is chosen.

In a live notebook buttons take the choices; in a saved file the solution is folded away below the players.
"""

import html
import random

import ipywidgets as widgets
from IPython.display import HTML, display

from helpers.show import players
from helpers.show.app import is_live


def shuffled(pairs, seed):
    """Return [(title, {"A": name, "B": name})]: the two names of every pair in a random order, the same for a seed."""
    dice, order = random.Random(seed), []
    for title, pair in pairs.items():
        names = list(pair)
        dice.shuffle(names)
        order.append((title, dict(zip("AB", names, strict=True))))
    return order


def blind_players(pair, names, sample_rate, **options):
    """Return the HTML of two players that are called by their letters."""
    return players.listen({letter: pair[name] for letter, name in names.items()}, sample_rate, **options).data


class BlindTest:
    """The widgets: `view` is the one to display, `chosen` {title: name} what was chosen so far."""

    def __init__(self, pairs, sample_rate, seed=0, **options):
        self.order, self.chosen, parts = shuffled(pairs, seed), {}, []
        self.result = widgets.HTML()
        for title, names in self.order:
            buttons = [widgets.Button(description=f"{letter} is better") for letter in names]
            for button, name in zip(buttons, names.values(), strict=True):
                button.on_click(lambda _, title=title, name=name: self.choose(title, name))
            sound = widgets.HTML(blind_players(pairs[title], names, sample_rate, **options))
            parts += [widgets.HTML(f"<b>{html.escape(title)}</b>"), sound, widgets.HBox(buttons)]
        self.view = widgets.VBox([*parts, self.result])

    def choose(self, title, name):
        """Note a choice, and say what all choices so far were."""
        self.chosen[title] = name
        lines = [f"{html.escape(title)}: you chose <b>{html.escape(name)}</b>" for title, name in self.chosen.items()]
        self.result.value = "<br>".join(lines)


def blind_test(pairs, sample_rate, seed=0, **options):
    """Let the reader choose between two estimates, not knowing which is which.

    pairs: {title: {name: waveform, name: waveform}}. options: listen()'s.
    """
    if is_live():
        return display(BlindTest(pairs, sample_rate, seed, **options).view)
    parts, solution = [], []
    for title, names in shuffled(pairs, seed):
        parts.append(f"<p><b>{html.escape(title)}</b></p>{blind_players(pairs[title], names, sample_rate, **options)}")
        told = ", ".join(f"{letter} is {html.escape(name)}" for letter, name in names.items())
        solution.append(f"{html.escape(title)}: {told}")
    folded = f"<details><summary>Which is which?</summary><p>{'<br>'.join(solution)}</p></details>"
    return display(HTML("".join(parts) + folded))
