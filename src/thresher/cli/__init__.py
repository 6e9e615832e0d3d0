"""The command line: `thresher COMMAND`. One module per command; each imports what it needs when it runs.

Exit codes: 0 success; 1 an error, reported in one line on standard error (bad data, a missing file, a damaged index, a
failed check); 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import Annotated

import typer

from thresher._version import __version__
from thresher.cli.output import be_quiet
from thresher.errors import ThresherError

__all__ = ["app", "main"]

EPILOG = (
    "Start with `thresher quickstart`, or: `thresher build corpus.jsonl -o my-index`, then "
    '`thresher ask my-index "a query"`. Exit codes: 0 success, 1 error, 2 wrong usage, '
    "130 interrupted."
)

app = typer.Typer(
    name="thresher",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

# command name -> (module, function), in the order help shows them
_COMMANDS = {
    "quickstart": ("thresher.cli.quickstart", "quickstart"),
    "build": ("thresher.cli.build", "build"),
    "prune": ("thresher.cli.prune", "prune"),
    "encode": ("thresher.cli.encode", "encode"),
    "search": ("thresher.cli.search", "search"),
    "ask": ("thresher.cli.ask", "ask"),
    "rerank": ("thresher.cli.rerank", "rerank"),
    "eval": ("thresher.cli.eval", "eval_"),
    "curves": ("thresher.cli.curves", "curves"),
    "info": ("thresher.cli.info", "info"),
    "verify": ("thresher.cli.info", "verify"),
}
# groups: name -> (module, typer app)
_GROUPS = {
    "quality": ("thresher.cli.quality", "quality"),
    "context": ("thresher.cli.context", "app"),
    "calibrate": ("thresher.cli.calibrate", "app"),
}


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"thresher {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Log progress (-vv: debug messages).")
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Build and query thresher indexes."""
    be_quiet(quiet)
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


def _register() -> None:
    for name, (module, function) in _COMMANDS.items():
        app.command(name, context_settings={"help_option_names": ["-h", "--help"]})(
            getattr(import_module(module), function)
        )
    for name, (module, group) in _GROUPS.items():
        app.add_typer(getattr(import_module(module), group), name=name)


def main() -> None:
    """Entry point of the console script `thresher`."""
    _register()
    try:
        app()
    except ThresherError as err:
        sys.stderr.write(f"error: {err}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # no second error when Python flushes
        sys.exit(1)
    except OSError as err:  # a full disk, a folder that may not be written
        sys.stderr.write(f"error: {err}\n")
        sys.exit(1)
