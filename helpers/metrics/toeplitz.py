"""Block Toeplitz systems, the normal equations of multichannel filters: solved in O(taps²), and safely in O(taps³).

The system is Σ_j Σ_l r_ij[k - l] x_j[l] = b_i[k] for sources i and taps k. Whittle's block form of Levinson's recursion
(1963) finds the forward and backward predictors, and with them Gohberg and Heinig's formula (1974) applies the inverse
in a few short FFTs. The recursion's steps are sequential and tiny: numba compiles them, torch does all the rest.

Why not Cholesky always: for two sources and 512 taps the factors cost 40 ms per track and each solution several more,
the recursion and its FFTs a tenth of that. Why Cholesky at all: rounding can make an ill-conditioned matrix (pure
tones, empty bands) indefinite to the recursion, or its inverse too rough to be refined.
"""

import functools

import numpy as np
import torch

NEGLIGIBLE = 1e-22  # energy of a residual, relative to the solution's, below which refining ends
ACCEPTED = 1e-18  # the same, above which the solution is thrown away: ratios up to 180 dB are right
REFINEMENTS = 2  # of a solution by the predictors; rounding makes them an approximate inverse
RIDGE_REFINEMENTS = 4  # of a solution that needed regularisation


class BlockToeplitz:
    """A symmetric positive block Toeplitz matrix.

    Args:
        lags: r, `(sources, sources, 2 * taps - 1)` from lag `1 - taps` to `taps - 1`, with r_ij[m] = r_ji[-m], float64.

    `fast` says whether the recursion succeeded.
    """

    def __init__(self, lags):
        self.lags = lags
        self.sources, self.taps = len(lags), (lags.shape[-1] + 1) // 2
        self.size = 2 * self.taps  # long enough for a product of two sequences of `taps`, cut to `taps`
        self.spectrum = torch.fft.rfft(torch.roll(self._padded(lags), 1 - self.taps, dims=-1)).movedim(-1, 0)
        found = predictors(lags.cpu().numpy())
        self.fast = found is not None
        if self.fast:
            forward, backward, error_forward, error_backward = found
            delayed = np.concatenate([np.zeros_like(backward[..., :1]), backward[..., :-1]], axis=-1)
            weights = np.linalg.inv(np.stack([error_forward, -error_backward]))
            both = torch.from_numpy(np.stack([forward, delayed])).to(lags)
            self.predictors = torch.fft.rfft(self._padded(both)).movedim(-1, 1)  # (2, bins, sources, sources)
            self.weights = torch.from_numpy(weights).to(lags).unsqueeze(1)  # (2, 1, sources, sources)

    def __matmul__(self, x):
        """The product with x: `(taps, sources, columns)`, the shape of every vector here."""
        return torch.fft.irfft(self.spectrum @ torch.fft.rfft(x, n=self.size, dim=0), n=self.size, dim=0)[: self.taps]

    def project(self, b):
        """Solve for b `(taps, sources, columns)`; return x and the energy `(columns,)` of what the filters x make.

        The energy is x · (2 b - A x), whose error is of second order in that of x.
        """
        x, residual = self.solve_fast(b) if self.fast else (None, None)
        if x is None:
            x = self.solve(b)
            residual = b - self @ x
        return x, (x * (b + residual)).sum((0, 1))

    def solve_fast(self, b):
        """Solve by the predictors; return x and the residual, or two None where they are too rough an inverse."""
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
        leaves some directions undetermined. mir_eval's LU factors fill them with rounding noise: there its SIR and SAR
        move by decibels when the references are only scaled by 1.1. Here they get the little that iterated Tikhonov
        regularisation leaves them, which the refinements undo for all the others.
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

    def _padded(self, sequences):
        return torch.nn.functional.pad(sequences, (0, self.size - sequences.shape[-1]))


def predictors(lags):
    """Whittle's recursion on `lags` as of BlockToeplitz, a NumPy array; None where the matrix is not positive.

    Returns A and B `(sources, sources, taps)` and their errors Vf and Vb `(sources, sources)`, such that
    Σ_l r[k - l] A[l] is Vf at k = 0 and zero at every other tap, Σ_l r[k - l] B[l] is Vb at the last tap.
    """
    sources, taps = lags.shape[0], (lags.shape[2] + 1) // 2
    backwards = np.ascontiguousarray(lags[:, :, ::-1])  # r[m] at taps - 1 - m: the sums read it forwards
    a, b = np.zeros((2, 2, sources, sources, taps + 1))  # two of each, new ones are made from old ones
    a[0, :, :, 0] = b[0, :, :, 1] = np.eye(sources)  # B's tap k stands at k + 1: so B comes delayed by one tap
    errors = np.stack([lags[:, :, taps - 1]] * 2)
    if not _whittle()(backwards, a, b, errors):
        return None
    newest = (taps - 1) % 2
    return a[newest, :, :, :taps], b[newest, :, :, 1:], errors[0], errors[1]


@functools.cache
def _whittle():
    """Return the compiled recursion. The compiler is loaded, and takes its second, when it is first needed."""
    import numba

    @numba.njit
    def solve(matrix, right):
        """Overwrite `right` with matrix⁻¹ right, by elimination; return False where the matrix is not positive."""
        for pivot in range(len(matrix)):
            value = matrix[pivot, pivot]
            if not value > 0.0:
                return False
            for j in range(len(matrix)):
                matrix[pivot, j] /= value
                right[pivot, j] /= value
            for i in range(len(matrix)):
                factor = matrix[i, pivot] if i != pivot else 0.0
                for j in range(len(matrix)):
                    matrix[i, j] -= factor * matrix[pivot, j]
                    right[i, j] -= factor * right[pivot, j]
        return True

    def whittle(backwards, a, b, errors):
        sources, taps = a.shape[1], a.shape[3] - 1
        wrong, to_a, to_b = np.zeros((3, sources, sources))  # what the last predictors leave at the next tap; its cure
        for order in range(1, taps):
            old, new = (order + 1) % 2, order % 2
            for i in range(sources):
                for j in range(sources):
                    total = 0.0
                    for q in range(sources):
                        for k in range(order):
                            total += backwards[i, q, taps - 1 - order + k] * a[old, q, j, k]
                    wrong[i, j] = to_a[i, j] = to_b[j, i] = total
            if not (solve(errors[1].copy(), to_a) and solve(errors[0].copy(), to_b)):
                return False
            for i in range(sources):
                for j in range(sources):
                    for q in range(sources):
                        errors[0, i, j] -= wrong[q, i] * to_a[q, j]
                        errors[1, i, j] -= wrong[i, q] * to_b[q, j]
                    for k in range(order + 1):
                        a[new, i, j, k] = a[old, i, j, k]
                        b[new, i, j, k + 1] = b[old, i, j, k]
                    for q in range(sources):
                        scale_a, scale_b = to_a[q, j], to_b[q, j]
                        for k in range(order + 1):
                            a[new, i, j, k] -= b[old, i, q, k] * scale_a
                            b[new, i, j, k + 1] -= a[old, i, q, k] * scale_b
        return True

    contiguous = [numba.types.Array(numba.float64, dimensions, "C") for dimensions in (3, 4, 4, 3)]
    # sums in any order are what lets the processor add four at a time
    return numba.njit(numba.boolean(*contiguous), fastmath={"reassoc", "contract", "nsz"})(whittle)
