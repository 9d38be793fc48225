"""Latency histograms that take the same space after seven days as after one minute."""

from __future__ import annotations

import collections
import math


class Histogram:
    """Durations in buckets that grow by 5 %, which is exact enough for percentiles."""

    SHORTEST = 1e-5
    GROWTH = math.log(1.05)

    def __init__(self, buckets: dict[int, int] | None = None, longest: float = 0.0) -> None:
        self.buckets = collections.Counter(buckets or {})
        self.longest = longest

    def add_duration(self, seconds: float) -> None:
        bucket = int(math.log(max(seconds, self.SHORTEST) / self.SHORTEST) / self.GROWTH)
        self.buckets[bucket] += 1
        self.longest = max(self.longest, seconds)

    def merge_from(self, other: Histogram) -> None:
        self.buckets += other.buckets
        self.longest = max(self.longest, other.longest)

    def __len__(self) -> int:
        return sum(self.buckets.values())

    def quantile(self, share: float) -> float:
        remaining = share * len(self)
        for bucket in sorted(self.buckets):
            remaining -= self.buckets[bucket]
            if remaining <= 0:
                middle = self.SHORTEST * math.exp((bucket + 0.5) * self.GROWTH)
                return min(middle, self.longest)
        return 0.0
