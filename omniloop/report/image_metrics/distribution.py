"""Distances of two sets of feature vectors: Frechet's, and the kernel distance of KID."""

from __future__ import annotations

import numpy as np

from omniloop.core.geometry import Array
from omniloop.core.seeds import generator


def frechet_distance(first: Array, second: Array) -> float:
    """Squared Frechet distance of the Gaussians that fit two sets of vectors.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` with sample means and unbiased sample
    covariances. Source: Dowson, Landau, The Frechet distance between multivariate normal
    distributions, Journal of Multivariate Analysis 12 (1982), equation 4; on features of
    Inception it is FID (Heusel et al., GANs trained by a two time-scale update rule converge
    to a local Nash equilibrium, 2017, equation 6), on those of I3D FVD (Unterthiner et al.,
    Towards accurate generative models of video, 2018).

    With ``C = A^T A`` the eigenvalues of ``C1 C2`` are the squares of the singular values of
    ``A1 A2^T``, so the root's trace is their sum: no root of a matrix, no complex numbers, and
    exact where a covariance is singular.

    Args:
        first: ``(N, D)``, N >= 2.
        second: ``(M, D)``, M >= 2.
    """
    means, factors = zip(*(_mean_and_factor(part) for part in (first, second)), strict=True)
    apart = means[0] - means[1]
    spread = sum(float((factor * factor).sum()) for factor in factors)
    shared = float(np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum())
    # Of two equal sets the difference is rounding, of either sign.
    return max(float(apart @ apart) + spread - 2 * shared, 0.0)


def _mean_and_factor(values: Array) -> tuple[Array, Array]:
    """Mean ``(D,)`` and a factor A, ``(min(N, D), D)``, of the covariance ``A^T A``."""
    count, width = values.shape
    mean = values.mean(axis=0)
    centred = (values - mean) / np.sqrt(count - 1)
    return mean, np.asarray(np.linalg.qr(centred, mode="r")) if count > width else centred


def kernel_distance(first: Array, second: Array, *, subsets: int, size: int) -> float:
    """KID: mean over subsets of the unbiased squared maximum mean discrepancy.

    The kernel is ``(x . y / D + 1)^3``; subsets are drawn without replacement from each set.
    Where both sets are no larger than a subset they are taken whole, once. May be negative.
    Source: Binkowski, Sutherland, Arbel, Gretton, Demystifying MMD GANs, 2018, section 4 and
    appendix; the estimator: Gretton et al., A kernel two-sample test, JMLR 13 (2012), lemma 6.

    Args:
        first: ``(N, D)``, N >= 2.
        second: ``(M, D)``, M >= 2.
        subsets: How many.
        size: Vectors of a subset, of each set; at least 2.
    """
    sizes = [min(size, len(part)) for part in (first, second)]
    if sizes == [len(first), len(second)]:
        return unbiased_mmd2(first, second)
    random = generator(0, "kid", len(first), len(second), subsets, size)
    found = [
        unbiased_mmd2(
            first[random.choice(len(first), sizes[0], replace=False)],
            second[random.choice(len(second), sizes[1], replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(found))


def unbiased_mmd2(first: Array, second: Array) -> float:
    """Unbiased squared maximum mean discrepancy under KID's kernel; see `kernel_distance`."""
    n, m = len(first), len(second)
    own_first, own_second = _kernel(first, first), _kernel(second, second)
    return float(
        (own_first.sum() - np.trace(own_first)) / (n * (n - 1))
        + (own_second.sum() - np.trace(own_second)) / (m * (m - 1))
        - 2 * _kernel(first, second).mean()
    )


def _kernel(first: Array, second: Array) -> Array:
    inner: Array = first @ second.T / first.shape[1] + 1
    return inner * inner * inner
