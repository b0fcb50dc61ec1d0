"""Block Toeplitz systems, the normal equations of multichannel filters: solved in O(taps²), and safely in O(taps³).

The system is Σ_j Σ_l r_ij[k - l] x_j[l] = b_i[k] for sources i and taps k. Whittle's block form of Levinson's recursion
(1963) finds the forward and backward predictors, and with them Gohberg and Heinig's formula (1974) applies the inverse
in a few short FFTs: a tenth of the time of Cholesky factors, which remain for ill-conditioned matrices (pure tones,
empty bands), where rounding makes the recursion's inverse too rough to be refined.
"""

import functools

import numpy as np
import torch
from scipy import linalg
from torch.nn import functional as F

NEGLIGIBLE = 1e-22  # energy of a residual, relative to the solution's, below which refining ends
ACCEPTED = 1e-18  # the same, above which the solution is thrown away: ratios up to 180 dB are right
REFINEMENTS = 2  # of a solution by the predictors; rounding makes them an approximate inverse
RIDGE_REFINEMENTS = 4  # of a solution that needed regularisation


class BlockToeplitz:
    """A symmetric positive block Toeplitz matrix.

    Args:
        lags: r, `(sources, sources, 2 * taps - 1)` from lag `1 - taps` to `taps - 1`, with r_ij[m] = r_ji[-m], float64.
    """

    def __init__(self, lags):
        self.lags = lags
        self.sources, self.taps = len(lags), (lags.shape[-1] + 1) // 2
        self.size = 2 * self.taps  # long enough for a product of two sequences of `taps`, cut to `taps`
        padded = F.pad(lags, (0, 1))  # to 2 * taps
        self.spectrum = torch.fft.rfft(torch.roll(padded, 1 - self.taps, dims=-1)).movedim(-1, 0)
        try:
            with np.errstate(all="ignore"):  # solve_fast() sees what comes of it
                both, errors = predictors(lags.cpu().numpy())
        except np.linalg.LinAlgError:
            self.predictors = None
            return
        weights = np.linalg.inv(errors) * [[[1.0]], [[-1.0]]]
        self.weights = torch.from_numpy(weights).to(lags).unsqueeze(1)  # (2, 1, sources, sources)
        self.predictors = torch.fft.rfft(torch.from_numpy(both).to(lags), n=self.size, dim=1)  # (2, bins, sources, ...)

    def __matmul__(self, x):
        """The product with x: `(taps, sources, columns)`, the shape of every vector here."""
        return torch.fft.irfft(self.spectrum @ torch.fft.rfft(x, n=self.size, dim=0), n=self.size, dim=0)[: self.taps]

    def project(self, b):
        """Solve for b `(taps, sources, columns)`; return x and the energy `(columns,)` of what the filters x make.

        The energy is x · (2 b - A x), whose error is of second order in that of x.
        """
        x, residual = self.solve_fast(b)
        if x is None:
            x = self.solve(b)
            residual = b - self @ x
        return x, (x * (b + residual)).sum((0, 1))

    def solve_fast(self, b):
        """Solve by the predictors; return x and the residual, or two None where they are too rough an inverse."""
        if self.predictors is None:
            return None, None
        x, residual = torch.zeros_like(b), b
        for _ in range(1 + REFINEMENTS):
            x = x + self._inverse(residual)
            residual = b - self @ x
            # measured in the inverse matrix: the energy by which the filtered sources miss their optimum
            error = (residual * self._inverse(residual)).sum((0, 1)).abs()
            relative = (error / (b * x).sum((0, 1)).abs().clamp_min(torch.finfo(b.dtype).tiny)).max()
            if relative <= NEGLIGIBLE:
                break
        return (x, residual) if relative <= ACCEPTED else (None, None)

    def solve(self, b):
        """Solve by Cholesky factors, which are kept for the next call; never fails.

        A matrix that rounding has made indefinite (references that repeat each other, or with empty bands and no noise)
        leaves some directions undetermined, which mir_eval's LU factors fill with rounding noise. Here they get the
        little that iterated Tikhonov regularisation leaves them, which the refinements undo for all the others.
        """
        matrix, scale, factor, refinements = self._factors
        b = b.transpose(0, 1).flatten(0, 1) * scale
        x = torch.cholesky_solve(b, factor)
        for _ in range(refinements):
            x = x + torch.cholesky_solve(b - matrix @ x, factor)
        return (x * scale).unflatten(0, (self.sources, self.taps)).transpose(0, 1)

    @functools.cached_property
    def _factors(self):
        matrix = self.lags.unfold(-1, self.taps, 1).flip(-1).transpose(1, 2)
        matrix = matrix.reshape(self.sources * self.taps, -1)  # source by source
        scale = matrix.diagonal().rsqrt().unsqueeze(1)  # a quiet reference is as good as a loud one
        matrix = matrix * scale * scale.T
        factor, failed = torch.linalg.cholesky_ex(matrix)
        refinements = RIDGE_REFINEMENTS if failed else 0
        ridge = len(matrix) * torch.finfo(matrix.dtype).eps
        while failed:
            factor, failed = torch.linalg.cholesky_ex(matrix + ridge * torch.eye(len(matrix)).to(matrix))
            ridge *= 10
        return matrix, scale, factor, refinements

    def _inverse(self, b):
        """Gohberg and Heinig: L(A) Vf⁻¹ L(A)ᵀ - L(zB) Vb⁻¹ L(zB)ᵀ, each L a lower triangular block Toeplitz matrix."""
        spectra = torch.fft.rfft(b, n=self.size, dim=0)
        inner = torch.fft.irfft(self.predictors.mH @ spectra, n=self.size, dim=1)[:, : self.taps]
        inner = torch.fft.rfft(self.weights @ inner, n=self.size, dim=1)
        return torch.fft.irfft((self.predictors @ inner).sum(0), n=self.size, dim=0)[: self.taps]


