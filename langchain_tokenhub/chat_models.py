"""`ChatTokenHub`: LangChain's chat model over TokenHub's chat completions."""

# ruff: noqa: ARG002 - the base class reports to `run_manager`

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils import get_pydantic_field_names
from langchain_core.utils.utils import LC_ID_PREFIX, _build_model_kwargs
from langchain_protocol.protocol import MessagesData
from pydantic import AliasChoices, ConfigDict, Field, SecretStr, ValidationError, model_validator

from langchain_tokenhub import catalogue, telemetry
from langchain_tokenhub._version import __version__
from langchain_tokenhub.catalogue import SiteName
from langchain_tokenhub.chat import request, response, tokens
from langchain_tokenhub.chat.content import Rules
from langchain_tokenhub.chat.messages import encode_messages
from langchain_tokenhub.chat.response import Delta, Ending, EventWriter, ListedModel, PartialAnswer
from langchain_tokenhub.chat.tools import (
    Tool,
    answer_tools,
    ask_for_call,
    check_format,
    encode_tools,
)
from langchain_tokenhub.errors import IncompleteStreamError, InvalidRequestError, TokenHubError
from langchain_tokenhub.settings import ConnectionSettings
from langchain_tokenhub.transport.calls import Call, Events, Timeouts
from langchain_tokenhub.transport.runtime import iterate_sync, run_sync

if TYPE_CHECKING:
    from langchain_core.language_models.chat_models import _ChatModelBinding

    from langchain_tokenhub.chat import structured
    from langchain_tokenhub.settings import AsyncClient, Client, Timeout
    from langchain_tokenhub.transport import Transport

_ALIASES = frozenset({"model_name", "stop_sequences", "request_timeout"})
T = TypeVar("T")
Part = Delta | Ending
Messages = list[BaseMessage]
Kwargs = Mapping[str, Any]
Stop = list[str] | None
Run = CallbackManagerForLLMRun | None
AsyncRun = AsyncCallbackManagerForLLMRun | None
Thinking = bool | Literal["enabled", "disabled", "adaptive"] | dict[str, Any] | None


async def _batch(data: Any) -> AsyncGenerator[Sequence[dict[str, Any]], None]:
    """Yield the values of an answer for which no stream was requested."""
    if isinstance(data, Events):
        yield data.values
        if data.failure is not None:
            raise data.failure
    else:
        yield [response.check_answer(data)]


