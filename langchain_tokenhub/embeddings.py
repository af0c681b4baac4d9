"""`TokenHubEmbeddings`: LangChain's embeddings over TokenHub's text embedding models."""

from __future__ import annotations

import math
import struct
from base64 import b64decode
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Unpack

from langchain_core.embeddings import Embeddings
from pydantic import AfterValidator, ConfigDict, Field, PositiveInt

from langchain_tokenhub import telemetry
from langchain_tokenhub.catalogue import EmbeddingModel, embedding_model, embedding_models
from langchain_tokenhub.errors import InvalidRequestError, ServerError, clean
from langchain_tokenhub.settings import ConnectionOptions, ConnectionSettings
from langchain_tokenhub.transport.calls import Answer, Call, Timeouts
from langchain_tokenhub.transport.runtime import run_sync

if TYPE_CHECKING:
    from langchain_tokenhub.transport import Runtime, Transport

PATH = "/v1/embeddings"
Vector = list[float]
T = TypeVar("T")
R = TypeVar("R")


class EmbeddingsOptions(ConnectionOptions, total=False):
    """Constructor keywords of `TokenHubEmbeddings`."""

    model: str
    chunk_size: int
    max_concurrency: int


def _check_model(model: str) -> str:
    row = embedding_model(model.strip())
    if row.path != PATH:
        others = " or ".join(known.id for known in embedding_models() if known.path == PATH)
        raise ValueError(f"{row.id} is served on {row.path}, not on {PATH}; for texts use {others}")
    return row.id


class TokenHubEmbeddings(ConnectionSettings, Embeddings):
    """Embeddings over the text embedding models of Tencent Cloud TokenHub.

    Args:
        model: Id of a model in any letter case, or `ep-…` of a service of your own.
        chunk_size: Texts in one request, from 1; the service advises at most 128.
        max_concurrency: Concurrent requests of one call, from 1; at most 16 in sync code.
        options: The connection fields, as on `ChatTokenHub`; `timeout` is 60 s by default.

    Example:
        ```python
        from langchain_tokenhub import TokenHubEmbeddings

        embeddings = TokenHubEmbeddings()
        vectors = embeddings.embed_documents(["今天下雨。", "茶要趁热喝。"])
        question = embeddings.embed_query("天气怎么样？")
        ```
    """

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1), AfterValidator(_check_model)] = (
        "kinfra-text-embedding-0.6b"
    )
    chunk_size: PositiveInt = 128
    max_concurrency: PositiveInt = 20

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[EmbeddingsOptions]) -> None: ...

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of `texts`, in their order.

        Args:
            texts: Texts of 1 to 2000 characters; an empty list sends nothing.

        Raises:
            InvalidRequestError: A text is empty, too long or not a string; nothing was sent.
            TokenHubError: A request failed; no further request is sent.
        """
        return run_sync(self._embed(self._sync(), check_texts(texts, self._row)))

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`."""
        return await self._embed(self._async(), check_texts(texts, self._row))

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text of 1 to 2000 characters; raises as `embed_documents`."""
        check_text("text", text, self._row)
        return run_sync(self._embed(self._sync(), [text]))[0]

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`."""
        check_text("text", text, self._row)
        return (await self._embed(self._async(), [text]))[0]

    @property
    def _row(self) -> EmbeddingModel:
        return embedding_model(self.model)

    async def _embed(self, transport: Transport, texts: Sequence[str]) -> list[Vector]:
        size = self.chunk_size
        chunks = [texts[at : at + size] for at in range(0, len(texts), size)]
        request = partial(self._request, transport)
        found = await _map(transport.runtime, request, chunks, self.max_concurrency)
        vectors = [vector for part in found for vector in part]
        if len(sizes := {len(vector) for vector in vectors}) > 1:
            raise ServerError(f"the answers hold vectors of different sizes: {sorted(sizes)}")
        return vectors

    async def _request(self, transport: Transport, texts: Sequence[str]) -> list[Vector]:
        body = {"model": self.model, "input": texts, "encoding_format": "float"}
        timeouts = Timeouts.of(self.timeout, Timeouts(read=60.0))
        call = Call(path=PATH, body=body, retry_class="chat", timeouts=timeouts)
        answer = await transport.json(call)
        vectors = read_vectors(answer, len(texts), self._row.dimensions)
        usage = answer.data.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
        telemetry.record_tokens("embeddings", self.model, {"input_tokens": tokens})
        return vectors


