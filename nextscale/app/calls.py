"""The HTTP requests that a page of Gradio is made of: their paths, sizes and forms."""

import json
import re
from reprlib import Repr
from typing import Any
from urllib.parse import parse_qs

import gradio as gr

from nextscale.errors import UsageError

API = "/gradio_api"
SESSION = re.compile(r"[\w-]{1,64}")
LARGEST_CALL = 2**18  # bytes of a call's arguments; pictures are uploaded before
LARGEST_UPLOAD = 20 * 2**20  # bytes
GETS = "|".join(
    (
        r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json",
        r"/(static|assets)/[\w./-]{1,200}",
        rf"{API}/(info|openapi\.json|app_id|login_check|startup-events|theme\.css)/?",
        rf"{API}/(queue/(data|status)|upload_progress)",
        rf"{API}/heartbeat/[\w-]{{1,64}}",
        rf"{API}/call/(v2/)?\w{{1,64}}/\w{{1,64}}",
        rf"{API}/file=/?[^/:\x00-\x1f]{{1,255}}(/[^/\x00-\x1f]{{1,255}}){{0,30}}",
    )
)
UPLOAD = rf"{API}/upload"
POSTS = {
    rf"{API}/(queue/join|cancel|reset|run/predict|call/(v2/)?\w{{1,64}})/?": LARGEST_CALL,
    UPLOAD: LARGEST_UPLOAD,
}


SHORT = Repr()
SHORT.maxstring = SHORT.maxlong = SHORT.maxother = 60


class Calls:
    """What a request of a page may say; everything else is refused before Gradio sees it.

    Args:
        page: whose functions are called.
    """

    def __init__(self, page: gr.Blocks) -> None:
        self.page = page

    def __call__(self, method: str, path: str, query: str, body: bytes) -> tuple[str, bytes]:
        """Path and body as Gradio may take them.

        Raises:
            UsageError: if the body is no call.
            LookupError: if there is no such function or session.
        """
        path = path.rstrip("/") or "/"
        if method != "POST":
            self.check_reading(path, query)
            return path, body
        call = parsed(body)
        name = path.removeprefix(f"{API}/")
        if name in ("queue/join", "run/predict"):
            return path, self.numbered(call, direct=name == "run/predict")
        if name.startswith("call/v2/"):
            name = name.removeprefix("call/v2/")
            return f"{API}/call/{name}", self.named(name, {"data": self.positional(name, call)})
        if name.startswith("call/"):
            return path, self.named(name.removeprefix("call/"), call)
        return path, packed(self.about_session(call))

    def check_reading(self, path: str, query: str) -> None:
        """Raises LookupError if a path names a session or event that is none."""
        queue, asked = self.page._queue, parse_qs(query)
        sessions = queue.pending_messages_per_session
        if "deep_link" in asked:
            raise LookupError("there are no links to saved states")
        if path == f"{API}/queue/data" and asked.get("session_hash", [""])[0] not in sessions:
            raise LookupError("this session has no job")
        if path.startswith(f"{API}/call/"):
            event = path.rsplit("/", 1)[1]
            waiting = any(event in events for events in queue.pending_event_ids_session.values())
            if event not in queue.event_ids_to_events and not waiting:
                raise LookupError("there is no such event")

    def numbered(self, call: dict[str, Any], direct: bool) -> bytes:
        """A call of a function by its number."""
        number = call.get("fn_index")
        function = self.page.fns.get(number) if type(number) is int else None
        if function is None or function.fn is None:
            raise LookupError(f"there is no function {shown(number)}")
        if direct and function.queue:
            raise LookupError("this function is called by the queue alone")
        trigger, data = call.get("trigger_id"), call.get("event_data")
        index = data.get("index") if isinstance(data, dict) else None
        kept: dict[str, Any] = {
            "fn_index": number,
            "data": arguments(call, len(function.inputs)),
            "session_hash": session(call),
            "event_data": {"index": index} if type(index) is int else None,
        }
        if type(trigger) is int and trigger in self.page.blocks:
            kept["trigger_id"] = trigger
        return packed(kept)

    def named(self, name: str, call: dict[str, Any]) -> bytes:
        """A call of a function of the API."""
        parameters = self.parameters(name)
        return packed({"data": arguments(call, len(parameters))})

    def positional(self, name: str, given: dict[str, Any]) -> list[Any]:
        """Arguments given by name in their order; what is not given takes its default."""
        parameters = {each["parameter_name"]: each for each in self.parameters(name)}
        wrong = [each for each in given if each not in parameters]
        if wrong:
            raise UsageError(f"unknown argument {shown(wrong[0])}; {', '.join(parameters)} exist")
        for each, parameter in parameters.items():
            if each not in given and not parameter["parameter_has_default"]:
                raise UsageError(f"the argument {each} is missing")
        return [
            given[each] if each in given else parameter["parameter_default"]
            for each, parameter in parameters.items()
        ]

    def parameters(self, name: str) -> list[dict[str, Any]]:
        """Of a function of the API. Raises LookupError if there is none of this name."""
        known: dict[str, Any] = dict(self.page.get_api_info()["named_endpoints"])
        if f"/{name}" not in known:
            raise LookupError(f"there is no function {shown(name)}; {', '.join(known)} exist")
        return known[f"/{name}"]["parameters"]

    def about_session(self, call: dict[str, Any]) -> dict[str, Any]:
        """The end of a job."""
        number, event = call.get("fn_index", 0), call.get("event_id")
        if type(number) is not int or not isinstance(event, str):
            raise UsageError("fn_index, a number, and event_id, a text, are needed")
        return {"session_hash": session(call) or "", "fn_index": number, "event_id": event}


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises UsageError if it is another thing."""
    try:
        call = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the request is no JSON ({' '.join(str(error).split())})") from error
    if not isinstance(call, dict):
        raise UsageError("the request is no JSON object")
    return call


def arguments(call: dict[str, Any], count: int) -> list[Any]:
    """Of a call. Raises UsageError unless there are `count`."""
    data = call.get("data")
    if not isinstance(data, list) or len(data) != count:
        given = len(data) if isinstance(data, list) else shown(data)
        raise UsageError(f"data is {given}; a list of {count} arguments is needed")
    return data


def session(call: dict[str, Any]) -> str | None:
    """Name of a call's session. Raises UsageError if it is no name."""
    name = call.get("session_hash")
    if name is not None and not (isinstance(name, str) and SESSION.fullmatch(name)):
        raise UsageError(f"session_hash is {shown(name)}; it is a word of at most 64 characters")
    return name


def packed(call: dict[str, Any]) -> bytes:
    """A call as JSON. Raises UsageError if it is nested too deeply."""
    try:
        return json.dumps(call).encode()
    except RecursionError as error:
        raise UsageError("the request is nested too deeply") from error


def shown(value: object) -> str:
    """A value that someone sent, short enough for a message."""
    return SHORT.repr(value)
