"""POST /v1/embeddings: texts that share characters have vectors that are near."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache
from zlib import crc32

from starlette.responses import Response

from langchain_tokenhub.testing.chat_validation import count_tokens
from langchain_tokenhub.testing.errors import bad, check_model
from langchain_tokenhub.testing.http import Exchange, json_response
from langchain_tokenhub.testing.tables import Body, table

_MAX_CHARACTERS = 2000
_MAX_TEXTS = 128
"""The service recommends this limit; the emulator enforces it."""


async def embeddings(x: Exchange) -> Response:
    """Answer with a vector for each text."""
    texts, size = check_embeddings(x.body, x.hub.models)
    data = [
        {"object": "embedding", "index": index, "embedding": vector_of(text, size)}
        for index, text in enumerate(texts)
    ]
    tokens = sum(map(count_tokens, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({"object": "list", "model": x.body["model"], "data": data, "usage": usage})


def check_embeddings(body: Body, added: Collection[str]) -> tuple[list[str], int]:
    """Return the texts, and how many numbers a vector has.

    Raises:
        RefusedError: The first field that is wrong.
    """
    model, given = check_model(body.get("model"), "embedding", added), body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(t, str) and t for t in texts or [None]):
        raise bad("'input' must be a text or a list of texts, none of them empty.")
    if len(texts) > _MAX_TEXTS:
        raise bad(f"'input' holds {len(texts)} texts, at most {_MAX_TEXTS}.")
    if any(len(text) > _MAX_CHARACTERS for text in texts):
        raise bad(f"A text of 'input' is longer than {_MAX_CHARACTERS} characters.")
    if body.get("encoding_format") not in (None, "float"):
        raise bad("'encoding_format' must be 'float'.")
    size = table("models")["embeddings"].get(model, 1024)
    if body.get("dimensions") not in (None, size):
        raise bad("'dimensions' is fixed by the model.")
    return texts, size


@lru_cache(maxsize=1024)
def vector_of(text: str, size: int) -> list[float]:
    """Return counts of a text's runs of 1 to 3 characters, hashed into a vector of length 1."""
    vector = [0.0] * size
    plain = text.lower()
    for run in (plain[at : at + n] for n in (1, 2, 3) for at in range(len(plain) - n + 1)):
        place = crc32(run.encode(errors="replace"))
        vector[place % size] += 1 if place & 1 << 31 else -1
    length = math.hypot(*vector)
    return [number / length for number in vector]