async def _map(
    runtime: Runtime, work: Callable[[T], Awaitable[R]], items: Sequence[T], most: int
) -> list[R]:
    """Return `work` of each item, at most `most` at a time; the first failure cancels the rest."""
    remaining = iter(enumerate(items))  # shared by the workers
    found: dict[int, R] = {}
    ended: Future[BaseException | None] = Future()

    async def run() -> None:
        try:
            for place, item in remaining:
                found[place] = await work(item)
        finally:
            deque(remaining, maxlen=0)  # after a failure nothing more is started

    def report(worker: Future[None]) -> None:
        failure = CancelledError() if worker.cancelled() else worker.exception()
        if failure is not None or all(other.done() for other in workers):
            with suppress(InvalidStateError):  # another failed before, or the wait was interrupted
                ended.set_result(failure)

    if min(len(items), most) < 2:
        await run()
        return list(found.values())
    workers = [runtime.start(run()) for _ in items[:most]]
    try:
        for worker in workers:
            worker.add_done_callback(report)
        await runtime.wait(ended, None)
    finally:
        deque(remaining, maxlen=0)
        for worker in workers:
            worker.cancel()
    if failure := ended.result():
        raise failure
    return [found[place] for place in range(len(items))]


# -- requests and answers: pure -----------------------------------------------------------------


def check_texts(texts: Iterable[str], row: EmbeddingModel) -> list[str]:
    """Return `texts` as a list; raise `InvalidRequestError` if one is not a valid text."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        problem = f"texts is a list of str, not {type(texts).__name__}"
        raise InvalidRequestError(problem, hint="for one text use embed_query", phase="not sent")
    found = list(texts)
    for place, text in enumerate(found):
        check_text(f"texts[{place}]", text, row)
    return found


def check_text(name: str, text: object, row: EmbeddingModel) -> None:
    """Raise `InvalidRequestError` if a text is empty, too long or not a string."""
    match text:
        case "":
            problem, hint = f"{name} is empty", "leave it out"
        case str() if len(text) > row.max_characters:
            problem = f"{name}: {len(text)} characters, at most {row.max_characters} ({row.id})"
            hint = "split it"
        case str():
            return
        case _:
            problem, hint = f"{name} is {type(text).__name__}, not str", "pass the text itself"
    raise InvalidRequestError(problem, hint=f"{hint}; nothing was sent", phase="not sent")


def read_vectors(answer: Answer, count: int, size: int | None) -> list[Vector]:
    """Return the vectors in an answer, in the order of their texts.

    Raises `ServerError` if a vector is missing, repeated, or not a list of `size` finite numbers.
    """

    def error(problem: str) -> ServerError:
        source: dict[str, Any] = {"host": answer.host, "request_id": answer.request_id}
        return ServerError(f"the answer has {problem}", status=answer.status, **source)

    rows = answer.data.get("data") if isinstance(answer.data, Mapping) else None
    if not isinstance(rows, list):
        raise error("no list `data`")
    vectors: dict[int, Vector] = {}
    for place, row in enumerate(rows):
        index = row.get("index") if isinstance(row, Mapping) else None
        if not isinstance(index, int) or not 0 <= index < count:
            shown = clean(repr(index), 60)
            raise error(f"the index {shown} in data[{place}], for {count} texts")
        if index in vectors:
            raise error(f"two vectors with the index {index}")
        vectors[index] = vector = _vector(row.get("embedding"))
        if not vector:
            raise error(f"no list of finite numbers in data[{place}]")
        if size not in (None, len(vector)):
            raise error(f"{len(vector)} numbers in data[{place}], not {size}")
    if len(vectors) < count:
        raise error(f"{len(vectors)} vectors for {count} texts")
    return [vectors[index] for index in range(count)]


def _vector(value: Any) -> Vector:
    """Return a list of numbers, or base64 of 32-bit floats, as floats; empty if it is neither."""
    try:
        if isinstance(value, str):
            raw = b64decode(value, validate=True)
            value = struct.unpack(f"<{len(raw) // 4}f", raw)
        is_finite = math.isfinite(sum(value))  # a TypeError if anything is not a number
        return list(map(float, value)) if is_finite else []
    except (TypeError, ValueError, OverflowError, struct.error):
        return []
