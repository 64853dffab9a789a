"""`--blockdev` and `--object`, as every command takes them: JSON or key=value."""

from __future__ import annotations

from devmodels.blockbackend import BlockOptionError, Graph
from devmodels.blockbackend.registry import coerce
from devmodels.iothreads import IoThreadOptions
from devmodels.options import OptionError, decode, shown
from devmodels.options import coerce as coerce_options


def add_blockdev(graph: Graph, text: str) -> None:
    """Open a block node that rests until it is used; OptionError, one line, where it cannot be.

    Images are in use only while somebody works with them: two daemons can hand one over.
    """
    what = "--blockdev"
    options = decode(text, None, what=what)
    if not text.lstrip().startswith("{"):
        options = coerce(options)
    name = options.get("node-name")
    if name is None:
        raise OptionError(f"{what}: node-name: missing; expected a name to refer to it")
    what = f"{what} {shown(name)}"
    options.setdefault("active", False)
    if isinstance(name, str) and name in graph.nodes:
        raise OptionError(f"{what}: node-name: given to two nodes; expected a name of its own")
    try:
        graph.add(options)
    except BlockOptionError as error:
        raise OptionError(f"{what}: {str(error).removeprefix('$.')}") from None


def add_object(graph: Graph, text: str) -> None:
    """Make an object that nodes, devices or exports can name; OptionError, one line, where it cannot be."""
    what = "--object"
    if not text.lstrip().startswith("{") and "=" not in text.partition(",")[0]:
        # As in QEMU, the kind may come first without its name.
        text = f"qom-type={text}"
    options = decode(text, None, what=what)
    if options.get("qom-type") == "iothread":
        options = coerce_options(options, IoThreadOptions)
    try:
        graph.object_add(options)
    except OptionError as error:
        raise OptionError(f"{what}: {str(error).removeprefix('$.')}") from None
