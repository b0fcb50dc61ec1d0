"""BSS Eval version 3 in torch: SDR, SIR and SAR, with the references' part computed once for all their estimates.

Vincent, Gribonval and Févotte, "Performance measurement in blind audio source separation" (2006), section III.B: an
estimate e is projected, by least squares, on the `taps` delayed versions of its own reference (the target t) and on
those of all references (p). What p adds to t is interference, what e adds to p is artefacts:

    SDR = |t|² / |e - t|²        SIR = |t|² / |p - t|²        SAR = |p|² / |e - p|²        (each as 10 log10, in dB)

With 512 taps this is `mir_eval.separation.bss_eval_sources`, to 0.0001 dB. That solves the least squares anew for each
estimate; a table of thirty methods on 825 clips would take most of an hour. Their matrix depends on the references
alone: here it is factorised once per track (toeplitz.py), and an estimate costs its correlations with the references.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from helpers.metrics.toeplitz import BlockToeplitz
from helpers.runtime import UserError

FFT_SIZE = 4096  # at least, in samples: blocks far longer than the filters waste little of a transform
CPU_PIECE, GPU_PIECE = 2**18, 2**24  # values of spectra held at a time: what fits a cache, what keeps a GPU busy
ROUNDING = 16 * torch.finfo(torch.float64).eps  # bound of what the FFTs and sums do to an inner product, relative
TOLERANCE = 1e-5  # of an energy: 0.00004 dB


@dataclass(frozen=True)
class Scores:
    """Ratios in dB, `(..., sources)`, float64 on the CPU.

    NaN where there is nothing to measure: of a reference that is all zeros, which is left out of the projections, and
    of an estimate that is all zeros (mir_eval refuses both). SIR is infinite where no other reference sounds.
    """

    sdr: torch.Tensor
    sir: torch.Tensor
    sar: torch.Tensor


class References:
    """The true sources of one track, prepared to score any number of estimates of them.

    Args:
        references: `(sources, time)`, one channel per source. A GPU's tensors are scored on the GPU.
        taps: length of the allowed distortion filters in samples; 512 is BSS Eval 3, 1 is gain-only.
        names: the sources' names, for the error messages.

    `silent` holds the numbers of the references that are all zeros.
    Raises ValueError for another shape, UserError for a reference that holds NaN or infinity.
    """

    def __init__(self, references, taps=512, names=None):
        if references.dim() != 2 or not references.numel():
            raise ValueError(f"references must be (sources, time), not empty, got {tuple(references.shape)}")
        device = "cpu" if references.device.type == "mps" else references.device  # Apple's GPUs have no float64
        references = references.detach().to(device, torch.float64)
        self.shape, self.taps = references.shape, taps
        self.names = list(names) if names is not None else [str(i) for i in range(len(references))]
        self.norms = references.norm(dim=1)
        for name, norm in zip(self.names, self.norms.tolist(), strict=True):
            if not norm < torch.inf:
                raise UserError(f"the reference of source '{name}' holds NaN or infinity: leave its file out")
        self.active = (self.norms > 0).nonzero().flatten().tolist()
        self.silent = (self.norms == 0).nonzero().flatten().tolist()
        self.fft_size = max(FFT_SIZE, 1 << (4 * taps - 1).bit_length())
        self.block = self.fft_size - taps + 1
        self.blocks = -(-(self.shape[1] + taps - 1) // self.block)  # a filtered reference is taps - 1 samples longer
        if self.active:
            self._prepare(references[self.active])

    def _prepare(self, references):
        """Transform the active references, and make the Gram matrices of their delayed versions from their lags."""
        padded = F.pad(references, (self.taps - 1, self.blocks * self.block - self.shape[1]))
        windows = padded.unfold(1, self.fft_size, self.block)  # (active, blocks, fft_size): each with the past it needs
        self.spectra = torch.fft.rfft(windows)
        lags = self._correlate(references)  # (active, active, taps): Σ s_i[t - m] s_j[t] for m >= 0, ...
        lags = torch.cat([lags.transpose(0, 1)[..., 1:].flip(-1), lags], dim=-1)  # ... and for both signs
        self.own_grams = [BlockToeplitz(lags[i : i + 1, i : i + 1]) for i in range(len(lags))]
        self.gram = BlockToeplitz(lags) if len(lags) > 1 else self.own_grams[0]

    def score(self, estimates, methods=None):
        """Score estimates of these references: `(sources, time)`, or `(methods, sources, time)` for many at once.

        methods: their names, for the error messages. Returns Scores, whose ratios have the shape of `estimates` without
        its last dimension. Raises ValueError for a shape that does not fit the references (nothing is cropped: an
        estimate that is some samples off scores badly without being bad), UserError for NaN or infinity.
        """
        if estimates.dim() not in (2, 3) or estimates.shape[-2:] != self.shape:
            raise ValueError(
                f"estimates must be (methods, sources, time) or (sources, time) with the references' "
                f"{tuple(self.shape)}, to the sample, got {tuple(estimates.shape)}"
            )
        shape = estimates.shape[:-1]
        estimates = estimates.detach().reshape(-1, *self.shape).to(self.norms.device)  # (methods, sources, time)
        norms = torch.linalg.vector_norm(estimates, dim=-1, dtype=torch.float64)  # (methods, sources)
        if not norms.isfinite().all():
            method, source = (~norms.isfinite()).nonzero()[0].tolist()
            which = f"source '{self.names[source]}' by method '{methods[method] if methods else method}'"
            remedy = "train the model again, with a lower learning rate"
            raise UserError(f"the estimate of {which} holds NaN or infinity: {remedy}")
        ratios = torch.full((3, *norms.shape), torch.nan, dtype=torch.float64)
        if self.active:
            energies = self._energies(estimates[:, self.active], norms[:, self.active])
            target, distortion, interference, projection, artefacts = energies
            of_active = torch.stack([target / distortion, target / interference, projection / artefacts])
            ratios[..., self.active] = 10 * torch.log10(of_active).cpu()
        ratios[:, (norms == 0).cpu()] = torch.nan
        return Scores(*ratios.reshape(3, *shape))

    def _energies(self, estimates, norms):
        """estimates: (methods, active, time) -> |t|², |e - t|², |p - t|², |p|² and |e - p|²: (5, methods, active).

        Projections are orthogonal, so all five follow from inner products. As differences of large numbers the small
        ones lose their digits: where that may matter (ratios above some 70 dB, filters with huge coefficients), the
        projections are made, sample by sample.
        """
        products = self._correlate(estimates.flatten(0, 1)).unflatten(1, norms.shape)
        products = products.permute(3, 0, 1, 2)  # (taps, active references, methods, active estimates)
        pairs = [(gram, products[:, i : i + 1, :, i]) for i, gram in enumerate(self.own_grams)]
        own, target = (torch.stack(parts, -1) for parts in zip(*(gram.project(b) for gram, b in pairs), strict=True))
        own = own.squeeze(1)  # (taps, methods, active estimates)
        every, projection = self.gram.project(products.flatten(2))
        every, projection = every.unflatten(2, norms.shape), projection.view_as(norms)
        energy = norms.square()
        energies = torch.stack([target, energy - target, projection - target, projection, energy - projection])

        # |p| is at most Σ |filter|₁ |s|: the sum is what the rounding of an inner product is relative to
        references = self.norms[self.active]
        reach = norms + torch.einsum("trms,r->ms", every.abs(), references) + own.abs().sum(0) * references
        smallest = energies[[1, 4]].amin(0) if len(self.active) == 1 else energies.amin(0)
        doubtful = (ROUNDING * reach.square() > TOLERANCE * smallest).any(1)
        for method in doubtful.nonzero().flatten().tolist():
            energies[:, method] = self._make(estimates[method], own[:, method], every[:, :, method])
        return energies

    def _make(self, estimates, own, every):
        """Energies as above, (5, active), of one method's projections, filtered from the references sample by sample.

        estimates: (active, time), own: (taps, active estimates), every: (taps, active references, active estimates).
        """
        own = torch.fft.rfft(own.T, n=self.fft_size).unsqueeze(1)  # (active, 1, bins)
        every = torch.fft.rfft(every.permute(1, 2, 0), n=self.fft_size).unsqueeze(2)  # (active, active, 1, bins)
        energies = 0
        for piece, blocks in self._pieces(estimates):
            spectra = self.spectra[:, piece]  # (active, blocks, bins)
            filtered = torch.stack([own * spectra, (every * spectra.unsqueeze(1)).sum(0)])
            target, projection = torch.fft.irfft(filtered)[..., self.taps - 1 :]  # what belongs to the blocks
            parts = torch.stack([target, blocks - target, projection - target, projection, blocks - projection])
            energies = energies + parts.square().sum((-2, -1))
        return energies

    def _correlate(self, signals):
        """Inner products of each delayed reference with each signal: (n, time) -> (active, n, taps)."""
        spectrum = 0
        for piece, blocks in self._pieces(signals):
            spectra = torch.fft.rfft(blocks, n=self.fft_size)  # (n, blocks, bins)
            references = self.spectra[:, piece].conj_physical()
            spectrum = spectrum + torch.stack([(reference * spectra).sum(1) for reference in references])
        lags = torch.fft.irfft(spectrum.conj_physical())
        return lags[..., : self.taps].flip(-1)  # a window begins taps - 1 samples before its block

    def _pieces(self, signals):
        """Cut (n, time) into blocks, some at a time: yields (slice of blocks, (n, blocks, block) in float64)."""
        piece = CPU_PIECE if signals.device.type == "cpu" else GPU_PIECE
        step = max(1, piece // (len(signals) * self.fft_size))
        for start in range(0, self.blocks, step):
            stop = min(start + step, self.blocks)
            part = signals[:, start * self.block : stop * self.block].double()
            part = F.pad(part, (0, (stop - start) * self.block - part.shape[1]))
            yield slice(start, stop), part.unflatten(1, (-1, self.block))
