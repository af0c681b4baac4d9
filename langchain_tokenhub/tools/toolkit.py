"""One tool for each of several models, with one set of settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Unpack

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from langchain_tokenhub.catalogue import Kind, estimate_price, media_model, similar_media_model
from langchain_tokenhub.params import Language
from langchain_tokenhub.tools.budget import Budget
from langchain_tokenhub.tools.client import Folder, LedgerLocation, MediaOptions, MediaSettings
from langchain_tokenhub.tools.media_tools import TOOLS, MediaTool


@with_config(ConfigDict(arbitrary_types_allowed=True, extra="allow"))
class KindOptions(TypedDict, total=False):
    """Fields for the tools of one kind; the tools check those that are not paths."""

    save_to: Folder | None
    ledger: LedgerLocation
    allow_local_files: Sequence[Folder]


class ToolkitOptions(MediaOptions, total=False):
    """Constructor keywords of `TokenHubToolkit`."""

    models: Mapping[str, Kind] | Sequence[str]
    language: Language
    options: Mapping[Kind, Mapping[str, Any]]
    budget_cny: float | None


class TokenHubToolkit(MediaSettings, BaseToolkit):
    """The three tools with one set of settings; a job of one is an input of another by its id.

    Example:
        ```python
        agent = create_agent(ChatTokenHub(model="hy3"), TokenHubToolkit(save_to="out").get_tools())
        ```
    """

    models: Mapping[str, Kind] | Sequence[str] = ("hy-image-v3.0", "hy-video-1.5", "hy-3d-3.0")
    """Model ids; or a mapping from id to kind, if some are not listed."""
    language: Language = "zh"
    """Language of the descriptions that a language model reads."""
    options: Mapping[Kind, KindOptions] = Field(default_factory=dict)
    """Fields for the tools of one kind, such as `{"video": {"wait_timeout": 600}}`."""

    budget_cny: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """CNY that an agent's calls may cost in one thread, by estimate; needs the extra `agents`.

    A call that would exceed it is answered with an error that has the amount spent, the amount left
    and the price. `generate` and `submit` are not limited.
    """

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[ToolkitOptions]) -> None: ...

    def get_tools(self) -> list[BaseTool]:
        """Return one tool per model, each with a unique name.

        Raises:
            ValueError: A model is not listed and its kind is not given, or there is a budget and
                the price of a model is not known.
        """
        tools = self._tools()
        if self.budget_cny is not None:
            tools = self._tools(_budget(self.budget_cny, tools))
        return [*tools]

    def _tools(self, budget: Budget | None = None) -> list[MediaTool]:
        fields = list(self._tool_fields())
        folders = [one["save_to"] for _, one in fields if one.get("save_to")]
        shared: dict[str, Any] = {"shared_folders": folders, "shared_budget": budget}
        tools = [TOOLS[kind](**one, **shared) for kind, one in fields]
        _make_names_unique(tools)
        return tools

    def _tool_fields(self) -> Iterator[tuple[Kind, dict[str, Any]]]:
        own = {"models", "options", "budget_cny"}
        shared = {name: getattr(self, name) for name in type(self).model_fields if name not in own}
        for model, kind in self._kinds().items():
            yield kind, {**shared, **self.options.get(kind, {}), "model": model}

    def _kinds(self) -> dict[str, Kind]:
        if isinstance(self.models, Mapping):
            return dict(self.models)
        return {model: _kind(model) for model in self.models}


def _budget(cny: float, tools: Sequence[MediaTool]) -> Budget:
    for tool in tools:
        if estimate_price(tool.model, {}) is None:
            raise ValueError(f"budget_cny: no price of {tool.model!r} is known; leave it out")
    return Budget(cny=cny, models={tool.name: tool.model for tool in tools})


def _make_names_unique(tools: Sequence[MediaTool]) -> None:
    taken: set[str] = set()
    for tool in tools:
        if tool.name in taken:
            tool.name = re.sub(r"[^a-z0-9]+", "_", f"tokenhub_{tool.model}")
        taken.add(tool.name)


def _kind(model: str) -> Kind:
    known = media_model(model)
    if known is None:
        similar = similar_media_model(model)
        advice = f"did you mean {similar.id!r}? If not, give" if similar else "give"
        raise ValueError(
            f"{model!r} is not listed; {advice} its kind: models={{{model!r}: 'image', ...}}"
        )
    return known.kind
