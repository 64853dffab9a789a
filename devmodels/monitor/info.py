"""What there is of block: `query-block`, `query-named-block-nodes`, `x-debug-query-block-graph`.

Follows QEMU's qapi/block-core.json (BlockInfo, BlockDeviceInfo, ImageInfo).  What QEMU calls a backing image is here
the node that a filter stands over, or what an overlay has below.
"""

from __future__ import annotations

import os
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from devmodels.blockbackend import BlockBackend, BlockNode
from devmodels.blockbackend.describe import GraphData, describe
from devmodels.blockbackend.options import DetectZeroes, NodeOptions, child_names
from devmodels.blockbackend.permissions import Role
from devmodels.monitor.command import Arguments
from devmodels.monitor.throttle import ThrottleInfo, throttle_info
from devmodels.monitor.world import Attached, World


class ImageInfo(msgspec.Struct, rename="kebab"):
    """What a node shows: sizes in bytes, `actual-size` of what is allocated."""

    filename: str
    format: str
    virtual_size: int
    actual_size: int
    backing_image: ImageInfo | UnsetType = UNSET


class BlockdevCacheInfo(msgspec.Struct, rename="kebab"):
    """`writeback`: writes may complete before they are stable."""

    writeback: bool
    direct: bool
    no_flush: bool


class BlockdevChild(msgspec.Struct, rename="kebab"):
    """A child of a node, and the node that it is."""

    child: str
    node_name: str


class BlockDeviceInfo(ThrottleInfo, kw_only=True):
    """A node, and, where it is asked for by a backend, the backend's modes and limits."""

    file: str
    ro: bool
    drv: str
    backing_file_depth: int
    encrypted: bool
    detect_zeroes: DetectZeroes
    image: ImageInfo
    cache: BlockdevCacheInfo
    write_threshold: int
    active: bool | UnsetType
    children: list[BlockdevChild] | UnsetType
    node_name: str = field(name="node-name")


class BlockInfo(msgspec.Struct):
    """A device or an export; `qdev` is what commands call a device, `inserted` its disk."""

    device: str
    type: str
    removable: bool
    locked: bool
    inserted: BlockDeviceInfo | UnsetType = UNSET
    qdev: str | UnsetType = UNSET
    io_status: Literal["ok", "failed", "nospace"] | UnsetType = field(name="io-status", default=UNSET)
    tray_open: bool | UnsetType = UNSET


class QueryNamedBlockNodes(Arguments, frozen=True):
    """`flat`: without what a filter stands over."""

    flat: bool = False


async def query_block(world: World) -> list[BlockInfo]:
    """Every device, and every export."""
    return [block_info(each) for each in world.attached()]


def node_info(node: BlockNode) -> BlockDeviceInfo:
    """A node that no device has."""
    return _info(node, None, flat=False)


def block_info(each: Attached) -> BlockInfo:
    """A device, or an export."""
    backend = each.backend
    tray = backend.tray
    return BlockInfo(
        device=backend.drive_name if backend.qom_path else each.name,
        type="unknown",
        removable=tray is not None,
        locked=tray is not None and tray.locked,
        inserted=_info(backend.node, backend, flat=False) if backend.inserted else UNSET,
        qdev=backend.qdev or UNSET,
        io_status=backend.io_status or UNSET,
        tray_open=UNSET if tray is None else tray.open,
    )


async def query_named_block_nodes(world: World, arguments: QueryNamedBlockNodes) -> list[BlockDeviceInfo]:
    """Every node, the newest first."""
    nodes = reversed(world.graph.nodes.values())
    return [_info(node, None, flat=arguments.flat) for node in nodes]


async def x_debug_query_block_graph(world: World) -> GraphData:
    """Nodes and edges."""
    return describe(world.graph.nodes.values())


def _info(node: BlockNode, backend: BlockBackend | None, *, flat: bool) -> BlockDeviceInfo:
    options = node.options
    image = image_info(node, flat=flat)
    depth, each = 0, image
    while each.backing_image is not UNSET:
        depth, each = depth + 1, each.backing_image
    limits = throttle_info(backend)
    return BlockDeviceInfo(
        **{name: getattr(limits, name) for name in limits.__struct_fields__},
        file=image.filename,
        node_name=node.node_name,
        ro=node.read_only if backend is None else backend.read_only,
        drv=options.driver,
        backing_file_depth=depth,
        encrypted=False,
        detect_zeroes=options.detect_zeroes,
        image=image,
        cache=BlockdevCacheInfo(
            backend is None or backend.write_cache, options.cache.direct, options.cache.no_flush
        ),
        write_threshold=0,
        active=node.active,
        children=[BlockdevChild(name, edge.node.node_name) for name, edge in node.children.items()],
    )


def image_info(node: BlockNode, *, flat: bool) -> ImageInfo:
    """What a node shows."""
    below = None if flat else _shown_through(node)
    return ImageInfo(
        filename=filename(node),
        format=node.options.driver,
        virtual_size=node.size,
        actual_size=_allocated(node),
        backing_image=UNSET if below is None else image_info(below, flat=False),
    )


def _shown_through(node: BlockNode) -> BlockNode | None:
    """What a filter stands over, or what an overlay shows where it has nothing; `raw` is a format, and no filter."""
    if node.options.driver == "raw":
        return None
    roles = Role.FILTERED | Role.COW
    return next((edge.node for edge in node.children.values() if edge.role & roles), None)


def _allocated(node: BlockNode) -> int:
    """What the host has allocated, in bytes, for a file and for what stands over one."""
    path = getattr(node.options, "filename", None)
    if isinstance(path, str):
        try:
            return os.stat(path).st_blocks * 512
        except OSError:
            return 0
    return sum(_allocated(edge.node) for edge in node.children.values())


_COMMON = {item.name for item in msgspec.structs.fields(NodeOptions)} - {"driver"}


def filename(node: BlockNode) -> str:
    """The name that a node is opened by, as QEMU's names are; where it has options besides, all of them as JSON."""
    options = node.options
    path = getattr(options, "filename", None)
    if isinstance(path, str):
        return path
    file = node.children.get("file")
    if options.driver == "raw" and file is not None and file.role & Role.FILTERED:
        name = filename(file.node)
        if not name.startswith("json:"):
            return name
    essence = _essence(node)
    if essence == {"driver": "null-co"}:
        return "null-co://"
    if options.driver == "blkdebug" and not essence.keys() - {"driver", "image", "config"}:
        image = filename(node.children["image"].node)
        if not image.startswith("json:"):
            return f"blkdebug:{essence.get('config', '')}:{image}"
    return "json:" + msgspec.json.format(msgspec.json.encode(essence), indent=0).decode()


def _essence(node: BlockNode) -> dict[str, object]:
    options = node.options
    out: dict[str, object] = {}
    children = child_names(type(options))
    for item in msgspec.structs.fields(type(options)):
        value = getattr(options, item.name)
        if item.encode_name in node.children and item.encode_name in children:
            out[item.encode_name] = _essence(node.children[item.encode_name].node)
        elif item.name not in _COMMON and (item.required or value != item.default):
            out[item.encode_name] = value
    return out
