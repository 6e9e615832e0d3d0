"""Student's t distribution: tail probability and quantile, without scipy.

P(T > t) with n degrees of freedom is I(n / (n + t^2); n/2, 1/2) / 2 for t >= 0 (Abramowitz and Stegun, 26.7.1), where I
is the regularised incomplete beta function. I is computed from its continued fraction (same book, 26.5.8) by the
modified Lentz method; the quantile by bisection. Tests hold both against scipy to 1e-10.
"""

from __future__ import annotations

import math
from functools import lru_cache

_TINY = 1e-300
_PRECISION = 1e-16


def upper_tail(t: float, degrees: int) -> float:
    """P(T > t); `degrees` is 1 or more, `t` may be infinite."""
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    whole = degrees + t * t
    tail = 0.5 * _incomplete_beta(degrees / whole, t * t / whole, degrees / 2, 0.5)
    return tail if t >= 0 else 1.0 - tail


@lru_cache(maxsize=256)
def quantile(probability: float, degrees: int) -> float:
    """The t that a share `probability` of the distribution lies below; 0 < probability < 1."""
    if probability < 0.5:
        return -quantile(1.0 - probability, degrees)
    low, high = 0.0, 1.0
    while upper_tail(high, degrees) > 1.0 - probability:
        high *= 2.0
    while high - low > 1e-14 * max(high, 1.0):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if upper_tail(middle, degrees) > 1.0 - probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(x: float, y: float, a: float, b: float) -> float:
    """I(x; a, b) for 0 <= x <= 1, with y = 1 - x given apart: near x = 1 the difference would have lost its digits."""
    if x == 0.0 or y == 0.0:
        return x
    if x > (a + 1.0) / (a + b + 2.0):  # there the fraction of the mirrored function converges faster
        return 1.0 - _incomplete_beta(y, x, b, a)
    front = math.exp(a * math.log(x) + b * math.log(y) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    return front / a * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction 1 / (1 + d1 / (1 + d2 / (1 + ...)))."""
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < 4 * _PRECISION:
            break
    return value


def _away_from_zero(number: float) -> float:
    return number if abs(number) > _TINY else _TINY
