"""The monitor: how a running daemon, or a machine in a program, is asked and told things, in the words of QEMU's QMP.

from devmodels.monitor import MonitorServer, World

monitor = MonitorServer("qmp.sock", World.of(assembly))
"""

from devmodels.monitor.server import MonitorServer
from devmodels.monitor.world import World

__all__ = ["MonitorServer", "World"]
