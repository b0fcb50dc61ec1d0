"""How long the notebooks' profile `full` should take on Colab's T4, from the numbers in their own PROFILES: Markdown.

`python benchmarks/budget.py`: nothing is trained, and nothing measured on a T4. A training takes EPOCH and steps x
(STEP + 3 x batch x multiply-adds / rate) an epoch: once forward, twice that backward. Classical methods and BSS Eval
take what they took on a CPU (README.md), networks their multiply-adds.
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
        dense, conv = (models.ImageVAE(*kind) for kind in (("dense", 16, s.dense_width), ("conv", 2, s.width)))
        small, unet = models.ImageVAE("conv", 4, s.study_width), models.ImageUNet((s.width, 2 * s.width, 4 * s.width))
        rung = {"steps": s.ladder_steps // s.epochs}  # of an epoch
        yield (
            "loss study, 16 settings (`seeds`, `study_steps`)",
            (training(s, 3 * (16 * s.seeds + 4), small, steps=s.study_steps // 3)),
        )
        yield "dense VAEs (`ladder_steps`)", (training(s, (4 + s.seeds) * s.epochs, dense, **rung))
        yield "convolutional VAEs (`seeds`)", training(s, (1 + 3 * s.seeds) * s.epochs, conv, **rung)
        yield "U-Nets (`epochs`)", training(s, (1 + s.seeds) * s.epochs, unet, **rung)
        kept = models.ImageUNet((64, 128, 256), (2, 2, 2)), models.ImageVAE("conv", 8, 64)
        yield "evaluation of `test_pairs`", s.test_pairs * (sum(map(forward, kept, (None, None))) + 0.002)
    if number == "02":
        conv, deep = (models.MusicVAE(network=name, width=s.width) for name in ("conv", "deep"))
        high = models.MusicVAE("conv", width=s.width, sample_rate=44_100, n_fft=512, hop_length=256)
        count = 2 * s.seeds + 1
        yield f"{count} models at 44.1 kHz (`seeds`, `epochs`)", training(s, count * s.epochs, high)
        yield "10 small models (`epochs`, `steps`)", training(s, 10 * s.epochs, conv)
        count = 2 + 2 * s.seeds
        yield f"{count} deep ones (`seeds`, `epochs`, `steps`)", training(s, count * s.epochs, deep)
        yield "5 of the KL term (`study_steps`)", training(s, 5 * s.epochs, deep, steps=s.study_steps)
        yield (
            "evaluation of clips",
            evaluation(CLIPS, ("hpss",), s.test_every, 1 + 11 / s.test_every, models.MusicVAE(width=64)),
        )
    if number == "03":
        clips = {"sample_rate": 16_000, "n_fft": 2048, "hop_length": 512, "width": s.width, "code": s.width // 2}
        wide, memory = {"width": s.song_width, "code": s.song_width // 2}, {"hidden": s.hidden, "bidirectional": True}
        stems = models.LSTMNet(**wide | memory, masks="sum", sources=("vocals", "drums", "bass", "other"))
        yield "3 of the homework, songs (`song_width`)", training(s, 3 * s.epochs, models.SingleFrameNet(**wide))
        yield "10 single-frame models (`epochs`, `steps`)", training(s, 10 * s.epochs, models.SingleFrameNet(**clips))
        yield "3 LSTMs (`hidden`)", training(s, 3 * s.epochs, models.LSTMNet(**clips | memory))
        yield "3 LSTMs of the sources", training(s, 3 * s.epochs, models.SourceLSTM(hidden=s.hidden, layers=3))
        yield "four sources", training(s, s.epochs, stems)
        lstm = models.LSTMNet(width=768, code=384, hidden=320, layers=2, bidirectional=True)
        yield "evaluation of songs", evaluation(SONGS, (*SLOW[:2], SLOW[3]), 1, 6, lstm)
        yield "evaluation of clips (`every`)", evaluation(CLIPS, ("hpss",), s.every, 2 + 18 / s.every, lstm)
    if number == "04":
        document, narrow = models.SpectrogramUNet(s.width), models.SpectrogramUNet(s.narrow)
        plan, clips = {"steps": s.pass_steps, "batch_size": 8}, {"steps": s.steps, "batch_size": 16}
        speech = {"sample_rate": 16_000, "n_fft": 1024, "hop_length": 256}
        yield "2 U-Nets of the document's size (`width`, `passes`)", 2 * training(s, s.passes, document, 2.0, **plan)
        seconds = 4 * s.seeds * training(s, s.narrow_passes, narrow, 2.0, **plan)
        yield "narrow U-Nets (`narrow`, `narrow_passes`, `seeds`)", seconds
        kinds = (models.SpectrogramUNet, models.MaskUNet, models.OpenUnmix, models.BandSplitModel)
        widths = [*s.sizes[:2], *s.sizes[3:]]
        neighbours = [kind(width, **speech) for kind, width in zip(kinds, widths, strict=True)]
        neighbours.append(models.WaveUNet(width=s.sizes[2], sample_rate=16_000))
        seconds = sum(training(s, s.epochs, model, 2.0, **clips) for model in neighbours)
        yield "5 neighbours (`epochs`, `steps`, `sizes`)", seconds
        yield "evaluation of songs", evaluation(SONGS, SLOW[3:], 1, 4 * s.seeds + 8, document)
        some, deep = (CLIPS[0] // s.every, *CLIPS[1:]), models.DeepUNet(32)
        yield "evaluation of clips (`every`)", evaluation(some, (*SLOW[:2], SLOW[3]), 1, 14, deep)
        yield "memory of 12 methods (`costed`)", COST * min(12, s.costed)


if __name__ == "__main__":
    print("| notebook | part (`what sets it`) | minutes |\n|---|---|---:|")
    for path in sorted(ROOT.glob("0*.ipynb")):
        rows = {what: seconds / 60 for what, seconds in parts(path.name[:2], settings(path))}
        rows[f"**all, {'more than' if sum(rows.values()) > 30 else 'at most'} 30**"] = sum(rows.values())
        print("\n".join(f"| {path.name[:2]} | {what} | {minutes:.1f} |" for what, minutes in rows.items()))
