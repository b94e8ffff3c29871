"""
A call to the engine just after a worker came.
"""

from __future__ import annotations

import pytest

from workflows._hosted import when_hosted


class AnswerError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def details(self) -> str:
        return self.text


def test_it_waits_for_the_actor_type():
    """
    While Dapr knows no worker the call is made again; its answer is what comes back.
    """
    answers = [AnswerError("actor type dapr.internal.default.app.workflow not registered")] * 2

    def call():
        if answers:
            raise answers.pop()
        return "there"

    assert "there" == when_hosted(call)


@pytest.mark.parametrize(
    ("text", "timeout"), [("no such instance exists", 10), ("actor type x not registered", 0)]
)
def test_it_does_not_wait_for_anything_else(text, timeout):
    """
    Another error, or the end of the time, comes through after one call.
    """
    calls = []

    def call():
        calls.append(1)
        raise AnswerError(text)

    with pytest.raises(AnswerError, match=text):
        when_hosted(call, timeout)
    assert [1] == calls