class _CatalogueProfile(dict[str, Any]):
    """A profile that changes with the model, unlike one that the caller passed."""


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
        max_tokens (int | None): Maximum tokens of an answer, reasoning included.
        stop (list[str] | str | None): Up to 4 sequences at which to stop.
        thinking (bool | str | dict | None): Whether to reason; None is the service's default.
        reasoning_effort (str | None): How much to reason; the values differ by model.

    Key arguments of the connection:
        api_key (SecretStr | str | None): None reads `TOKENHUB_API_KEY`.
        site (str): `mainland`, `overseas`, `international` or `international-guangzhou`.
        base_url (str | Sequence[str] | None): Overrides `site`.
        timeout (float | httpx.Timeout | None): Seconds without any data from the service.
        max_retries (int): Retries of a call; 2 by default, 0 means none.

    Instantiate:
        ```python
        from langchain_tokenhub import ChatTokenHub

        chat = ChatTokenHub(
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
        answer = chat.invoke(messages)
        print(answer.text)
        ```

    Stream:
        ```python
        for chunk in chat.stream(messages):
            print(chunk.text, end="")
        ```

    Async:
        ```python
        import asyncio


        async def main():
            answer = await chat.ainvoke(messages)
            async for chunk in chat.astream(messages):
                print(chunk.text, end="")
            return await chat.abatch([messages, "你好"])


        asyncio.run(main())
        ```

    Tool calling:
        ```python
        from pydantic import BaseModel, Field


        class GetWeather(BaseModel):
            '''Get the weather of a city.'''

            city: str = Field(description="City, such as 北京")


        calling = chat.bind_tools([GetWeather])
        print(calling.invoke("北京天气怎么样？").tool_calls)
        ```

    Structured output:
        ```python
        class City(BaseModel):
            '''A city.'''

            name: str
            country: str


        city = chat.with_structured_output(City).invoke("介绍北京")
        print(city.name)
        ```

    Token usage:
        ```python
        usage = chat.invoke(messages).usage_metadata
        print(usage["input_tokens"], usage["output_tokens"], usage["total_tokens"])
        ```

    Multimodal input, with a model that accepts images:
        ```python
        image = {"type": "image", "url": "https://example.com/cat.png"}
        question = {"role": "user", "content": [{"type": "text", "text": "图中有什么？"}, image]}
        print(ChatTokenHub(model="kimi-k2.6").invoke([question]).text)
        ```

    Response metadata:
        ```python
        print(answer.response_metadata["model_name"], answer.response_metadata["finish_reason"])
        ```
    """

    model_config = ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)

    model: str = Field(min_length=1, validation_alias=AliasChoices("model", "model_name"))
    """Id of a model, or `ep-…` of a service of your own."""
    temperature: float | None = None
    """Randomness, 0 to 2."""
    top_p: float | None = None
    """Nucleus sampling, 0 to 1."""
    max_tokens: int | None = None
    """Maximum tokens of an answer, reasoning included."""
    stop: list[str] | str | None = Field(
        default=None, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    """Up to 4 sequences at which to stop."""
    seed: int | None = None
    """The same seed with the same request gives a similar answer."""
    n: int | None = None
    """Number of answers; only 1 is supported, for callers that always pass it."""
    thinking: Thinking = None
    """Whether to reason; None is the service's default."""
    reasoning_effort: str | None = None
    """How much to reason; the values differ by model (see the catalogue)."""
    streaming: bool = False
    """Use a stream also for `invoke`."""
    stream_usage: bool = True
    """Request token counts at the end of a stream."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """More fields of the body."""
    extra_body: dict[str, Any] | None = None
    """More fields of the body, merged last."""

    if TYPE_CHECKING:
        # what pydantic accepts: aliases, a plain string for the key, keywords for `model_kwargs`
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
            thinking: Thinking = ...,
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
                raise ValueError(f"{name} and {alias} are one field; pass one of them")
        follows = isinstance(values.get("profile"), _CatalogueProfile)
        if follows and values.keys() >= {*cls.model_fields}:  # as `configurable_fields` copies
            values = {**values, "profile": None}
        return _build_model_kwargs(dict(values), get_pydantic_field_names(cls) | _ALIASES)

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        try:
            request.check_parameters(self._settings())
        except InvalidRequestError as problem:
            raise ValueError(str(problem)) from None  # pydantic turns it into a ValidationError
        self._add_version("langchain-tokenhub", __version__)
        return self

    @property
    def model_name(self) -> str:
        """The model's id, by its LangChain alias."""
        return self.model

    # -- identity ---------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "tokenhub-chat"

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The environment variable from which a loaded object reads its key."""
        return {"api_key": "TOKENHUB_API_KEY"}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: `load(..., allowed_objects=[ChatTokenHub])` restores the object."""
        return True

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"site": self.site, "base_url": self.base_url, **self._settings()}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        # called before a run is traced: keywords that a call must not have are refused
        body = {**self._settings(), **request.read_kwargs(kwargs)}
        stops = stop or body.pop("stop", None)
        body["stop"] = [stops] if isinstance(stops, str) else stops
        params = super()._get_ls_params(**body)
        params["ls_provider"] = response.PROVIDER
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        known = ModelProfile.__annotations__
        found = {k: v for k, v in catalogue.profile(self.model).items() if k in known}
        return cast("ModelProfile", _CatalogueProfile(found)) if found else None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; its `profile` is that of its model, unless the caller passed one."""
        copied = super().model_copy(update=update, deep=deep)
        if isinstance(copied.profile, _CatalogueProfile):
            copied.profile = copied._resolve_model_profile()  # noqa: SLF001 - of this very class
        return copied

    def bind(self, **kwargs: Any) -> _ChatModelBinding:
        """Return this model with keywords for each call; another `model` has its own profile."""
        given = request.read_kwargs(kwargs)
        model = given.pop("model", None)
        bound = self if model is None else self.model_copy(update={"model": str(model)})
        return super(ChatTokenHub, bound).bind(**given)

    def __copy__(self) -> Self:
        """Copy without core's cached `_serialized`, which would name the original in LLM caches."""
        copied = super().__copy__()
        vars(copied).pop("_serialized", None)
        return copied

    # -- requests ---------------------------------------------------------------------------

    def _settings(self) -> dict[str, Any]:
        given = ((name, getattr(self, name)) for name in request.SETTINGS)
        known = {name: value for name, value in given if value is not None and value != []}
        return {"model": self.model, **known, **self.model_kwargs, **(self.extra_body or {})}

    def _call(self, messages: Messages, stop: Stop, kwargs: Kwargs, *, stream: bool) -> Call:
        body = request.build_body(self._settings(), messages, stop, kwargs)
        if stream:
            has_usage = kwargs.get("stream_usage", self.stream_usage)
            usage = {"stream_options": {"include_usage": True}} if has_usage else {}
            body = {**usage, **body, "stream": True}
        timeout = self.timeout if kwargs.get("timeout") is None else kwargs["timeout"]
        timeouts = Timeouts.of(timeout, Timeouts(read=60.0 if stream else 600.0))
        return Call(path="/v1/chat/completions", body=body, retry_class="chat", timeouts=timeouts)

    def _for_call(self, transport: Transport, kwargs: Kwargs) -> tuple[Transport, Kwargs]:
        """Return the transport and the keywords of a call; its keywords may change both."""
        given = request.read_kwargs(kwargs)
        request.warn_of_misspelling(given)
        changed = {k: given[k] for k in request.CONNECTION if given.get(k) is not None}
        if not changed:
            return transport, given
        try:
            checked = ConnectionSettings(api_key=None, site="mainland", base_url=None, **changed)
        except ValidationError as problem:
            reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors()]
        else:
            own = transport.endpoint
            retries = checked.max_retries if "max_retries" in changed else own.max_retries
            headers = {**own.headers, **(checked.default_headers or {})}
            endpoint = replace(own, headers=headers, max_retries=retries)
            return replace(transport, endpoint=endpoint), given
        raise InvalidRequestError("; ".join(reasons))

    # -- sync and async, written once ---------------------------------------------------------

    async def _answer(
        self, transport: Transport, messages: Messages, stop: Stop, kwargs: Kwargs, *, stream: bool
    ) -> AsyncGenerator[Sequence[Part], None]:
        """Yield the parts of an answer as they arrive, and its ending.

        The request is sent again if the model refuses a forced tool call, and once if it answers
        with text although the agent's answer is a tool call.
        """
        transport, kwargs = self._for_call(transport, kwargs)
        names = kwargs.get("answer_tools")
        changes: Kwargs = {}
        first: Ending | None = None
        while True:
            call = self._call(messages, stop, {**kwargs, **changes}, stream=stream)
            received = PartialAnswer()
            try:
                async with aclosing(self._read(transport, call, received)) as batches:
                    async for deltas in batches:
                        yield deltas
            except InvalidRequestError as refusal:
                if received.deltas:
                    raise
                changes = request.fields_after_refusal(call.body or {}, refusal, changes, kwargs)
                continue
            if first:
                received.ending.usage = add_usage(first.usage, received.ending.usage)
            if not names or any(delta.tools for delta in received.deltas):
                yield [received.ending]
                return
            asked = ask_for_call(names, received.message(), again=first is not None)
            messages, first = [*messages, *asked], received.ending

    async def _read(
        self, transport: Transport, call: Call, received: PartialAnswer
    ) -> AsyncGenerator[Sequence[Delta], None]:
        """Send one request, and yield the parts of its answer, which are added to `received`."""
        body = cast("dict[str, Any]", call.body)
        stream = bool(body.get("stream"))
        started_at = transport.runtime.now()
        reader = answer = None  # created when the answer begins: calls in flight stay small
        try:
            answer = await (transport.stream(call) if stream else transport.json(call))
            reader = response.DeltaReader(body["model"])
            async with aclosing(answer.data if stream else _batch(answer.data)) as batches:
                async for values in batches:
                    if found := [delta for value in values if (delta := reader.read(value))]:
                        received.deltas += found
                        yield found
        except TokenHubError as error:
            if answer is None or reader is None or not reader.is_complete_despite(error):
                received.deltas += reader.finish()[0] if reader else []
                if received.deltas or isinstance(error, IncompleteStreamError):
                    error.partial = received.message()
                raise
        rest, received.ending = reader.finish(answer.metadata(transport.runtime.now() - started_at))
        telemetry.record_tokens("chat", body["model"], received.ending.usage)
        received.deltas += rest
        response.check_finish_reason(received)
        yield rest

    async def _complete(self, transport: Transport, *call: Any) -> ChatResult:
        parts = self._answer(transport, *call, stream=False)
        received = [item async for items in parts for item in items]
        generation = ChatGeneration(message=response.message_of(received))
        return ChatResult(generations=[generation])

    def _iterate(self, encode: Callable[[Sequence[Part]], Sequence[T]], *call: Any) -> Iterator[T]:
        with closing(iterate_sync(self._answer(self._sync(), *call, stream=True))) as stream:
            for parts in stream:
                yield from encode(parts)

    async def _aiterate(
        self, encode: Callable[[Sequence[Part]], Sequence[T]], *call: Any
    ) -> AsyncIterator[T]:
        async with aclosing(self._answer(self._async(), *call, stream=True)) as stream:
            async for parts in stream:
                for item in encode(parts):
                    yield item

    def _event_writer(self, run: Run | AsyncRun, kwargs: Kwargs) -> EventWriter:
        model = str(request.read_kwargs(kwargs).get("model") or self.model)
        return EventWriter(f"{LC_ID_PREFIX}-{run.run_id}" if run else "", model)

    # -- LangChain's methods ------------------------------------------------------------------

    def _generate(
        self, messages: Messages, stop: Stop = None, run_manager: Run = None, **kwargs: Any
    ) -> ChatResult:
        return run_sync(self._complete(self._sync(), messages, stop, kwargs))

    async def _agenerate(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncRun = None, **kwargs: Any
    ) -> ChatResult:
        return await self._complete(self._async(), messages, stop, kwargs)

    def _stream(
        self, messages: Messages, stop: Stop = None, run_manager: Run = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        return self._iterate(response.chunks_of, messages, stop, kwargs)

    def _astream(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncRun = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        return self._aiterate(response.chunks_of, messages, stop, kwargs)

    def _stream_chat_model_events(
        self, messages: Messages, stop: Stop = None, run_manager: Run = None, **kwargs: Any
    ) -> Iterator[MessagesData]:
        writer = self._event_writer(run_manager, kwargs)
        return self._iterate(writer.write, messages, stop, kwargs)

    def _astream_chat_model_events(
        self, messages: Messages, stop: Stop = None, run_manager: AsyncRun = None, **kwargs: Any
    ) -> AsyncIterator[MessagesData]:
        writer = self._event_writer(run_manager, kwargs)
        return self._aiterate(writer.write, messages, stop, kwargs)

    # -- tools and structured output ----------------------------------------------------------

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
        """Return this model with tools that it may call.

        Args:
            tools: Functions, classes, schemas, LangChain tools, or dicts in OpenAI's form.
            tool_choice: `"auto"`, `"none"`, `"any"`, `"required"` or True, or a tool's name.
            strict: Whether arguments must match the schema, where the model supports it.
            parallel_tool_calls: Whether one answer may hold several calls.
            response_format: The `response_format` of the text answer, as `create_agent` sends it.
            **kwargs: More fields of the body.

        Raises:
            InvalidRequestError: `tool_choice` names no tool, or the model is known not to support
                the `response_format`.
        """
        chosen = encode_tools(tools, tool_choice, strict=strict)
        bound = encode_tools(tools, None, strict=strict)
        if "tool_choice" in chosen:
            bound["tool_choice"] = tool_choice  # with all tools: a call may choose another
        if bound and parallel_tool_calls is not None:
            bound["parallel_tool_calls"] = parallel_tool_calls
        if response_format is not None:
            check_format(response_format, self.model)
            bound["response_format"] = response_format
        if chosen.get("tool_choice") == "required" and (names := answer_tools(tools)):
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
        """Return a chain whose answers match a schema.

        Args:
            schema: A pydantic class (2 or 1), TypedDict, JSON schema or tool in OpenAI's form.
            method: How to ask; None uses the method known to work for the model, and another
                one if the service refuses it or the model answers with prose.
            include_raw: Return `raw`, `parsed` and `parsing_error`; never raise for an answer.
            strict: Whether the answer must match the schema, where the model supports it.
            tools: Tools that may be called as well.
            **kwargs: More fields of the body.

        Raises:
            InvalidRequestError: There is no such method, or it needs a schema.
        """
        from langchain_tokenhub.chat import structured  # core's parsers load slowly

        methods = structured.methods_for(method, catalogue.chat_model(self.model), schema)
        more = {**kwargs, "strict": strict, "has_fallback": len(methods) > 1}
        bound = [
            structured.bind_method(self.bind_tools, schema, one, tools or (), more)
            for one in methods
        ]
        return structured.chain_of(bound, include_raw=include_raw)

    # -- the service's list -------------------------------------------------------------------

    def list_models(self) -> list[ListedModel]:
        """Return the models that the key may use, of every modality, as the service lists them."""
        return run_sync(self._list_models(self._sync()))

    async def alist_models(self) -> list[ListedModel]:
        """Return the models that the key may use, of every modality, as the service lists them."""
        return await self._list_models(self._async())

    async def _list_models(self, transport: Transport) -> list[ListedModel]:
        call = Call(path="/v1/models", timeouts=Timeouts.of(self.timeout, Timeouts()))
        return response.decode_models((await transport.json(call)).data)

    # -- counting -----------------------------------------------------------------------------

    def get_token_ids(self, text: str) -> list[int]:
        """Return the ids of `custom_get_token_ids`; the models' own tokenizers are not public.

        Raises:
            NotImplementedError: There is no `custom_get_token_ids`.
        """
        if self.custom_get_token_ids is None:
            raise NotImplementedError(
                "TokenHub has no public tokenizer; use get_num_tokens for an estimate, or pass "
                "your own tokenizer as custom_get_token_ids="
            )
        return self.custom_get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """Return the estimated number of tokens of `text`; offline, also for Chinese."""
        return len(self.get_token_ids(text)) if self.custom_get_token_ids else tokens.estimate(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Tool] | None = None
    ) -> int:
        """Return the estimated number of tokens of a request with these messages and tools."""
        rules = Rules(model=self.model, row=None, is_reasoning=True)
        encoded = encode_messages(messages, rules, complete=False)
        sent = encode_tools(tools or (), None)
        return tokens.estimate_messages(encoded, sent.get("tools"), self.get_num_tokens)
