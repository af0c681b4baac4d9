"""Measure TokenHubEmbeddings beside httpx and JSON alone: `python tests/benchmarks/embeddings.py`.

CPU time of this process for ten thousand texts, the least of interleaved rounds.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import httpx
import run
import subjects
from pydantic_core import from_json

from langchain_tokenhub import TokenHubEmbeddings

CHUNK = 125
TEXTS = [f"第{number}条：今天下雨，路滑，请慢行。" for number in range(10_000)]
CHUNKS = [TEXTS[at : at + CHUNK] for at in range(0, len(TEXTS), CHUNK)]
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {subjects.KEY}"}


def body_of(texts: list[str]) -> bytes:
    return json.dumps({"model": "m", "input": texts, "encoding_format": "float"}).encode()


def vectors_in(content: bytes) -> list[list[float]]:
    return [row["embedding"] for row in from_json(content)["data"]]


def works(url: str) -> dict[str, Callable[[], Any]]:
    ours = TokenHubEmbeddings(model="m", api_key=subjects.KEY, base_url=url, chunk_size=CHUNK)
    client, aclient, loop = httpx.Client(), httpx.AsyncClient(), asyncio.new_event_loop()

    def floor() -> list[Any]:
        answers = (client.post(url, content=body_of(c), headers=HEADERS) for c in CHUNKS)
        return [vector for answer in answers for vector in vectors_in(answer.content)]

    async def afloor() -> list[Any]:
        limit = asyncio.Semaphore(ours.max_concurrency)

        async def one(texts: list[str]) -> list[list[float]]:
            async with limit:
                answer = await aclient.post(url, content=body_of(texts), headers=HEADERS)
            return vectors_in(answer.content)

        parts = await asyncio.gather(*map(one, CHUNKS))
        return [vector for part in parts for vector in part]

    return {
        "TokenHubEmbeddings, sync": lambda: ours.embed_documents(TEXTS),
        "httpx and JSON, sync": floor,
        "TokenHubEmbeddings, async": lambda: loop.run_until_complete(ours.aembed_documents(TEXTS)),
        "httpx and JSON, async": lambda: loop.run_until_complete(afloor()),
    }


def main() -> None:
    command = [sys.executable, str(Path(__file__).with_name("server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/vectors/{CHUNK}"
            found = run.least(works(url), rounds=5)
        finally:
            server.terminate()
    for name, seconds in found.items():
        print(f"{name}: {seconds:.3f} s CPU for {len(TEXTS)} texts")
    for face in ("sync", "async"):
        ratio = found[f"TokenHubEmbeddings, {face}"] / found[f"httpx and JSON, {face}"]
        print(f"ratio, {face}: {ratio:.2f}")


if __name__ == "__main__":
    main()
