"""What a GPU would refuse, found without one: whatever mixes devices, or reads a value back, fails on torch's "meta".

Tensors there have shapes but no values. Data loading has tests of this kind in its own files.
"""

import copy

import pytest
import torch
from audio_models import MODELS, losses_of, made, mixture_for
from pretended_gpu import PretendedGPU
from toy_corpus import make

from helpers.data.augment import with_new_singers
from helpers.data.batches import SegmentSampler
from helpers.losses import BlindMusicLoss, BlindVAELoss, CarriedLoss, SupervisedVAELoss, separation_mse
from helpers.models import ImageUNet, ImageVAE
from helpers.models.deep_unet import levels_of
from helpers.stft import STFT


def step(model, loss, batch):
    """One step of training on the meta device."""
    optimiser = torch.optim.AdamW(model.parameters())
    terms = loss(model, batch, 0.5)
    terms["loss"].backward()
    optimiser.step()
    assert all(value.is_meta for value in terms.values())
    assert all(parameter.grad.is_meta for parameter in model.parameters() if parameter.grad is not None)


def there(*shape):
    return torch.empty(*shape, device="meta")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_and_a_loss_stay_on_their_device(name):
    model = made(name).to("meta").train()
    mixture = mixture_for(model, 200).to("meta")  # LSTMs are slow on this device
    assert model(mixture).is_meta
    step(model, losses_of(model)[0], (mixture, torch.stack([mixture] * len(model.sources), dim=1)))


@pytest.mark.parametrize("name", ["dense", "mask U-Net", "dense VAE"])
def test_every_loss_stays_on_its_device(name):
    model = made(name).to("meta").train()
    for loss in losses_of(model):
        step(model, loss, (there(2, 1, 1500), there(2, 2, 1, 1500)))


def test_a_memory_is_carried_on_its_device():
    model, loss = made("LSTM").to("meta").train(), CarriedLoss()
    for _ in range(2):  # `fresh` stays on the CPU
        step(model, loss, (there(2, 1, 700), there(2, 2, 1, 700), torch.tensor([True, False])))
    assert all(part.is_meta for part in loss.states[True])


def test_image_models_and_the_blind_losses_stay_on_their_device():
    batch = (there(3, 1, 28, 28),) * 3
    for kind in ("dense", "conv"):
        for loss in (SupervisedVAELoss("learnt", conditioned=1.0), SupervisedVAELoss("bernoulli"), BlindVAELoss()):
            step(ImageVAE(kind, latent=2, width=4).to("meta"), loss, batch)
    step(ImageUNet(channels=(2, 3), blocks=(1, 1)).to("meta"), separation_mse, batch)
    vae = made("convolutional VAE").to("meta").train()
    step(vae, BlindMusicLoss(), levels_of(vae.scaled_stft(there(2, 1, 3000))[0]))


def test_transforms_and_samplers_stay_on_their_device():
    corpus = make((4000, 5000), names=("vocals", "accompaniment"), channels=1)
    sampler = SegmentSampler(corpus, 2.0, 3, torch.Generator().manual_seed(0), "meta")
    model = made("mask U-Net").to("meta").train()
    for mixture, sources in with_new_singers(sampler.batches(2), torch.Generator().manual_seed(0), 800):
        step(model, losses_of(model)[0], (mixture, sources))
    stft = STFT(256, 64)
    assert stft.inverse(stft(there(2, 2, 3000)), 3000).is_meta


# ---- the pretended GPU of test_notebooks.py ------------------------------------------------------------------------


def test_the_pretended_gpu_notes_what_a_gpu_would_refuse_and_where_it_waits():
    with PretendedGPU() as gpu:
        there = torch.ones(3, device="cuda")
        assert there.is_cuda and torch.nn.Linear(3, 2).cuda().weight.device.type == "cuda"
        _ = there + torch.ones(3)
        _ = torch.stack([torch.ones(3), there.clone()])
        _ = (2 * there).numpy()
        _ = torch.rand(3, device="cuda", generator=torch.Generator())
        _ = float(there.sum())
    assert [what for what, _ in gpu.faults] == [
        "CPU and GPU mixed in add",
        "CPU and GPU mixed in stack",
        "numpy of a GPU tensor",
        "a CPU generator for rand on the GPU",
    ]
    assert len(gpu.waits) == 1 and not torch.ones(3).is_cuda


def test_the_pretended_gpu_notes_nothing_in_a_step_of_training():
    with PretendedGPU() as gpu:
        model = torch.nn.LSTM(3, 2).to("cuda")
        optimiser = torch.optim.AdamW(model.parameters())
        batch = torch.rand(5, 4, 3, generator=torch.Generator().manual_seed(0)).to("cuda")
        (model(batch[torch.tensor([0, 2])])[0].square().mean() * torch.tensor(2.0)).backward()
        optimiser.step()
        assert model.weight_hh_l0.grad.is_cuda and batch.cpu().numpy().shape == (5, 4, 3)
        assert copy.deepcopy(model).to("meta")(torch.empty(5, 4, 3, device="meta"))[0].is_meta
    assert not gpu.faults
