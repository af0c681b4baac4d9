"""The recipes in `help(ChatTokenHub)` run as they stand, one after the other."""

from __future__ import annotations

import inspect
import re

from langchain_tokenhub import ChatTokenHub

DOCSTRING = inspect.getdoc(ChatTokenHub)
RECIPES = dict(
    re.findall(r"^(\w[^\n]*):\n    ```python\n(.*?)\n    ```", DOCSTRING, re.MULTILINE | re.DOTALL)
)
SUBJECTS = [
    "Instantiate",
    "Invoke",
    "Stream",
    "Async",
    "Tool calling",
    "Structured output",
    "Token usage",
    "Multimodal input, with a model that accepts images",
    "Response metadata",
]


def test_the_recipes_run_as_they_stand(hub, capsys):
    assert list(RECIPES) == SUBJECTS
    names = {"__name__": "recipes"}
    for subject, recipe in RECIPES.items():
        exec(compile(inspect.cleandoc("\n" + recipe), subject, "exec"), names)
        assert capsys.readouterr().out.strip() or subject == "Instantiate", subject
    assert names["city"].name
    assert len(hub.requests) == 10


def test_the_docstring_names_each_key_argument_with_its_type():
    named = set(re.findall(r"^    (\w+) \([^)]+\): \S", DOCSTRING, re.MULTILINE))

    assert {"model", "temperature", "max_tokens", "thinking", "api_key", "timeout"} <= named
    assert named <= set(ChatTokenHub.model_fields)
