"""The arguments of a page's functions, each checked by its control before Gradio touches it.

Gradio downloads addresses, decodes pictures of any size and answers a wrong type with a traceback.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
import gradio as gr
from annotated_types import Ge, Le, MaxLen
from PIL import Image

from nextscale.app.studio import MOST_IMAGES
from nextscale.config.seeds import LARGEST_SEED
from nextscale.config.validation import check_type
from nextscale.errors import UsageError, shown
from nextscale.machine.heap import give_back_memory
from nextscale.pictures.pixels import checked
from nextscale.pictures.reading import open_picture

LARGEST_PIXELS = 2**24  # of a picture: 16 Mpx
ALLOWED = f"at most {LARGEST_PIXELS // 2**20} million pixels are allowed"
MOST_LAYERS = 4  # that are painted over a picture
LONGEST_TEXT = 200  # characters
CHOICES_SHOWN = 20  # in a complaint


class Page(gr.Blocks):
    """A page whose functions receive checked arguments, from its controls and through its API."""

    async def preprocess_data(
        self,
        block_fn: Any,
        inputs: list[Any],
        state: Any,
        explicit_call: bool = False,
    ) -> list[Any]:
        """Returns arguments as the function takes them.

        Args:
            block_fn: Gradio's record of the function.
            inputs: as they were sent, one for each control.
            state: of the visitor.
            explicit_call: whether Python called, not a visitor.

        Raises:
            gr.Error: if an argument is wrong; the server prints no traceback of it.
        """
        names = list(inspect.signature(block_fn.fn).parameters)

        def check() -> list[Any]:
            return [
                checked_value(name, component, value)
                for name, component, value in zip(names, block_fn.inputs, inputs, strict=False)
            ]

        try:
            given = await anyio.to_thread.run_sync(check, limiter=self.limiter)
        except UsageError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return await super().preprocess_data(block_fn, given, state, explicit_call)

    async def process_api(self, *given: Any, **named: Any) -> dict[str, Any]:
        """Runs a step of a job; returns memory after the last one, unless another job waits."""
        continues = False
        try:
            output = await super().process_api(*given, **named)
            continues = bool(output["is_generating"])
            return output
        finally:
            if not continues and not len(self._queue):
                await anyio.to_thread.run_sync(give_back_memory, limiter=self.limiter)


def checked_value(name: str, component: Any, value: Any) -> Any:
    """Returns what was sent for a control, or what of it is used.

    Args:
        name: of the argument, for complaints.
        component: the control.
        value: as it was sent.

    Raises:
        UsageError: naming the argument, if the control cannot have this value.
    """
    for kind, check in CHECKS.items():
        if isinstance(component, kind):
            return check(name, component, value)
    raise TypeError(f"nothing checks {type(component).__name__}")


def of_slider(name: str, component: gr.Slider, value: Any) -> float:
    """Returns a number of the slider's range, an integer if its steps are."""
    kind = int if float(component.step or 0).is_integer() else float
    return number(name, value, kind, component.minimum, component.maximum)


def of_number(name: str, component: gr.Number, value: Any) -> float:  # noqa: ARG001
    """Returns a seed."""
    return number(name, value, int, 0, LARGEST_SEED)


def of_checkbox(name: str, component: gr.Checkbox, value: Any) -> bool:  # noqa: ARG001
    """Returns true or false."""
    check_type(bool, value, name)
    return value


def of_choice(name: str, component: gr.Radio | gr.Dropdown, value: Any) -> str | list[str]:
    """Returns one of the choices, or a list of them."""
    known = [str(choice) for _, choice in component.choices]
    several = isinstance(component, gr.Dropdown) and bool(component.multiselect)
    if several:
        check_type(Annotated[list[Any], MaxLen(MOST_IMAGES)], value, name)
    for each in value if several else [value]:
        if each not in known:
            some = ", ".join(known[:CHOICES_SHOWN]) + ", …" * (len(known) > CHOICES_SHOWN)
            raise UsageError(f"{name} is {shown(each)}; choose one of {some}")
    return value


