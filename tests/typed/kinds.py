"""
One user as a dataclass, a msgspec struct and a pydantic model, and what an older program stored of it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from typing import Any

import msgspec
import pydantic


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Street:
    name: str
    number: int = 1


@dataclasses.dataclass
class UserData:
    name: str
    age: int = 0
    born: dt.date | None = None
    colour: Colour = Colour.RED
    street: Street | None = None
    tags: dict[str, int] = dataclasses.field(default_factory=dict)


class StreetStruct(msgspec.Struct):
    name: str
    number: int = 1


class UserStruct(msgspec.Struct):
    name: str
    age: int = 0
    born: dt.date | None = None
    colour: Colour = Colour.RED
    street: StreetStruct | None = None
    tags: dict[str, int] = {}


class StreetModel(pydantic.BaseModel):
    name: str
    number: int = 1


class UserModel(pydantic.BaseModel):
    name: str
    age: int = 0
    born: dt.date | None = None
    colour: Colour = Colour.RED
    street: StreetModel | None = None
    tags: dict[str, int] = {}


KINDS: list[Any] = [UserData, UserStruct, UserModel]
STREETS = {UserData: Street, UserStruct: StreetStruct, UserModel: StreetModel}


LEGACY = {"name": "Ada", "age": 1, "legacy": [1, 2], "street": {"name": "Dorset", "zip": "W1"}}


def renamed(user: Any) -> Any:
    user.name = "Grace"
    return user


def older(user: Any) -> Any:
    user.age += 1
    return user