def predictors(lags):
    """Whittle's recursion on `lags` as of BlockToeplitz, a NumPy array.

    Returns the forward predictor A and the backward one B, which is delayed by one tap, `(2, taps, sources, sources)`,
    and their errors Vf and Vb `(2, sources, sources)`: Σ_l r[k - l] A[l] is Vf at k = 0 and zero at every other tap,
    Σ_l r[k - l] B[l] is Vb at the last tap. Raises LinAlgError where the matrix is singular.
    """
    sources, taps = len(lags), (lags.shape[2] + 1) // 2
    if sources == 1:  # the first column of the inverse says it all, and SciPy's recursion is compiled
        column = linalg.solve_toeplitz(lags[0, 0, taps - 1 :], np.eye(taps, 1)[:, 0])
        forward = column / column[0]
        delayed = np.append(0.0, forward[:0:-1])
        return np.stack([forward, delayed])[:, :, None, None], np.full((2, 1, 1), 1 / column[0])
    blocks = lags.transpose(2, 0, 1).reshape(-1, sources)  # r, a block below the other
    both = np.zeros((2, (taps + 1) * sources, sources))  # A, and B delayed, a block below the other
    both[0, :sources] = both[1, sources : 2 * sources] = np.eye(sources)
    errors = np.stack([lags[:, :, taps - 1]] * 2)
    for order in range(1, taps):
        past = blocks[(taps - 1 - order) * sources : (taps - 1) * sources]  # r[-order] ... r[-1]
        wrong = past.T @ both[0, : order * sources]  # what A leaves at the next tap; B leaves the transposed
        wrong = np.stack([wrong, wrong.T])
        cure = np.linalg.solve(errors[::-1], wrong)
        errors = errors - wrong.transpose(0, 2, 1) @ cure
        both = both - both[::-1] @ cure
        both[1] = np.roll(both[1], sources, axis=0)
    return both[:, : taps * sources].reshape(2, taps, sources, sources), errors
