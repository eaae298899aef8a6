"""The calls of a page's functions, checked before Gradio looks up what they name.

Gradio answers an unknown function, session or event with a traceback.
"""

from functools import cached_property
from typing import Annotated, Any, TypeVar

import gradio as gr
from fastapi.exceptions import RequestValidationError
from gradio_client.utils import construct_args
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from nextscale.app.guard import API
from nextscale.errors import shown

T = TypeVar("T")


class Call(BaseModel):
    """A function's arguments, in order."""

    model_config = ConfigDict(extra="forbid", strict=True)
    data: list[Any]


class NumberedCall(Call):
    """A call by the page itself or by Gradio's client: function, session and clicked component."""

    fn_index: int
    session_hash: Annotated[str, Field(pattern=r"^[\w-]{1,64}$")] | None = None
    trigger_id: int | None = None
    event_data: Any = None


class Calls:
    """A dependency of every route, which raises HTTPException at a call that cannot be answered.

    Args:
        page: has the functions.
    """

    def __init__(self, page: gr.Blocks) -> None:
        self.page = page

    async def __call__(self, request: Request) -> None:
        """Checks a request's function, arguments' number, session and event."""
        path = request.url.path.removeprefix(f"{API}/").rstrip("/")
        if path == "queue/data":
            self.check_session(request.query_params.get("session_hash"))
        elif "event_id" in request.path_params:
            self.check_event(request.path_params["event_id"])
        elif path in ("queue/join", "run/predict"):
            call = read(NumberedCall, await request.body())
            function = self.page.fns.get(call.fn_index)
            if function is None or function.fn is None:
                raise HTTPException(404, f"there is no function {shown(call.fn_index)}")
            check_count(call.data, len(function.inputs))
        elif path.startswith("call/v2/"):
            given = read(dict[str, Any], await request.body())
            try:
                construct_args(self.parameters(request.path_params["api_name"]), (), given)
            except TypeError as error:
                raise HTTPException(400, shown(str(error))) from error
        elif path.startswith("call/"):
            data = read(Call, await request.body()).data
            check_count(data, len(self.parameters(request.path_params["api_name"])))

    @cached_property
    def functions(self) -> dict[str, Any]:
        """Descriptions of the API's functions, by their names."""
        return dict(self.page.get_api_info()["named_endpoints"])

    def parameters(self, name: str) -> list[Any]:
        """Returns a function's parameters. Raises HTTPException if the API has no such function."""
        if f"/{name}" not in self.functions:
            known = ", ".join(self.functions)
            raise HTTPException(404, f"there is no function {shown(name)}; known: {known}")
        return self.functions[f"/{name}"]["parameters"]

    def check_session(self, name: str | None) -> None:
        """Raises HTTPException if a session has no job."""
        if name not in self.page._queue.pending_messages_per_session:
            raise HTTPException(404, f"session {shown(name)} has no job")

    def check_event(self, name: str) -> None:
        """Raises HTTPException if an event neither runs nor has an answer waiting."""
        queue = self.page._queue
        waiting = any(name in events for events in queue.pending_event_ids_session.values())
        if name not in queue.event_ids_to_events and not waiting:
            raise HTTPException(404, f"there is no event {shown(name)}")


def read(kind: type[T], body: bytes) -> T:
    """Returns a JSON body as a type. Raises HTTPException if it is none."""
    try:
        return TypeAdapter(kind).validate_json(body)
    except ValidationError as error:
        raise HTTPException(400, complaint(error.errors()[0])) from error


def check_count(data: list[Any], count: int) -> None:
    """Raises HTTPException unless there are `count` arguments."""
    if len(data) != count:
        raise HTTPException(400, f"data has {len(data)} arguments; the function takes {count}")


def complaint(error: Any) -> str:
    """Returns an error of pydantic as one line: the place, the value, what is wrong."""
    place = ".".join(map(str, error["loc"])) or "the request"
    return f"{place} is {shown(error['input'])}; {error['msg']}"


async def refuse(request: Request, error: Exception) -> PlainTextResponse:  # noqa: ARG001
    """Answers what FastAPI finds malformed with one line; its own answer may fail to be encoded."""
    assert isinstance(error, RequestValidationError)
    return PlainTextResponse(f"{complaint(error.errors()[0])}\n", 400)
