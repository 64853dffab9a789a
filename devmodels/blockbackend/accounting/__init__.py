"""What a backend has done: counters, latency histograms, and statistics of the last while."""

from devmodels.blockbackend.accounting.histogram import Histogram
from devmodels.blockbackend.accounting.intervals import IntervalStats, Window
from devmodels.blockbackend.accounting.node import Counted, NodeStats, Served
from devmodels.blockbackend.accounting.stats import BlockStats, Kind

__all__ = [
    "BlockStats",
    "Counted",
    "Histogram",
    "IntervalStats",
    "Kind",
    "NodeStats",
    "Served",
    "Window",
]
