"""WADA-SNR: the signal-to-noise ratio from the distribution of amplitudes alone (Kim and Stern, Interspeech 2008).

Amplitudes of speech are taken to follow a gamma distribution with the shape 0.4, noise to be Gaussian. Of their sum x,

    G = ln E|x| − E ln|x|

grows with the signal-to-noise ratio. The table of G is computed here from this definition.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

SHAPE = 0.4
FIRST_DB = -20
LAST_DB = 100

_NODES = 400
_FAR = 10.0
_EULER_GAMMA = 0.5772156649015329


@functools.cache
def wada_table() -> Floats:
    """Return G for −20, −19, … 100 dB, made monotone.

    The substitution s = u^(1/shape) takes the singularity at 0 out of the density of a gamma variable s:
    ∫ f(s) s^(shape − 1) e^(−s) ds = ∫ f(u^(1/shape)) e^(−u^(1/shape)) du / shape.
    """
    import numpy as np

    top = 40.0**SHAPE  # e^-40 is the rest
    u, weights = np.polynomial.legendre.leggauss(_NODES)
    amplitudes = ((u + 1) / 2 * top) ** (1 / SHAPE)
    density = weights * (top / 2) * np.exp(-amplitudes) / (SHAPE * math.gamma(SHAPE))
    second_moment = SHAPE * (SHAPE + 1)
    table: list[float] = []
    for snr_db in range(FIRST_DB, LAST_DB + 1):
        sigma = math.sqrt(second_moment / 10 ** (snr_db / 10))
        ratios = amplitudes / sigma
        mean = sigma * float(density @ _mean_of_shifted(ratios))
        mean_log = math.log(sigma) + float(density @ _log_of_shifted(ratios))
        table.append(math.log(mean) - mean_log)
    return np.maximum.accumulate(np.array(table))


def wada_snr_db(statistic: float) -> float:
    """Return the signal-to-noise ratio for a value of G, −20 to 100 dB."""
    import numpy as np

    table = wada_table()
    return float(np.interp(statistic, table, np.arange(FIRST_DB, LAST_DB + 1, dtype=np.float64)))


def _mean_of_shifted(ratios: Floats) -> Floats:
    """Return E|a + z| for a standard normal z: the mean of a folded normal variable."""
    import numpy as np

    erf = np.array([math.erf(ratio / math.sqrt(2)) for ratio in ratios.tolist()])
    return math.sqrt(2 / math.pi) * np.exp(-np.square(ratios) / 2) + ratios * erf


def _log_of_shifted(ratios: Floats) -> Floats:
    """Return E ln|a + z| for a standard normal z.

    (a + z)² is noncentral chi-square with one degree of freedom, a mixture over j ~ Poisson(a²/2) of gamma variables
    with E ln = ln 2 + ψ(j + 1/2); far from 0, the series of the logarithm is shorter.
    """
    import numpy as np

    result = np.empty_like(ratios)
    far = ratios > _FAR
    a = ratios[far]
    result[far] = np.log(a) - 1 / (2 * a**2) - 3 / (4 * a**4) - 15 / (6 * a**6)
    half = np.square(ratios[~far])[:, np.newaxis] / 2
    j = np.arange(0, round(3 * _FAR**2))
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(j[1:]))])
    with np.errstate(divide="ignore"):
        poisson = np.exp(j * np.log(np.maximum(half, 1e-300)) - half - log_factorial)
    digamma = -_EULER_GAMMA - 2 * math.log(2) + np.concatenate([[0.0], np.cumsum(2 / (2 * j[:-1] + 1))])
    result[~far] = (math.log(2) + poisson @ digamma) / 2
    return result
