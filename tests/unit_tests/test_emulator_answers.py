from __future__ import annotations

import json

import pytest

from langchain_tokenhub.testing.chat_replies import Answer, compute_answer, fill
from langchain_tokenhub.testing.chat_validation import pieces
from langchain_tokenhub.testing.tables import chat_model

STUDIO = (
    "请为一家名叫“云上茶馆”的店做一套素材："
    "一张水墨风格的招牌图，把这张图变成一段短视频，再做一个茶壶的3D模型。"
)
IMAGE_JOB = "1259388371-1764399486-11111111-2222-3333-4444-555555555555-0"


def function(name, description="", required=None, /, **properties):
    wanted = list(properties) if required is None else required
    schema = {"type": "object", "properties": properties, "required": wanted}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": schema},
    }


TEXT = {"type": "string"}
WEATHER = function("get_weather", "获取指定城市的天气信息", city=TEXT)
MAGIC = function("magic_function", "Apply a magic function.", input={"type": "integer"})
IMAGE = function("tokenhub_image", "Make an image.", prompt=TEXT)
VIDEO = function("tokenhub_video", "Make a video.", ["prompt"], prompt=TEXT, image=TEXT)
MODEL = function("tokenhub_3d", "Make a 3D model.", [], prompt=TEXT, image_url=TEXT)


def ask(text, model="ep-1", **body) -> Answer:
    messages = text if isinstance(text, list) else [{"role": "user", "content": text}]
    return compute_answer({"model": model, "messages": messages, **body}, chat_model(model))


def calls(reply: Answer):
    return [(call.name, json.loads(call.arguments)) for call in reply.calls]


def after(reply: Answer, text, *results):
    ids = [f"call_{at}" for at, _ in enumerate(reply.calls)]
    asked = [
        {"id": i, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for i, c in zip(ids, reply.calls, strict=True)
    ]
    before = text if isinstance(text, list) else [{"role": "user", "content": text}]
    tools = [
        {"role": "tool", "tool_call_id": i, "content": result}
        for i, result in zip(ids, results, strict=True)
    ]
    return [*before, {"role": "assistant", "content": None, "tool_calls": asked}, *tools]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("计算 1+1", "1+1=2"),
        ("What is 3 * 12?", "3*12=36"),
        ('Say "tea is ready".', "tea is ready"),
    ],
)
def test_small_questions_are_computed(question, expected):
    assert ask(question).content == expected


def test_the_guides_translation_is_given_to_a_translator():
    system = {"role": "system", "content": "你是一个专业的英语翻译助手。"}
    reply = ask([system, {"role": "user", "content": "今天天气真好"}])
    assert reply.content == "The weather is really nice today."


def test_a_name_is_remembered_from_an_earlier_turn():
    history = [
        {"role": "user", "content": "Hi, my name is Bob."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "What is my name?"},
    ]
    assert "Bob" in ask(history).content


def test_a_story_takes_at_least_sixty_deltas():
    assert len(pieces(ask("Write a story about a cat.").content)) >= 60


@pytest.mark.parametrize(
    ("question", "tool", "arguments"),
    [
        ("北京今天天气怎么样?", WEATHER, {"city": "北京"}),
        ("What is the weather in San Francisco, CA?", WEATHER, {"city": "San Francisco, CA"}),
        ("What is the value of magic_function(3)? Use the tool.", MAGIC, {"input": 3}),
    ],
)
def test_a_tool_is_called_with_arguments_from_the_question(question, tool, arguments):
    name = tool["function"]["name"]
    assert calls(ask(question, tools=[tool])) == [(name, arguments)]


def test_two_cities_are_asked_for_in_parallel():
    reply = ask("请问北京和上海的天气怎么样?", tools=[WEATHER])
    assert [arguments["city"] for _, arguments in calls(reply)] == ["北京", "上海"]


def test_parallel_calls_can_be_switched_off():
    question = "请问北京和上海的天气怎么样?"
    assert len(ask(question, tools=[WEATHER], parallel_tool_calls=False).calls) == 1


def test_a_small_talk_calls_no_tool():
    assert not ask("Hello", tools=[WEATHER, MAGIC]).calls


def test_a_named_choice_calls_that_tool():
    choice = {"type": "function", "function": {"name": "magic_function"}}
    reply = ask("北京今天天气怎么样?", tools=[WEATHER, MAGIC], tool_choice=choice)
    assert [name for name, _ in calls(reply)] == ["magic_function"]


def test_a_tool_that_has_answered_is_not_called_again():
    question = "北京今天天气怎么样?"
    first = ask(question, tools=[WEATHER])
    reply = ask(after(first, question, "晴，22 度"), tools=[WEATHER])
    assert not reply.calls
    assert "晴，22 度" in reply.content


def test_a_forced_choice_goes_on_to_a_tool_that_has_not_answered():
    question, tools = "Hello!", [MAGIC, WEATHER]
    first = ask(question, tools=tools, tool_choice="required")
    second = ask(after(first, question, "5"), tools=tools, tool_choice="required")
    names = [call.name for call in (*first.calls, *second.calls)]
    assert names == ["magic_function", "get_weather"]


def test_enums_bounds_nested_objects_and_references_are_respected():
    tool = function(
        "plan",
        "",
        unit={"enum": ["celsius", "fahrenheit"]},
        days={"type": "integer", "minimum": 3, "maximum": 5},
        place={"$ref": "#/$defs/Place"},
        tags={"type": "array", "items": TEXT, "minItems": 2},
    )
    place = {"type": "object", "properties": {"city": TEXT}, "required": ["city"]}
    tool["function"]["parameters"]["$defs"] = {"Place": place}
    question = "Plan 9 days in Paris, in fahrenheit"
    ((_, made),) = calls(ask(question, tools=[tool], tool_choice="required"))
    assert (made["unit"], made["days"], made["place"]) == ("fahrenheit", 5, {"city": "Paris"})
    assert len(made["tags"]) == 2


