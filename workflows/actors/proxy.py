"""
Calling actors over gRPC.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
from types import TracebackType
from typing import Any, Final, Self

from dapr.actor import Actor, ActorId, ActorInterface
from dapr.actor.client.proxy import ActorFactoryBase, ActorProxy
from dapr.clients.grpc.dapr_actor_grpc_client import DaprActorGrpcClient
from dapr.serializers import DefaultJSONSerializer, Serializer
from grpc.aio import AioRpcError

from toolkit.dapr.channel import scope_cancelled
from workflows.actors.errors import ActorFencedError, ActorMethodError

# The exception of a method as its host wrote it: the repr of an exception, mostly with its text alone.
_RAISED: Final = re.compile(r"^(?:\w+\.)*(\w+)\((.*)\)$", re.DOTALL)
_NAMED: Final = re.compile(r"^<?(?:\w+\.)*(\w+)")
# What an HTTP host answered, as the sidecar passes it on.
_ANSWERED: Final = re.compile(r"error from actor service: \(500\) (\{.*\})$", re.DOTALL)
# The members of an error: any, then those of the SDK's own errors.
_MEMBERS: Final = frozenset({"message", "errorCode"})
_OF_THE_SDK: Final = frozenset({"raw_response_bytes", "status_code", "reason"})


class RaisingClient(DaprActorGrpcClient):
    """
    The SDK's client, which takes the error of a method for its result: over gRPC both are plain answers.
    """

    async def invoke_method(
        self, actor_type: str, actor_id: str, method: str, data: bytes | None = None
    ) -> bytes:
        try:
            answer = await super().invoke_method(actor_type, actor_id, method, data)
        except asyncio.CancelledError:
            await scope_cancelled()
            raise
        except AioRpcError as failed:
            # An HTTP host, whose errors the sidecar takes for its own.
            answered = _ANSWERED.search(failed.details() or "")
            if answered is not None and (raised := error_in(answered[1].encode())) is not None:
                raise raised from failed
            raise
        if (error := error_in(answer)) is not None:
            raise error
        return answer


def need_asyncio(what: str) -> None:
    """
    Refuse to begin where the SDK cannot go on.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            f"{what} belongs in a coroutine on asyncio: the Dapr SDK has no actors on trio or without a running loop"
        ) from None


def error_in(answer: bytes) -> ActorFencedError | ActorMethodError | None:
    """
    The error that an answer stands for: an object with exactly the members the SDK's host writes.
    """
    if not (answer.startswith(b"{") and b'"errorCode"' in answer):
        return None
    try:
        said: dict[str, Any] = json.loads(answer)
    except ValueError:
        return None  # bytes of the method's own
    if not said.keys() >= _MEMBERS or not said.keys() <= _MEMBERS | _OF_THE_SDK:
        return None
    text = str(said["message"])
    if said.keys() & _OF_THE_SDK:
        return ActorMethodError("DaprHttpError" if "status_code" in said else "DaprInternalError", text)
    raised = _RAISED.match(text)
    if raised is None:
        named = _NAMED.match(text)
        return ActorMethodError(named[1] if named is not None else "Exception", text)
    kind, message = raised[1], _literal(raised[2])
    return ActorFencedError(message) if kind == ActorFencedError.__name__ else ActorMethodError(kind, message)


def _literal(arguments: str) -> str:
    try:
        value: Any = ast.literal_eval(arguments)
    except (SyntaxError, ValueError):
        return arguments
    return value if isinstance(value, str) else arguments


class GrpcActorProxyFactory(ActorFactoryBase):
    """
    Makes proxies that call actors over gRPC, where the SDK's own factory uses HTTP.

    An error of the method is raised here as ``ActorMethodError``, the one of a replaced activation as
    ``ActorFencedError``; the SDK's gRPC client would return either as the result. A method must therefore not return an
    object of just ``message`` and ``errorCode``.

    Make it inside a running event loop, use it there, and close it: it is an async context manager. ``timeout`` is for
    each call, in seconds.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: int | None = 60,
        message_serializer: Serializer | None = None,
    ) -> None:
        need_asyncio("GrpcActorProxyFactory()")
        self._serializer = message_serializer or DefaultJSONSerializer()
        self._client = RaisingClient(timeout=timeout, address=address, message_serializer=self._serializer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """
        Close the channel.
        """
        await self._client.close()

    def create(
        self,
        actor_type: str | type[Actor],
        actor_id: ActorId | str,
        actor_interface: type[ActorInterface] | None = None,
    ) -> ActorProxy:
        """
        A proxy of one actor; the type may be given by its class or name.
        """
        name = actor_type if isinstance(actor_type, str) else actor_type.__name__
        given = actor_id if isinstance(actor_id, ActorId) else ActorId(actor_id)
        return ActorProxy(self._client, name, given, actor_interface, self._serializer)
