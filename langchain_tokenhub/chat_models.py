"""`ChatTokenHub`: LangChain's chat model over TokenHub's chat completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils import get_pydantic_field_names
from langchain_core.utils.utils import LC_ID_PREFIX, _build_model_kwargs
from langchain_protocol.protocol import MessagesData
from pydantic import AliasChoices, ConfigDict, Field, model_validator

from langchain_tokenhub import catalogue, chat
from langchain_tokenhub._version import __version__
from langchain_tokenhub.errors import IncompleteStreamError, InvalidRequestError
from langchain_tokenhub.settings import ConnectionSettings
from langchain_tokenhub.transport.calls import Call, Timeouts
from langchain_tokenhub.transport.sync_bridge import drain, finish

if TYPE_CHECKING:
    from langchain_tokenhub.chat import structured
    from langchain_tokenhub.chat.request import Tool
    from langchain_tokenhub.chat.response import Delta, Ending, ListedModel
    from langchain_tokenhub.transport import Answer, Transport

_ALIASES = {"model_name", "stop_sequences", "request_timeout"}
PATH = "/v1/chat/completions"
_WHOLE = Timeouts(read=600.0)
_STREAM = Timeouts(read=60.0)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class ChatTokenHub(ConnectionSettings, BaseChatModel):
    """Chat with any text model of Tencent Cloud TokenHub.

    ```python
    from langchain_tokenhub import ChatTokenHub

    model = ChatTokenHub(model="deepseek-v3.1-terminus")
    model.invoke("你好,请介绍一下你自己").content
    ```

    Source: the guide, text generation (文本生成).
    """

    model_config = ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)

    model: str = Field(min_length=1, validation_alias=AliasChoices("model", "model_name"))
    """Service id: a model's name, or `ep-…` of a service of your own."""
    temperature: float | None = None
    """Randomness, 0 to 2."""
    top_p: float | None = None
    """Nucleus sampling, 0 to 1."""
    max_tokens: int | None = None
    """Most tokens of an answer, reasoning included."""
    stop: list[str] | str | None = Field(
        default=None, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    """Up to 4 sequences at which to stop."""
    seed: int | None = None
    """The same seed with the same request gives a similar answer."""
    n: int | None = None
    """One answer per call; here for those who pass it everywhere."""
    thinking: bool | Literal["enabled", "disabled", "adaptive"] | dict[str, Any] | None = None
    """Whether to think; None is the service's default."""
    reasoning_effort: str | None = None
    """How hard to think; words differ by model (catalogue)."""
    streaming: bool = False
    """Stream under the hood even for `invoke`."""
    stream_usage: bool = True
    """Ask for token counts at the end of a stream."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """More fields of the body."""
    extra_body: dict[str, Any] | None = None
    """More fields of the body, merged last."""

    @model_validator(mode="before")
    @classmethod
    def _take_unknown(cls, values: Any) -> Any:
        """Move keywords that are no fields to `model_kwargs`, with LangChain's warning."""
        if not isinstance(values, dict):
            return values
        for name, alias in (("model", "model_name"), ("stop", "stop_sequences")):
            if name in values and alias in values:
                raise ValueError(f"{name} and {alias} are one field; give one of them")
        return _build_model_kwargs(dict(values), get_pydantic_field_names(cls) | _ALIASES)

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        try:
            chat.request.check_parameters(self._set_parameters())
        except InvalidRequestError as problem:
            raise ValueError(str(problem)) from None  # pydantic makes a ValidationError of it
        return self

    @model_validator(mode="after")
    def _note_version(self) -> Self:
        self._add_version("langchain-tokenhub", __version__)
        return self

    @property
    def model_name(self) -> str:
        """The model's id, by its LangChain alias."""
        return self.model

    # -- who this is ------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "tokenhub-chat"

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Where the key comes from when this is loaded."""
        return {"api_key": "TOKENHUB_API_KEY"}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: `load(..., allowed_objects=[ChatTokenHub])` brings it back."""
        return True

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What changes an answer, and no secret."""
        where = {"site": self.site, "base_url": self.base_url}
        return {"model": self.model, **where, **self._set_parameters()}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        body = {"model": self.model, **self._set_parameters(), **kwargs}
        return chat.request.ls_params(body, stop)

    def _resolve_model_profile(self) -> ModelProfile | None:
        known = ModelProfile.__annotations__
        found = {k: v for k, v in catalogue.profile(self.model).items() if k in known}
        return cast("ModelProfile", found) if found else None

    def __copy__(self) -> Self:
        """Copy without core's cached `_serialized`: it would answer from the original's cache."""
        copied = super().__copy__()
        vars(copied).pop("_serialized", None)
        return copied

    # -- requests ---------------------------------------------------------------------------

    def _set_parameters(self) -> dict[str, Any]:
        """Return the body's fields that the caller set."""
        given = {name: getattr(self, name) for name in chat.request.SETTINGS}
        known = {name: value for name, value in given.items() if value not in (None, [])}
        return {**known, **self.model_kwargs, **(self.extra_body or {})}

    def _body(
        self,
        messages: Sequence[BaseMessage],
        stop: Sequence[str] | None,
        kwargs: Mapping[str, Any],
        *,
        stream: bool,
    ) -> dict[str, Any]:
        """Return what is sent for these messages."""
        settings = {"model": self.model, **self._set_parameters()}
        body = chat.request.build_body(settings, messages, stop, kwargs)
        usage = kwargs.get("stream_usage", self.stream_usage)
        return chat.request.with_stream(body, usage=usage) if stream else body

    def _call(self, body: dict[str, Any], timeout: Any) -> Call:
        default = _STREAM if body.get("stream") else _WHOLE
        timeouts = Timeouts.of(self.timeout if timeout is None else timeout, default)
        return Call(path=PATH, body=body, retry_class="chat", timeouts=timeouts)

    # -- what waits, written once -------------------------------------------------------------

    async def _complete(
        self,
        transport: Transport,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
    ) -> ChatResult:
        given, begun = _NOTHING, transport.runtime.now()
        while True:
            body = self._body(messages, stop, {**kwargs, **given}, stream=False)
            try:
                answer = await transport.json(self._call(body, kwargs.get("timeout")))
            except InvalidRequestError as refusal:
                given = chat.reasoning.after_refusal(body, refusal, given)
            else:
                told = answer.told(transport.runtime.now() - begun)
                return chat.response.decode_answer(answer.data, model=body["model"], metadata=told)

    async def _deltas(
        self,
        transport: Transport,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
        given: Mapping[str, Any] = _NOTHING,
    ) -> AsyncGenerator[Sequence[Delta | Ending], None]:
        """Yield what the stream adds, as it comes; the last is its ending.

        `given` is what was given up after a refusal.
        """
        body = self._body(messages, stop, {**kwargs, **given}, stream=True)
        begun = transport.runtime.now()
        reader = chat.response.DeltaReader(body["model"])
        said: list[Delta] = []
        answer: Answer | None = None
        try:
            answer = await transport.stream(self._call(body, kwargs.get("timeout")))
            async with aclosing(answer.data) as events:
                async for values in events:
                    found = [delta for value in values if (delta := reader.read(value))]
                    if found:
                        said += found
                        yield found
        except IncompleteStreamError as cut:
            if not reader.complete:  # else all was said; only the farewell is missing
                cut.partial = chat.response.message_of([*said, *reader.finish()[0]])
                raise
        except InvalidRequestError as refusal:
            if said:
                raise
            given = chat.reasoning.after_refusal(body, refusal, given)
            async with aclosing(self._deltas(transport, messages, stop, kwargs, given)) as again:
                async for items in again:
                    yield items
            return
        told = answer.told(transport.runtime.now() - begun) if answer else _NOTHING
        rest, ending = reader.finish(told)
        chat.response.check_finish_reason(ending, [*said, *rest])
        yield [*rest, ending]

    async def _chunks(
        self, transport: Transport, *request: Any
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        async with aclosing(self._deltas(transport, *request)) as stream:
            async for items in stream:
                for item in items:
                    yield chat.response.chunk_of(item)

    async def _events(
        self, transport: Transport, writer: chat.blocks.EventWriter, *request: Any
    ) -> AsyncGenerator[MessagesData, None]:
        async with aclosing(self._deltas(transport, *request)) as stream:
            async for items in stream:
                for item in items:
                    for event in writer.write(item):
                        yield event

    def _writer(self, run_id: object, kwargs: Mapping[str, Any]) -> chat.blocks.EventWriter:
        model = str(kwargs.get("model") or self.model)
        return chat.blocks.EventWriter(f"{LC_ID_PREFIX}-{run_id}" if run_id else "", model)

    # -- LangChain's faces --------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - core reports
        **kwargs: Any,
    ) -> ChatResult:
        return finish(self._complete(self._sync(), messages, stop, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - core reports
        **kwargs: Any,
    ) -> ChatResult:
        return await self._complete(self._async(), messages, stop, kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - core reports
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        # as `_chunks`, but stepped once a batch: a step for each chunk would cost more than it
        with closing(drain(self._deltas(self._sync(), messages, stop, kwargs))) as stream:
            for items in stream:
                yield from map(chat.response.chunk_of, items)

    def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - core reports
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        return self._chunks(self._async(), messages, stop, kwargs)

    def _stream_chat_model_events(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[MessagesData]:
        writer = self._writer(run_manager and run_manager.run_id, kwargs)
        with closing(drain(self._deltas(self._sync(), messages, stop, kwargs))) as stream:
            for items in stream:
                for item in items:
                    yield from writer.write(item)

    def _astream_chat_model_events(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[MessagesData]:
        writer = self._writer(run_manager and run_manager.run_id, kwargs)
        return self._events(self._async(), writer, messages, stop, kwargs)

    # -- tools and shapes ---------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools it may call.

        Args:
            tools: Functions, classes, schemas, LangChain tools, or dicts in the wire's form.
            tool_choice: `"auto"`, `"none"`, `"any"`, `"required"` or True, or a tool's name.
            strict: Whether arguments must match the schema, where the model knows that.
            parallel_tool_calls: Whether several calls may come at once.
            response_format: The shape of the text answer, as `create_agent` asks for it.
            **kwargs: More fields of the body.

        Raises:
            InvalidRequestError: `tool_choice` names no tool.
        """
        runtime = chat.request.encode_tools(tools, tool_choice, strict=strict)
        if runtime and parallel_tool_calls is not None:
            runtime["parallel_tool_calls"] = parallel_tool_calls
        if response_format is not None:
            runtime["response_format"] = response_format
        return self.bind(**runtime, **kwargs)

    def with_structured_output(
        self,
        schema: structured.Schema | None = None,
        *,
        method: structured.Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Tool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a chain that answers in a given shape.

        Args:
            schema: A pydantic class (2 or 1), TypedDict, JSON schema or tool in the wire's form.
            method: How to ask; None takes what is known to work for the model, and another way
                where the service refuses it or the model answers with prose.
            include_raw: Return `raw`, `parsed` and `parsing_error`; never raise for an answer.
            strict: Whether the schema must be kept, where the model knows that.
            tools: Tools that may be called as well.
            **kwargs: More fields of the body.

        Raises:
            InvalidRequestError: There is no such method, or it needs a schema.
        """
        row = catalogue.chat_model(self.model)
        methods = chat.structured.methods_for(
            method, row, schema, sure=chat.reasoning.can_force(row)
        )
        more = {**kwargs, "strict": strict}
        ways = [
            chat.structured.way(self.bind_tools, schema, one, tools or (), more) for one in methods
        ]
        return chat.structured.chain_of(ways, include_raw=include_raw)

    # -- the service's list -------------------------------------------------------------------

    def list_models(self) -> list[ListedModel]:
        """Return the models that the key may use, of every modality, as the service lists them."""
        return finish(self._listed(self._sync()))

    async def alist_models(self) -> list[ListedModel]:
        """Return the models that the key may use, of every modality, as the service lists them."""
        return await self._listed(self._async())

    async def _listed(self, transport: Transport) -> list[ListedModel]:
        call = Call(path=chat.response.MODELS_PATH, timeouts=Timeouts.of(self.timeout, Timeouts()))
        return chat.response.decode_models((await transport.json(call)).data)

    # -- counting -----------------------------------------------------------------------------

    def get_token_ids(self, text: str) -> list[int]:
        """Return the ids of `custom_get_token_ids`; the models' own tokenizers are not public.

        Raises:
            NotImplementedError: There is no `custom_get_token_ids`.
        """
        return chat.tokens.ids(text, self.custom_get_token_ids)

    def get_num_tokens(self, text: str) -> int:
        """Return about how many tokens `text` is; offline, fit for Chinese."""
        return chat.tokens.count(text, self.custom_get_token_ids)

    def get_num_tokens_from_messages(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
    ) -> int:
        """Return about how many tokens a request with these messages and tools is."""
        rules = chat.messages.Rules(model=self.model, row=None, thinking=True)
        runtime = chat.messages.encode_messages(messages, rules, complete=False)
        sent = chat.request.encode_tools(tools or (), None, strict=None)
        return chat.tokens.estimate_messages(runtime, sent.get("tools"), self.get_num_tokens)
