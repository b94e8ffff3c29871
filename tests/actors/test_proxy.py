"""
Telling the error of a method from its result, where the SDK's gRPC client cannot.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import aclosing

import grpc
import pytest
from dapr.actor.runtime._grpc_callbacks import build_invoke_error_payload
from dapr.clients.exceptions import DaprHttpError, DaprInternalError
from dapr.clients.grpc.dapr_actor_grpc_client import DaprActorGrpcClient
from dapr.serializers import DefaultJSONSerializer

from toolkit.testing.cancel import cancel_everywhere
from workflows.actors import ActorFencedError, ActorMethodError, GrpcActorProxyFactory
from workflows.actors.proxy import error_in


class Unusual(Exception):  # noqa: N818  what it is called is the point
    def __repr__(self):
        return "<Unusual of this test>"


def http_error():
    """
    What the SDK's HTTP client raises, with members of its own.
    """
    body = b'{"message": "no such actor", "errorCode": "ERR_X"}'
    return DaprHttpError(DefaultJSONSerializer(), raw_response_bytes=body, status_code=500, reason="no")


@pytest.mark.parametrize(
    ("raised", "type", "message"),
    [
        (ValueError("it's refused"), "ValueError", "it's refused"),
        (KeyError("stock"), "KeyError", "stock"),
        (OSError(2, "gone"), "FileNotFoundError", "2, 'gone'"),
        (RuntimeError(), "RuntimeError", ""),
        (DaprInternalError("no sidecar", "ERR_X"), "DaprInternalError", "no sidecar"),
        (http_error(), "DaprHttpError", "no such actor"),
        (Unusual("taken"), "Unusual", "<Unusual of this test>"),
    ],
)
def test_an_error_of_the_host_is_read_back(raised, type, message):
    """
    What the SDK's host writes for an exception becomes an error with the class name and the text.
    """
    error = error_in(build_invoke_error_payload(raised))
    assert isinstance(error, ActorMethodError)
    assert (type, message) == (error.type, error.message)


def test_a_fenced_activation_is_its_own_error():
    """
    Callers catch ``ActorFencedError`` and call again.
    """
    error = error_in(build_invoke_error_payload(ActorFencedError("taken over", key="k", epoch=1)))
    assert isinstance(error, ActorFencedError)
    assert "taken over" == str(error)


@pytest.mark.parametrize(
    "result",
    [None, 7, "errorCode", [], {}, {"message": "hello"}, {"message": "m", "errorCode": "E", "order": 7}],
)
def test_results_stay_results(result):
    """
    Only an object of exactly the host's members is an error.
    """
    assert error_in(json.dumps(result).encode()) is None


def test_an_answer_that_is_not_json_is_a_result():
    """
    A method may answer with bytes of its own.
    """
    assert error_in(b"\x00\xff") is None
    assert error_in(b'{not json "errorCode"') is None


REFUSED = '{"message":"ValueError(\'refused\')","errorCode":"UNKNOWN"}'


@pytest.mark.parametrize(
    ("details", "kind", "message"),
    [
        (f"error from actor service: (500) {REFUSED}", ActorMethodError, "ValueError: refused"),
        ('error from actor service: (500) {"message": "hello"}', grpc.aio.AioRpcError, "hello"),
        ("the app is gone", grpc.aio.AioRpcError, "the app is gone"),
    ],
)
def test_an_error_behind_an_http_host_is_read_back(monkeypatch, unused_address, details, kind, message):
    """
    The sidecar wraps what FastAPI answered; its own errors stay what they are.
    """

    async def refused(*_):
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, details)

    async def main():
        async with GrpcActorProxyFactory(unused_address) as actors:
            await actors.create("Wallet", "a").invoke_method("Add")

    monkeypatch.setattr(DaprActorGrpcClient, "invoke_method", refused)
    with pytest.raises(kind, match=message):
        asyncio.run(main())


def test_a_scope_around_a_call_catches_its_cancellation():
    """
    grpc.aio raises a CancelledError that no scope of anyio knows for its own.
    """

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as mute:  # it never says a word
            address = "{}:{}".format(*mute.getsockname())
            async with (
                GrpcActorProxyFactory(address) as actors,
                aclosing(cancel_everywhere(call(actors))) as runs,
            ):
                cut = await anext(runs)
        assert (1, True) == (cut.at, cut.cancelled)

    def call(actors):
        return lambda: actors.create("Wallet", "a").invoke_method("Add")

    asyncio.run(main())
