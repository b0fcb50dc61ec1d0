"""U-Nets on magnitude spectrograms: one that paints the sources' spectrograms, and one that masks the mixture's.

SpectrogramUNet is the network of the source document, which has it from Oh, Kim and Yun (2018): every channel of the
output is the magnitude spectrogram of a source. MaskUNet is that of Jansson et al. (2017): every channel is a mask.
Both give their estimates the mixture's phase, and both see every channel of a recording by itself.

Spectrograms are (batch, 1, bins, frames). Both networks pad them at their ends, to what can be halved often enough, and
crop what they give: frame f of an estimate is frame f of the mixture, to the sample.
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers.stft import STFT, crop_to, pad_to_multiple


def with_phase_of(spectrogram, magnitudes):
    """The phase of a complex (batch, 1, bins, frames) for magnitudes (batch, sources, bins, frames); 0 stays 0."""
    return magnitudes * (spectrogram / spectrogram.abs().clamp_min(1e-12))


# ---- the source document's: magnitudes of the sources ------------------------------------------------------------


class EncoderBlock(nn.Module):
    """Two convolutions, each with ReLU and batch normalisation, then max-pooling: half the bins, half the frames."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs),
        )  # fmt: skip

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
        self.body = nn.Sequential(
            nn.ConvTranspose2d(2 * outputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs),
            nn.ConvTranspose2d(outputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs),
        )  # fmt: skip

    def forward(self, x, skip):
        """(batch, inputs, bins/2, frames/2), (batch, outputs, bins, frames) -> (batch, outputs, bins, frames)."""
        return self.body(torch.cat((self.upsampling(x), skip), dim=1))


class SpectrogramUNet(nn.Module):
    """The U-Net of the source document: the mixture's magnitudes in, those of k sources out; an audio model.

    Four encoder blocks, a centre of two convolutions, four decoder blocks, and a 1×1 convolution with ReLU that gives k
    spectrograms. A segment of 2 s at 44.1 kHz has 1025×173 values, padded with zeros to 1040×176 = 16·(65×11) so that
    four halvings leave no rest; the output is cropped to 1025×173 again. The document's segments are 2 s long
    (ModelSeparator's `chunk`); the network takes any length.

    Nothing makes the estimates add up to the mixture: what they leave over can be shared among them afterwards
    (helpers.separation.networks.share_residual).

    Args:
        width: channels of the first block, doubled in each; the document's 32 ends at 512 in the centre.
        dropout: part of the values that is left out in training, after each upsampling; the document does not say it.
        sample_rate: in Hz. n_fft, hop_length: of the STFT, in samples.
        sources: names of the k sources, in the order of the output's channels.
    """

    channels = "each"
    depth = 4  # times that bins and frames are halved

    def __init__(
        self,
        width=32,
        dropout=0.2,
        sample_rate=44_100,
        n_fft=2048,
        hop_length=512,
        sources=("vocals", "accompaniment"),
    ):
        super().__init__()
        self.arguments = {
            "width": width, "dropout": dropout, "sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length,
            "sources": list(sources),
        }  # fmt: skip
        self.sample_rate, self.sources = sample_rate, tuple(sources)
        self.stft = STFT(n_fft, hop_length)
        widths = [width * 2**level for level in range(self.depth + 1)]  # 32, 64, 128, 256, and 512 in the centre
        self.down = nn.ModuleList(EncoderBlock(*sizes) for sizes in zip([1, *widths], widths[:-1], strict=False))
        self.centre = nn.Sequential(
            nn.Conv2d(widths[-2], widths[-1], 3, padding=1), nn.ReLU(), nn.BatchNorm2d(widths[-1]),
            nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.ReLU(), nn.BatchNorm2d(widths[-1]),
        )  # fmt: skip
        self.up = nn.ModuleList(
            DecoderBlock(widths[level + 1], widths[level], dropout) for level in reversed(range(self.depth))
        )
        self.last = nn.Sequential(nn.Conv2d(width, len(sources), 1), nn.ReLU())
        # a ReLU that is 0 everywhere learns nothing more: let every output begin above it
        nn.init.constant_(self.last[0].bias, 0.5)

    def analyse(self, waveform):
        """(batch, 1, time) -> its spectrogram over its scale, complex (batch, 1, bins, frames), and that scale.

        The scale (batch, 1, 1, 1) is the magnitude that white noise as loud (RMS) as the waveform has: a louder mixture
        gives louder sources and nothing else.
        """
        power = waveform.square().mean(dim=(1, 2)) * self.stft.window.square().sum()
        scale = power.clamp_min(1e-12).sqrt().view(-1, 1, 1, 1)
        return self.stft(waveform) / scale, scale

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

    def forward(self, waveform):
        """(batch, 1, time) -> (batch, sources, 1, time)."""
        spectrogram, scale = self.analyse(waveform)
        estimates = with_phase_of(spectrogram, self.estimate(spectrogram.abs()))
        return self.stft.inverse(estimates * scale, waveform.shape[-1]).unsqueeze(2)


