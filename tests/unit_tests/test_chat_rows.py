"""Rows of docs/comparison.md that are facts of the package, and the table itself.

What a peer's column gives in seconds is held here by counting, which is the same on every machine.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_tokenhub import ChatTokenHub, ContentBlockedError

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs" / "comparison.md"
SCHEMA = {"title": "Joke", "type": "object", "properties": {"setup": {"type": "string"}}}


def _whole(**message):
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return {"id": "x", "model": "hy3", "choices": [choice], "usage": usage}


# -- rows 10 and 53: refusals ----------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_rows_10_and_53_what_the_service_refuses_to_say_is_a_content_blocked_error(
    service, call, verb
):
    service(
        {"error": {"code": "451001", "message": "blocked", "message_zh": "内容违规"}}, status=451
    )

    with pytest.raises(ContentBlockedError, match="内容违规"):
        call(service.model(), verb, "hi")
    with pytest.raises(ContentBlockedError, match="内容违规"):
        call(service.model().with_structured_output(SCHEMA, include_raw=True), verb, "hi")


def test_row_10_a_refusal_that_a_model_puts_beside_its_content_is_what_it_says(service, call):
    service(_whole(content=None, refusal="I cannot help with that."))

    assert call(service.model(), "invoke", "hi").text == "I cannot help with that."


def test_row_53_a_refusal_instead_of_the_shape_is_a_parsing_error(service, call):
    service(_whole(content=None, refusal="I cannot help with that."))
    chain = service.model().with_structured_output(SCHEMA, include_raw=True)

    found = call(chain, "invoke", "hi")

    assert found["parsed"] is None
    assert isinstance(found["parsing_error"], OutputParserException)


# -- row 67: cost ----------------------------------------------------------------------------------


def test_row_67_tokens_are_counted_by_model_and_no_cost_is_made_up(service, call):
    handler = UsageMetadataCallbackHandler()

    answer = call(service(_whole(content="hi")).model("hy3", callbacks=[handler]), "invoke", "hi")

    assert handler.usage_metadata["hy3"]["total_tokens"] == 5
    assert not any("cost" in name for name in [*answer.response_metadata, *answer.usage_metadata])


# -- rows 34, 87 and 88: what they cost, counted ---------------------------------------------------


class _Floor(BaseChatModel):
    """LangChain alone: a model whose chunks are there already."""

    chunks: int

    @property
    def _llm_type(self):
        return "floor"

    def _generate(self, *_, **__):
        raise NotImplementedError

    def _stream(self, *_, **__):
        for _ in range(self.chunks):
            yield ChatGenerationChunk(message=AIMessageChunk(content="w"))


def _profiled(work):
    """Return the Python functions that `work` called."""
    called = []

    def note(frame, event, _):
        if event == "call":
            called.append(frame.f_globals.get("__name__", ""))

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return called


def _stream_of(services, chunks):
    said = [{"id": "x", "choices": [{"delta": {"content": "w"}}]}] * chunks
    ended = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    return services()([*said, ended]).model()


def _calls_a_chunk(make, verb, *, few, **kwargs):
    """Return how many functions are called for each chunk more."""

    def count(model):
        return len(_profiled(lambda: list(getattr(model, verb)("q", **kwargs))))

    count(make(few))  # caches fill
    return (count(make(2 * few)) - count(make(few))) / few


@pytest.mark.parametrize(("verb", "how"), [("stream", {}), ("stream_events", {"version": "v3"})])
def test_row_34_a_chunk_costs_hardly_more_calls_than_langchain_alone(services, verb, how):
    floor = _calls_a_chunk(lambda n: _Floor(chunks=n), "stream", few=500)

    ours = _calls_a_chunk(lambda n: _stream_of(services, n), verb, few=500, **how)

    assert ours < 1.25 * floor


def test_row_34_a_chunk_late_in_a_stream_costs_what_an_early_one_costs(services):
    few, many = (
        _calls_a_chunk(lambda n: _stream_of(services, n), "stream", few=n) for n in (250, 2000)
    )

    assert many == pytest.approx(few, rel=0.05)


ADDED = """
import sys
import httpx, langchain_core.language_models.chat_models
before = set(sys.modules)
from langchain_tokenhub import ChatTokenHub
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


def test_row_87_importing_the_model_loads_nothing_beside_core_and_httpx():
    done = subprocess.run([sys.executable, "-c", ADDED], capture_output=True, check=True, text=True)

    known = {"langchain_core", "langchain_protocol", "langchain_tokenhub", "pydantic", "tomllib"}
    assert set(done.stdout.split()) - sys.stdlib_module_names <= known


def test_row_88_ten_constructions_make_no_client():
    def construct():
        for number in range(10):
            ChatTokenHub(model=f"m-{number}", api_key="sk-test-canary", base_url="https://a.test")

    rooms = {name.split(".")[0] for name in _profiled(construct)}

    assert not rooms & {"httpx", "httpcore", "ssl", "anyio", "asyncio", "socket"}


def test_row_93_the_package_says_that_it_is_typed():
    assert files("langchain_tokenhub").joinpath("py.typed").is_file()


# -- the table -------------------------------------------------------------------------------------


def _rows():
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {int(row[0]): row for row in cells if row[0].isdecimal()}


def _tests_of(row):
    """Return name and file of the tests that a row names."""
    return re.findall(r"`(\w+)` in ([\w/]+\.py)", row[-1])


def test_the_table_has_all_94_rows():
    assert sorted(_rows()) == list(range(1, 95))


@pytest.mark.parametrize("row", _rows().values(), ids=lambda row: row[0])
def test_each_row_names_a_test_that_exists(row):
    if row[0] == "94":
        pytest.skip("a page of another project's documentation")
    named = _tests_of(row)
    assert named
    for name, place in named:
        tree = ast.parse((TESTS / place).read_text(encoding="utf-8"))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
