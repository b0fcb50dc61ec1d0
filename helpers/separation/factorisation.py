"""Matrix factorisations of magnitude spectrograms, (bins, frames): non-negative ones, and low-rank plus sparse."""

import math

import torch

TINY = 1e-9  # beside magnitudes that are 1 on average


def nmf(magnitudes, components, divergence="kl", iterations=200, seed=0):
    """Return `templates (bins, components)`, each summing to 1, and `activations (components, frames)`.

    Their product approximates `magnitudes (bins, frames)`, non-negative. Multiplicative updates (Lee and Seung 2001)
    of 'kl', the generalised Kullback-Leibler divergence, or 'euclidean', the squared distance; neither ever grows.
    """
    if divergence not in ("kl", "euclidean"):
        raise ValueError(f"unknown divergence '{divergence}': take 'kl' or 'euclidean'")
    scale = magnitudes.mean().clamp_min(torch.finfo(magnitudes.dtype).tiny)
    v = magnitudes / scale
    generator = torch.Generator().manual_seed(seed)  # on the CPU, for the same start on every device
    w = (torch.rand(v.shape[0], components, generator=generator) + 0.1).to(v)
    h = (torch.rand(components, v.shape[1], generator=generator) + 0.1).to(v)
    for _ in range(iterations):
        h = h * _ratio(v, w, h, divergence)
        w = w * _ratio(v.T, h.T, w.T, divergence).T
    total = w.sum(0).clamp_min(TINY)
    return w / total, h * total[:, None] * scale


def _ratio(v, w, h, divergence):
    """Return the factor by which one multiplicative update changes h, given v ~ w @ h."""
    if divergence == "kl":
        return (w.T @ (v / (w @ h).clamp_min(TINY))) / w.sum(0).clamp_min(TINY)[:, None]
    return (w.T @ v) / (w.T @ w @ h).clamp_min(TINY)


def robust_pca(matrix, weight=None, tolerance=1e-6, iterations=200):
    """Return `low_rank` and `sparse`, which add up to `matrix (rows, columns)`, in double precision.

    Minimises the low-rank part's nuclear norm plus `weight` (default 1 / √max(rows, columns)) times the sparse part's
    absolute values (Candès et al. 2011), by the inexact augmented Lagrange multipliers of Lin, Chen and Ma (2010).
    Singular values come from the eigenvalues of the smaller Gram matrix: many times faster than an SVD.
    """
    m = matrix.double()
    weight = 1 / math.sqrt(max(m.shape)) if weight is None else weight
    if m.shape[0] > m.shape[1]:
        return tuple(part.T for part in robust_pca(m.T, weight, tolerance, iterations))
    norm = torch.linalg.eigvalsh(m @ m.T)[-1].clamp_min(0).sqrt()
    if norm == 0:
        return m.clone(), m.clone()
    multiplier = m / max(norm, m.abs().max() / weight)
    sparse, mu, limit = torch.zeros_like(m), 1.25 / norm, 1.25e7 / norm
    for _ in range(iterations):
        target = m - sparse + multiplier / mu
        squares, vectors = torch.linalg.eigh(target @ target.T)
        gains = (1 - 1 / (mu * squares.clamp_min(0).sqrt())).clamp_min(0)  # -inf, so 0, where nothing is there
        kept = vectors[:, gains > 0]
        low_rank = (kept * gains[gains > 0]) @ (kept.T @ target)
        target = m - low_rank + multiplier / mu
        sparse = target.sign() * (target.abs() - weight / mu).clamp_min(0)
        error = m - low_rank - sparse
        multiplier = multiplier + mu * error
        mu = min(mu * 1.5, limit)
        if error.norm() <= tolerance * m.norm():
            break
    return low_rank, m - low_rank
