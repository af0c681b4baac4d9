"""The connection fields, the same on the chat model and on every tool."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self, TypedDict, Unpack
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PlainValidator,
    SecretStr,
)
from pydantic_core import PydanticCustomError

from langchain_tokenhub.catalogue import SITE_NAMES, SiteName, site_hosts
from langchain_tokenhub.errors import NO_KEY, AuthenticationError, InvalidRequestError, clean
from langchain_tokenhub.transport.calls import Endpoint, Timeouts, is_loopback_host
from langchain_tokenhub.transport.retry import shared_budget, shared_hosts

if TYPE_CHECKING:
    import httpx
    import httpx2

    from langchain_tokenhub.transport import Transport

    AsyncClient = httpx.AsyncClient | httpx2.AsyncClient
    Client = httpx.Client | httpx2.Client
    Timeout = httpx.Timeout | httpx2.Timeout
else:

    def _instance_of(name: str) -> object:
        """Return a type that accepts httpx's and httpx2's `name`, without importing either."""

        def check(value: object) -> object:
            libraries = [sys.modules.get("httpx"), sys.modules.get("httpx2")]
            if isinstance(value, tuple(getattr(library, name) for library in libraries if library)):
                return value
            problem = f"Input should be an instance of httpx.{name} or httpx2.{name}"
            raise PydanticCustomError("is_instance_of", problem)

        return Annotated[Any, PlainValidator(check)]

    AsyncClient, Client, Timeout = map(_instance_of, ("AsyncClient", "Client", "Timeout"))

KEY_VARIABLES = ("TOKENHUB_API_KEY", "TENCENT_TOKENHUB_API_KEY")

_CLIENTS = frozenset({"http_client", "http_async_client"})
"""Fields that a deep copy shares, because they belong to the caller."""
_PRIVATE = _CLIENTS | {"api_key", "default_headers"}
"""Fields that are not pickled."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_FRAMING = frozenset({"content-length", "transfer-encoding"})


@functools.lru_cache(maxsize=256)
def origin_of(address: str) -> str:
    """Return scheme, host and port of a base URL, with or without a trailing `/v1`.

    Raises:
        ValueError: The URL is not an http(s) address, or is http to a host other than loopback.
    """
    shown = clean(re.split(r"[?#]", address)[0])
    try:
        parts = urlsplit(address.strip())
        _, host = parts.port, parts.hostname or ""
        if host.isascii():  # httpx checks other names with newer tables than the codec's
            host.encode("idna").decode("idna")
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.username or parts.password or (not host and "@" in shown):
        raise ValueError("base_url holds a user name or password; pass the key as `api_key`")
    if not host or parts.scheme not in {"http", "https"}:
        raise ValueError(f"base_url {shown!r} is not an http(s) address like https://host")
    if parts.scheme == "http" and not is_loopback_host(host):
        raise ValueError(f"base_url {shown!r} is not https; plain http is for loopback only")
    if parts.query or parts.fragment:
        raise ValueError(f"base_url {shown!r} has a query or fragment")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"


