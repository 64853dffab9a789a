"""`devmodels`: the commands, their options and their exit statuses (0 done, 2 a wrong option or an unusable file)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from devmodels.options import OptionError

app = typer.Typer(
    help="Register-accurate emulated storage devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Register-accurate emulated storage devices."""


@app.command()
def serve(
    blockdev: Annotated[
        list[str],
        typer.Option(help="A block node, as JSON or key=value, with the names of QEMU's -blockdev."),
    ],
    export: Annotated[
        list[str], typer.Option(help="An export, as JSON or key=value, with the names of QEMU's --export.")
    ],
    poll_max_ns: Annotated[
        int,
        typer.Option(help="Longest busy polling before waiting for a notification, in nanoseconds; 0: none."),
    ] = 32768,
    strict: Annotated[
        bool, typer.Option(help="Report every departure of a driver from the specification.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log connections too.")] = False,
) -> None:
    """Offer devices to other programs, as qemu-storage-daemon does, until SIGINT or SIGTERM.

    Example: devmodels serve --blockdev driver=file,filename=disk.img,node-name=d0
    --export type=vhost-user-blk,id=e0,node-name=d0,addr.type=unix,addr.path=vu.sock,writable=on
    """
    from devmodels.cli.serve import Server, log_to_stderr

    log_to_stderr(verbose=verbose)
    with Server(poll_max_ns=poll_max_ns, strict=strict) as server:
        for text in blockdev:
            server.add_blockdev(text)
        for text in export:
            server.add_export(text)
        server.run()


def main() -> None:
    """Run the command; a user's mistake is one line on standard error and exit status 2."""
    try:
        app()
    except (OptionError, OSError) as error:
        sys.stderr.write(f"devmodels: {' '.join(str(error).split())}\n")
        raise SystemExit(2) from None
