"""The weighted mean of networks, in one file."""

import pytest
import torch
from audio_models import RATE, SMALL, STEMS

from helpers.checkpoints import load_checkpoint, save_checkpoint
from helpers.models import DeepUNet, Ensemble
from helpers.separation import ModelSeparator


def test_it_gives_the_weighted_mean_of_the_voices_and_leaves_the_rest(tmp_path):
    torch.manual_seed(0)
    two = DeepUNet(width=4, **SMALL).eval()
    four = DeepUNet(width=3, **SMALL, sources=STEMS[::-1]).eval()
    both = Ensemble([["DeepUNet", two.arguments], ["DeepUNet", four.arguments]], [0.7, 0.3])
    for member, network in zip(both.members, (two, four), strict=True):
        member.load_state_dict(network.state_dict())
    save_checkpoint(tmp_path / "both.safetensors", both)
    model, _ = load_checkpoint(tmp_path / "both.safetensors")
    song = torch.randn(2, 8000)
    estimates = ModelSeparator(model, "cpu")(song, 8000)
    alone = [ModelSeparator(network, "cpu")(song, 8000)["vocals"] for network in (two, four)]
    torch.testing.assert_close(estimates["vocals"], 0.7 * alone[0] + 0.3 * alone[1])
    torch.testing.assert_close(estimates["vocals"] + estimates["accompaniment"], song)


def test_it_takes_networks_of_one_sample_rate_with_a_weight_each():
    member = ["DeepUNet", {"width": 4, **SMALL}]
    with pytest.raises(ValueError, match="too many values"):
        Ensemble([member, ["DeepUNet", {"width": 4, **SMALL, "sample_rate": 2 * RATE["sample_rate"]}]], [0.5, 0.5])
    with pytest.raises(ValueError, match="zip"):
        Ensemble([member], [0.5, 0.5])(torch.randn(1, 1, 1000))
