"""`thresher mcp`: an index as tools for agents, over the Model Context Protocol."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import grouped, note
from thresher.cli.serve import check_address, named
from thresher.cli.shard_options import ShardOptions

if TYPE_CHECKING:
    from thresher.serve.keys import Key
    from thresher.serve.mcp.toolbox import Toolbox
    from thresher.serve.settings import ServeSettings


@dataclass
class _Http:
    """Over HTTP."""

    http: Annotated[bool, typer.Option("--http", help="Listen for streamable HTTP in place of stdio.")] = False
    host: Annotated[str, typer.Option(help="Address to listen on, with --http.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port, with --http; 0 for a free one.")] = 8765
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the key, or several with commas between them.")
    ] = ""
    keys: Annotated[Path | None, typer.Option(help="TOML file of keys, as of `thresher serve`.")] = None
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Listen beyond this machine although no key is set.")
    ] = False
    cors: Annotated[
        list[str] | None, typer.Option(help="Origin whose pages may send requests; repeat for several.")
    ] = None


@grouped
def mcp(
    index: Annotated[
        str, typer.Argument(metavar="INDEX", help="Directory, or NAME=DIRECTORY; or the file that lists shards.")
    ],
    max_tokens: Annotated[int, typer.Option(min=256, help="Tokens of a result, where the client does not say.")] = 2000,
    deadline_ms: Annotated[float, typer.Option(min=0, help="Milliseconds of a call; 0 for no limit.")] = 0.0,
    *,
    http: _Http,
    shards: ShardOptions,
    device: Annotated[str, typer.Option(help="For models: auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Give agents an index as tools: search, ask, expand, rerank, prune, index_info.

    Over standard input and output by default, for clients that start the server themselves; they need the command
    `thresher mcp INDEX` with the full path of the index. Every call sees the index's last commit. Messages go to
    standard error. Clients and their settings: docs/guides/mcp.md.

    \b
    Examples:
      thresher mcp my-index
      thresher mcp docs=/data/indexes/docs-2026 --max-tokens 4000
      thresher mcp shards/shards.toml --on-missing partial
      thresher mcp my-index --http --port 8765
      export THRESHER_KEY=$(openssl rand -hex 32)
      thresher mcp my-index --http --host 0.0.0.0 --api-key-env THRESHER_KEY
    """
    from thresher.errors import require
    from thresher.files import cache_folder

    require("mcp.server.mcpserver", extra="mcp", purpose="thresher mcp")
    from thresher.serve.mcp.toolbox import Toolbox

    ((name, path),) = named([index]).items()
    settings = _settings(http, deadline_ms)
    if http.http:
        check_address(settings)
    box = Toolbox(
        path, name, settings, max_tokens=max_tokens, device=device, cache=cache_folder(), reaching=shards.reaching
    )
    note(f"{name}: {box.host.passages:,} passages, commit {box.host.commit}")
    threading.Thread(target=box.host.warm_up, daemon=True).start()
    if http.http:
        _listen(box)
    else:
        from thresher.serve.mcp.face import mcp_server

        mcp_server(box).run("stdio")
    box.work.close()


def _settings(http: _Http, deadline_ms: float) -> ServeSettings:
    from thresher.serve.settings import ServeSettings

    return ServeSettings(
        host=http.host,
        port=http.port,
        keys=_keys(http),
        without_key=http.without_key,
        cors=tuple(http.cors or ()),
        deadline_ms=deadline_ms,
        drain_seconds=5.0,
    )


def _keys(http: _Http) -> tuple[Key, ...]:
    from thresher.serve.keys import keys_from_environment, keys_from_file

    return (
        *(keys_from_environment(http.api_key_env) if http.api_key_env else ()),
        *(keys_from_file(http.keys) if http.keys else ()),
    )


def _listen(box: Toolbox) -> None:
    from thresher.serve.mcp.door import PATH, http_server

    if not box.settings.keys:
        note("no key is set: whoever reaches the address may ask")
    server = http_server(box, lambda started: note(f"listening on {started.address}{PATH}"))
    server.run()
    if server.force_exit:
        sys.stdout.flush()
        raise typer.Exit(1)
