"""`devmodels graph`: nodes and how they hang together, as a tree, as JSON, or as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from devmodels.blockbackend import Graph
from devmodels.blockbackend.describe import GraphData, NodeData, describe
from devmodels.cli.blockdev import add_blockdev, add_object
from devmodels.iocontext import IoContext
from devmodels.options import OptionError

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def show_graph(blockdevs: Sequence[str], objects: Sequence[str], *, as_json: bool, svg: Path | None) -> None:
    """Open the nodes, draw them, close them; OptionError where an option is wrong."""
    context = IoContext.wall()
    graph = Graph(context)
    try:
        for text in objects:
            add_object(graph, text)
        for text in blockdevs:
            add_blockdev(graph, text)
        data = describe(graph.nodes.values())
        if svg is not None:
            try:
                svg.write_text(to_svg(data))
            except OSError as error:
                raise OptionError(f"--svg: cannot write {str(svg)!r}: {error.strerror}") from None
        if as_json:
            import sys

            sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")
        elif svg is None:
            print_tree(data)
    finally:
        graph.close()
        context.close()


def size_in_words(size: int) -> str:
    """A number of bytes in the largest unit that divides it well."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"


def label(node: NodeData) -> str:
    """What stands in a box after the name."""
    if node["type"] == "block-backend":
        return "backend"
    parts = [node["driver"], size_in_words(node["size"])]
    if node["read-only"]:
        parts.append("read-only")
    return ", ".join(parts)


def print_tree(data: GraphData) -> None:
    """Each node that nobody uses, with what is below it; what was shown already is only named again."""
    from rich.console import Console
    from rich.markup import escape
    from rich.tree import Tree

    nodes = {node["id"]: node for node in data["nodes"]}
    children = {node["id"] for node in data["nodes"]} & {edge["child"] for edge in data["edges"]}
    seen: set[int] = set()

    def add(tree: Tree | None, number: int, name: str) -> Tree:
        node = nodes[number]
        text = f"{f'{name}: ' if name else ''}[bold]{escape(node['name'])}[/bold]"
        again = number in seen
        seen.add(number)
        text += " (see above)" if again else f"  [dim]{escape(label(node))}[/dim]"
        branch = Tree(text) if tree is None else tree.add(text)
        if not again:
            for edge in data["edges"]:
                if edge["parent"] == number:
                    add(branch, edge["child"], edge["name"])
        return branch

    console = Console(highlight=False, soft_wrap=True)
    for node in data["nodes"]:
        if node["id"] not in children:
            console.print(add(None, node["id"], ""))


# --- a picture

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 210, 46, 30, 50, 20


def to_svg(data: GraphData) -> str:
    """A picture of the graph: users above what they use, an arrow for each edge with the child's name."""
    from xml.sax.saxutils import escape

    places = _places(data)
    width = max((x for x, _ in places.values()), default=0) + BOX_WIDTH + MARGIN
    height = max((y for _, y in places.values()), default=0) + BOX_HEIGHT + MARGIN
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}" font-family="sans-serif">'
        ),
        (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"'
            ' orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for edge in data["edges"]:
        (x1, y1), (x2, y2) = places[edge["parent"]], places[edge["child"]]
        x1, x2, y1 = x1 + BOX_WIDTH // 2, x2 + BOX_WIDTH // 2, y1 + BOX_HEIGHT
        what = ", ".join(edge["perm"]) or "at rest"
        # Down in its own column, where no box of a row between can be in the way, and over just above the child.
        turn = y2 - GAP_Y
        out.append(
            f'<polyline points="{x1},{y1} {x1},{turn} {x2},{y2}" fill="none" stroke="black" marker-end="url(#head)">'
            f"<title>{escape(what)}</title></polyline>"
        )
        out.append(f'<text x="{x1 + 6}" y="{y1 + 20}" font-size="11">{escape(edge["name"])}</text>')
    for node in data["nodes"]:
        x, y = places[node["id"]]
        fill = "#eef" if node["type"] == "block-backend" else "#efe"
        out.append(
            f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="{fill}" stroke="black"/>'
        )
        for dy, size, text in ((19, 13, node["name"]), (36, 11, label(node))):
            out.append(
                f'<text x="{x + BOX_WIDTH // 2}" y="{y + dy}" font-size="{size}" text-anchor="middle">'
                f"{escape(text)}</text>"
            )
    return "\n".join([*out, "</svg>", ""])


def _places(data: GraphData) -> dict[int, tuple[int, int]]:
    """Where each box's upper left corner is: a row below the lowest of its users, side by side in each row."""
    row: dict[int, int] = {}
    for node in data["nodes"]:  # Users come first.
        above = [row[edge["parent"]] for edge in data["edges"] if edge["child"] == node["id"]]
        row[node["id"]] = max(above, default=-1) + 1
    taken: dict[int, int] = {}
    places = {}
    for number, at in row.items():
        places[number] = (
            MARGIN + taken.get(at, 0) * (BOX_WIDTH + GAP_X),
            MARGIN + at * (BOX_HEIGHT + GAP_Y),
        )
        taken[at] = taken.get(at, 0) + 1
    return places