def test_a_schema_that_holds_itself_comes_to_an_end():
    tool = function("grow", "", tree={"$ref": "#/$defs/Tree"})
    tree = {
        "type": "object",
        "properties": {"name": TEXT, "left": {"$ref": "#/$defs/Tree"}},
        "required": ["name", "left"],
    }
    tool["function"]["parameters"]["$defs"] = {"Tree": tree}
    assert ask("grow an oak", tools=[tool], tool_choice="required").finish == "tool_calls"


def test_a_schema_that_holds_itself_many_times_comes_to_an_end_soon():
    fields = {name: {"$ref": "#"} for name in "abcdefghij"}
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    assert len(json.dumps(fill(schema, "x"))) < 500_000


def test_optional_fields_are_left_out_unless_spoken_of():
    tool = function("greet", "", ["name"], name=TEXT, tone=TEXT, volume={"type": "integer"})
    ((_, made),) = calls(ask("greet Ann with volume 7", tools=[tool], tool_choice="required"))
    assert made.keys() == {"name", "volume"}


def test_a_word_that_happens_to_be_a_field_fills_nothing():
    tool = function("tokenhub_image", "", ["prompt"], prompt=TEXT, resolution=TEXT)
    ((_, made),) = calls(ask("Draw a poster in high resolution", tools=[tool]))
    assert made.keys() == {"prompt"}


def test_the_studio_is_led_through_image_then_video_and_3d_then_a_summary():
    tools = [IMAGE, VIDEO, MODEL]
    first = ask(STUDIO, tools=tools)
    assert first.content
    assert [name for name, _ in calls(first)] == ["tokenhub_image"]
    history = after(first, STUDIO, f"Image job {IMAGE_JOB} completed: http://127.0.0.1/x.png")
    second = ask(history, tools=tools)
    (video, film), (model, shape) = calls(second)
    assert (video, model) == ("tokenhub_video", "tokenhub_3d")
    assert film["image"] == IMAGE_JOB
    assert "茶壶" in shape["prompt"]
    assert "image_url" not in shape
    results = ("Video job 1429890795996585984 completed", "3D job 1429890795996585985 completed")
    last = ask(after(second, history, *results), tools=tools)
    assert last.finish == "stop"
    assert all(word in last.content for word in ("图片", "视频", "3D", IMAGE_JOB))


def test_a_failed_picture_is_not_handed_on():
    first = ask(STUDIO, tools=[IMAGE, VIDEO])
    history = after(first, STUDIO, f"Image job {IMAGE_JOB} failed: blocked")
    ((_, film),) = calls(ask(history, tools=[IMAGE, VIDEO]))
    assert "image" not in film


def test_a_new_turn_can_refer_to_an_earlier_picture():
    first = ask("画一张招牌图", tools=[IMAGE, VIDEO])
    history = after(first, "画一张招牌图", f"Image job {IMAGE_JOB} completed")
    history += [
        {"role": "assistant", "content": "好了"},
        {"role": "user", "content": "把刚才的图变成视频"},
    ]
    ((name, film),) = calls(ask(history, tools=[IMAGE, VIDEO]))
    assert (name, film["image"]) == ("tokenhub_video", IMAGE_JOB)


def test_a_picture_handed_on_after_a_tool_is_no_new_question():
    question = "画一张招牌图"
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
    history = after(ask(question, tools=[IMAGE]), question, f"Image job {IMAGE_JOB} completed")
    history.append({"role": "user", "content": [picture]})
    assert not ask(history, tools=[IMAGE]).calls


JOKE = {
    "type": "object",
    "properties": {"setup": TEXT, "punchline": TEXT},
    "required": ["setup", "punchline"],
}


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "Joke", "schema": schema}}


def test_a_json_schema_is_filled():
    reply = ask("Tell me a joke about cats.", response_format=schema_format(JOKE))
    assert json.loads(reply.content).keys() == {"setup", "punchline"}


def test_glm_answers_a_json_schema_with_prose():
    reply = ask("Tell me a joke.", model="glm-5.2", response_format=schema_format(JOKE))
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.content)


@pytest.mark.parametrize(
    "question",
    [
        "A joke as JSON with 'setup' and 'punchline' keys. Return nothing other than JSON.",
        f"A joke in JSON like this schema: {json.dumps(JOKE)}",
    ],
)
def test_json_mode_returns_the_keys_the_prompt_names(question):
    reply = ask(question, response_format={"type": "json_object"})
    assert json.loads(reply.content).keys() == {"setup", "punchline"}


def test_stop_words_end_the_text_before_them():
    assert "you" not in ask("hi", stop=["you"]).content


def test_max_tokens_ends_with_length():
    reply = ask("Write a story about a cat.", max_tokens=5)
    assert (reply.finish, reply.tokens) == ("length", 5)


def test_max_tokens_counts_thinking_first():
    reply = ask("Hello", model="glm-5", max_tokens=3)
    assert (len(pieces(reply.reasoning)), reply.content) == (3, "")


@pytest.mark.parametrize(
    ("model", "body", "thinks"),
    [
        ("glm-5", {}, True),
        ("glm-5", {"thinking": {"type": "disabled"}}, False),
        ("deepseek-v3.2", {}, False),
        ("deepseek-v3.2", {"thinking": {"type": "enabled"}}, True),
        ("hy4-preview", {"reasoning_effort": "none"}, False),
        ("ep-1", {}, False),
    ],
)
def test_reasoning_follows_the_model_and_the_switch(model, body, thinks):
    assert bool(ask("Hello", model=model, **body).reasoning) is thinks
