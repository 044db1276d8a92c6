"""The memory for programs that exist already: OpenAI's chat API, REST and MCP, over one guarded port.

    request ─► guard (size, host, key, rate) ─┬─► chat     /v1/chat/completions, /v1/models
                                              ├─► memory   /v1/memory/...
                                              └─► mcp      /mcp (and over stdin and stdout, without a port)

All of it is a thin shell: whatever is done is done by the space of the user whose key came with the request.
"""
