"""One block layer under every device: requests, nodes, and the backend between them and the device."""

from devmodels.blockbackend.accounting import BlockStats
from devmodels.blockbackend.backend import BlockBackend
from devmodels.blockbackend.graph import Graph, GraphError
from devmodels.blockbackend.node import BlockLimits, BlockNode
from devmodels.blockbackend.opening import open_node
from devmodels.blockbackend.options import BlockOptionError
from devmodels.blockbackend.request import Flags, Op, Origin, Request

__all__ = [
    "BlockBackend",
    "BlockLimits",
    "BlockNode",
    "BlockOptionError",
    "BlockStats",
    "Flags",
    "Graph",
    "GraphError",
    "Op",
    "Origin",
    "Request",
    "open_node",
]
