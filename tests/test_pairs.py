"""Pairs and mixtures: exact, evenly drawn, the same again from a seed or a saved state."""

import pytest
import torch

from helpers.data import images
from helpers.runtime import UserError


@pytest.fixture(scope="module")
def embedded():
    return images.load_images("test", source="embedded")


def small_set(digits, dresses):
    """Return an ImageSet whose image number i is grey i."""
    stacks = (torch.arange(size, dtype=torch.uint8)[:, None, None].expand(-1, 28, 28) for size in (digits, dresses))
    first, second = stacks
    return images.ImageSet(first, torch.zeros(digits), second, torch.zeros(dresses), "toy", "test", True)


def test_the_mixture_is_the_exact_mean(embedded):
    index = torch.arange(50)
    mixture, digit, garment = images.gather_pairs(embedded, index, index.flip(0))
    for batch in (mixture, digit, garment):
        assert batch.shape == (50, 1, 28, 28) and batch.dtype == torch.float32
        assert batch.min() >= 0 and batch.max() <= 1
    assert torch.equal(2 * mixture, digit + garment) and torch.equal(images.mix(digit, garment), mixture)
    assert torch.equal((garment[0, 0] * 255).round().byte(), embedded.garments[49])
    assert digit.max() > 0.9


@pytest.mark.parametrize(
    ("digits", "dresses", "count"), [(60, 60, 60), (12, 8, 96), (7, 5, 35), (12, 8, 50), (9, 4, 1)]
)
def test_fixed_pairs_use_all_images_evenly_and_never_twice_together(digits, dresses, count):
    toy = small_set(digits, dresses)
    first, second = images.fixed_pairs(toy, count, seed=3)
    assert len(first) == len(second) == count
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == count
    for index, size in ((first, digits), (second, dresses)):
        uses = torch.bincount(index, minlength=size)
        assert len(uses) == size and uses.max() - uses.min() <= 1


def test_fixed_pairs_follow_their_seed(embedded):
    pairs = [torch.stack(images.fixed_pairs(embedded, 200, seed)) for seed in (1, 1, 2)]
    assert torch.equal(pairs[0], pairs[1]) and not torch.equal(pairs[0], pairs[2])
    assert not torch.equal(pairs[0][0], pairs[0][0].sort().values)


@pytest.mark.parametrize("count", [0, 13])
def test_more_pairs_than_there_are(count):
    with pytest.raises(UserError, match=f"count={count} .*1 to 12"):
        images.fixed_pairs(small_set(4, 3), count)


def test_sampler_resumes_exactly_from_a_saved_generator_state(embedded):
    generator = torch.Generator().manual_seed(5)
    sampler = images.PairSampler(embedded, 16, generator)
    list(sampler.batches(3))
    state = generator.get_state()
    ahead = list(sampler.batches(4))
    resumed = torch.Generator()
    resumed.set_state(state)
    again = list(images.PairSampler(embedded, 16, resumed).batches(4))
    assert len(ahead) == len(again) == 4
    for batch, other in zip(ahead, again, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(batch, other, strict=True))
    assert not torch.equal(ahead[0][0], ahead[1][0])


def test_sampler_pairs_every_digit_with_every_garment():
    sampler = images.PairSampler(small_set(4, 3), 600, torch.Generator().manual_seed(0))
    mixture, digit, garment = sampler.sample()
    assert mixture.shape == (600, 1, 28, 28) and torch.equal(2 * mixture, digit + garment)
    pairs = (255 * torch.stack([digit[:, 0, 0, 0], garment[:, 0, 0, 0]])).round().long()
    uses = torch.bincount(3 * pairs[0] + pairs[1], minlength=12)
    assert len(uses) == 12 and uses.min() > 20 and uses.max() < 90  # 50 each, were it exact


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_sampler_draws_the_same_pairs_on_a_gpu(embedded):
    def batch(device):
        return images.PairSampler(embedded, 32, torch.Generator().manual_seed(1), device).sample()

    here, there = batch("cpu"), batch("cuda")
    for one, two in zip(here, there, strict=True):
        assert two.device.type == "cuda"
        torch.testing.assert_close(one, two.cpu(), rtol=0, atol=1e-6)
