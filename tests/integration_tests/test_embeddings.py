"""TokenHubEmbeddings and the emulator's /v1/embeddings, over HTTP."""

from __future__ import annotations

import asyncio
import math
import os
import threading

import httpx
import openai
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests

from langchain_tokenhub import (
    InvalidRequestError,
    ModelNotAvailableError,
    RateLimitError,
    TokenHubEmbeddings,
)
from langchain_tokenhub.testing import Emulator

PATH = "/v1/embeddings"
HEAD = {"authorization": "Bearer any"}
LIVE = bool(os.environ.get("TOKENHUB_LIVE") and os.environ.get("TOKENHUB_API_KEY"))


class TestStandard(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _service(self, request):
        if not LIVE:
            request.getfixturevalue("hub")

    @property
    def embeddings_class(self):
        return TokenHubEmbeddings

    @property
    def embedding_model_params(self):
        return {"chunk_size": 2}


def post(hub, **body):
    given = {"model": "kinfra-text-embedding-0.6b", "input": "茶"} | body
    return httpx.post(hub.url + PATH, json=given, headers=HEAD, trust_env=False)


def code(answer):
    return answer.json().get("error", {}).get("code")


# -- the client ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "size"),
    [("KINFRA-text-embedding-0.6B", 1024), ("kinfra-text-embedding-4b", 2560), ("ep-1", 1024)],
)
def test_a_vector_has_the_models_size_and_the_length_1(call, hub, model, size):
    vector = call(TokenHubEmbeddings(model=model), "embed_query", "今天下雨")
    assert len(vector) == size
    assert math.hypot(*vector) == pytest.approx(1)


def test_the_emulator_keeps_what_it_was_sent(call, hub):
    texts = [f"第{number}条" for number in range(300)]
    assert len(call(TokenHubEmbeddings(), "embed_documents", texts)) == 300
    assert {request.path for request in hub.requests} == {PATH}
    assert sorted(len(request.body["input"]) for request in hub.requests) == [44, 128, 128]


def test_both_faces_give_the_same_vectors(hub):
    texts = [f"第{number}条" for number in range(50)]
    embeddings = TokenHubEmbeddings(chunk_size=3)
    alone = [embeddings.embed_query(text) for text in texts]
    assert embeddings.embed_documents(texts) == alone
    assert asyncio.run(embeddings.aembed_documents(texts)) == alone


@pytest.mark.parametrize(("most", "at_once"), [(20, 20), (1, 1), (7, 7)])
def test_requests_run_side_by_side(hub, peers, most, at_once):
    seen = Crowd(at_once)
    with_peer = peers(seen.answer)
    embeddings = TokenHubEmbeddings(
        model="ep-1", base_url=with_peer.url, chunk_size=1, max_concurrency=most
    )
    asyncio.run(embeddings.aembed_documents(["茶"] * 40))
    assert seen.most == at_once


def test_without_async_they_run_on_16_threads(hub, peers):
    seen = Crowd(16)
    embeddings = TokenHubEmbeddings(model="ep-1", base_url=peers(seen.answer).url, chunk_size=1)
    embeddings.embed_documents(["茶"] * 40)
    assert seen.most == 16


class Crowd:
    """Holds requests back until as many wait as are expected."""

    def __init__(self, expected):
        self.expected, self.now, self.most = expected, 0, 0
        self._full = None

    async def answer(self, connection, request):
        self._full = self._full or asyncio.Event()
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == self.expected:
            self._full.set()
        await asyncio.wait_for(self._full.wait(), 20)
        self.now -= 1
        await connection.json({"data": [{"index": 0, "embedding": [0.5, 1.0]}]})


def test_a_refusal_for_rate_is_tried_again(call, hub):
    hub.fail(status=429, retry_after=0)
    assert call(TokenHubEmbeddings(), "embed_query", "茶")
    assert len(hub.requests) == 2
    hub.fail(status=429, retry_after=0)
    with pytest.raises(RateLimitError):
        call(TokenHubEmbeddings(max_retries=0), "embed_query", "茶")


def test_an_unknown_id_and_a_chat_model_are_the_services_errors(call, hub):
    with pytest.raises(ModelNotAvailableError, match="400004"):
        call(TokenHubEmbeddings(model="text-embedding-3"), "embed_query", "茶")
    with pytest.raises(InvalidRequestError, match="400005"):
        call(TokenHubEmbeddings(model="hy3"), "embed_query", "茶")