def _check_base_url(value: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    if value is None or value == "":
        return None
    addresses = [value] if isinstance(value, str) else value
    if not addresses:
        raise ValueError("base_url is an empty list; leave it out to use `site`")
    for address in addresses:
        origin_of(address)
    return value if isinstance(value, str) else tuple(value)


def _check_site(name: object) -> object:
    if name in SITE_NAMES:
        return name
    where = "TOKENHUB_SITE: " if name == os.environ.get("TOKENHUB_SITE") else ""
    raise ValueError(
        f"{where}{clean(str(name), 40)!r} is not a site; use one of {', '.join(SITE_NAMES)}"
    )


def _key_from_environment() -> SecretStr | None:
    keys = (os.environ.get(name, "").strip() for name in KEY_VARIABLES)
    return next((SecretStr(key) for key in keys if key), None)


def _check_headers(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    for name, value in (headers or {}).items():
        shown = clean(name, 40)
        if not ((name + value).isascii() and (name + value).isprintable()):
            raise ValueError(f"default_headers: {shown!r} is not plain ASCII on one line")
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"default_headers: {shown!r} is not a header name")
        if name.lower() in _FRAMING:
            raise ValueError(f"default_headers: {shown!r} is set by the HTTP client; leave it out")
    return headers


def _check_timeout(timeout: float | Timeout | None) -> float | Timeout | None:
    try:
        Timeouts.of(timeout, Timeouts())
    except InvalidRequestError as error:
        raise ValueError(str(error)) from None  # pydantic turns it into a ValidationError
    return timeout


class ConnectionOptions(TypedDict, total=False):
    """Constructor keywords of `ConnectionSettings`, for type checkers."""

    api_key: str | SecretStr | None
    site: SiteName
    base_url: str | Sequence[str] | None
    timeout: float | Timeout | None
    request_timeout: float | Timeout | None
    max_retries: int
    default_headers: Mapping[str, str] | None
    http_client: Client | None
    http_async_client: AsyncClient | None


class ConnectionSettings(BaseModel):
    """Host, key, timeouts and retries of the requests."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True, populate_by_name=True, hide_input_in_errors=True
    )

    api_key: SecretStr | None = Field(default_factory=_key_from_environment, repr=False)
    """API key. Default: `TOKENHUB_API_KEY`, else `TENCENT_TOKENHUB_API_KEY`, of the environment."""
    site: Annotated[SiteName, BeforeValidator(_check_site)] = Field(
        default_factory=lambda: os.environ.get("TOKENHUB_SITE") or "mainland",
        validate_default=True,
    )
    """Site that the key belongs to; failover stays inside it.

    Default: `TOKENHUB_SITE` from the environment, then `"mainland"`.
    """
    base_url: Annotated[str | Sequence[str] | None, AfterValidator(_check_base_url)] = Field(
        default_factory=lambda: os.environ.get("TOKENHUB_BASE_URL"), validate_default=True
    )
    """Address instead of `site`, or the primary and its backups in order; `/v1` is optional.

    https only, except on loopback. Default: `TOKENHUB_BASE_URL` from the environment.
    """
    timeout: Annotated[float | Timeout | None, AfterValidator(_check_timeout)] = Field(
        default=None, validation_alias=AliasChoices("timeout", "request_timeout")
    )
    """Seconds for each read of one request, three times that for a whole answer; above 0.

    Or an `httpx.Timeout`. None is the default of each kind of call; see `Timeouts`. The wait for a
    job is bounded by `wait_timeout`.
    """
    max_retries: NonNegativeInt = 2
    """Retries of one call, from 0."""
    default_headers: Annotated[Mapping[str, str] | None, AfterValidator(_check_headers)] = Field(
        default=None, exclude=True, repr=False
    )
    """Headers of every API request; as secret as the key, so no dump or trace holds them."""
    http_client: Client | None = Field(default=None, exclude=True, repr=False)
    """Your own `httpx.Client` for sync calls; it is not closed."""
    http_async_client: AsyncClient | None = Field(default=None, exclude=True, repr=False)
    """Your own `httpx.AsyncClient` for async calls; it is not closed."""

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[ConnectionOptions]) -> None: ...

    @property
    def request_timeout(self) -> float | Timeout | None:
        """`timeout` under its LangChain name."""
        return self.timeout

    def _key(self) -> str:
        """Return the key, else that of the environment, as an unpickled object has none.

        Raises:
            AuthenticationError: There is no key, or it cannot be sent as a header.
        """
        secret = self.api_key or _key_from_environment()
        key = secret.get_secret_value().strip() if secret else ""
        if not key:
            raise AuthenticationError(
                NO_KEY,
                hint=f"pass api_key=... or set {KEY_VARIABLES[0]} or {KEY_VARIABLES[1]}; to try "
                "without a key run `tokenhub emulator` / 请设置密钥；没有密钥可先运行 "
                "`tokenhub emulator` 试用",
            )
        if not (key.isascii() and key.isprintable()):
            raise AuthenticationError(
                "the API key contains characters that a key cannot have",
                hint="copy it again; a key is plain ASCII without line breaks",
            )
        return key

    def _origins(self) -> tuple[str, ...]:
        if not self.base_url:
            return site_hosts(self.site)
        addresses = (self.base_url,) if isinstance(self.base_url, str) else self.base_url
        return tuple(dict.fromkeys(origin_of(address) for address in addresses))

    def _allow_loopback(self) -> bool:
        """Return True if the API is on loopback, where result links may then be too."""
        return all(is_loopback_host(urlsplit(origin).hostname or "") for origin in self._origins())

    def _endpoint(self) -> Endpoint:
        origins = self._origins()
        key = self.api_key.get_secret_value() if self.api_key else None
        return Endpoint(
            hosts=shared_hosts(origins),
            budget=shared_budget(origins, hash(key)),
            key=self._key,
            headers=self.default_headers or {},
            max_retries=self.max_retries,
        )

    # imported inside the methods, so that only the first call loads httpx

    def _sync(self) -> Transport:
        from langchain_tokenhub.transport import Transport

        return Transport.sync(self._endpoint(), self.http_client)

    def _async(self) -> Transport:
        from langchain_tokenhub.transport import Transport

        return Transport.asynchronous(self._endpoint(), self.http_async_client)

    def close(self) -> None:
        """Close idle connections. Optional; a later call opens new ones."""
        from langchain_tokenhub.transport.http.pool import sync_pool

        sync_pool().close()

    async def aclose(self) -> None:
        """Close the running loop's idle connections. Optional; a later call opens new ones."""
        from langchain_tokenhub.transport.http.pool import async_pool

        async_pool().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __getstate__(self) -> dict[Any, Any]:
        """Return the state for a pickle, without key, headers and clients."""
        state = super().__getstate__()
        fields = {k: None if k in _PRIVATE else v for k, v in state["__dict__"].items()}
        return {**state, "__dict__": fields}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy, but share the caller's clients, which cannot be copied."""
        memo = {} if memo is None else memo
        for name in _CLIENTS:
            if (client := self.__dict__.get(name)) is not None:
                memo[id(client)] = client
        return super().__deepcopy__(memo)
