"""How long the notebooks' profile `full` should take on Colab's T4, from the numbers in their own PROFILES: Markdown.

`python benchmarks/budget.py`: nothing is trained, and nothing measured on a T4. A training takes EPOCH and steps x
(STEP + 3 x batch x multiply-adds / rate) an epoch: once forward, twice that backward. What notebook 04 sets in minutes
counts as it is. Classical methods and BSS Eval take what they took on a CPU (README.md), networks their multiply-adds.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(ROOT := Path(__file__).resolve().parent.parent))

from helpers import models  # noqa: E402
from helpers.separation.cost import multiply_adds  # noqa: E402

CONVOLUTIONS = 5e12  # multiply-adds a second in 16 bits, assumed: 15 % of the T4's published peak, 65 TFLOPS
RECURRENT = 0.6e12  # of models with LSTMs, which run in float32, assumed: 15 % of its published 8.1 TFLOPS
STEP, EPOCH, COST = 0.01, 1.0, 10.0  # seconds, assumed, of a step (launches, data), an epoch's end, timing one method
CLIPS, SONGS = (825, 8.0, 16_000), (50, 7.0, 44_100)  # test items, seconds of each, sample rate: MIR-1K; the previews
BSS_EVAL = (0.0103, 0.0011)  # CPU seconds for a clip of 8 s at 16 kHz: with one method, and for each further one
MASKS, SLOW = ("mixture", "ibm", "irm", "wiener"), ("repet-sim", "hpss", "nmf-kl-oracle", "nmf-kl-blind")


def settings(notebook):
    """Return the Settings of the profile `full`, by executing the notebook's own two cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {"dataclass": dataclass}
    for start in ("@dataclass\nclass Settings", "PROFILES = {"):
        exec(next(source for source in sources if source.startswith(start)), names)
    return names["PROFILES"]["full"]


def forward(model, seconds):
    """Return the T4's seconds for a segment of so many seconds, or for a picture of 28 x 28 (None), forward."""
    if seconds is None:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.to("meta").eval()(torch.zeros(1, 1, 28, 28, device="meta"))
        return counter.get_total_flops() / 2 / CONVOLUTIONS
    recurrent = any(isinstance(part, torch.nn.LSTM) for part in model.modules())
    return multiply_adds(model, seconds) / (RECURRENT if recurrent else CONVOLUTIONS)


def training(s, epochs, model, seconds=None, **plan):
    """Return the seconds of a training; `steps` and `batch_size` are those of the Settings s unless they are given."""
    steps, batch = (plan.get(name) or getattr(s, name) for name in ("steps", "batch_size"))
    return epochs * (EPOCH + steps * (STEP + 3 * batch * forward(model, seconds or getattr(s, "seconds", None))))


