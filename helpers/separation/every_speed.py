"""A separator that listens to the mixture at several speeds: estimates that err less, for more computing."""

from torch.nn import functional as F

from helpers.data.audio import resample
from helpers.data.augment import SEMITONES


class EverySpeed:
    """A Separator that plays the mixture at the speeds of SEMITONES, in turn, and gives the mean of the estimates.

    A network that was trained on all speeds makes other errors where all pitches are others. What a speed moves above
    half the sample rate is lost in it: near there the mean is softer, but for the network's `rest`.
    """

    def __init__(self, separator):
        self.separator = separator
        self.sample_rate = getattr(separator, "sample_rate", 0)
        self.rest = getattr(separator, "rest", None)
        self.sources = getattr(separator, "sources", getattr(separator, "names", ()))

    def __call__(self, waveform, sample_rate):
        """Return {source: waveform}, as long as the mixture (channels, time)."""
        total = {}
        for semitones in SEMITONES:
            rate = round(sample_rate * 2 ** (-semitones / 12))  # fewer samples, taken for as many a second: faster
            for name, estimate in self.separator(resample(waveform, sample_rate, rate), sample_rate).items():
                estimate = resample(estimate, rate, sample_rate)
                estimate = F.pad(estimate, (0, waveform.shape[-1] - estimate.shape[-1]))  # a sample more, or fewer
                total[name] = total.get(name, 0) + estimate / len(SEMITONES)
        if self.rest:  # it gets what no speed could hold, too
            total[self.rest] = waveform - sum(estimate for name, estimate in total.items() if name != self.rest)
        return total