def of_text(name: str, component: gr.Textbox, value: Any) -> str:  # noqa: ARG001
    """Returns a short text."""
    check_type(Annotated[str, MaxLen(LONGEST_TEXT)], value, name)
    return value


def of_image(name: str, component: gr.Image, value: Any) -> dict[str, Any] | None:
    """Returns an uploaded picture or None."""
    return None if value is None else uploaded(name, component, value)


def of_editor(name: str, component: gr.ImageEditor, value: Any) -> dict[str, Any] | None:
    """Returns background and layers; their composite is not used and not decoded."""
    if value is None:
        return None
    check_type(dict[str, Any], value, name)
    layers = value.get("layers") or []
    check_type(Annotated[list[Any], MaxLen(MOST_LAYERS)], layers, f"{name}.layers")
    background = value.get("background")
    return {
        "background": background and uploaded(name, component, background),
        "layers": [uploaded("a layer", component, each) for each in layers if each is not None],
        "composite": None,
    }


def of_gallery(name: str, component: gr.Gallery, value: Any) -> list[dict[str, Any]]:
    """Returns uploaded or drawn pictures."""
    value = [] if value is None else value
    check_type(Annotated[list[Any], MaxLen(MOST_IMAGES)], value, name)
    images = [each.get("image") if isinstance(each, dict) else each for each in value]
    return [{"image": uploaded(name, component, each), "caption": None} for each in images]


def of_state(name: str, component: gr.State, value: Any) -> None:
    """Returns nothing: the server keeps states."""


CHECKS: dict[type, Callable[[str, Any, Any], Any]] = {
    gr.Slider: of_slider,
    gr.Number: of_number,
    gr.Checkbox: of_checkbox,
    gr.Radio: of_choice,
    gr.Dropdown: of_choice,
    gr.Textbox: of_text,
    gr.Image: of_image,
    gr.ImageEditor: of_editor,
    gr.Gallery: of_gallery,
    gr.State: of_state,
}


def number(name: str, value: Any, kind: type, least: float, most: float) -> float:
    """Returns a number of a range; 2.0 is an integer, since JSON and JavaScript know no other.

    Raises:
        UsageError: if it is no number, NaN, out of range, or a fraction where `kind` is int.
    """
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    check_type(Annotated[kind, Ge(least), Le(most)], value, name)
    return value


def uploaded(name: str, component: gr.components.Component, value: Any) -> dict[str, Any]:
    """Returns an uploaded picture whose size is checked in its header, before its pixels are read.

    Raises:
        UsageError: if it is an address, not uploaded here, too large, or no picture.
    """
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str):
        raise UsageError(f"{name} is {shown(value)}; upload a picture, with handle_file(PATH)")
    folder = Path(component.GRADIO_CACHE).resolve()
    try:
        place = Path(path).resolve()
        if not place.is_relative_to(folder) or not place.is_file():
            raise UsageError(f"{name} is {shown(path)}, which was not uploaded; upload a picture")
        with open_picture(place) as picture:
            if picture.width * picture.height > LARGEST_PIXELS:
                size = f"{picture.width}x{picture.height}"
                raise UsageError(f"the image has {size} pixels; {ALLOWED}")
            checked(picture)
    except UsageError:
        raise
    except Image.DecompressionBombError as error:
        raise UsageError(f"the image is too large; {ALLOWED}") from error
    except MemoryError:
        raise  # the machine's fault, not the picture's
    except Exception as error:  # Pillow's readers raise nearly anything at broken bytes
        reason = " ".join(str(error).replace(str(folder), "").split())
        raise UsageError(f"the image cannot be read ({reason})") from error
    return {"path": str(place), "orig_name": "image.png", "meta": {"_type": "gradio.FileData"}}
