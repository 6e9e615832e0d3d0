"""`thresher serve`: indexes over HTTP."""

from __future__ import annotations

import errno
import gc
import logging
import os
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thresher.cli.output import complain, echo, grouped, note, say
from thresher.cli.shard_options import ShardOptions

if TYPE_CHECKING:
    from thresher.serve.keys import Key
    from thresher.serve.run import Server
    from thresher.serve.services import Services
    from thresher.serve.settings import ServeSettings
    from thresher.serve.shadowing import ShadowPlan


_SWITCH = 0.0005
"""Seconds after which Python lets another thread run: a tenth of its default, since the thread that reads and sends
would wait so long for each of those that search."""


@dataclass
class _Access:
    """Who may ask."""

    api_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the key, or several with commas between them.")
    ] = ""
    admin_key_env: Annotated[str, typer.Option(help="The same for keys that may change the indexes.")] = ""
    keys: Annotated[
        Path | None,
        typer.Option(help="TOML file of keys: name, sha256 or key, where, indexes, admin (docs/server.md)."),
    ] = None
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Listen beyond this machine although no key is set.")
    ] = False
    cors: Annotated[
        list[str] | None, typer.Option(help="Origin whose pages may send requests; repeat for several.")
    ] = None


@dataclass
class _Load:
    """How much at a time."""

    workers: Annotated[int, typer.Option(min=0, help="Calls side by side; 0 for four a core.")] = 0
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; one more is answered 429.")] = 128
    deadline_ms: Annotated[
        float, typer.Option(min=0, help="Milliseconds of a request that says none itself; 0 for no limit.")
    ] = 0.0
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Largest body of a request.")] = 16 * 2**20
    max_documents: Annotated[int, typer.Option(min=1, help="Most documents in a request.")] = 1000
    drain_seconds: Annotated[float, typer.Option(min=0, help="Time for requests in flight after TERM.")] = 30.0


@dataclass
class _Compared:
    """What pruned indexes are compared with."""

    shadow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIRECTORY",
            help="The unpruned index that a share of NAME's requests is also asked of; repeat for several.",
        ),
    ] = None
    shadow_share: Annotated[float, typer.Option(help="Share of the requests.")] = 0.02
    shadow_margin: Annotated[float, typer.Option(help="Mean loss that would matter. Choose it before looking.")] = 0.05
    shadow_measure: Annotated[
        Literal["overlap", "expected"], typer.Option(help="Loss: 1 - rank-biased overlap, or expected loss at 10.")
    ] = "overlap"
    shadow_policy: Annotated[
        Literal["report", "fall-back"],
        typer.Option(help="When the margin is exceeded: report it only, or answer from the unpruned index."),
    ] = "report"
    shadow_state: Annotated[
        Path | None, typer.Option(help="Folder that keeps the tests between starts; by default each start begins anew.")
    ] = None


@grouped
def serve(
    indexes: Annotated[
        list[str], typer.Argument(metavar="INDEX", help="Directories, or files that list shards; or NAME=either.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for a free one.")] = 8080,
    *,
    access: _Access,
    load: _Load,
    compared: _Compared,
    shards: ShardOptions,
    device: Annotated[str, typer.Option(help="For models: auto, cpu, cuda, mps.")] = "auto",
    shard: Annotated[
        bool, typer.Option("--shard", help="Also answer coordinators, for which each INDEX is one of several shards.")
    ] = False,
    access_log: Annotated[
        bool, typer.Option("--access-log/--no-access-log", help="Write a line of JSON for each request.")
    ] = True,
) -> None:
    """Serve indexes over HTTP: search, answers, reranking, encoding and context pruning in several dialects.

    An index is called by its directory's name, or by the name given. A new commit is taken up without a restart. TERM
    or Control-C finishes the requests in flight and stops; a second one stops at once. A TOML file that lists the
    shards of an index (`thresher split`) is served as one index is; the shards are folders, or servers with --shard.

    \b
    Examples:
      thresher serve my-index
      thresher serve docs=indexes/docs-2026 code=indexes/code --port 9000
      export THRESHER_KEY=$(openssl rand -hex 32)
      thresher serve my-index --host 0.0.0.0 --api-key-env THRESHER_KEY
      thresher serve pruned=indexes/pruned --shadow pruned=indexes/full --shadow-policy fall-back
      thresher serve shards/shard-0000 --shard --port 8081
      thresher serve docs=shards/shards.toml --on-missing partial --deadline-ms 300
      curl localhost:8080/search --json '{"query": "what is wifi", "k": 3}'
    """
    from thresher.errors import require
    from thresher.files import cache_folder

    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, extra="serve", purpose="thresher serve")
    from thresher.serve.app import create_app
    from thresher.serve.run import Server

    _log_to_stderr()
    sys.setswitchinterval(_SWITCH)
    settings = replace(_settings(host, port, access, load, access_log), shard=shard)
    check_address(settings)
    paths = named(indexes)
    shadows = _shadows(compared, list(paths))
    app = create_app(paths, settings, device=device, cache=cache_folder(), shadows=shadows, reaching=shards.reaching)
    app.state.services.when_ready = _freeze
    server = Server(app, settings, started=_say_started)
    server.run()
    if server.force_exit:
        complain("stopped at the second signal; requests in flight were dropped")
        sys.stdout.flush()
        os._exit(1)  # calls that still run are not waited for
    say("stopped")


