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
    both = Ensemble.of([two, four], [0.7, 0.3])
    save_checkpoint(tmp_path / "both.safetensors", both)
    model, _ = load_checkpoint(tmp_path / "both.safetensors")
    song = torch.randn(2, 8000)
    estimates = ModelSeparator(model, "cpu")(song, 8000)
    alone = [ModelSeparator(network, "cpu")(song, 8000)["vocals"] for network in (two, four)]
    torch.testing.assert_close(estimates["vocals"], 0.7 * alone[0] + 0.3 * alone[1])
    torch.testing.assert_close(estimates["vocals"] + estimates["accompaniment"], song)


def test_it_takes_networks_of_one_sample_rate_with_a_weight_each():
    member = ["DeepUNet", {"width": 4, **SMALL}]
    other = ["DeepUNet", {"width": 4, **SMALL, "sample_rate": 2 * RATE["sample_rate"]}]
    for members, weights in (([member, other], [0.5, 0.5]), ([member], [0.5, 0.5]), ([member, member], [0.5, 0.4])):
        with pytest.raises(ValueError, match="networks of the rates"):
            Ensemble(members, weights)