def evaluation(where, slow, every, networks, model):
    """Return the seconds for MASKS and `networks` such as `model` on all items, `slow` methods on every nth."""
    (items, length, rate), text = where, (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| ([a-z-]+) \| \d+ \|.*\| ([\d.]+) \|$", text, re.MULTILINE))  # CPU seconds for a clip
    cpu = sum(float(table[name]) for name in MASKS) + sum(float(table[name]) for name in slow) / every
    cpu += BSS_EVAL[0] + BSS_EVAL[1] * (len(MASKS) + len(slow) / every + networks)
    return items * (cpu * length / 8 * rate / 16_000 + networks * forward(model, length))


def parts(number, s):
    """Yield (what, its seconds) of a notebook with the Settings s; `names` of settings stand for what they set."""
    if number == "01":
        dense, conv = models.ImageVAE("dense", 16, 512), models.ImageVAE("conv", 8, s.width)
        small, channels = models.ImageVAE("conv", 8, 16), (s.unet_width, 2 * s.unet_width, 4 * s.unet_width)
        yield "dense VAEs (`dense_epochs`)", training(s, s.dense_epochs * (1 + s.study_seeds) + s.ladder_epochs, dense)
        yield "study of 11 losses (`study_steps`)", training(s, 11 * s.study_seeds, small, steps=s.study_steps)
        yield "convolutional VAEs (`ladder_epochs`)", training(s, 4 * s.ladder_epochs, conv)
        yield "the VAE that is kept (`vae_epochs`)", training(s, s.vae_epochs, conv)
        yield "U-Net (`unet_epochs`)", training(s, s.unet_epochs, models.ImageUNet(channels=channels))
    if number == "02":
        conv, deep = (models.MusicVAE(network=name, width=w) for name, w in (("conv", s.width), ("deep", s.deep_width)))
        yield "7 models (`ladder_epochs`)", training(s, 7 * s.ladder_epochs, conv)
        yield "3 deep ones (`ladder_epochs`)", training(s, 3 * s.ladder_epochs, deep)
        yield "6 of the KL term (`study_steps`)", training(s, 6, conv, steps=s.study_steps)
        yield "the model that is kept (`final_epochs`)", training(s, s.final_epochs, deep)
        yield "evaluation of clips", evaluation(CLIPS, SLOW[:3], s.slow_every, 11, deep)
    if number == "03":
        frame, source = models.SingleFrameNet(width=s.width, code=s.width // 2), models.SourceLSTM(hidden=s.hidden)
        lstm = models.LSTMNet(width=s.width, code=s.width // 2, hidden=s.hidden, bidirectional=True)
        yield "6 LSTMs (`study_epochs`)", training(s, 6 * s.study_epochs, lstm)
        yield "11 single-frame models (`study_epochs`)", training(s, 11 * s.study_epochs, frame)
        yield "single-frame, songs (`frame_epochs`)", training(s, s.frame_epochs, frame)
        yield "LSTM, songs (`memory_epochs`)", training(s, s.memory_epochs, lstm)
        clips, third = {"batch_size": s.clip_batch_size}, s.clip_frame_epochs // 3
        yield "LSTMs of the sources", training(s, 3 * s.study_epochs + third, source, **clips)
        yield "single-frame, clips (`clip_frame_epochs`)", training(s, 3 * s.clip_frame_epochs + third, frame, **clips)
        yield "LSTM, clips, 2 cycles (`clip_memory_epochs`)", training(s, 2 * s.clip_memory_epochs, lstm, **clips)
        yield "evaluation of songs", evaluation(SONGS, SLOW[1:], s.slow_every, 10, lstm)
        yield "evaluation of clips", evaluation(CLIPS, SLOW[:2], s.slow_every, 8, lstm)
    if number == "04":
        unet, plan = models.SpectrogramUNet(s.width), {"steps": s.passes * s.pass_steps // s.epochs, "batch_size": 8}
        yield "8 networks of songs (`passes`, `pass_steps`)", 8 * training(s, s.epochs, unet, 2.0, **plan)
        yield "4 networks of clips, as long as set (`minutes`)", 4 * 60 * s.minutes
        yield "5 cycles of 3 networks, as long as set (`kept_minutes`)", 5 * 60 * s.kept_minutes
        yield "evaluation of songs", evaluation(SONGS, SLOW, s.slow_every, 13, unet)
        yield "evaluation of clips", evaluation(CLIPS, SLOW, s.slow_every, 24, models.DeepUNet(s.deep_width))
        yield "cost of 20 methods (`costed`)", COST * min(20, s.costed)


if __name__ == "__main__":
    print("| notebook | part (`what sets it`) | minutes |\n|---|---|---:|")
    for path in sorted(ROOT.glob("0*.ipynb")):
        rows = {what: seconds / 60 for what, seconds in parts(path.name[:2], settings(path))}
        rows[f"**all, {'more than' if sum(rows.values()) > 30 else 'at most'} 30**"] = sum(rows.values())
        print("\n".join(f"| {path.name[:2]} | {what} | {minutes:.1f} |" for what, minutes in rows.items()))
