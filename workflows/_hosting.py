"""
Sees to it that the sidecar really serves a worker that has its stream.

daprd up to 1.18 locks itself out when its last worker goes while turns are under way: the end of the old stream waits for
those turns, they wait for a worker, and the new worker's stream waits for the end of the old one (dapr/dapr#10408, mended
after 1.18). Nothing in the worker tells: its stream is open, and no work comes. Any change of the actor types of the host
makes daprd give up the calls under way, and with them the turns; so a stream of actor events that names one type of ours,
for as long as it takes, lets the worker in.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, Final

from workflows._hosted import unhosted
from workflows._stream import StreamLog
from workflows.logging import default_logger

# Registering takes milliseconds, on a busy machine a second or two; knocking meanwhile would only repeat it.
PATIENCE: Final = 3.0
# daprd leaves calls two seconds before it gives them up.
KNOCK: Final = 6.0
ACTOR_TYPE: Final = "occ-workflow-knock"
_PROBE: Final = "_occ-hosted"
_ASK: Final = 2.0
_PAUSE: Final = 0.1
_LOOK: Final = 0.5


class Hosting:
    """
    Watches the stream of one worker; each time it is a new one, it makes sure that the sidecar serves it.

    Args:
        runtime: The SDK's runtime; of anything else nothing is known, and it counts as served.

    Attributes:
        served: Whether the sidecar served the worker's present stream when it was last asked.
    """

    def __init__(self, runtime: Any) -> None:
        self._worker: Any = getattr(runtime, "_WorkflowRuntime__worker", None)
        self._log = StreamLog(str(getattr(self._worker, "_host_address", "")))
        self.served = self._worker is None
        self._seen: Any = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """
        Whether the worker has been started.
        """
        return bool(getattr(self._worker, "_is_running", False))

    def serves(self) -> bool:
        """
        Whether the sidecar serves the worker: as it was last seen, or asked now where nobody watches.
        """
        return self.served if self._worker is None or self._thread is not None else self._served()

    def start(self, timeout: float) -> bool:
        """
        Wait until the worker is served, and watch from then on; false when it is not within ``timeout`` seconds.
        """
        if self._worker is None:
            return True
        self._over.clear()
        self._seen = self._stream()
        self._log.look(self._seen, ready=self._seen is not None)
        if not self._ensure(timeout):
            return False
        self._thread = threading.Thread(target=self._watch, name="occ-kit-hosting", daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """
        Watch no longer.
        """
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """
        Close the worker's loop once the worker has stopped: the SDK leaves it open, with its file descriptors.
        """
        loop = getattr(getattr(self._worker, "_async_worker_manager", None), "_queue_event_loop", None)
        if loop is not None and not loop.is_running():
            loop.close()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            now = self._stream()
            if now is not None and now is not self._seen:
                self._log.look(None, ready=False)
                self._seen = now
                self._ensure(float("inf"))  # back is who is served again
            self._log.look(now, ready=now is not None and self._worker.is_worker_ready())

    def _stream(self) -> Any:
        return getattr(self._worker, "_response_stream", None)

    def _ensure(self, timeout: float) -> bool:
        self.served = False
        begin = time.monotonic()
        patient = begin + PATIENCE
        while not self._served():
            now = time.monotonic()
            if now - begin >= timeout or self._over.is_set():
                return False
            if now >= patient:
                default_logger().warning("workflow.worker_not_served", seconds=round(now - begin, 1))
                self._knock()
                patient = time.monotonic() + PATIENCE
            self._over.wait(_PAUSE)
        self.served = True
        return True

    def _served(self) -> bool:
        """
        Whether the sidecar hosts the workflows of the app: then it knows that there is no instance of this name.
        """
        import dapr.ext.workflow._durabletask.internal.protos as pb
        import grpc

        with self._worker._sidecar_stub(wait=0) as stub:  # noqa: SLF001  pinned with the SDK, and tested
            if stub is None:
                return False
            try:
                # Reading an instance asks no actor; an event for one that is not there does, and changes nothing.
                stub.RaiseEvent(pb.RaiseEventRequest(instanceId=_PROBE, name=_PROBE), timeout=_ASK)
            except grpc.RpcError as error:
                code: Any = getattr(error, "code", lambda: None)()
                return not unhosted(error) and code not in {
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    grpc.StatusCode.FAILED_PRECONDITION,
                    grpc.StatusCode.UNAVAILABLE,
                }
        return True

    def _knock(self) -> None:
        """
        Host one more actor type, until the worker is served.
        """
        import grpc
        from dapr.proto import api_service_v1, api_v1

        asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        first = api_v1.SubscribeActorEventsRequestInitialAlpha1(entities=[ACTOR_TYPE])
        asked.put(api_v1.SubscribeActorEventsRequestAlpha1(initial_request=first))
        with self._worker._sidecar_stub(wait=0) as stub:  # noqa: SLF001  keeps the channel open meanwhile
            channel: Any = self._worker._current_channel  # noqa: SLF001
            if stub is None or channel is None:
                return
            dapr: Any = api_service_v1.DaprStub(channel)
            call: Any = dapr.SubscribeActorEventsAlpha1(iter(asked.get, None), timeout=KNOCK)
            try:
                next(call)  # registered
                while call.is_active() and not self._over.is_set() and not self._served():
                    self._over.wait(_PAUSE)
            except grpc.RpcError as error:
                code: Any = getattr(error, "code", lambda: None)()
                default_logger().warning("workflow.knock_refused", code=getattr(code, "name", ""))
            finally:
                asked.put(None)
                call.cancel()
