"""`ChatTokenHub`: LangChain's chat model over TokenHub's chat completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload

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
from pydantic import AliasChoices, ConfigDict, Field, SecretStr, ValidationError, model_validator

from langchain_tokenhub import catalogue, chat, telemetry
from langchain_tokenhub._version import __version__
from langchain_tokenhub.errors import (
    IncompleteStreamError,
    InvalidRequestError,
    TokenHubError,
)
from langchain_tokenhub.settings import ConnectionSettings, SiteName
from langchain_tokenhub.transport.calls import Call, Events, Timeouts
from langchain_tokenhub.transport.sync_bridge import drain, finish

if TYPE_CHECKING:
    from langchain_core.language_models.chat_models import _ChatModelBinding

    from langchain_tokenhub.chat import structured
    from langchain_tokenhub.chat.request import Tool
    from langchain_tokenhub.chat.response import Delta, Ending, ListedModel
    from langchain_tokenhub.settings import AsyncClient, Client, Timeout
    from langchain_tokenhub.transport import Transport

_ALIASES = frozenset({"model_name", "stop_sequences", "request_timeout"})
PATH = "/v1/chat/completions"
_WHOLE = Timeouts(read=600.0)
_STREAM = Timeouts(read=60.0)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
T = TypeVar("T")


async def _batch(data: Any) -> AsyncGenerator[Sequence[dict[str, Any]], None]:
    """Yield the values of an answer for which no stream was requested."""
    if isinstance(data, Events):
        yield data.values
        if data.failure is not None:
            raise data.failure
    else:
        yield [chat.response.checked_answer(data)]


class _CatalogueProfile(dict[str, Any]):
    """A profile that follows the model, unlike one that the caller gave."""


class ChatTokenHub(ConnectionSettings, BaseChatModel):
    """Chat model over the text models of Tencent Cloud TokenHub.

    Set-up: install the package and set the key of your account and site.

    ```bash
    pip install -U langchain-tokenhub
    export TOKENHUB_API_KEY="sk-..."
    ```

    Key arguments of the model:
        model (str): Id of a model, or `ep-…` of a service of your own.
        temperature (float | None): Randomness, 0 to 2.
        top_p (float | None): Nucleus sampling, 0 to 1.
        max_tokens (int | None): Most tokens of an answer, reasoning included.
        stop (list[str] | str | None): Up to 4 sequences at which to stop.
        thinking (bool | str | dict | None): Whether to think; None is the service's default.
        reasoning_effort (str | None): How much to think; the words differ by model.

    Key arguments of the connection:
        api_key (SecretStr | str | None): Else `TOKENHUB_API_KEY`.
        site (str): `mainland`, `overseas`, `international` or `international-guangzhou`.
        base_url (str | Sequence[str] | None): Overrides `site`.
        timeout (float | httpx.Timeout | None): Seconds of silence of one request.
        max_retries (int): Repetitions of a call; 2 by default, 0 means none.

    Instantiate:
        ```python
        from langchain_tokenhub import ChatTokenHub

        model = ChatTokenHub(
            model="hy3",
            temperature=0.7,
            max_tokens=1024,
            timeout=60,
            max_retries=2,
            # api_key="sk-...",
        )
        ```

    Invoke:
        ```python
        messages = [("system", "你是一个有帮助的助手。"), ("user", "请介绍一下腾讯云。")]
        answer = model.invoke(messages)
        print(answer.text)
        ```

    Stream:
        ```python
        for chunk in model.stream(messages):
            print(chunk.text, end="")
        ```

    Async:
        ```python
        import asyncio


        async def main():
            answer = await model.ainvoke(messages)
            async for chunk in model.astream(messages):
                print(chunk.text, end="")
            return await model.abatch([messages, "你好"])


        asyncio.run(main())
        ```

    Tool calling:
        ```python
        from pydantic import BaseModel, Field


        class GetWeather(BaseModel):
            '''Get the weather of a city.'''

            city: str = Field(description="City, such as 北京")


        calling = model.bind_tools([GetWeather])
        print(calling.invoke("北京天气怎么样？").tool_calls)
        ```

    Structured output:
        ```python
        class City(BaseModel):
            '''A city.'''

            name: str
            country: str


        city = model.with_structured_output(City).invoke("介绍北京")
        print(city.name)
        ```

    Token usage:
        ```python
        usage = model.invoke(messages).usage_metadata
        print(usage["input_tokens"], usage["output_tokens"], usage["total_tokens"])
        ```

    Multimodal input, with a model that sees:
        ```python
        import base64

        pixel = base64.b64decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        )
        picture = {
            "type": "image",
            "base64": base64.b64encode(pixel).decode(),
            "mime_type": "image/png",
        }
        question = {"role": "user", "content": [{"type": "text", "text": "图中有什么？"}, picture]}
        print(ChatTokenHub(model="kimi-k2.6").invoke([question]).text)
        ```

    Response metadata:
        ```python
        print(answer.response_metadata["model_name"], answer.response_metadata["finish_reason"])
        ```
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

    if TYPE_CHECKING:
        # what pydantic takes: aliases, a plain string for the key, keywords for `model_kwargs`
        def __init__(
            self,
            *,
            model: str = ...,
            model_name: str = ...,
            temperature: float | None = ...,
            top_p: float | None = ...,
            max_tokens: int | None = ...,
            stop: list[str] | str | None = ...,
            stop_sequences: list[str] | str | None = ...,
            seed: int | None = ...,
            thinking: bool
            | Literal["enabled", "disabled", "adaptive"]
            | dict[str, Any]
            | None = ...,
            reasoning_effort: str | None = ...,
            streaming: bool = ...,
            stream_usage: bool = ...,
            model_kwargs: dict[str, Any] = ...,
            extra_body: dict[str, Any] | None = ...,
            api_key: SecretStr | str | None = ...,
            site: SiteName = ...,
            base_url: str | Sequence[str] | None = ...,
            timeout: float | Timeout | None = ...,
            request_timeout: float | Timeout | None = ...,
            max_retries: int = ...,
            default_headers: Mapping[str, str] | None = ...,
            http_client: Client | None = ...,
            http_async_client: AsyncClient | None = ...,
            **kwargs: Any,
        ) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _take_unknown(cls, values: Any) -> Any:
        """Move keywords that are not fields to `model_kwargs`, with LangChain's warning."""
        if not isinstance(values, dict):
            return values
        for name, alias in (("model", "model_name"), ("stop", "stop_sequences")):
            if name in values and alias in values:
                raise ValueError(f"{name} and {alias} are one field; give one of them")
        follows = isinstance(values.get("profile"), _CatalogueProfile)
        if follows and values.keys() >= {*cls.model_fields}:  # as `configurable_fields` copies
            values = {**values, "profile": None}
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
        # before a run is traced: what a call must not hold is refused here
        given = chat.request.read_kwargs(kwargs)
        return chat.request.ls_params(
            {"model": self.model, **self._set_parameters(), **given}, stop
        )

    def _resolve_model_profile(self) -> ModelProfile | None:
        known = ModelProfile.__annotations__
        found = {k: v for k, v in catalogue.profile(self.model).items() if k in known}
        return cast("ModelProfile", _CatalogueProfile(found)) if found else None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; its `profile` is that of its model, unless the caller gave one."""
        copied = super().model_copy(update=update, deep=deep)
        if isinstance(copied.profile, _CatalogueProfile):
            copied.profile = copied._resolve_model_profile()  # noqa: SLF001 - of this very class
        return copied

    def bind(self, **kwargs: Any) -> _ChatModelBinding:
        """Return this model with keywords for each call; another `model` has its own profile."""
        given = chat.request.read_kwargs(kwargs)
        model = given.pop("model", None)
        bound = self if model is None else self.model_copy(update={"model": str(model)})
        return super(ChatTokenHub, bound).bind(**given)

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

    def _for_call(
        self, transport: Transport, kwargs: Mapping[str, Any]
    ) -> tuple[Transport, dict[str, Any]]:
        """Return the transport and the keywords of a call, as its keywords change them.

        Raises:
            InvalidRequestError: A call cannot change one of them, or its value is wrong.
        """
        given = chat.request.read_kwargs(kwargs)
        changed = {k: given[k] for k in chat.request.CONNECTION if given.get(k) is not None}
        if not changed:
            return transport, given
        try:
            checked = ConnectionSettings(api_key=None, site="mainland", base_url=None, **changed)
        except ValidationError as problem:
            reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors()]
        else:
            own = transport.endpoint
            retries = checked.max_retries if "max_retries" in changed else own.max_retries
            new = checked.default_headers or {}
            names = {name.lower() for name in new}
            kept = {k: v for k, v in own.headers.items() if k.lower() not in names}
            endpoint = replace(own, headers={**kept, **new}, max_retries=retries)
            return replace(transport, endpoint=endpoint), given
        raise InvalidRequestError("; ".join(reasons))

    # -- what waits, written once -------------------------------------------------------------

    def _start(
        self,
        transport: Transport,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
        *,
        stream: bool = True,
    ) -> AsyncGenerator[Sequence[Delta | Ending], None]:
        """Return what a call adds, piece by piece; nothing is sent before the first."""
        transport, given = self._for_call(transport, kwargs)
        return self._deltas(transport, messages, stop, given, stream=stream)

    async def _complete(self, transport: Transport, *call: Any) -> ChatResult:
        async with aclosing(self._start(transport, *call, stream=False)) as parts:
            return chat.response.result_of([item async for items in parts for item in items])

    async def _deltas(
        self,
        transport: Transport,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
        changes: Mapping[str, Any] = _NOTHING,
        *,
        stream: bool,
    ) -> AsyncGenerator[Sequence[Delta | Ending], None]:
        """Yield what the answer adds, as it comes; the last is its ending.

        `changes` are the fields that a refusal before made necessary.
        """
        body = self._body(messages, stop, {**kwargs, **changes}, stream=stream)
        call = self._call(body, kwargs.get("timeout"))
        begun = transport.runtime.now()
        received: list[Delta] = []
        reader = answer = None  # made when the answer begins: calls in flight stay small
        try:
            answer = await (transport.stream(call) if stream else transport.json(call))
            reader = chat.response.DeltaReader(body["model"])
            async with aclosing(answer.data if stream else _batch(answer.data)) as batches:
                async for values in batches:
                    found = [delta for value in values if (delta := reader.read(value))]
                    if found:
                        received += found
                        yield found
        except TokenHubError as error:
            if isinstance(error, InvalidRequestError) and not received:
                warn = chat.request.warns_unforced(kwargs)
                changes = chat.reasoning.after_refusal(body, error, changes, warn=warn)
                again = self._deltas(transport, messages, stop, kwargs, changes, stream=stream)
                async with aclosing(again):
                    async for items in again:
                        yield items
                return
            if answer is None or reader is None or not reader.lacks_only_the_end_mark(error):
                if received or isinstance(error, IncompleteStreamError):
                    rest = reader.finish()[0] if reader else []
                    error.partial = chat.response.message_of([*received, *rest])
                raise
        metadata = answer.metadata(transport.runtime.now() - begun)
        rest, ending = reader.finish(metadata)
        telemetry.record_tokens("chat", body["model"], ending.usage)
        received += rest
        chat.response.check_finish_reason(ending, received)
        if not kwargs.get("answer_tools") or any(delta.tools for delta in received):
            yield [*rest, ending]
            return
        yield rest
        message = chat.response.message_of(received)
        history, kwargs = chat.structured.ask_again(messages, message, kwargs)
        again = self._deltas(transport, history, stop, kwargs, stream=stream)
        async with aclosing(again):
            async for items in again:
                yield chat.structured.with_usage_of(items, ending)

    async def _chunks(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        async with aclosing(self._start(self._async(), messages, stop, kwargs)) as stream:
            async for items in stream:
                for item in items:
                    yield chat.response.chunk_of(item)

    async def _events(
        self,
        writer: chat.blocks.EventWriter,
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
    ) -> AsyncGenerator[MessagesData, None]:
        async with aclosing(self._start(self._async(), messages, stop, kwargs)) as stream:
            async for items in stream:
                for item in items:
                    for event in writer.write(item):
                        yield event

    def _writer(self, run_id: object, kwargs: Mapping[str, Any]) -> chat.blocks.EventWriter:
        model = str(chat.request.read_kwargs(kwargs).get("model") or self.model)
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
        with closing(drain(self._start(self._sync(), messages, stop, kwargs))) as stream:
            for items in stream:
                yield from map(chat.response.chunk_of, items)

    def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - core reports
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        return self._chunks(messages, stop, kwargs)

    def _stream_chat_model_events(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[MessagesData]:
        writer = self._writer(run_manager and run_manager.run_id, kwargs)
        with closing(drain(self._start(self._sync(), messages, stop, kwargs))) as stream:
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
        return self._events(writer, messages, stop, kwargs)

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
            tools: Functions, classes, schemas, LangChain tools, or dicts in OpenAI's form.
            tool_choice: `"auto"`, `"none"`, `"any"`, `"required"` or True, or a tool's name.
            strict: Whether arguments must match the schema, where the model supports it.
            parallel_tool_calls: Whether several calls may come at once.
            response_format: The shape of the text answer, as `create_agent` asks for it.
            **kwargs: More fields of the body.

        Raises:
            InvalidRequestError: `tool_choice` names no tool, or the model is known not to honour
                the `response_format`.
        """
        chosen = chat.request.encode_tools(tools, tool_choice, strict=strict)
        bound = chat.request.encode_tools(tools, None, strict=strict)
        if "tool_choice" in chosen:
            bound["tool_choice"] = tool_choice  # of all tools: a call may choose another
        if bound and parallel_tool_calls is not None:
            bound["parallel_tool_calls"] = parallel_tool_calls
        if response_format is not None:
            chat.structured.check_format(response_format, self.model)
            bound["response_format"] = response_format
        if chosen.get("tool_choice") == "required" and (
            names := chat.structured.answer_tools(tools)
        ):
            bound["answer_tools"] = names
        return self.bind(**bound, **kwargs)

    @overload
    def with_structured_output(
        self,
        schema: type[T],
        *,
        method: structured.Method | None = None,
        include_raw: Literal[False] = False,
        strict: bool | None = None,
        tools: Sequence[Tool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, T]: ...

    @overload
    def with_structured_output(
        self,
        schema: dict[str, Any] | None = None,
        *,
        method: structured.Method | None = None,
        include_raw: Literal[False] = False,
        strict: bool | None = None,
        tools: Sequence[Tool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any]]: ...

    @overload
    def with_structured_output(
        self,
        schema: structured.Schema | None = None,
        *,
        method: structured.Method | None = None,
        include_raw: Literal[True],
        strict: bool | None = None,
        tools: Sequence[Tool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any]]: ...

    @overload
    def with_structured_output(
        self,
        schema: structured.Schema | None = None,
        *,
        method: structured.Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Tool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]: ...

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
            schema: A pydantic class (2 or 1), TypedDict, JSON schema or tool in OpenAI's form.
            method: How to ask; None takes what is known to work for the model, and another way
                where the service refuses it or the model answers with prose.
            include_raw: Return `raw`, `parsed` and `parsing_error`; never raise for an answer.
            strict: Whether the schema must be kept, where the model supports it.
            tools: Tools that may be called as well.
            **kwargs: More fields of the body.

        Raises:
            InvalidRequestError: There is no such method, or it needs a schema.
        """
        row = catalogue.chat_model(self.model)
        methods = chat.structured.methods_for(
            method, row, schema, can_force=chat.reasoning.can_force(row)
        )
        more = {**kwargs, "strict": strict, "has_fallback": len(methods) > 1}
        bound = [
            chat.structured.bind_method(self.bind_tools, schema, one, tools or (), more)
            for one in methods
        ]
        return chat.structured.chain_of(bound, include_raw=include_raw)

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
        encoded = chat.messages.encode_messages(messages, rules, complete=False)
        sent = chat.request.encode_tools(tools or (), None)
        return chat.tokens.estimate_messages(encoded, sent.get("tools"), self.get_num_tokens)
