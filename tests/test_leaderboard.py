"""What separating costs: multiply-adds counted by hand, and memory."""

from dataclasses import replace

import pytest
import torch
from audio_models import Identity
from torch import nn

from helpers.models import BandSplitModel, MaskUNet
from helpers.separation import cost as leaderboard

SMALL = {"sample_rate": 8000, "n_fft": 256, "hop_length": 128}


class Layers(Identity):
    """An audio model that runs some layers on the way and gives its input."""

    def __init__(self, layer, shape):
        super().__init__(sample_rate=1000)
        self.layer, self.shape = layer, shape

    def forward(self, batch):
        self.layer(torch.zeros(self.shape, device=batch.device))
        return super().forward(batch)


# ---- parameters and multiply-adds --------------------------------------------------------------------------------


def test_multiply_adds_of_a_layer_are_those_counted_by_hand():
    layers = [
        (nn.Conv1d(4, 4, 7, padding=3, groups=4), (1, 4, 10), 10 * 4 * 7),
        (nn.Conv2d(2, 3, 3, stride=2, padding=1), (1, 2, 8, 6), 4 * 3 * 3 * 2 * 9),
        (nn.ConvTranspose2d(4, 3, 2, stride=2), (1, 4, 5, 6), 5 * 6 * 4 * 3 * 4),
        (nn.Linear(7, 2), (3, 5, 7), 3 * 5 * 7 * 2),
        (nn.LSTM(3, 4, bidirectional=True), (5, 2, 3), 2 * 5 * 2 * 4 * 4 * (3 + 4)),
        (nn.LSTM(3, 4, num_layers=2), (5, 2, 3), 5 * 2 * (4 * 4 * (3 + 4) + 4 * 4 * (4 + 4))),
    ]
    for layer, shape, expected in layers:
        assert leaderboard.multiply_adds(Layers(layer, shape)) == expected


def test_counting_leaves_a_network_as_it_was():
    model = MaskUNet(width=2, depth=3, **SMALL).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = leaderboard.multiply_adds(model)
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert leaderboard.multiply_adds(model) == first


def test_a_recurrent_network_spends_twice_as_much_on_twice_the_time():
    model = BandSplitModel(features=8, blocks=1, across_bands="recurrent", **SMALL)
    short, long = (leaderboard.multiply_adds(model, seconds) for seconds in (1.0, 2.0))
    assert long == pytest.approx(2 * short, rel=0.03)  # one frame more


def test_a_network_is_described_in_millions():
    model = MaskUNet(width=2, depth=3, **SMALL)
    found = leaderboard.described(model, {"training_minutes": 3.5, "device": "a GPU"})
    assert found["M parameters"] == leaderboard.parameters(model) / 1e6
    assert found["M multiply-adds"] == pytest.approx(leaderboard.multiply_adds(model, 2.0) / 2e6)
    assert (found["training (min)"], found["trained on"]) == (3.5, "a GPU")
    assert set(leaderboard.described(model, {})) == {"M parameters", "M multiply-adds"}


# ---- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mixture", "irm"])
def test_what_is_measured_is_the_separation_of_noise(monkeypatch, name):
    heard, entry = [], leaderboard.BASELINES[name]
    make = lambda sources: lambda wave, rate: heard.append((wave.shape, rate))  # noqa: E731
    monkeypatch.setitem(leaderboard.BASELINES, name, replace(entry, make=make))
    monkeypatch.setattr(leaderboard, "load_separator", lambda *_: make(()))
    assert 50 < leaderboard._memory_of(name, 0.5) < 100_000 and heard == [((1, 8000), 16_000)]
