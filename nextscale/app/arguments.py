"""What arrives for a control of the page, checked before Gradio touches it.

Gradio would download addresses, decode pictures of any size and answer a wrong type by a traceback.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
import gradio as gr
from PIL import Image

from nextscale.acceleration import give_back_memory
from nextscale.app.calls import shown
from nextscale.app.studio import MOST_IMAGES
from nextscale.config.evaluation import LARGEST_SEED
from nextscale.errors import UsageError
from nextscale.pixels import checked

LARGEST_PIXELS = 2**24  # of a picture: 16 Mpx
TAKEN = f"at most {LARGEST_PIXELS // 2**20} million pixels are taken"
MOST_LAYERS = 4  # that are painted over a picture
LONGEST_TEXT = 200  # characters
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


class Page(gr.Blocks):
    """A page whose functions get checked arguments, from its own controls and through its API."""

    async def preprocess_data(
        self,
        block_fn: Any,
        inputs: list[Any],
        state: Any,
        explicit_call: bool = False,
    ) -> list[Any]:
        """Arguments as the function takes them. Raises gr.Error, which is told without a traceback.

        Args:
            block_fn: Gradio's record of the function.
            inputs: as they were sent.
            state: of the visitor.
            explicit_call: whether Python called, not a visitor.
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
        """A step of a job; after the last one memory returns, unless another job waits."""
        goes_on = False
        try:
            output = await super().process_api(*given, **named)
            goes_on = bool(output["is_generating"])
            return output
        finally:
            if not goes_on and not len(self._queue):
                await anyio.to_thread.run_sync(give_back_memory, limiter=self.limiter)


def checked_value(name: str, component: Any, value: Any) -> Any:
    """What was sent for a control, or what of it may be used.

    Args:
        name: of the argument, for complaints.
        component: the control.
        value: as it was sent.

    Raises:
        UsageError: naming the argument, if the value is none of the control's.
    """
    for kind, check in CHECKS.items():
        if isinstance(component, kind):
            return check(name, component, value)
    raise TypeError(f"nothing checks {type(component).__name__}")


def of_slider(name: str, component: gr.Slider, value: Any) -> float:
    """A number of the slider's range, whole if its steps are."""
    whole = float(component.step or 0).is_integer()
    return number(name, value, component.minimum, component.maximum, whole)


def of_number(name: str, component: gr.Number, value: Any) -> float:  # noqa: ARG001
    """A seed."""
    return number(name, value, 0, LARGEST_SEED, whole=True)


def of_checkbox(name: str, component: gr.Checkbox, value: Any) -> bool:  # noqa: ARG001
    """True or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {shown(value)}; it must be true or false")
    return value


def of_choice(name: str, component: gr.Radio | gr.Dropdown, value: Any) -> str | list[str]:
    """One of the choices, or a list of them."""
    known = [choice for _, choice in component.choices]
    several = isinstance(component, gr.Dropdown) and bool(component.multiselect)
    if several and not isinstance(value, list):
        raise UsageError(f"{name} is {shown(value)}; it must be a list of names")
    if several and len(value) > MOST_IMAGES:
        raise UsageError(f"{name} holds {len(value)} names; at most {MOST_IMAGES} are taken")
    for each in value if several else [value]:
        if not isinstance(each, str) or each not in known:
            some = ", ".join(map(str, known[:20])) + ", ..." * (len(known) > 20)
            raise UsageError(f"{name} is {shown(each)}; it can be {some}")
    return value


def of_text(name: str, component: gr.Textbox, value: Any) -> str:  # noqa: ARG001
    """A short text."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise UsageError(
            f"{name} is {shown(value)}; it must be a text of at most {LONGEST_TEXT} characters"
        )
    return value


def of_image(name: str, component: gr.Image, value: Any) -> dict[str, Any] | None:
    """An uploaded picture or None."""
    return None if value is None else file(name, component, value)


def of_editor(name: str, component: gr.ImageEditor, value: Any) -> dict[str, Any] | None:
    """Background and layers; what they make together is not needed, and not decoded."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise UsageError(f"{name} is {shown(value)}; it has a background and layers")
    layers = value.get("layers")
    layers = [] if layers is None else layers
    if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
        given = len(layers) if isinstance(layers, list) else shown(layers)
        raise UsageError(f"{name} has layers {given}; a list of at most {MOST_LAYERS} is taken")
    background = value.get("background")
    return {
        "background": background and file(name, component, background),
        "layers": [file("a layer", component, layer) for layer in layers if layer is not None],
        "composite": None,
    }


def of_gallery(name: str, component: gr.Gallery, value: Any) -> list[dict[str, Any]]:
    """Uploaded or drawn pictures."""
    value = [] if value is None else value
    if not isinstance(value, list) or len(value) > MOST_IMAGES:
        raise UsageError(f"{name} is {shown(value)}; it must be a list of at most {MOST_IMAGES}")
    images = [each.get("image") if isinstance(each, dict) else each for each in value]
    return [{"image": file(name, component, each), "caption": None} for each in images]


def of_state(name: str, component: gr.State, value: Any) -> None:
    """Nothing: it stays with the server."""


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


def number(name: str, value: Any, least: float, most: float, whole: bool) -> float:
    """A number in its range. Raises UsageError at any other value, and at fractions if `whole`."""
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    fits = fits and least <= value <= most  # NaN is not
    if not fits or (whole and value != int(value)):
        kind = "whole number" if whole else "number"
        raise UsageError(f"{name} is {shown(value)}; it must be a {kind} from {least} to {most}")
    return int(value) if whole else value


def file(name: str, component: gr.components.Component, value: Any) -> dict[str, Any]:
    """A picture among the uploaded files, whose size was read before any pixel.

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
        with Image.open(place, formats=FORMATS) as picture:
            check_pixels(picture)
            checked(picture)
    except UsageError:
        raise
    except Image.DecompressionBombError as error:
        raise UsageError(f"the image is too large; {TAKEN}") from error
    except (OSError, ValueError, SyntaxError) as error:
        reason = " ".join(str(error).replace(str(folder), "").split())
        raise UsageError(f"the image cannot be read ({reason})") from error
    return {"path": str(place), "orig_name": "image.png", "meta": {"_type": "gradio.FileData"}}


def check_pixels(picture: Image.Image) -> None:
    """Raises UsageError if a picture, of which only the header is read, is too large."""
    if picture.width * picture.height > LARGEST_PIXELS:
        raise UsageError(f"the image has {picture.width}x{picture.height} pixels; {TAKEN}")
