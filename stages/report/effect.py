"""A difference between two models, seed by seed, and what can be found about it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.report.inference import (
    EQUALITY_CONFIDENCE,
    MOST_SEEDS,
    Interval,
    seeds_to_be_equal,
    seeds_to_be_not_lower,
    seeds_to_differ,
    seeds_to_spread_apart,
)

# Two numbers that lie closer than this are equal.
EQUAL_RATIO, EQUAL_DIFFERENCE = 1.1, 0.02

Relation = Literal["higher", "lower", "not lower"]
Side = Literal["above", "below", "equal"]
Array = NDArray[np.float64]


def number(value: float) -> str:
    """Three significant digits, without an exponent for the errors of this project."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Effect:
    """How far `first` lies above (below 0: under) `factor` times `second`, seed by seed.

    first, second: means over the common seeds. values: a difference a seed, natural logarithms of
    ratios where `ratio`. seeds and images: intervals of their mean over further seeds and further
    images, at CONFIDENCE, then at EQUALITY_CONFIDENCE; None over a single seed. higher, not_lower:
    how likely one seed of the first is to lie above `factor` times one of the second, and above
    the margin below it, None where seeds do not tell. diverged: the fraction of seeds that did, of
    either. better: of the measure. freedom: of a spread over seeds, the degrees of freedom that
    each seed but the first gives to either side.
    """

    first: float
    second: float
    factor: float
    ratio: bool
    values: Array
    seeds: tuple[Interval, Interval] | None
    images: tuple[Interval, Interval]
    higher: float | None = None
    not_lower: float | None = None
    diverged: tuple[float, float] = (0.0, 0.0)
    better: Literal["higher", "lower"] | None = None
    freedom: tuple[float, float] | None = None

    @property
    def n(self) -> int:
        """Seeds compared."""
        return len(self.values)

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def margin(self) -> float:
        """What is no difference, either way."""
        return float(np.log(EQUAL_RATIO)) if self.ratio else EQUAL_DIFFERENCE

    @property
    def side(self) -> Side | None:
        """Where the first lies; "equal" is asked for a factor of 1 alone. None: not decided."""
        if self.seeds is None:
            return None
        (differs, equals) = zip(self.seeds, self.images, strict=True)
        found: Side | None = None
        if min(low for low, _ in differs) > 0:
            found = "above"
        elif max(high for _, high in differs) < 0:
            found = "below"
        elif self.factor == 1 and all(-self.margin < a and b < self.margin for a, b in equals):
            found = "equal"
        return found if self._worse in (None, found) else None

    @property
    def not_below(self) -> bool:
        """Whether the first is above, or below by less than the margin (one-sided, at 5 %)."""
        if self.seeds is None or self._worse == "below":
            return False
        return min(self.seeds[1][0], self.images[1][0]) > -self.margin

    @property
    def below_margin(self) -> bool:
        """Whether the first is below by more than the margin (one-sided, at 5 %)."""
        if self.seeds is None or self._worse == "above":
            return False
        return max(self.seeds[1][1], self.images[1][1]) < -self.margin

    @property
    def _worse(self) -> Side | None:
        """The one side that can be found where more seeds of one model diverged."""
        one, other = self.diverged
        if one == other or self.better is None:
            return None
        return "above" if (one > other) == (self.better == "lower") else "below"

    def is_(self, relation: Relation) -> bool | None:
        """Whether the first stands in that relation to the second; None: not decided."""
        if relation == "not lower":
            return True if self.not_below else False if self.below_margin else None
        side = self.side
        if side is None:
            return None
        return side == ("above" if relation == "higher" else "below")

    def agreement(self, relation: Relation) -> float | None:
        """How likely one seed is to show the relation."""
        if relation == "not lower":
            return self.not_lower
        return 1 - self.higher if relation == "lower" and self.higher is not None else self.higher

    def seeds_needed(self, relation: Relation) -> str:
        """How many seeds would answer, were the mean and the spread as seen."""
        if self.seeds is None:
            return "one seed decides nothing about a method"
        if any(self.diverged):
            return "a seed diverged"
        (low, high), (least, most) = self.images
        seen = self.mean, float(self.values.std(ddof=1))
        enough = []
        if self.freedom:
            if high < 0 or low > 0:
                enough.append(seeds_to_spread_apart(float(np.exp(2 * self.mean)), *self.freedom))
        elif relation == "not lower":
            if least > -self.margin:
                enough.append(seeds_to_be_not_lower(*seen, self.margin))
            if most < -self.margin:
                enough.append(seeds_to_be_not_lower(-seen[0], seen[1], -self.margin))
        else:
            if high < 0 or low > 0:
                enough.append(seeds_to_differ(*seen))
            if self.factor == 1 and least > -self.margin and most < self.margin:
                enough.append(seeds_to_be_equal(*seen, self.margin))
        if not enough:
            return "no number of seeds would decide on these images"
        counts = [count for count in enough if count is not None]
        if not counts:
            return f"more than {MOST_SEEDS:,} seeds would decide"
        return f"about {max(min(counts), self.n + 1):,} seeds would decide"

    def interval(self, ends: Interval) -> str:
        return " to ".join(self._value(end) for end in ends)

    @property
    def estimate(self) -> str:
        """The mean, and its interval over seeds where there are several."""
        return self._value(self.mean) + (
            f" ({self.interval(self.seeds[0])})" if self.seeds else " (one seed)"
        )

    def _value(self, value: float) -> str:
        return number(float(np.exp(value))) if self.ratio else f"{value:+.3f}"

    def __str__(self) -> str:
        times = f"{self.factor:g} times " if self.factor != 1 else ""
        kind = "ratio" if self.ratio else "difference"
        return (
            f"{number(self.first)} against {times}{number(self.second)}, {kind} "
            f"{self._value(self.mean)} ({self._intervals(0)})"
        )

    @property
    def near(self) -> str:
        """The intervals that equality, or not being lower, was found by."""
        return f"{EQUALITY_CONFIDENCE:.0%}: {self._intervals(1)}"

    def _intervals(self, kind: int) -> str:
        seeds = f"{self.interval(self.seeds[kind])} over {self.n} seeds" if self.seeds else ""
        return f"{seeds or 'one seed'}; {self.interval(self.images[kind])} over images"
