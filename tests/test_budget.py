"""benchmarks/budget.py: the time of a full run, from the notebooks' own numbers."""

import importlib.util

import pytest
from torch import nn

from helpers.runtime import ROOT

spec = importlib.util.spec_from_file_location("budget", ROOT / "benchmarks" / "budget.py")
budget = importlib.util.module_from_spec(spec)
spec.loader.exec_module(budget)


@pytest.mark.parametrize("number", ["01", "02", "03", "04"])
def test_every_notebook_gets_a_time_and_every_setting_named_exists(number):
    (path,) = ROOT.glob(f"{number}*.ipynb")
    settings = budget.settings(path)
    rows = dict(budget.parts(number, settings))
    assert rows and min(rows.values()) > 0
    named = {name for what in rows for name in what.split("`")[1::2]}
    assert named and all(hasattr(settings, name) for name in named)


def test_a_training_takes_what_the_formula_says(monkeypatch):
    class Plan:
        steps, batch_size = 10, 4

    monkeypatch.setattr(budget, "CONVOLUTIONS", 28 * 28 * 5.0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 5))  # one second for a picture
    expected = 2 * (budget.EPOCH + 10 * (budget.STEP + 3 * 4 * 1.0))
    assert budget.training(Plan, 2, model) == pytest.approx(expected)
