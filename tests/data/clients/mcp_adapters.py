"""Use the MCP server at a URL with LangChain's adapters, which need an older `mcp` than we do."""

import asyncio
import json
import sys

from langchain_mcp_adapters.client import MultiServerMCPClient


async def main(url, token):
    headers = {"Authorization": f"Bearer {token}"}
    client = MultiServerMCPClient(
        {"tokenhub": {"transport": "streamable_http", "url": url, "headers": headers}}
    )
    tools = {tool.name: tool for tool in await client.get_tools()}
    call = {"type": "tool_call", "id": "1", "name": "tokenhub_image", "args": {"prompt": "雨"}}
    submitted = await tools["tokenhub_image"].ainvoke(call)
    job_id = submitted.artifact["structured_content"]["id"]
    collected = await tools["tokenhub_wait"].ainvoke({"job_id": job_id})
    print(json.dumps({"tools": sorted(tools), "job": job_id, "collected": str(collected)}))


asyncio.run(main(*sys.argv[1:]))
