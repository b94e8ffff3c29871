"""
Request handlers that reach state, secrets and configuration through one context, as PURISTA's handlers do.

``context.states``, ``context.secrets`` and ``context.configs`` belong to one ``AsyncDapr`` that lives as long as the
application. Reading is allowed everywhere; this service may write users and carts, and may remove carts only::

    occ run --resources DIRECTORY -- uvicorn --app-dir examples fastapi_app:app

The directory holds the components ``my-state-store``, ``my-secret-store`` and ``my-config-store``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from toolkit import (
    ABSENT,
    Access,
    AccessDeniedError,
    AlreadyExistsError,
    AsyncDapr,
    ConflictError,
    ETag,
    InvalidETagError,
    OutcomeUnknownError,
    StoreError,
)

RIGHTS = {
    "cart-": Access.ALL,
    "user-": Access.READ | Access.WRITE,
    "last-": Access.READ | Access.WRITE,
    "": Access.READ,
}
DEFAULT_LIMIT = 20


class User(BaseModel):
    """
    What this service knows of a user; members that other services keep beside it are left alone.
    """

    name: str = Field(min_length=1)
    mail: str = ""


class Item(BaseModel):
    """
    One line of a cart.
    """

    article: str
    amount: int = Field(default=1, ge=1)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """
    Wait for the sidecar, open its stores, and close them when the last request is done.
    """
    async with AsyncDapr(
        state_store="my-state-store",
        secret_store="my-secret-store",  # noqa: S106  the name of a component
        config_store="my-config-store",
        access=RIGHTS,
        startup_timeout=60,
    ) as dapr:
        app.state.dapr = dapr
        yield


app = FastAPI(title="users and carts", lifespan=lifespan)


def context(request: Request) -> AsyncDapr:
    """
    What each handler gets.
    """
    return cast("AsyncDapr", request.app.state.dapr)


Context = Annotated[AsyncDapr, Depends(context)]

# ------------------------------------------------------------------------------------------------------------ the handlers


@app.post("/last-processed")
async def processed(context: Context) -> dict[str, Any]:
    """
    Set a value and read it back.
    """
    await context.states.set("last-processed", {"at": datetime.now(UTC).isoformat()})
    value: dict[str, Any] = await context.states.get("last-processed")
    return value


@app.post("/users/{name}", status_code=201)
async def sign_up(name: str, user: User, context: Context) -> User:
    """
    Take a name; of several requests for the same name exactly one gets it.
    """
    await context.states.typed(User).create(f"user-{name}", user)
    return user


@app.get("/users/{name}")
async def show(name: str, context: Context, response: Response) -> User:
    """
    A user, with the version in the ETag header.
    """
    entry = await context.states.typed(User).read(f"user-{name}")
    if entry.value is None:
        raise HTTPException(404, f"no user {name}")
    response.headers["ETag"] = str(entry.etag)
    return entry.value


@app.put("/users/{name}", status_code=204)
async def replace(name: str, user: User, context: Context, if_match: Annotated[str, Header()]) -> None:
    """
    Overwrite the version that the client has seen, and no other.
    """
    etag = ETag.parse(if_match)
    if etag is ABSENT:
        raise HTTPException(400, "If-Match takes what the ETag header said")
    await context.states.typed(User).compare_and_set(f"user-{name}", user, etag)


@app.post("/carts/{cart}/items")
async def add_item(
    cart: str, item: Item, context: Context, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, Any]:
    """
    Add to a cart; a request repeated with its Idempotency-Key adds once.
    """
    configured = await context.configs.get("cart-limit")
    limit = int(configured["cart-limit"].value) if "cart-limit" in configured else DEFAULT_LIMIT

    def added(value: dict[str, Any]) -> dict[str, Any]:
        if len(value["items"]) >= limit:
            raise HTTPException(422, f"a cart holds {limit} items")
        value["items"].append(item.model_dump())
        return value

    value: dict[str, Any] = await context.states.update(
        f"cart-{cart}", added, default={"items": []}, op_id=idempotency_key
    )
    return value


@app.delete("/carts/{cart}", status_code=204)
async def drop(cart: str, context: Context) -> None:
    """
    Remove a cart.
    """
    await context.states.delete(f"cart-{cart}")


@app.delete("/users/{name}", status_code=204)
async def forget(name: str, context: Context) -> None:
    """
    Not allowed: this service has no right to remove users.
    """
    await context.states.delete(f"user-{name}")


@app.post("/hooks", status_code=204)
async def hook(request: Request, context: Context, x_signature: Annotated[str, Header()]) -> None:
    """
    Accept a message signed with the secret that both sides know.
    """
    secret = (await context.secrets.get("HOOK_KEY"))["HOOK_KEY"]
    expected = hmac.new(secret.encode(), await request.body(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, x_signature):
        raise HTTPException(401, "the signature does not fit")


# ------------------------------------------------------------------------------------------- what clients see of our errors


def refuse(status: int, error: Exception, **more: str) -> JSONResponse:
    return JSONResponse({"detail": str(error), **more}, status)


@app.exception_handler(AccessDeniedError)
async def access_denied(_: Request, error: AccessDeniedError) -> JSONResponse:
    return refuse(403, error)


@app.exception_handler(ConflictError)
async def conflict(_: Request, error: ConflictError) -> JSONResponse:
    return refuse(409 if isinstance(error, AlreadyExistsError) else 412, error)


@app.exception_handler(StoreError)
async def store_failed(_: Request, error: StoreError) -> JSONResponse:
    return refuse(400 if isinstance(error, InvalidETagError) else 503, error)


@app.exception_handler(OutcomeUnknownError)
async def outcome_unknown(_: Request, error: OutcomeUnknownError) -> JSONResponse:
    """
    The client may ask again with the same Idempotency-Key, or somebody with the receipt.
    """
    return refuse(502, error, receipt=error.receipt)
