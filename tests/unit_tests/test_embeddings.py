"""TokenHubEmbeddings over a scripted service: what is sent, what is read, what is refused."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import struct
import threading

import httpx
import pytest
from langchain_tests.unit_tests import EmbeddingsUnitTests
from pydantic import ValidationError

from langchain_tokenhub import (
    AuthenticationError,
    InvalidRequestError,
    ModelNotAvailableError,
    ServerError,
    TokenHubEmbeddings,
)
from langchain_tokenhub.catalogue import embedding_model, embedding_models
from langchain_tokenhub.transport import Answer

TEXT = "机密"


class TestUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return TokenHubEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": "kinfra-text-embedding-4b"}

    @property
    def init_from_env_params(self):
        return {"TOKENHUB_API_KEY": "sk-env"}, {}, {"api_key": "sk-env"}


def row(index, embedding=(0.5, 1)):
    return {"object": "embedding", "index": index, "embedding": list(embedding)}


class Service:
    """Answers each request by a function of its body; keeps the bodies."""

    def __init__(self, answer):
        self.bodies = []
        self._answer = answer

    def __call__(self, request):
        body = json.loads(request.content)
        self.bodies.append(body)
        data = self._answer(body)
        return data if isinstance(data, httpx.Response) else httpx.Response(200, json=data)

    def client(self, **fields):
        transport = httpx.MockTransport(self)
        clients = {
            "http_client": httpx.Client(transport=transport, trust_env=False),
            "http_async_client": httpx.AsyncClient(transport=transport, trust_env=False),
        }
        given = {"model": "ep-1", "api_key": "sk-test-canary", "base_url": "https://hub.test"}
        return TokenHubEmbeddings(**{**given, "max_retries": 0, **clients, **fields})


def numbered(body):
    """Return for each text the number that it is, last text first."""
    rows = [row(i, [float(text), 1.0]) for i, text in enumerate(body["input"])]
    return {"object": "list", "data": rows[::-1], "model": body["model"]}


# -- requests -----------------------------------------------------------------------------------


def test_texts_are_sent_in_chunks_and_vectors_keep_their_order(call):
    service = Service(numbered)
    texts = [str(number) for number in range(23)]
    vectors = call(service.client(chunk_size=5), "embed_documents", texts)
    assert [vector[0] for vector in vectors] == list(range(23))
    assert sorted(len(body["input"]) for body in service.bodies) == [3, 5, 5, 5, 5]


def test_a_body_holds_model_texts_and_format_alone(call):
    service = Service(numbered)
    call(service.client(), "embed_query", "7")
    assert service.bodies == [{"model": "ep-1", "input": ["7"], "encoding_format": "float"}]


def test_no_texts_send_nothing(call):
    service = Service(numbered)
    assert call(service.client(api_key="sk-1"), "embed_documents", []) == []
    assert service.bodies == []


def test_ids_are_known_in_any_case_and_unknown_ones_are_kept():
    ids = {"KINFRA-Text-Embedding-4B ": "kinfra-text-embedding-4b", "Ep-X": "Ep-X", "new": "new"}
    for given, sent in ids.items():
        assert TokenHubEmbeddings(model=given).model == sent


def test_models_of_another_path_are_refused_when_made():
    for known in embedding_models():
        if known.path != "/v1/embeddings":
            with pytest.raises(ValidationError, match="multimodal, not on /v1/embeddings; for"):
                TokenHubEmbeddings(model=known.id.upper())


def test_wrong_fields_are_refused_by_name():
    wrong = {"chunk_size": 0, "max_concurrency": 0, "model": "", "dimensions": 512, "site": "moon"}
    for name, value in wrong.items():
        with pytest.raises(ValidationError, match=name):
            TokenHubEmbeddings(**{name: value})


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([TEXT, TEXT * 1001], r"^texts\[1\]: 2002 characters, at most 2000 \(ep-1\); split it"),
        ([TEXT, TEXT, ""], r"^texts\[2\] is empty; leave it out; nothing was sent$"),
        ([None, TEXT], r"^texts\[0\] is NoneType, not str"),
        ([TEXT, TEXT.encode()], r"^texts\[1\] is bytes, not str"),
        (TEXT, r"^texts is a list of str, not str; for one text use embed_query$"),
        (None, r"^texts is a list of str, not NoneType"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_before_sending(call, texts, said):
    service = Service(numbered)
    with pytest.raises(InvalidRequestError, match=said) as caught:
        call(service.client(), "embed_documents", texts)
    assert not service.bodies
    assert TEXT not in str(caught.value)
    assert caught.value.phase == "not sent"


def test_what_is_no_query_is_refused_before_sending(call):
    service = Service(numbered)
    for text, said in (("", "text is empty"), (5, "text is int"), ("x" * 2001, "text: 2001")):
        with pytest.raises(InvalidRequestError, match=said):
            call(service.client(), "embed_query", text)
    assert not service.bodies


def test_a_text_of_2000_characters_is_sent_whatever_they_are(call):
    texts = ["中" * 2000, "😀" * 2000, "\ud800", " "]
    service = Service(lambda body: {"data": [row(i) for i in range(len(body["input"]))]})
    call(service.client(), "embed_documents", texts)
    assert service.bodies[0]["input"] == texts


# -- answers ------------------------------------------------------------------------------------


def test_whole_numbers_become_floats(call):
    service = Service(lambda _: {"data": [row(0, [0, 1, -1, 0.5])]})
    vector = call(service.client(), "embed_query", "1")
    assert vector == [0.0, 1.0, -1.0, 0.5]
    assert {type(number) for number in vector} == {float}


def test_base64_of_floats_is_read_too(call):
    encoded = base64.b64encode(struct.pack("<3f", 0.5, -1, 0.25)).decode()
    service = Service(lambda _: {"data": [{"index": 0, "embedding": encoded}]})
    assert call(service.client(), "embed_query", "1") == [0.5, -1.0, 0.25]


NO_VECTORS = [None, [], ["0.5"], [None], [[0.5]], {}, {"a": 1}, 5, "", "AAA", "AAAA", "é", "!!!!"]
WRONG = [
    (7, "no list `data`"),
    ([], "no list `data`"),
    ({"data": {}}, "no list `data`"),
    ({"data": [row(0)]}, "1 vectors for 2 texts"),
    ({"data": [row(0), row(0)]}, "two vectors with the index 0"),
    ({"data": [row(1), row(2)]}, r"the index 2 in data\[1\], for 2 texts"),
    ({"data": [row(0), row(-1)]}, r"the index -1 in data\[1\]"),
    ({"data": [row("0"), row(1)]}, r"the index '0' in data\[0\]"),
    ({"data": [row(None)]}, r"the index None in data\[0\]"),
    ({"data": [7]}, r"the index None in data\[0\]"),
    ({"data": [row(0), row(1, [0.5])]}, r"different sizes: \[1, 2\]"),
    *(
        ({"data": [row(0), {"index": 1, "embedding": value}]}, r"no list of finite .* in data\[1\]")
        for value in NO_VECTORS
    ),
]


@pytest.mark.parametrize(("data", "said"), WRONG)
def test_an_answer_that_is_no_list_of_vectors_is_a_server_error(call, data, said):
    with pytest.raises(ServerError, match=said):
        call(Service(lambda _: data).client(), "embed_documents", [TEXT, TEXT])


def test_numbers_that_are_not_finite_are_a_server_error(call):
    for number in ("NaN", "Infinity", "1e999", "1" + "0" * 400):
        text = f'{{"data": [{{"index": 0, "embedding": [0.5, {number}]}}]}}'
        service = Service(lambda _, text=text: httpx.Response(200, text=text))
        with pytest.raises(ServerError, match="no list of finite numbers"):
            call(service.client(), "embed_query", "1")


def test_a_vector_has_the_size_of_its_model(call):
    for known in ("kinfra-text-embedding-0.6b", "kinfra-text-embedding-4b"):
        size = embedding_model(known).dimensions
        service = Service(lambda _, size=size: {"data": [row(0, [0.5] * (size - 1))]})
        with pytest.raises(ServerError, match=rf"{size - 1} numbers in data\[0\], not {size}"):
            call(service.client(model=known), "embed_query", "1")


def test_chunks_with_vectors_of_different_sizes_are_a_server_error(call):
    service = Service(lambda body: {"data": [row(0, [0.5] * int(body["input"][0]))]})
    with pytest.raises(ServerError, match=r"different sizes: \[2, 3\]"):
        call(service.client(chunk_size=1), "embed_documents", ["2", "3"])


def test_an_error_names_host_and_request():
    answer = Answer(
        data={}, status=200, host="a.test", request_id="r-1", client_request_id="c", attempts=1
    )
    from langchain_tokenhub.embeddings import read_vectors

    with pytest.raises(ServerError) as caught:
        read_vectors(answer, 1, None)
    assert "host a.test, request ID r-1" in str(caught.value)


def test_an_error_body_inside_a_200_is_its_error(call):
    error = {"error": {"code": "400004", "message": "The model does not exist."}}
    with pytest.raises(ModelNotAvailableError):
        call(Service(lambda _: error).client(), "embed_query", "1")


# -- side by side -------------------------------------------------------------------------------


def test_a_failure_is_raised_and_sends_no_further_requests(call):
    refused = httpx.Response(401, json={"error": {"code": "401002", "message": "no"}})
    service = Service(lambda body: refused if body["input"] == ["3"] else numbered(body))
    client = service.client(chunk_size=1, max_concurrency=2)
    with pytest.raises(AuthenticationError):
        call(client, "embed_documents", [str(number) for number in range(200)])
    assert len(service.bodies) < 200


def test_a_failure_is_raised_while_another_request_hangs():
    hang, failed = threading.Event(), threading.Event()
    refused = httpx.Response(401, json={"error": {"code": "401002", "message": "no"}})

    def answer(body):
        if body["input"] == ["0"]:
            hang.wait(30)
            failed.set()
            return numbered(body)
        return refused

    try:
        with pytest.raises(AuthenticationError):
            Service(answer).client(chunk_size=1).embed_documents(["0", "1"])
        assert not failed.is_set()
    finally:
        hang.set()


# -- copies -------------------------------------------------------------------------------------


def test_a_pickle_holds_no_key_and_finds_it_in_the_environment(monkeypatch):
    monkeypatch.setenv("TOKENHUB_API_KEY", "sk-env")
    made = TokenHubEmbeddings(api_key="sk-test-canary", chunk_size=7)
    pickled = pickle.dumps(made)
    assert b"canary" not in pickled
    back = pickle.loads(pickled)
    assert (back.chunk_size, back._key()) == (7, "sk-env")
    assert "canary" not in repr(made)


def test_a_deep_copy_shares_the_callers_clients():
    client = Service(numbered).client()
    copied = copy.deepcopy(client)
    assert copied.http_client is client.http_client
    assert copied.embed_query("4") == [4.0, 1.0]
