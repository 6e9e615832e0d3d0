"""`thresher mcp`: an index as tools of the Model Context Protocol, for agents.

    from thresher.serve.mcp.face import mcp_server
    from thresher.serve.mcp.toolbox import Toolbox

    mcp_server(Toolbox("my-index")).run("stdio")

`Toolbox` has the tools, `face` tells a client of them, `door` lets clients in over HTTP. What comes from documents is
told apart from what this server says (`results`), and every result fits a number of tokens (`rendering`).
"""