def _freeze() -> None:
    """Leave what was loaded by now out of garbage collections: walking it stops all threads for half a second."""
    gc.collect()
    gc.freeze()


def _settings(host: str, port: int, access: _Access, load: _Load, log: bool) -> ServeSettings:
    from thresher.serve.settings import ServeSettings

    return ServeSettings(
        host=host,
        port=port,
        keys=_keys(access),
        without_key=access.without_key,
        cors=tuple(access.cors or ()),
        workers=load.workers,
        queue=load.queue,
        deadline_ms=load.deadline_ms,
        max_body_bytes=load.max_body_bytes,
        max_documents=load.max_documents,
        drain_seconds=load.drain_seconds,
        log=log,
    )


def _shadows(compared: _Compared, names: list[str]) -> dict[str, ShadowPlan]:
    """What is compared with what.

    Raises:
        BadParameter: a name is not that of an index, or comes twice.
    """
    if not compared.shadow:
        return {}
    from thresher.certify.shadow_report import ShadowSettings
    from thresher.serve.shadowing import ShadowPlan

    settings = ShadowSettings(
        compared.shadow_margin, compared.shadow_share, measure=compared.shadow_measure, policy=compared.shadow_policy
    )
    found: dict[str, ShadowPlan] = {}
    for one in compared.shadow:
        name, equals, path = one.partition("=")
        if not equals or name not in names or name in found:
            raise typer.BadParameter(f"--shadow is NAME=DIRECTORY, once for each of {', '.join(names)}; got {one!r}")
        state = None if compared.shadow_state is None else compared.shadow_state / f"{name}.json"
        found[name] = ShadowPlan(Path(path), settings, state)
    return found


def _keys(access: _Access) -> tuple[Key, ...]:
    from thresher.serve.keys import keys_from_environment, keys_from_file

    return (
        *(keys_from_environment(access.api_key_env) if access.api_key_env else ()),
        *(keys_from_environment(access.admin_key_env, admin=True) if access.admin_key_env else ()),
        *(keys_from_file(access.keys) if access.keys else ()),
    )


def check_address(settings: ServeSettings) -> None:
    """See whether the address is free, before models are loaded for nothing.

    Raises:
        ConfigError: it is taken, or is not one of this machine.
    """
    from thresher.errors import ConfigError

    tried: list[OSError | None] = []
    try:
        for family, kind, _, _, address in socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM):
            tried.append(_refusal(family, kind, address))
    except socket.gaierror as err:
        tried.append(err)
    taken = [one for one in tried if one is not None and one.errno in (errno.EADDRINUSE, errno.EACCES)]
    if taken or None not in tried:  # a name may have addresses of which the machine has only some
        reason = (taken or tried)[0]
        raise ConfigError(
            f"cannot listen on {settings.host}, port {settings.port}: {getattr(reason, 'strerror', reason)}; give "
            "another address with --host and --port"
        )


def _refusal(family: int, kind: int, address: object) -> OSError | None:
    """Why the address cannot be listened on; None where one can."""
    try:
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tried.bind(address)  # type: ignore[arg-type]
    except OSError as err:
        return err
    return None


def named(indexes: list[str]) -> dict[str, Path]:
    """Directory, or file of shards, by name, of arguments `PATH` and `NAME=PATH`; a file's folder gives the name.

    Raises:
        BadParameter: two have the same name.
    """
    found: dict[str, Path] = {}
    for one in indexes:
        name, equals, path = one.partition("=")
        if not equals or Path(one).exists() or "/" in name:
            real = Path(os.path.realpath(one))  # which takes links in a circle as they are
            name, path = real.parent.name if real.is_file() else real.name, one
        if name in found:
            raise typer.BadParameter(f"two indexes are called {name!r}; give one another name: NAME={path}")
        found[name] = Path(path)
    return found


def _log_to_stderr() -> None:
    """Let the server say what happens to it, unless the command line asked for more, or for less."""
    if logging.getLogger().level == logging.WARNING:
        logging.getLogger("thresher.serve").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def _say_started(server: Server, services: Services) -> None:
    """Say where the server listens, what it serves, and what it has loaded."""
    from thresher.distributed.sharded import ShardedIndex
    from thresher.pipeline.open import NOT_ASKED

    for name, hosted in services.hosted.items():
        stages = " > ".join(stage.name for stage in hosted.pipeline.stages)
        shards = f" in {len(hosted.index.shards)} shards" if isinstance(hosted.index, ShardedIndex) else ""
        say(f"{name}: {len(hosted.index):,} passages{shards}, commit {hosted.index.commit}, stages {stages}")
        for stage, reason in hosted.pipeline.off.items():
            if reason != NOT_ASKED:
                note(f"{name}: without {stage}: {reason}")
        if hosted.shadow is not None:
            plan = hosted.shadow.plan
            say(
                f"{name}: {plan.settings.share:.3g} of the requests are also asked of {plan.baseline}; margin "
                f"{plan.settings.margin:g}, policy {plan.settings.policy}"
            )
            if plan.state is None:
                note(f"{name}: what they show is forgotten with the process; keep it with --shadow-state FOLDER")
    if not services.settings.keys:
        note("no key is set: whoever reaches the address may ask, and indexes cannot be changed")
    echo(f"listening on {server.address}")
    sys.stdout.flush()
