"""The tools held together: one set of settings, one memory of jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat, PositiveInt, SkipValidation

from langchain_tokenhub.catalogue import Kind, media_model
from langchain_tokenhub.jobs.progress import Progress
from langchain_tokenhub.params import Language
from langchain_tokenhub.settings import ConnectionSettings
from langchain_tokenhub.tools.client import Folder, LedgerLocation, absolute
from langchain_tokenhub.tools.media_tools import TOOLS, MediaTool


def _resolved(options: Mapping[Kind, Mapping[str, Any]]) -> Mapping[Kind, Mapping[str, Any]]:
    """Resolve the folders among the options of tools."""
    return {kind: {name: _folder(name, v) for name, v in options[kind].items()} for kind in options}


def _folder(name: str, value: Any) -> Any:
    match name:
        case "save_to" | "ledger":
            return absolute(value)
        case "allow_local_files" if isinstance(value, list | tuple):
            return [absolute(folder) for folder in value]
        case _:
            return value


class TokenHubToolkit(ConnectionSettings, BaseToolkit):
    """The three tools with one set of settings; what one makes, another may take by its job id.

    Example:
        ```python
        agent = create_agent(ChatTokenHub(model="hy3"), TokenHubToolkit(save_to="out").get_tools())
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, extra="forbid")

    models: Mapping[str, Kind] | Sequence[str] = ("hy-image-v3.0", "hy-video-1.5", "hy-3d-3.0")
    """Which models; for ids that are not listed, a mapping from id to kind."""
    language: Language = "zh"
    """Of the descriptions that a language model reads."""
    wait_timeout: PositiveFloat | None = None
    """Seconds to wait for a job; None is each model's default."""
    save_to: Folder | None = None
    """Folder where files are saved before their links die."""
    progress: SkipValidation[Progress] = Field(default=None, exclude=True)
    """True for a bar, or a function that takes a `Job`."""
    max_in_flight: PositiveInt | None = None
    """Jobs at once an account and model; None is the catalogue's default."""
    allow_local_files: Sequence[Folder] = ()
    """Folders from which a language model may send files."""
    ledger: LedgerLocation = None
    """Folder or store that makes calls repeatable."""
    options: Annotated[Mapping[Kind, Mapping[str, Any]], AfterValidator(_resolved)] = Field(
        default_factory=dict
    )
    """More fields for the tools of one kind: `{"video": {"wait_timeout": 600}}`."""

    def get_tools(self) -> list[BaseTool]:
        """Return one tool a model, each with a name of its own."""
        shared = {name: getattr(self, name) for name in type(self).model_fields if name not in _OWN}
        tools = [self._tool(model, kind, shared) for model, kind in self._kinds().items()]
        taken: set[str] = set()
        for tool in tools:
            if tool.name in taken:
                tool.name = re.sub(r"[^a-z0-9]+", "_", f"tokenhub_{tool.model}")
            taken.add(tool.name)
        folders = [tool.save_to for tool in tools if tool.save_to is not None]
        for tool in tools:
            tool.share(folders)
        return [*tools]

    def _kinds(self) -> dict[str, Kind]:
        if isinstance(self.models, Mapping):
            return dict(self.models)
        return {model: _kind(model) for model in self.models}

    def _tool(self, model: str, kind: Kind, shared: Mapping[str, Any]) -> MediaTool:
        return TOOLS[kind](**{**shared, **self.options.get(kind, {}), "model": model})


_OWN = frozenset({"models", "options"})


def _kind(model: str) -> Kind:
    known = media_model(model)
    if known is None:
        raise ValueError(
            f"{model!r} is not listed; say its kind: models={{{model!r}: 'image', ...}}"
        )
    return known.kind
