"""Map responses, and the HTTP library's errors, to the errors of this package. Pure."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from langchain_tokenhub.catalogue import chat_models, media_models, similar_id
from langchain_tokenhub.errors import (
    APIConnectionError,
    APITimeoutError,
    CertificateError,
    IncompleteStreamError,
    InvalidRequestError,
    ModelNotAvailableError,
    Phase,
    SubmissionUnknownError,
    TokenHubError,
    clean,
    error_from,
    fault_in,
)
from langchain_tokenhub.transport.calls import Call, HTTPResponse, SendState, is_loopback_host
from langchain_tokenhub.transport.retry import is_outcome_unknown, retry_after

_REDACTED = "[redacted]"
_PROXY_HINT = "check HTTPS_PROXY and NO_PROXY / 请检查 HTTPS_PROXY 和 NO_PROXY"
# fmt: off
_COPIED = (
    "status", "code", "request_id", "host", "attempts",
    "response", "phase", "elapsed", "client_request_id",
)
_NOT_SENT = (
    httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout,
    httpx.ProxyError, httpx.UnsupportedProtocol, httpx.LocalProtocolError,
)
# fmt: on


def combine_failures(first: TokenHubError | None, error: TokenHubError) -> TokenHubError:
    """Return the error to report when several hosts failed: the primary's, if all were down."""
    if first is None or not error.host_unavailable:
        return error
    first.add_note(f"the backup host failed too: {error}")
    first.__context__ = error
    return first


def final_error(call: Call, failure: TokenHubError) -> TokenHubError:
    """Return `failure`, or `SubmissionUnknownError` for a submit that may have been accepted."""
    if not is_outcome_unknown(call.retry_class, failure):
        return failure
    unknown = SubmissionUnknownError(
        f"the submit may have been accepted and charged, no job ID was returned: {failure.message}",
        hint="it was not sent again; check the usage in the console before submitting again",
        **{name: getattr(failure, name) for name in _COPIED},
    )
    unknown.__cause__ = failure
    return unknown


def is_gateway_error(error: TokenHubError) -> bool:
    """Return True if a gateway answered in place of the service."""
    is_gateway = error.status in {502, 503, 504}
    return is_gateway and error.code is None and error.request_id is None


def phase_of(failure: Exception, send_state: SendState) -> Phase:
    """Return the phase of the request at `failure`."""
    if isinstance(failure, _NOT_SENT):
        return "not sent"
    if send_state.has_response:
        return "answered"
    # what is in the socket's buffer may still be sent
    is_buffered = send_state.is_under_way and not send_state.is_body_truncated
    may_leave = isinstance(failure, httpx.WriteTimeout) and is_buffered
    return (
        "sent" if may_leave or send_state.is_body_sent or not send_state.is_traced else "not sent"
    )


def map_invalid_request(failure: Exception) -> TokenHubError:
    """Return the error for a request that cannot be encoded as HTTP, without quoting it."""
    problem = f"the request cannot be sent: {type(failure).__name__}"
    hint = "check base_url and default_headers: addresses and headers are plain ASCII"
    return InvalidRequestError(problem, phase="not sent", hint=hint)


def failure_to_send(failure: httpx.HTTPError, send_state: SendState) -> TokenHubError:
    """Return the error for a request without an answer."""
    if isinstance(failure, httpx.LocalProtocolError) and send_state.is_body_sent:
        failure = httpx.RemoteProtocolError(str(failure))  # h2 calls the server's violation local
    error = map_error(failure, phase_of(failure, send_state))
    if _is_untrusted(failure):
        hint = "check the clock and SSL_CERT_FILE; a proxy may be intercepting the connection"
        return CertificateError(error.message, phase=error.phase, hint=hint)
    if isinstance(failure, (httpx.ConnectError, httpx.ConnectTimeout)):
        error.host_unavailable = not send_state.is_by_proxy
    is_local = isinstance(failure, httpx.PoolTimeout)
    if send_state.is_by_proxy and error.phase == "not sent" and not is_local:
        error.hint = _PROXY_HINT
    return error


def hint_for(error: TokenHubError, call: Call, origin: str) -> str | None:
    """Return a hint that depends on the request, or None."""
    if isinstance(error, ModelNotAvailableError):
        known = [*(row.id for row in chat_models()), *(row.id for row in media_models())]
        near = similar_id(str((call.body or {}).get("model", "")), known)
        return f"did you mean {near!r}? / 是否想用 {near!r}？" if near else None
    return _unreachable_hint(origin) if error.host_unavailable else None


def _unreachable_hint(origin: str) -> str:
    if is_loopback_host(urlsplit(origin).hostname or ""):
        return (
            "nothing answers at this address; run `tokenhub emulator`, or check "
            "base_url / TOKENHUB_BASE_URL / 该地址没有服务：请运行 `tokenhub emulator`，"
            "或检查 base_url / TOKENHUB_BASE_URL"
        )
    return (
        "check the network, the proxy (HTTPS_PROXY), and site= / TOKENHUB_SITE / base_url"
        " / 请检查网络、代理（HTTPS_PROXY）和 site= / TOKENHUB_SITE / base_url"
    )


def _is_untrusted(failure: BaseException | None) -> bool:
    """Return True if the host's certificate was refused."""
    while failure is not None:
        if isinstance(failure, ssl.SSLCertVerificationError):
            return True
        failure = failure.__cause__ or failure.__context__
    return False


def map_error(failure: httpx.HTTPError, phase: Phase) -> TokenHubError:
    """Return the library's error as one of this package, without objects of the library."""
    reason = clean(str(failure), 200) or type(failure).__name__
    match failure:
        case httpx.ConnectTimeout():
            return APITimeoutError(f"no connection in time: {reason}", phase=phase)
        case httpx.PoolTimeout():
            hint = "this machine can open no more connections: raise the limit of open files"
            return APIConnectionError(f"no connection: {reason}", phase=phase, hint=hint)
        case httpx.TimeoutException():
            hint = "raise `timeout` if it may take that long"
            return APITimeoutError(f"no answer in time: {reason}", phase=phase, hint=hint)
        case httpx.ProxyError():
            return APIConnectionError(f"the proxy failed: {reason}", phase=phase, hint=_PROXY_HINT)
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError() if phase == "not sent":
            return map_invalid_request(failure)
        case _ if phase == "streaming":
            return IncompleteStreamError(f"the stream was cut: {reason}", phase=phase)
        case _ if phase == "not sent":
            return APIConnectionError(f"the service cannot be reached: {reason}", phase=phase)
        case _:
            return APIConnectionError(f"the connection was cut: {reason}", phase=phase)


def refusal(response: HTTPResponse, data: Any) -> TokenHubError:
    """Return the error for an error body in a 2xx."""
    body = data if fault_in(data) else {"error": data if isinstance(data, Mapping) else str(data)}
    error = error_from(response.status, response.headers, body)
    error.retry_after = retry_after(response.headers)
    return error


def redact(error: TokenHubError, secrets: Sequence[str]) -> None:
    """Remove `secrets` from the texts of `error`, which may come from a server or a library."""
    for secret in secrets:
        if secret in error.message:
            error.args = (error.message.replace(secret, _REDACTED),)
        error.code = error.code and error.code.replace(secret, _REDACTED)
        error.request_id = error.request_id and error.request_id.replace(secret, _REDACTED)
        if (shown := error.response) and secret in str((shown.text, shown.headers)):
            headers = {name: v.replace(secret, _REDACTED) for name, v in shown.headers.items()}
            text = shown.text.replace(secret, _REDACTED)
            error.response = replace(shown, headers=headers, text=text)
