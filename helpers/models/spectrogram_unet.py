"""U-Nets on magnitude spectrograms: one that paints the sources' spectrograms, and one that masks the mixture's.

Both pad their spectrograms (batch, 1, bins, frames) at the ends, to what can be halved often enough, and crop what they
give: frame f of an estimate is frame f of the mixture, to the sample.
"""

import copy
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from helpers.models.audio_model import AudioModel, painted
from helpers.stft import crop_to, pad_to_multiple


def two_convolutions(inputs, outputs, kind=nn.Conv2d):
    """Two 3×3 convolutions (or transposed ones), each with ReLU and batch normalisation."""
    return nn.Sequential(
        kind(inputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs),
        kind(outputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs),
    )  # fmt: skip


class EncoderBlock(nn.Module):
    """Two convolutions, then max-pooling: half the bins, half the frames."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.body = two_convolutions(inputs, outputs)

    def forward(self, x):
        """(batch, inputs, bins, frames) -> (batch, outputs, bins/2, frames/2), and what it was before pooling."""
        skip = self.body(x)
        return F.max_pool2d(skip, 2), skip


class DecoderBlock(nn.Module):
    """An upsampling convolution, the encoder's output of that size beside it, then two transposed convolutions."""

    def __init__(self, inputs, outputs, dropout):
        super().__init__()
        self.upsampling = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 2, stride=2), nn.ReLU(), nn.BatchNorm2d(outputs), nn.Dropout(dropout)
        )
        self.body = two_convolutions(2 * outputs, outputs, nn.ConvTranspose2d)

    def forward(self, x, skip):
        """(batch, inputs, bins/2, frames/2), (batch, outputs, bins, frames) -> (batch, outputs, bins, frames)."""
        return self.body(torch.cat((self.upsampling(x), skip), dim=1))


class SpectrogramUNet(AudioModel):
    """The U-Net of the source document, after Oh, Kim and Yun (2018): magnitudes in, those of k sources out.

    A segment of 2 s at 44.1 kHz, the document's, has 1025×173 values, padded with zeros to 1040×176 = 16·(65×11) so
    that four halvings leave no rest. Nothing makes the estimates add up to the mixture, whose phase they get.

    width: channels of the first block, doubled in each; the document's 32 ends at 512 in the centre. dropout: part of
    the values left out in training, after each upsampling; the document does not say it. settings: AudioModel's.
    """

    depth = 4  # times that bins and frames are halved

    def __init__(self, width=32, dropout=0.2, sample_rate=44_100, n_fft=2048, hop_length=512, **settings):
        super().__init__(sample_rate, n_fft, hop_length, **settings)
        self.arguments |= {"width": width, "dropout": dropout}
        *widths, deepest = [width * 2**level for level in range(self.depth + 1)]  # 32, 64, 128, 256; 512 in the centre
        inputs = [1, *widths[:-1]]
        self.down = nn.ModuleList(EncoderBlock(*sizes) for sizes in zip(inputs, widths, strict=True))
        self.centre = two_convolutions(widths[-1], deepest)
        self.up = nn.ModuleList(DecoderBlock(2 * channels, channels, dropout) for channels in reversed(widths))
        self.last = nn.Sequential(nn.Conv2d(width, len(self.sources), 1), nn.ReLU())
        # a ReLU that is 0 everywhere learns nothing more: let every output begin above it, near music's mean magnitude
        nn.init.constant_(self.last[0].bias, 0.1)

    def estimate(self, mixture):
        """Magnitudes (batch, 1, bins, frames) -> (batch, sources, bins, frames), never negative."""
        h, skips = pad_to_multiple(mixture, (2**self.depth, 2**self.depth)), []
        for block in self.down:
            h, skip = block(h)
            skips.append(skip)
        h = self.centre(h)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            h = block(h, skip)
        return crop_to(self.last(h), mixture.shape[-2:]).float()

    def analyse(self, waveform):
        """(batch, 1, time) -> Analysis."""
        spectrogram, scale = self.scaled_stft(waveform)
        magnitudes = self.estimate(spectrogram.abs()).unsqueeze(2)  # (batch, sources, 1, bins, frames)
        return painted(spectrogram, scale, magnitudes)


