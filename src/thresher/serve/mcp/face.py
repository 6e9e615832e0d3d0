"""What a client sees of the tools: their names, arguments, schemas and descriptions, and when to use which."""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from mcp_types import Tool as ListedTool
from pydantic import Field

from thresher._version import __version__
from thresher.serve.keys import caller_of
from thresher.serve.mcp.results import NOTICE, AskResult, ExpandResult, IndexInfo, PassagesResult, RerankResult
from thresher.serve.mcp.toolbox import LEAST_TOKENS, WHERE
from thresher.serve.refusals import status_of, unknown_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from thresher.serve.keys import Caller
    from thresher.serve.mcp.rendering import Shown
    from thresher.serve.mcp.toolbox import Toolbox

_log = logging.getLogger(__name__)
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")
"""Names of fields that descriptions repeat. Others come from documents that chose them with care."""
_FIELDS = 20

Query = Annotated[str, Field(min_length=1, description="What is looked for, in plain words.")]
Where = Annotated[str | None, Field(description=WHERE)]
MaxTokens = Annotated[int | None, Field(ge=LEAST_TOKENS, le=200_000, description="Tokens that this result may take.")]
Docnos = Annotated[
    list[str] | None, Field(min_length=1, description="Passages of the index. Give these or texts, not both.")
]
Texts = Annotated[
    list[str] | None, Field(min_length=1, description="Texts that you have from elsewhere; they are not in the index.")
]


class Face:
    """The tools as the protocol calls them.

    Args:
        box: what the tools do.
    """

    def __init__(self, box: Toolbox) -> None:
        self._box = box
        self._tools: list[Tool] = []
        self._known: dict[str, str] | None = None

    def describe(self, tools: list[Tool]) -> None:
        """Have the descriptions of filters name the fields of the last commit, now and later (`refresh`)."""
        self._tools = tools
        self.refresh()

    def refresh(self) -> bool:
        """Name the fields that the index has by now; whether they are others than before."""
        schema = self._box.host.schema
        if schema == self._known:
            return False
        self._known, known = schema, _fields(schema)
        for tool in self._tools:
            if "where" in tool.parameters["properties"]:
                tool.parameters["properties"]["where"]["description"] = f"{WHERE} {known}"
        return True

    async def search(
        self,
        ctx: Context,
        query: Query,
        k: Annotated[int, Field(ge=1, le=1000, description="Passages.")] = 10,
        where: Where = None,
        max_tokens: MaxTokens = None,
    ) -> Annotated[CallToolResult, PassagesResult]:
        """A ranked list of passages, all cut to the same length.

        Use it to survey what there is, to try words and filters quickly, or to collect docnos. To answer
        something, ask reads the passages and is better.
        """
        return await self._run(ctx, self._box.search, query, k, where, max_tokens)

    async def ask(
        self,
        ctx: Context,
        query: Query,
        k: Annotated[int, Field(ge=1, le=100, description="Passages.")] = 5,
        where: Where = None,
        max_tokens: MaxTokens = None,
    ) -> Annotated[CallToolResult, AskResult]:
        """The best passages for a query, reranked and cut to the sentences that help.

        Start here when you want to answer something from the documents. Use search instead to see many
        passages, expand to read more of one.
        """
        return await self._run(ctx, self._box.ask, query, k, where, max_tokens)

    async def expand(
        self,
        ctx: Context,
        handle: Annotated[str | None, Field(description="As it came with a passage.")] = None,
        docno: Annotated[str | None, Field(description="A passage of the index, to read from its beginning.")] = None,
        whole: Annotated[bool, Field(description="Also what was shown before.")] = False,
        max_tokens: MaxTokens = None,
    ) -> Annotated[CallToolResult, ExpandResult]:
        """What a result did not show of a passage: give its handle; while next_handle is not empty, there is more.

        Or give a docno to read a passage from its beginning. Use it before you rely on a passage that was
        cut.
        """
        return await self._run(ctx, self._box.expand, handle, docno, whole, max_tokens)

    async def rerank(
        self,
        ctx: Context,
        query: Query,
        docnos: Docnos = None,
        texts: Texts = None,
        top_n: Annotated[int | None, Field(ge=1, description="Only the best of them.")] = None,
        max_tokens: MaxTokens = None,
    ) -> Annotated[CallToolResult, RerankResult]:
        """Passages (by docno) or texts of yours in the order of their relevance to a query, each scored by itself.

        Use it to order what you gathered from several searches or from elsewhere; ask does it by itself.
        """
        return await self._run(ctx, self._box.rerank, query, docnos, texts, top_n, max_tokens)

    async def prune(
        self,
        ctx: Context,
        query: Query,
        docnos: Docnos = None,
        texts: Texts = None,
        threshold: Annotated[
            float | str | None,
            Field(description="A sentence is kept from this score on: 0 to 1, or conservative, balanced, strong."),
        ] = None,
        max_tokens: MaxTokens = None,
    ) -> Annotated[CallToolResult, PassagesResult]:
        """Passages (by docno) or texts of yours cut to the sentences that help with a query, in the order given.

        Use it to shorten long texts before you read or quote them; each has a handle that gives back what
        was dropped.
        """
        return await self._run(ctx, self._box.prune, query, docnos, texts, threshold, max_tokens)

    async def index_info(self, ctx: Context, max_tokens: MaxTokens = None) -> Annotated[CallToolResult, IndexInfo]:
        """How many passages the index has, which metadata fields it has, with frequent values, and how it is searched.

        Use it once before you write a filter, or to say what was searched.
        """
        return await self._run(ctx, self._box.index_info, max_tokens)

    async def _run(self, ctx: Context, call: Callable[..., Shown], *args: object) -> CallToolResult:
        """A result of the toolbox, or an error that says how to mend it."""
        try:
            shown = await self._box.run(call, self._caller(ctx), *args)
        except Exception as err:
            if status_of(err) == 500:
                _log.exception("a tool failed")
            raise ToolError(self._box.told(err)) from None
        if self.refresh():
            await ctx.notify_tools_changed()  # reaches those who listen for it, by the protocol of 2026-07-28
        return CallToolResult(content=[TextContent(text=shown.text)], structured_content=shown.structured)

    def _caller(self, ctx: Context) -> Caller:
        """Who calls: over HTTP by the key in the request's own headers, over stdio whoever started the process."""
        headers = ctx.headers
        keys = () if headers is None else self._box.settings.keys
        found = caller_of(keys, "" if headers is None else headers.get("authorization", ""))
        if found is None:
            raise unknown_key()
        return found


