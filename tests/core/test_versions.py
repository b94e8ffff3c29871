"""
Versions of values as text: what an HTTP header carries, and what it must not be taken for.
"""

from __future__ import annotations

from typing import Any

import pytest

from toolkit import ABSENT, ETag, InvalidETagError


def test_a_version_travels_as_text() -> None:
    """Both kinds come back, with or without quotes, and weak ones too: proxies make them weak."""
    version = ETag("5f1c.3")
    assert version == ETag.parse(str(version)) == ETag.parse("5f1c.3") == ETag.parse(' W/"5f1c.3" ')
    assert ETag.parse(str(ABSENT)) is ETag.parse('"ABSENT"') is ABSENT


@pytest.mark.parametrize("text", ["", '""', "*", "a b", '"a", "b"', "é"])
def test_a_text_that_is_no_version(text: str) -> None:
    """The error says where a version comes from."""
    with pytest.raises(InvalidETagError, match=r"str\(entry\.etag\)"):
        ETag.parse(text)


@pytest.mark.parametrize("what", [None, 5, b"5f1c.3", ABSENT])
def test_what_is_no_text(what: Any) -> None:
    """A header that is missing must not pass for a version."""
    with pytest.raises(TypeError, match="from text"):
        ETag.parse(what)
