"""Answers of a monitor as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from devmodels.cli.graph import size_in_words

Row = Mapping[str, Any]


def show(name: str, result: Any) -> None:
    """Print an answer: a table where it is a list of objects, lines where it is one."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if result == {}:
        return
    if isinstance(result, list) and result and all(isinstance(row, dict) for row in result):
        rows_of = _ROWS.get(name, _one_line)
        console.print(_table([line for row in result for line in rows_of(row)]))
    elif isinstance(result, list):
        console.print("\n".join(map(_text, result)) if result else "none")
    elif isinstance(result, dict):
        console.print("\n".join(f"{key}: {_text(value)}" for key, value in _flat(result).items()))
    else:
        console.print(_text(result))


def _table(rows: Sequence[Mapping[str, object]]) -> object:
    """A column for each name that any row has."""
    from rich import box
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        numbers = all(isinstance(row.get(name) or 0, int | float) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row.get(name, "")) for name in names))
    return table


def _text(value: object) -> str:
    from rich.markup import escape

    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        import msgspec

        return escape(msgspec.json.encode(value).decode())
    return escape(str(value))


def _one_line(row: Row) -> list[dict[str, object]]:
    return [_flat(row)]


def _flat(row: Row, prefix: str = "") -> dict[str, object]:
    """An object's members, those of inner objects by dotted names."""
    out: dict[str, object] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


# --- what is seldom read in full


def _node(row: Row) -> list[dict[str, object]]:
    out: dict[str, object] = {
        "node": row.get("node-name", ""),
        "driver": row["drv"],
        "size": size_in_words(row["image"]["virtual-size"]),
        "mode": "read-only" if row["ro"] else "read-write",
    }
    children = [f"{child['child']}: {child['node-name']}" for child in row.get("children", ())]
    if children or not row["file"].startswith("json:"):
        out["of"] = ", ".join(children) or row["file"]
    limits = {key: row[key] for key in ("iops", "iops_rd", "iops_wr", "bps", "bps_rd", "bps_wr") if row[key]}
    if limits:
        out["limits"] = ", ".join(f"{key} {value}" for key, value in limits.items())
    return [out]


def _device(row: Row) -> list[dict[str, object]]:
    out: dict[str, object] = {"device": row.get("qdev") or row["device"]}
    if "inserted" in row:
        out |= _node(row["inserted"])[0]
    if "tray_open" in row:
        out["tray"] = "open" if row["tray_open"] else "locked" if row["locked"] else "closed"
    if "io-status" in row:
        out["io-status"] = row["io-status"]
    return [out]


def _stats(row: Row) -> list[dict[str, object]]:
    """A line for each kind of request."""
    stats = row["stats"]
    lines: list[dict[str, object]] = []
    for short, kind in (("rd", "read"), ("wr", "write"), ("flush", "flush"), ("unmap", "discard")):
        count = stats[f"{short}_operations"]
        lines.append(
            {
                "device": "",
                "": kind,
                "done": count,
                "bytes": stats.get(f"{short}_bytes", ""),
                "mean time": _time(stats[f"{short}_total_time_ns"] / count) if count else "",
                "merged": stats.get(f"{short}_merged", ""),
                "failed": stats[f"failed_{short}_operations"],
                "invalid": stats[f"invalid_{short}_operations"],
            }
        )
    lines[0]["device"] = row.get("qdev") or row.get("device") or row.get("node-name", "")
    return lines


def _time(ns: float) -> str:
    """A time in the unit that suits it."""
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= unit:
            return f"{ns / unit:.3g} {name}"
    return f"{ns:.3g} ns"


_ROWS: dict[str, Callable[[Row], list[dict[str, object]]]] = {
    "query-block": _device,
    "query-blockstats": _stats,
    "query-named-block-nodes": _node,
}
