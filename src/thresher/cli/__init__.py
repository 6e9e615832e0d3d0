"""The command line: `thresher COMMAND`. One module per command; each imports what it needs when it runs.

Exit codes: 0 success; 1 an error, reported in one line on standard error (bad data, a missing file, a damaged index, a
failed check); 2 wrong usage; 3 nothing went wrong, and what was to be shown is not (`certify`, `compare`,
`shadow`); 130 interrupted.
"""

from __future__ import annotations

import io
import logging
import sys
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from thresher._version import __version__
from thresher.checks import printable, shown
from thresher.cli.output import be_quiet, complain, drop_output, prepare_streams
from thresher.errors import ThresherError

__all__ = ["app", "main"]

ISSUES = "https://github.com/thresher-search/thresher/issues"
INTERRUPTED = 130
"""What typer makes of Control-C."""
EPILOG = (
    "Start with `thresher quickstart`, or: `thresher build corpus.jsonl -o my-index`, then "
    '`thresher ask my-index "a query"`. Exit codes: 0 success, 1 error, 2 wrong usage, '
    "3 not shown (certify, compare, shadow), 130 interrupted."
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
    "add": ("thresher.cli.change", "add"),
    "delete": ("thresher.cli.change", "delete"),
    "sync": ("thresher.cli.change", "sync"),
    "merge": ("thresher.cli.change", "merge"),
    "export": ("thresher.cli.exchange", "export"),
    "export-queries": ("thresher.cli.exchange", "export_queries"),
    "import": ("thresher.cli.exchange", "import_"),
    "split": ("thresher.cli.split", "split"),
    "search": ("thresher.cli.search", "search"),
    "ask": ("thresher.cli.ask", "ask"),
    "serve": ("thresher.cli.serve", "serve"),
    "mcp": ("thresher.cli.mcp", "mcp"),
    "rerank": ("thresher.cli.rerank", "rerank"),
    "hybrank": ("thresher.cli.hybrank", "hybrank"),
    "compress": ("thresher.cli.compress", "compress"),
    "eval": ("thresher.cli.eval", "eval_"),
    "compare": ("thresher.cli.compare", "compare"),
    "judge": ("thresher.cli.judge", "judge"),
    "certify": ("thresher.cli.certify", "certify"),
    "shadow": ("thresher.cli.shadow", "shadow"),
    "report": ("thresher.cli.report", "report"),
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
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


class _Printable(logging.Formatter):
    """Messages may quote data."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, fit for a terminal."""
        return printable(super().format(record))


@cache
def _register() -> None:
    """Import the commands, once."""
    for name, (module, function) in _COMMANDS.items():
        app.command(name, context_settings={"help_option_names": ["-h", "--help"]})(
            getattr(import_module(module), function)
        )
    for name, (module, group) in _GROUPS.items():
        app.add_typer(getattr(import_module(module), group), name=name)


def main() -> None:
    """Entry point of the console script `thresher`."""
    prepare_streams()
    _register()
    sys.exit(_ended())


def _ended() -> int:  # noqa: PLR0911  (one a kind of error)
    """Run the command line; its exit code. Whatever goes wrong is one line on standard error."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except ThresherError as err:
        return _failed(str(err))
    except BrokenPipeError:  # whoever read the output has enough
        drop_output()
        return 1
    except OSError as err:  # a full disk, a folder that may not be written
        drop_output()
        return _failed(str(err))
    except MemoryError:
        return _failed("there is not enough memory for this")
    except Exception as err:
        if hasattr(err, "exit_code") and hasattr(err, "show"):  # wrong usage, as typer's parser says it
            told = io.StringIO()
            err.show(told)
            complain(told.getvalue().rstrip("\n"))
            return int(err.exit_code)
        return _unexpected(err)
    if code == INTERRUPTED:
        complain("interrupted")
    return code if isinstance(code, int) else 0


def _failed(message: str) -> int:
    complain("error: " + "; ".join(line.strip() for line in message.splitlines() if line.strip()))
    return 1


def _unexpected(err: Exception) -> int:
    """Say where to report what is thresher's fault; with `-vv` also how it came about."""
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        complain("".join(traceback.format_exception(err)))
    frame = traceback.extract_tb(err.__traceback__)[-1]
    return _failed(
        f"unexpected {type(err).__name__}: {shown(str(err))} ({Path(frame.filename).name}:{frame.lineno}). This is a "
        f"fault of thresher {__version__}: please report it, with the command and what `thresher -vv` adds, at {ISSUES}"
    )