def layer_table(model, bins=1025, frames=173):
    """Return the rows (block, input shape, output shape) of a SpectrogramUNet, as in the source document's table.

    Shapes are texts, bins × frames × channels, of one silent spectrogram of that size, which goes through the model.
    """
    rows, hooks, training = [], [], model.training

    def text(tensor):
        channels, *size = tensor.shape[1:]
        return " x ".join(map(str, (*size, channels)))

    def watch(module, name):
        def note(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output  # an encoder block's first is what goes on
            rows.append((name, text(inputs[0]), text(output)))

        hooks.append(module.register_forward_hook(note))

    for number, block in enumerate(model.down, start=1):
        watch(block, f"Convolutional block {number}")
    watch(model.centre, "Centre convolutional layers")
    for number, block in enumerate(model.up, start=1):
        watch(block.upsampling, f"Upsampling block {number}")
        watch(block.body, f"Deconvolutional block {number}")
    watch(model.last, "1 x 1 x k convolution")
    mixture = torch.zeros(1, 1, bins, frames, device=next(model.parameters()).device)
    model.eval()  # or silence would count in the batch normalisation's means
    with torch.no_grad():
        estimates = model.estimate(mixture)
    model.train(training)
    for hook in hooks:
        hook.remove()
    padding, cropping = ("Padding", text(mixture), rows[0][1]), ("Cropping", rows[-1][2], text(estimates))
    return [padding, *rows, cropping]


# ---- masks on the mixture ----------------------------------------------------------------------------------------


class MaskUNet(nn.Module):
    """The U-Net of Jansson et al. (2017), one sigmoid mask a source on the mixture's magnitudes; an audio model.

    Strided 5×5 convolutions with batch normalisation and leaky ReLU on the way down, their mirror image with ReLU, and
    dropout in the first three, on the way up. The highest bin is left out, so that 512 can be halved, and gets the mask
    of the one below it. In the paper there is a network a source, at 8192 Hz with a hop of 768 samples, which is more
    than helpers.stft inverts: of the same transform, take 512 at most.

    Each mask lies between 0 and 1; the masks of a bin need not add up to 1.

    Args:
        width: channels of the first layer, doubled in each. depth: layers on the way down, 6 in the paper.
        dropout: in the first three layers on the way up.
        sample_rate: in Hz. n_fft, hop_length: of the STFT, in samples.
        sources: names of what the masks give, in order.
    """

    channels = "each"

    def __init__(
        self,
        width=16,
        depth=6,
        dropout=0.5,
        sample_rate=16_000,
        n_fft=1024,
        hop_length=256,
        sources=("vocals", "accompaniment"),
    ):
        super().__init__()
        self.arguments = {
            "width": width, "depth": depth, "dropout": dropout, "sample_rate": sample_rate, "n_fft": n_fft,
            "hop_length": hop_length, "sources": list(sources),
        }  # fmt: skip
        self.sample_rate, self.sources, self.depth = sample_rate, tuple(sources), depth
        self.stft = STFT(n_fft, hop_length)
        widths = [width * 2**level for level in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for inputs, outputs in zip([1, *widths], widths, strict=False):
            strided = nn.Conv2d(inputs, outputs, 5, stride=2, padding=2, bias=False)
            self.down.append(nn.Sequential(strided, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)))
        for level in reversed(range(depth)):
            inputs = widths[level] * (1 if level == depth - 1 else 2)  # a skip beside it, but at the bottom
            outputs = widths[level - 1] if level else len(sources)
            sizes = {"stride": 2, "padding": 2, "output_padding": 1}  # twice as many bins and frames
            self.up.append(nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 5, **sizes, bias=level == 0)))
            if level:
                self.up[-1].extend([nn.BatchNorm2d(outputs), nn.ReLU()])
            if level and level > depth - 4:
                self.up[-1].append(nn.Dropout(dropout))

    def analyse(self, waveform):
        """(batch, 1, time) -> its spectrogram over its largest magnitude, complex (batch, 1, bins, frames), and that.

        So the network reads magnitudes in [0, 1], as in the paper.
        """
        spectrogram = self.stft(waveform)
        scale = spectrogram.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
        return spectrogram / scale, scale

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
        return F.pad(masks, (0, 0, 0, 1), mode="replicate")

    def estimate(self, mixture):
        """Magnitudes (batch, 1, bins, frames) -> (batch, sources, bins, frames): the masked mixture."""
        return self.masks(mixture) * mixture

    def forward(self, waveform):
        """(batch, 1, time) -> (batch, sources, 1, time)."""
        spectrogram, scale = self.analyse(waveform)
        estimates = self.masks(spectrogram.abs()) * spectrogram
        return self.stft.inverse(estimates * scale, waveform.shape[-1]).unsqueeze(2)
