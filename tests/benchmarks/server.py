"""The benchmarks' server, a process of its own: what it sends is made before anyone asks.

The path says what is wanted: `/stream/<events>`, `/hold` (one event, then silence),
`/slow/<seconds>`, `/vectors/<texts>` and `/plain`; what the clients append to it is ignored. Prints
its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import struct

CHUNK = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
WHOLE = {
    **CHUNK,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "word " * 60},
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
STREAM = HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(text: str, finish: str | None = None) -> bytes:
    delta = {"role": "assistant", "content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return framed(json.dumps({**CHUNK, "choices": [choice]}).encode())


def framed(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


@functools.cache
def stream(events: int) -> bytes:
    words = b"".join(chunk(f"word{n % 10} ") for n in range(events))
    last = chunk("", "stop") + framed(json.dumps({**CHUNK, "choices": [], "usage": USAGE}).encode())
    return STREAM + words + last + framed(b"[DONE]") + b"0\r\n\r\n"


@functools.cache
def plain() -> bytes:
    return whole(WHOLE)


@functools.cache
def vectors(texts: int) -> bytes:
    """Return an answer with vectors of 1024 32-bit floats, as JSON writes them."""
    rng = random.Random(0)
    numbers = [[rng.gauss(0, 0.03) for _ in range(1024)] for _ in range(texts)]
    single = [struct.unpack("1024f", struct.pack("1024f", *vector)) for vector in numbers]
    rows = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(single)]
    return whole({"object": "list", "model": "m", "data": rows, "usage": USAGE})


def whole(data: object) -> bytes:
    body = json.dumps(data).encode()
    return HEAD % b"application/json" + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = head.partition("content-length: ")[2].partition("\r\n")[0]
            await reader.readexactly(int(length or 0))
            await answer(head.split(" ")[1].split("/"), writer)
            await writer.drain()
    writer.close()


async def answer(path: list[str], writer: asyncio.StreamWriter) -> None:
    match path:
        case [_, "stream", events, *_]:
            writer.write(stream(int(events)))
        case [_, "hold", *_]:
            writer.write(STREAM + chunk("word"))
        case [_, "slow", seconds, *_]:
            await asyncio.sleep(float(seconds))
            writer.write(plain())
        case [_, "vectors", texts, *_]:
            writer.write(vectors(int(texts)))
        case _:
            writer.write(plain())


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
