"""
The table of profiles and the writes that are worded by it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.model import Write
from toolkit.errors import UnsafeStoreError
from toolkit.stores import Profile, aliases, cas_write, create_write, find, profiles, ttl_seconds
from toolkit.stores.docs import TARGET, main, page

ALL = list(profiles.values())
REDIS = find("state.redis")
SQLITE = find("state.sqlite")


@pytest.mark.parametrize(
    ("type", "version", "expected"),
    [
        ("state.redis", "", ("state.redis", "v1")),
        ("state.Redis", "V0", ("state.redis", "v1")),
        ("state.postgres", "v2", ("state.postgresql", "v2")),
        ("state.postgresql", "", ("state.postgresql", "v1")),
        ("state.sqlite3", "v1", ("state.sqlite", "v1")),
        ("state.yugabyte", "", ("state.yugabytedb", "v2")),
        ("state.cockroachdb", "", ("state.cockroachdb", "v1")),
        ("state.etcd", "", ("state.etcd", "v1")),
        ("state.consul", "v1", ("state.hashicorp.consul", "v1")),
    ],
)
def test_find_names_stores_as_daprd_does(type: str, version: str, expected: tuple[str, str]) -> None:
    """
    Aliases, case and default versions are daprd's own.
    """
    profile = find(type, version)
    assert expected == (profile.type, profile.version)
    assert profile is profiles[expected]


@pytest.mark.parametrize(("type", "version"), [("state.new", "v1"), ("state.redis", "v7")])
def test_an_unknown_store_is_readable_and_refused(type: str, version: str) -> None:
    """
    What nobody examined is refused with a reason and the way to examine it.
    """
    profile = find(type, version)
    assert "D" == profile.tier
    assert not profile.accepted
    assert type in profile.reasons[0]
    assert "occ doctor" in profile.reasons[1]


@given(st.text(), st.text())
def test_find_answers_any_name(type: str, version: str) -> None:
    """
    No name raises.
    """
    assert isinstance(find(type, version), Profile)


@pytest.mark.parametrize("profile", ALL, ids=lambda p: f"{p.type}-{p.version}")
def test_a_profile_is_consistent(profile: Profile) -> None:
    """
    Refused stores say why, accepted ones do not; what a profile claims does not contradict itself.
    """
    assert profile.accepted == (not profile.reasons)
    assert profile.type.startswith("state.")
    assert profile.type not in aliases
    if not profile.accepted:
        assert "none" == profile.create
        assert "none" == profile.native
    if not profile.has_ttl or profile.ghosts:
        assert "never" == profile.send_ttl
    if profile.keeps_ttl:
        assert "always" == profile.send_ttl
    if profile.create == "first-write":
        assert profile.first_write in ("ABORTED", "INTERNAL")
        assert profile.first_write == "ABORTED" or profile.create_texts
    if profile.tier == "A":
        assert "truthful" == profile.native
        assert not profile.recreates
        assert not profile.etag_repeats
    if not profile.etags:
        assert not profile.accepted
    re.compile(profile.key_pattern)
    for sentence in (*profile.reasons, *profile.cautions):
        assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("daprd", "covered"),
    [
        ("1.18.0", True),
        ("1.18.2", True),
        ("1.18.2-rc.1", True),
        ("1.19.0", False),
        ("1.17.9", False),
        ("edge", False),
    ],
)
def test_a_profile_holds_for_a_range_of_daprd(daprd: str, covered: bool) -> None:
    """
    Every profile names the versions its facts were seen at.
    """
    for profile in ALL:
        assert covered == profile.covers(daprd)


def test_redis_creates_by_the_impossible_etag() -> None:
    """
    Redis overwrites on first-write, so a create is a compare-and-set nobody can win over an existing key.
    """
    assert Write("k", b"1", etag="2147483647", ttl=-1) == create_write(REDIS, "k", b"1")
    assert Write("k", b"1", etag="2147483647", ttl=9) == create_write(REDIS, "k", b"1", 8.2)
    assert Write("k", b"1", first_write=True) == create_write(SQLITE, "k", b"1")


@pytest.mark.parametrize("profile", ALL, ids=lambda p: f"{p.type}-{p.version}")
def test_a_create_is_safe_or_refused(profile: Profile) -> None:
    """
    A store without a safe create refuses before anything is sent, with its reasons.
    """
    if profile.safe_create:
        write = create_write(profile, "k", b"{}")
        assert write.first_write != bool(write.etag)
    else:
        with pytest.raises(UnsafeStoreError, match="nothing was sent") as caught:
            create_write(profile, "k", b"{}")
        assert caught.value.reasons


@pytest.mark.parametrize("profile", ALL, ids=lambda p: f"{p.type}-{p.version}")
def test_an_etag_that_switches_the_check_off_is_never_sent(profile: Profile) -> None:
    """
    Dapr takes an empty ETag for none, and some stores have wild cards of their own.
    """
    for etag in ("", *profile.wild_etags):
        with pytest.raises(ValueError, match="ETag"):
            cas_write(profile, "k", b"{}", etag)
    assert "7" == cas_write(profile, "k", b"{}", "7").etag
    assert cas_write(profile, "k", None, "7", 5).ttl is None


@pytest.mark.parametrize(
    ("type", "ttl", "expected"),
    [
        ("state.redis", None, -1),
        ("state.redis", 1, 1),
        ("state.sqlite", None, None),
        ("state.sqlite", 0.2, 1),
        ("state.sqlite", 1e12, 2**31 - 1),
        ("state.mysql", 60, None),
        ("state.mongodb", None, None),
        ("state.aws.dynamodb", 60, None),
        ("state.azure.blobstorage", 60, None),
    ],
)
def test_the_ttl_that_is_sent(type: str, ttl: float | None, expected: int | None) -> None:
    """
    Rounded up, cleared by -1 only where an update keeps the old one, never sent where ghosts linger.
    """
    assert expected == ttl_seconds(find(type), ttl)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf")])
def test_a_ttl_that_is_none_is_refused(ttl: float) -> None:
    """
    Zero and negative numbers mean different things on different stores.
    """
    with pytest.raises(ValueError, match="positive"):
        ttl_seconds(SQLITE, ttl)


def test_the_reference_page_is_up_to_date() -> None:
    """
    The published table is the one the profiles and the evidence give.
    """
    root = Path(__file__).parents[2]
    assert page() == (root / TARGET).read_text(encoding="utf-8"), "run python -m toolkit.stores.docs"


def test_the_check_of_the_reference_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Missing and stale pages are told, a written one is fine.
    """
    monkeypatch.chdir(tmp_path)
    assert 1 == main(["--check"])
    assert 0 == main([])
    assert 0 == main(["--check"])
    TARGET.write_text("old")
    assert 1 == main(["--check"])