@torch.no_grad()
def layer_table(model, bins=1025, frames=173):
    """Return the rows (block, input shape, output shape) of a SpectrogramUNet's table: bins × frames × channels."""
    model = copy.deepcopy(model).eval()  # whose hooks, and means of the batch normalisation, are its own
    names = {f"Convolutional block {number}": block for number, block in enumerate(model.down, 1)}
    names["Centre convolutional layers"] = model.centre
    for number, block in enumerate(model.up, 1):
        names |= {f"Upsampling block {number}": block.upsampling, f"Deconvolutional block {number}": block.body}
    names["1 x 1 x k convolution"] = model.last

    def text(tensor):
        _, channels, height, width = tensor.shape
        return f"{height} x {width} x {channels}"

    def note(name, module, inputs, output):
        output = output[0] if isinstance(output, tuple) else output  # an encoder block's, without its skip
        rows.append((name, text(inputs[0]), text(output)))

    rows = []
    for name, module in names.items():
        module.register_forward_hook(partial(note, name))
    mixture = torch.zeros(1, 1, bins, frames, device=next(model.parameters()).device)
    estimates = model.estimate(mixture)
    return [("Padding", text(mixture), rows[0][1]), *rows, ("Cropping", rows[-1][2], text(estimates))]


class MaskUNet(AudioModel):
    """The U-Net of Jansson et al. (2017): one sigmoid mask per source on the mixture's magnitudes.

    The highest bin is left out, so that 512 can be halved, and gets the mask of the one below it. In the paper there is
    one network per source, at 8192 Hz. The masks of a bin need not add up to 1.

    width: channels of the first layer, doubled in each. depth: layers on the way down, 6 in the paper. dropout: in the
    first three layers on the way up. settings: AudioModel's.
    """

    def __init__(self, width=16, depth=6, dropout=0.5, **settings):
        super().__init__(**settings)
        self.arguments |= {"width": width, "depth": depth, "dropout": dropout}
        self.depth = depth
        widths = [width * 2**level for level in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for inputs, outputs in zip([1, *widths[:-1]], widths, strict=True):
            strided = nn.Conv2d(inputs, outputs, 5, stride=2, padding=2, bias=False)
            self.down.append(nn.Sequential(strided, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)))
        for level in reversed(range(depth)):
            inputs = widths[level] * (1 if level == depth - 1 else 2)  # a skip beside it, but not at the bottom
            outputs = widths[level - 1] if level else len(self.sources)
            sizes = {"stride": 2, "padding": 2, "output_padding": 1}  # twice as many bins and frames
            layer = nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 5, **sizes, bias=level == 0))
            if level:
                layer.extend([nn.BatchNorm2d(outputs), nn.ReLU()])
            if level and level > depth - 4:
                layer.append(nn.Dropout(dropout))
            self.up.append(layer)

    def scaled_stft(self, waveform):
        """(batch, 1, time) -> its spectrogram over its largest magnitude, so in [0, 1] as in the paper, and that."""
        spectrogram, scale = super().scaled_stft(waveform)
        largest = spectrogram.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
        return spectrogram / largest, scale * largest

    def masks(self, mixture):
        """Magnitudes (batch, 1, bins, frames) -> masks (batch, sources, bins, frames) in [0, 1]."""
        bins, frames = mixture.shape[-2] - 1, mixture.shape[-1]
        h, skips = pad_to_multiple(mixture[:, :, :bins], (2**self.depth, 2**self.depth)), []
        for layer in self.down:
            h = layer(h)
            skips.append(h)
        h = self.up[0](skips.pop())
        for layer in self.up[1:]:
            h = layer(torch.cat((h, skips.pop()), dim=1))
        masks = torch.sigmoid(crop_to(h, (bins, frames)).float())
        return torch.cat((masks, masks[:, :, -1:]), dim=2)
