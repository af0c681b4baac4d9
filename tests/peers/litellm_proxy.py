"""Ask litellm's proxy, which no one here wrote: `python tests/peers/litellm_proxy.py LITELLM`.

LITELLM is the program `litellm` of an environment of its own; the proxy wants half a gigabyte:

    python -m venv litellm && litellm/bin/pip install "litellm[proxy]"
    python tests/peers/litellm_proxy.py litellm/bin/litellm

It answers for models that are made up, so that no key and no network is needed. The proxy's wire is
unlike aimock's (`tests/integration_tests/test_chat_aimock.py`): usage comes beside an empty delta,
Chinese and emoji are cut in the middle, errors have the status as their code. Prints a line for
each claim; ends with 1 where one does not hold.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from langchain_tests.utils.stream_lifecycle import assert_valid_event_stream

from langchain_tokenhub import (
    ChatTokenHub,
    ContextLengthError,
    InvalidRequestError,
    RateLimitError,
    ServerError,
)

KEY = "sk-peer"
SAID = "你好，我是代理。😀 Hello there."
WEATHER = {"name": "get_weather", "arguments": '{"city": "北京"}'}
CALL = {"id": "call_1", "type": "function", "function": WEATHER}
MODELS: dict[str, dict[str, Any]] = {
    "talk": {"mock_response": SAID},
    "tools": {"mock_response": "查一下", "mock_tool_calls": [CALL]},
    "busy": {"mock_response": "litellm.RateLimitError"},
    "broken": {"mock_response": "litellm.InternalServerError"},
    "long": {"mock_response": "litellm.ContextWindowExceededError"},
}
ERRORS = {
    "busy": RateLimitError,
    "broken": ServerError,
    "long": ContextLengthError,
    "unknown": InvalidRequestError,
}


@contextmanager
def proxy(program: str) -> Iterator[str]:
    """Run the proxy, and give its address once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        config.write_text(json.dumps(_config(), ensure_ascii=False), "utf-8")  # JSON is YAML
        command = [
            str(Path(program).absolute()),
            "--config",
            str(config),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env=environment, cwd=folder, **quiet) as process:
            try:
                yield _ready(f"http://127.0.0.1:{port}", process)
            finally:
                process.terminate()


def _config() -> dict[str, Any]:
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": "x", **more}}
        for name, more in MODELS.items()
    ]
    return {"model_list": models, "general_settings": {"master_key": KEY}}


def _ready(url: str, process: subprocess.Popen[bytes]) -> str:
    for _ in range(240):
        if process.poll() is not None:
            raise SystemExit("the proxy ended before it answered")
        try:
            httpx.get(f"{url}/health/liveliness", timeout=1)
        except httpx.HTTPError:
            time.sleep(0.5)
        else:
            return url
    raise SystemExit("the proxy does not answer")


async def _collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def _sum(chunks: Any) -> Any:
    first, *rest = chunks
    return sum(rest, first)


class Claims:
    """What must hold, each a method."""

    def __init__(self, url: str) -> None:
        self._url = url

    def _model(self, model: str, **fields: Any) -> ChatTokenHub:
        return ChatTokenHub(model=model, base_url=self._url, api_key=KEY, max_retries=0, **fields)

    def every_face_gives_the_same_text(self) -> None:
        model = self._model("talk")
        stream = model.stream_events("你好", version="v3")
        assert_valid_event_stream(list(stream))
        answers = [
            model.invoke("你好"),
            asyncio.run(model.ainvoke("你好")),
            _sum(model.stream("你好")),
            _sum(asyncio.run(_collect(model.astream("你好")))),
            _sum(self._model("talk", output_version="v1").stream("你好")),
            stream.output,
        ]
        assert [answer.text for answer in answers] == [SAID] * len(answers)
        assert {answer.response_metadata["finish_reason"] for answer in answers} == {"stop"}
        assert all(answer.usage_metadata for answer in answers)

    def a_tool_call_is_read(self) -> None:
        answer = self._model("tools").invoke("天气?")
        (found,) = answer.tool_calls
        assert (found["name"], found["args"]) == ("get_weather", {"city": "北京"})

    def errors_have_their_own_class(self) -> None:
        for model, error in ERRORS.items():
            for face in ("invoke", "stream"):
                found = self._failure(model, face)
                assert type(found) is error, f"{model}, {face}: {found!r}"

    def _failure(self, model: str, face: str) -> Exception | None:
        try:
            answer = getattr(self._model(model), face)("你好")
            list(answer)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is what is looked at
            return failure
        return None

    def its_models_are_listed(self) -> None:
        assert {model.id for model in self._model("talk").list_models()} == set(MODELS)


def main() -> int:
    """Check the claims, and return 1 where one does not hold."""
    failed = 0
    with proxy(sys.argv[1]) as url:
        claims = Claims(url)
        names = [name for name in vars(Claims) if not name.startswith("_")]
        for name in names:
            claim: Callable[[], None] = getattr(claims, name)
            try:
                claim()
            except AssertionError as problem:
                failed += 1
                print(f"FAILED {name}: {problem}")
            else:
                print(f"holds  {name.replace('_', ' ')}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