def test_it_can_be_closed_and_used_again(hub):
    with TokenHubEmbeddings() as embeddings:
        embeddings.embed_query("茶")
    embeddings.close()

    async def use():
        async with TokenHubEmbeddings() as embeddings:
            await embeddings.aembed_query("茶")
        return await embeddings.aembed_query("茶")

    assert embeddings.embed_query("茶") == asyncio.run(use())


def test_a_cancelled_call_sends_no_more(hub):
    hub.latency = 0.2
    embeddings = TokenHubEmbeddings(chunk_size=1, max_concurrency=2)

    async def use():
        task = asyncio.create_task(embeddings.aembed_documents(["茶"] * 50))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.5)

    asyncio.run(use())
    assert len(hub.requests) <= 2


def test_threads_may_share_one(hub):
    embeddings = TokenHubEmbeddings(chunk_size=2)
    found = []
    texts = [f"第{number}条" for number in range(9)]
    threads = [
        threading.Thread(target=lambda: found.append(embeddings.embed_documents(texts)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 20


# -- the emulator -------------------------------------------------------------------------------


def test_texts_that_share_characters_are_near(hub):
    texts = [
        "龙井用八十度的水冲泡",
        "包间要提前一天预订",
        "会员每消费一元积一分",
        "The dog is asleep",
    ]
    store = InMemoryVectorStore(TokenHubEmbeddings())
    store.add_texts(texts)
    questions = ["龙井用多少度的水？", "怎么预订包间？", "会员怎么积分？", "Is the DOG asleep?"]
    found = [store.similarity_search(question, k=1)[0].page_content for question in questions]
    assert found == texts


def test_vectors_are_the_same_in_every_emulator():
    with Emulator(seed=1) as one, Emulator(seed=2) as other:
        assert post(one).json()["data"] == post(other).json()["data"]


def test_an_answer_has_openais_form(hub):
    answer = post(hub, input=["今天下雨", "茶"]).json()
    assert answer.keys() == {"object", "model", "data", "usage"}
    assert [row["index"] for row in answer["data"]] == [0, 1]
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] > 0


def test_other_clients_of_floats_can_talk_to_it(hub):
    model = "kinfra-text-embedding-4b"
    with openai.OpenAI(base_url=hub.url + "/v1", api_key="any") as client:
        made = client.embeddings.create(model=model, input="茶", encoding_format="float")
    assert len(made.data[0].embedding) == 2560
    langchain = OpenAIEmbeddings(
        model=model,
        base_url=hub.url + "/v1",
        api_key="any",
        check_embedding_ctx_length=False,
        model_kwargs={"encoding_format": "float"},
    )
    assert langchain.embed_query("茶") == pytest.approx(made.data[0].embedding)


IDS = {
    "400004": ["gpt-4o", "KINFRA-text-embedding-4b"],
    "400005": ["hy3", "hy-image-v3.0", "kinfra-vl-embedding-2b"],
    "400002": [None, 5],
}
INPUTS = [None, "", [], ["茶", ""], [[1, 2]], "长" * 2001, ["茶"] * 129]


def test_what_the_service_refuses_is_refused(hub):
    refused = [({"model": model}, expected) for expected, ids in IDS.items() for model in ids]
    refused += [({"input": text}, "400002") for text in INPUTS]
    for body, expected in [
        *refused,
        ({"encoding_format": "base64"}, "400002"),
        ({"dimensions": 512}, "400002"),
    ]:
        answer = post(hub, **body)
        assert (answer.status_code, code(answer)) == (400, expected), body


def test_what_is_at_the_limit_is_accepted(hub):
    for body in ({"input": ["长" * 2000] * 128}, {"dimensions": 1024}, {"model": "ep-9"}):
        assert post(hub, **body).status_code == 200


def test_added_ids_are_served_and_listed():
    with Emulator(models=["my-vectors"]) as hub:
        assert post(hub, model="my-vectors").status_code == 200


def test_a_key_is_needed(hub):
    answer = httpx.post(hub.url + PATH, json={}, trust_env=False)
    assert code(answer) == "401001"
