"""`devmodels`: the commands, their options and their exit statuses (0 done, 2 a wrong option or an unusable file)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from devmodels.cli.values import PlainCommand, PlainGroup
from devmodels.options import OptionError, one_line

app = typer.Typer(
    cls=PlainGroup,
    help="Register-accurate emulated storage devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # slow to import, and seldom wanted

        sys.stdout.write(f"devmodels {version('devmodels')}\n")
        raise typer.Exit


@app.callback()
def _group(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """Register-accurate emulated storage devices."""


@app.command(cls=PlainCommand)
def serve(
    blockdev: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE", help="A block node, as JSON or key=value, with the names of QEMU's -blockdev."
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE",
            help="A PCI device to be exported, or what is on its bus, as JSON or key=value, as QEMU's -device.",
        ),
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXPORT", help="An export, as JSON or key=value, with the names of QEMU's --export."
        ),
    ] = None,
    objects: Annotated[
        list[str] | None,
        typer.Option(
            "--object",
            metavar="OBJECT",
            help="What nodes and exports can name, as QEMU's --object: throttle-group,id=…,limits.iops-total=…",
        ),
    ] = None,
    chardev: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHARDEV", help="Where a monitor listens: socket,id=ID,path=PATH,server=on,wait=off."
        ),
    ] = None,
    monitor: Annotated[
        list[str] | None,
        typer.Option(metavar="MONITOR", help="A QMP monitor on a chardev: chardev=ID."),
    ] = None,
    telemetry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TELEMETRY",
            help="Lines of JSON with all figures at a socket: PATH,interval=1s,requests=8. See devmodels stats.",
        ),
    ] = None,
    prometheus: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS:PORT", help="A page with all figures for Prometheus, at /metrics."),
    ] = None,
    poll_max_ns: Annotated[
        int,
        typer.Option(
            metavar="NS",
            min=0,
            help="Longest busy polling before waiting for a notification, in nanoseconds; 0: none.",
        ),
    ] = 100_000,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write what goes into and comes out of every export into this trace."
        ),
    ] = None,
    record_limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Stop recording before the trace is longer than this: 64M, say."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Report every departure of a driver from the specification.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log connections too.")] = False,
) -> None:
    """Offer devices to other programs, as qemu-storage-daemon does, until SIGINT, SIGTERM or the monitor's quit.

    --blockdev, --device, --export, --chardev and --monitor may be given several times.  For example:

    --blockdev driver=file,filename=disk.img,node-name=d0

    --export type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path=vu.sock

    --device virtio-blk-pci,id=v0,drive=d0

    --export type=vfio-user,id=e0,device=v0,addr.type=unix,addr.path=vfu.sock
    """
    from devmodels.cli.serve import Server, log_to_stderr

    # Hosts need no node: units may come later, and drives begin with an empty tray.
    for name, given in (("--blockdev", blockdev or device), ("--export", export)):
        # What is served may come by the monitor.
        if not given and not monitor:
            raise OptionError(f"Missing option '{name}'.")
    if record is None and record_limit is not None:
        raise OptionError(f"--record-limit: {record_limit} is given; expected --record with it")
    log_to_stderr(verbose=verbose)
    with Server(poll_max_ns=poll_max_ns, strict=strict) as server:
        if record is not None:
            server.record(record, record_limit)
        for text in objects or ():
            server.add_object(text)
        for text in blockdev or ():
            server.add_blockdev(text)
        for text in device or ():
            server.add_device(text)
        for text in export or ():
            server.add_export(text)
        for text in chardev or ():
            server.add_chardev(text)
        for text in monitor or ():
            server.add_monitor(text)
        for text in telemetry or ():
            server.add_telemetry(text)
        for text in prometheus or ():
            server.add_prometheus(text)
        server.run()


@app.command()
def graph(
    blockdev: Annotated[
        list[str],
        typer.Option(
            metavar="NODE", help="A block node, as JSON or key=value, with the names of QEMU's -blockdev."
        ),
    ],
    objects: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="OBJECT", help="What nodes can name, as serve takes it."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, in the form of QEMU's x-debug-query-block-graph.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the graph into this file instead.")
    ] = None,
) -> None:
    """Show block nodes and what is below them as a tree.

    --blockdev may be given several times.  For example:

    --blockdev driver=raw,node-name=r0,file.driver=file,file.filename=disk.img
    """
    from devmodels.cli.graph import show_graph

    show_graph(blockdev, objects or [], as_json=as_json, svg=svg)


@app.command("map")
def map_command(
    image: Annotated[
        str,
        typer.Argument(metavar="IMAGE", help="A raw image, or json:{…} with the names of QEMU's -blockdev."),
    ],
    image_opts: Annotated[bool, typer.Option("--image-opts", help="IMAGE is key=value,….")] = False,
    force_share: Annotated[
        bool, typer.Option("--force-share", "-U", help="Also where somebody else writes to the image.")
    ] = False,
    objects: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="OBJECT", help="What nodes can name, as serve takes it."),
    ] = None,
    output: Annotated[Literal["human", "json"], typer.Option(help="How to print it.")] = "human",
) -> None:
    """Show what each part of an image is: data, zeroes, or from a backing image; and where it lies.

    The options and the output are those of qemu-img map.
    """
    from devmodels.cli.map import map_image

    map_image(image, image_opts=image_opts, force_share=force_share, objects=objects or [], output=output)


@app.command()
def stats(
    path: Annotated[str, typer.Argument(metavar="SOCKET", help="The socket of devmodels serve --telemetry.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the lines of JSON as they come.")] = False,
    count: Annotated[
        int, typer.Option(metavar="N", min=0, help="End after N lines; 0: with the daemon.")
    ] = 0,
) -> None:
    """Show what a daemon does: requests and bytes a second, latencies, queue depths, of each device and node.

    Nodes are there whose option accounting is on, and those that throttle.
    """
    from devmodels.cli.stats import show_stats

    show_stats(path, as_json=as_json, count=count)


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def monitor(
    socket: Annotated[Path, typer.Argument(metavar="SOCKET", help="The monitor's UNIX socket.")],
    line: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND [ARGUMENT]...]", help="One command; without it lines are read."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print answers as JSON.")] = False,
) -> int:
    """Talk to a QMP monitor: of devmodels serve, of a program, or of QEMU.

    Commands are QMP's, with arguments as key=value or as one JSON object, or words as in QEMU's human monitor:

    devmodels monitor qmp.sock block_resize node-name=d0 size=2G

    devmodels monitor qmp.sock info blockstats

    The exit status is 1 where the other side refuses.
    """
    from devmodels.cli.monitor import run

    return run(socket, line or (), as_json=as_json)


def main() -> None:
    """Run the command; a user's mistake is one line on standard error and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except typer.TyperException as error:
        _fail(error.format_message())
    except (OptionError, OSError) as error:
        _fail(str(error))
    except typer.Abort:
        status = 130
    raise SystemExit(status)


def _fail(text: str) -> NoReturn:
    """Without a text, help has been printed already."""
    if text:
        sys.stderr.write(f"devmodels: {one_line(text)}\n")
    raise SystemExit(2) from None
