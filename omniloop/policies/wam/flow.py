"""Flow matching: straight paths from data (time 0) to noise (time 1).

``x_t = (1 - t) x + t eps`` and its velocity ``eps - x`` (Liu et al. 2022; Lipman et al. 2022;
`seeds/omnidreams.txt` sections 4 and 5).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def mix(x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """The point of the path at `t`, which broadcasts from the left."""
    t = t.reshape(t.shape + (1,) * (x.ndim - t.ndim))
    return (1 - t) * x + t * eps


def balance(t: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factors ``(c_in, c_skip, c_out)`` of a network that gives a velocity at times `t`.

    For data of a deviation and noise of deviation 1, ``c_in x_t`` has deviation 1, ``c_skip x_t``
    is the best linear guess of the velocity, and what is left has deviation `c_out` (Karras et al.
    2022, appendix B.6, carried over to straight paths). Where data hardly vary there is hardly
    anything left to learn.
    """
    power = ((1 - t) * deviation) ** 2 + t**2
    return power.rsqrt(), (t - (1 - t) * deviation**2) / power, deviation * power.rsqrt()


def shifted(u: Tensor, shift: float) -> Tensor:
    """Uniform times moved towards noise, where a plan takes shape in few steps.

    ``s u / (1 + (s - 1) u)``, the time shift of Esser et al. 2024, section 5.3.2.
    """
    return shift * u / (1 + (shift - 1) * u)


def euler(velocity: Callable[[Tensor, Tensor], Tensor], eps: Tensor, steps: int) -> Tensor:
    """Follow ``velocity(x, t)`` from noise at time 1 to data at time 0 in equal steps.

    `velocity` gets times ``(N,)``, one for each row of `eps` ``(N, ...)``.
    """
    x = eps
    for k in range(steps):
        t = torch.full((len(eps),), 1 - k / steps, dtype=eps.dtype, device=eps.device)
        x = x - velocity(x, t) / steps
    return x
