"""
Telling the error of a method from its result, where the SDK's gRPC client cannot.
"""

from __future__ import annotations

import json

import pytest
from dapr.actor.runtime._grpc_callbacks import build_invoke_error_payload
from dapr.clients.exceptions import DaprInternalError

from workflows.actors import ActorFencedError, ActorMethodError
from workflows.actors.proxy import error_in


@pytest.mark.parametrize(
    ("raised", "type", "message"),
    [
        (ValueError("it's refused"), "ValueError", "it's refused"),
        (KeyError("stock"), "KeyError", "stock"),
        (OSError(2, "gone"), "FileNotFoundError", "2, 'gone'"),
        (RuntimeError(), "RuntimeError", ""),
        (DaprInternalError("no sidecar", "ERR_X"), "DaprInternalError", "no sidecar"),
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
