"""A blind comparison: two estimates of the same seconds, in an order that is not told until one is chosen."""

import functools
import html
import random

import ipywidgets as widgets
from IPython.display import HTML, display

from helpers.show.app import is_live
from helpers.show.players import listen


def blind_test(pairs, sample_rate, **options):
    """Let the reader choose between two estimates, not knowing which is which: the order is random, but a fixed one.

    pairs: {title: {name: waveform, name: waveform}}. options: listen()'s. In a live notebook buttons take the choices;
    in a saved file the solution is folded away below the players.
    """
    dice, orders, sounds = random.Random(0), {}, {}
    for title, pair in pairs.items():
        names = list(pair)
        dice.shuffle(names)
        orders[title] = dict(zip("AB", names, strict=True))
        heard = {letter: pair[name] for letter, name in orders[title].items()}
        sounds[title] = f"<p><b>{html.escape(title)}</b></p>{listen(heard, sample_rate, **options).data}"
    if is_live():
        return display(_with_buttons(orders, sounds))
    told = [f"{title}: A is {names['A']}, B is {names['B']}" for title, names in orders.items()]
    solution = "<br>".join(html.escape(line) for line in told)
    folded = f"<details><summary>Which is which?</summary><p>{solution}</p></details>"
    return display(HTML("".join(sounds.values()) + folded))


def _with_buttons(orders, sounds):
    """Return the widgets: players and buttons of each pair, and at the end what all choices so far were."""
    parts, chosen, result = [], {}, widgets.HTML()

    def choose(title, name, _):
        chosen[title] = name
        lines = [f"{html.escape(title)}: you chose <b>{html.escape(name)}</b>" for title, name in chosen.items()]
        result.value = "<br>".join(lines)

    for title, names in orders.items():
        buttons = {name: widgets.Button(description=f"{letter} is better") for letter, name in names.items()}
        for name, button in buttons.items():
            button.on_click(functools.partial(choose, title, name))
        parts += [widgets.HTML(sounds[title]), widgets.HBox(list(buttons.values()))]
    return widgets.VBox([*parts, result])
