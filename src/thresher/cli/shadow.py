"""`thresher shadow`: what the live queries of a pruned index have shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import JsonOption, echo, emit_json, note, table

if TYPE_CHECKING:
    from thresher.certify.certificate import Subject
    from thresher.certify.shadow_report import ShadowReport

NOT_SHOWN = 3
"""Exit code where nothing went wrong and the margin is not proven."""
_SECONDS = 30.0


def shadow(
    state: Annotated[str, typer.Argument(metavar="STATE|URL", help="State file, or address of a server.")],
    index: Annotated[str, typer.Option(help="With URL: name of the index; by default the server's first.")] = "",
    reset: Annotated[
        bool, typer.Option("--reset", help="Start the test anew, and end a fall-back to the baseline.")
    ] = False,
    api_key_env: Annotated[
        str, typer.Option(help="With URL: environment variable that holds a key; --reset needs an admin key.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Show what live queries, asked in part on the unpruned index too, have shown of a pruned one.

    \b
    Exit code 0: certified. 3: undecided, or lost. 1: an error.

    \b
    Examples:
      thresher shadow shadow.json
      thresher shadow http://localhost:8080 --index pruned --json
      thresher shadow http://localhost:8080 --reset --api-key-env ADMIN_KEY
    """
    from thresher.certify.running import Running

    if state.startswith(("http://", "https://")):
        found = _asked(state.rstrip("/"), index, api_key_env, reset)
    else:
        found = Running.reset_file(Path(state)) if reset else Running.read(Path(state))
    if json:
        emit_json(found.as_json())
    else:
        show(found)
    if reset:
        note("the test starts anew")
        return
    if found.outcome != "certified":
        raise typer.Exit(NOT_SHOWN)


def show(report: ShadowReport) -> None:
    """Print a report: the test, those before it, and what it comes to."""

    def commit(side: Subject) -> str:
        return f"{side.path or 'no index'}, commit {side.commit}"

    settings = report.settings
    rows = [
        ("system", commit(report.system)),
        ("baseline", commit(report.baseline)),
        ("measure", f"{settings.measure}, margin {settings.margin:g}, alpha {settings.alpha:g}"),
        ("policy", f"{settings.policy}, {100 * settings.share:.3g}% of the queries"),
        ("since", report.began),
        ("sampled", f"{report.sampled:,}; dropped {report.dropped:,}, failed {report.failed:,}"),
    ]
    for name, value in rows:
        echo(f"{name:9} {value}")
    if report.history:
        echo()
        table(
            ["ended", "outcome", "sampled", "loss", "commits", "why"],
            [
                (one.ended, one.outcome, one.sampled, "" if one.mean is None else one.mean,
                 f"{one.system}, {one.baseline}", one.why)
                for one in report.history
            ],
            numeric=["sampled", "loss"],
        )  # fmt: skip
    echo()
    echo(str(report))
    if report.problem:
        echo(f"the state cannot be written: {report.problem}")


def _asked(url: str, name: str, key_name: str, reset: bool) -> ShadowReport:
    """The report of a server's index.

    Raises:
        DataNotFoundError: the server has no such index, or no shadow of it.
        InputError: the server refuses the call, or does not answer as thresher does.
    """
    from urllib.parse import quote

    from thresher.certify.shadow_report import ShadowReport
    from thresher.errors import InputError

    key = _key(key_name)
    if not name:
        found = _called(f"{url}/info", key).get("indexes")
        names = [one.get("name") for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        name = str(next(iter(names), ""))
    if reset:
        document = _called(f"{url}/admin/shadow/reset", key, {"index": name})
    else:
        document = _called(f"{url}/indexes/{quote(name, safe='')}/shadow", key)
    try:
        return ShadowReport.from_json(document)
    except (KeyError, TypeError, ValueError) as err:
        raise InputError(
            f"this is not a report of thresher ({err}); is it the address of `thresher serve`?", url
        ) from err


def _key(name: str) -> str:
    """The key in an environment variable.

    Raises:
        ConfigError: it is not set.
    """
    import os

    from thresher.errors import ConfigError

    if name and not os.environ.get(name):
        raise ConfigError(f"the environment variable {name} is not set; it must hold the key of the server")
    return os.environ[name] if name else ""


def _called(url: str, key: str, body: dict[str, object] | None = None) -> dict[str, object]:
    """What a server answers.

    Raises:
        InputError: it refuses the call, or does not answer in JSON.
        OSError: it cannot be reached.
    """
    import json
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    from thresher.errors import InputError

    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, headers), timeout=_SECONDS) as answer:  # noqa: S310  (http or https)
            document = json.load(answer)
    except HTTPError as err:
        raise InputError(f"{url} answers {err.code}: {err.read(1000).decode(errors='replace')}") from None
    except URLError as err:
        raise OSError(f"{url} cannot be reached: {err.reason}") from err
    except ValueError as err:
        raise InputError(f"{url} does not answer in JSON ({err}); is it the address of `thresher serve`?") from None
    if not isinstance(document, dict):
        raise InputError(f"{url} answers with something else than an object; is it the address of `thresher serve`?")
    return document