_TITLES = {
    "ask": "Answer from the index",
    "search": "Search the index",
    "expand": "Read more of a passage",
    "rerank": "Rerank passages or texts",
    "prune": "Keep only what helps",
    "index_info": "Describe the index",
}
"""By tool, in the order of their use. The docstrings of `Face` are the descriptions."""


def mcp_server(box: Toolbox) -> MCPServer:
    """A server of the protocol with the tools of a toolbox; `run("stdio")` serves the process that started this one."""
    face, tools = Face(box), []
    for name, title in _TITLES.items():
        method = getattr(face, name)
        when = " ".join((method.__doc__ or "").split())
        tool = Tool.from_function(
            method,
            name=name,
            title=title,
            description=f"{when} The result has at most max_tokens tokens ({box.max_tokens:,} by default) and says "
            f"what is left out. {NOTICE}",
            annotations=ToolAnnotations(
                title=title, read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
            ),
        )
        _refuse_unknown(tool)
        tools.append(tool)
    face.describe(tools)
    server = _Server(
        "thresher",
        title=f"thresher: {box.host.name}",
        instructions=f"Passages of the index {box.host.name}. Ask for answers, search to survey, expand to read on; "
        f"cite passages by docno. {NOTICE}",
        version=__version__,
        tools=tools,
        log_level="WARNING",
    )
    server.before_list = partial(_look_again, face, box)
    return server


def _look_again(face: Face, box: Toolbox) -> None:
    box.host.look()
    face.refresh()


class _Server(MCPServer):
    """A server whose tools may be described in other words by now.

    Attributes:
        before_list: called in a thread before tools are listed.
    """

    before_list: Callable[[], object] = staticmethod(lambda: None)

    async def list_tools(self) -> list[ListedTool]:
        """The tools as they are now."""
        await asyncio.to_thread(self.before_list)
        found: list[ListedTool] = await super().list_tools()
        return found


def _refuse_unknown(tool: Tool) -> None:
    """Make arguments that a tool lacks an error: without a filter that was spelled wrong, all would seem to match."""
    model = tool.fn_metadata.arg_model
    model.model_config["extra"] = "forbid"
    model.model_rebuild(force=True)
    tool.parameters["additionalProperties"] = False


def _fields(schema: dict[str, str]) -> str:
    """The fields of an index, as a description may tell them."""
    plain = [f"{name} ({kind})" for name, kind in schema.items() if _PLAIN.fullmatch(name)]
    if not schema:
        return "This index has no metadata fields: leave it out."
    rest = len(schema) - len(plain[:_FIELDS])
    more = f"; {rest} more: see index_info" if rest else ""
    return f"Fields: {', '.join(plain[:_FIELDS])}{more}."
