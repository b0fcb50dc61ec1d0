"""A blind comparison: two estimates of the same seconds, in an order that is not told until one is chosen.

In a live notebook, buttons take the choices and show which was which. In a saved file the players stand there with the
solution folded away.
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
        if len(names) != 2:
            raise ValueError(f"'{title}' must be two waveforms to choose between, not {len(names)}")
        dice.shuffle(names)
        order.append((title, dict(zip("AB", names, strict=True))))
    return order


class BlindTest:
    """The widgets: `view` is the one to display, `chosen` {title: name} what was chosen so far."""

    def __init__(self, pairs, sample_rate, seed=0, **options):
        self.order, self.chosen, parts = shuffled(pairs, seed), {}, []
        self.result = widgets.HTML()
        for title, names in self.order:
            heard = {letter: pairs[title][name] for letter, name in names.items()}
            buttons = [widgets.Button(description=f"{letter} is better") for letter in names]
            for button, name in zip(buttons, names.values(), strict=True):
                button.on_click(lambda _, title=title, name=name: self.choose(title, name))
            sound = widgets.HTML(players.listen(heard, sample_rate, **options).data)
            parts += [widgets.HTML(f"<b>{html.escape(title)}</b>"), sound, widgets.HBox(buttons)]
        self.view = widgets.VBox([*parts, self.result])

    def choose(self, title, name):
        """Note a choice, and say what all choices so far were."""
        self.chosen[title] = name
        lines = [f"{title}: you chose <b>{html.escape(name)}</b>" for title, name in self.chosen.items()]
        self.result.value = "<br>".join(lines)


def blind_test(pairs, sample_rate, seed=0, **options):
    """Let the reader choose between two estimates, not knowing which is which.

    pairs: {title: {name: waveform, name: waveform}}. options: listen()'s. Displays widgets, or in a notebook that is
    executed without a reader the players and, folded away, the solution.
    """
    if is_live():
        return display(BlindTest(pairs, sample_rate, seed, **options).view)
    parts, solution = [], []
    for title, names in shuffled(pairs, seed):
        heard = {letter: pairs[title][name] for letter, name in names.items()}
        parts.append(f"<p><b>{html.escape(title)}</b></p>{players.listen(heard, sample_rate, **options).data}")
        told = ", ".join(f"{letter} is {html.escape(name)}" for letter, name in names.items())
        solution.append(f"{html.escape(title)}: {told}")
    folded = f"<details><summary>Which is which?</summary><p>{'<br>'.join(solution)}</p></details>"
    return display(HTML("".join(parts) + folded))
