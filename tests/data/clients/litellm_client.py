"""Ask an emulator through litellm's provider `tencent/`, and print what was understood."""

from __future__ import annotations

import asyncio
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise it is fetched at import

import litellm
from pydantic import BaseModel

SUM = [{"role": "user", "content": "计算 1+1"}]
CITY = [{"role": "user", "content": "北京今天天气怎么样?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "获取指定城市的天气信息",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
litellm.suppress_debug_info = True


class City(BaseModel):
    """A city."""

    name: str
    population: int


def ask(messages, model="hy3", **more):
    given = {"api_base": f"{sys.argv[1]}/v1", "api_key": "any", "num_retries": 0} | more
    return litellm.completion(model=f"tencent/{model}", messages=messages, **given)


def streamed(messages, **more):
    chunks = list(ask(messages, stream=True, stream_options={"include_usage": True}, **more))
    return litellm.stream_chunk_builder(chunks, messages=messages)


async def asynchronous():
    given = {"api_base": f"{sys.argv[1]}/v1", "api_key": "any", "num_retries": 0}
    answer = await litellm.acompletion(model="tencent/hy3", messages=SUM, stream=True, **given)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])


def refused(**more):
    try:
        ask(SUM, **more)
    except litellm.exceptions.APIError as error:
        return error.status_code
    except litellm.exceptions.AuthenticationError as error:
        return error.status_code
    except litellm.exceptions.BadRequestError as error:
        return error.status_code
    return None


def arguments(answer):
    return [json.loads(call.function.arguments) for call in answer.choices[0].message.tool_calls]


def main():
    whole, stream = ask(SUM), streamed(SUM)
    object_ = ask([{"role": "user", "content": "北京有多少人口？"}], response_format=City)
    told = {
        "text": whole.choices[0].message.content,
        "thinks": bool(whole.choices[0].message.reasoning_content),
        "tokens": whole.usage.total_tokens,
        "streamed": stream.choices[0].message.content,
        "streamed_tokens": stream.usage.total_tokens,
        "calls": arguments(ask(CITY, tools=[WEATHER])),
        "streamed_calls": arguments(streamed(CITY, tools=[WEATHER])),
        "object": sorted(json.loads(object_.choices[0].message.content)),
        "wrong_key": refused(api_key="wrong"),
        "no_model": refused(model="unknown-1"),
        "asynchronous": asyncio.run(asynchronous()),
        "quiet": ask(SUM, "deepseek-v4-flash", reasoning_effort="none")
        .choices[0]
        .message.get("reasoning_content"),
    }
    print(json.dumps(told))


main()
