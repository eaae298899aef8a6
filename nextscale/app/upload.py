"""The route that receives pictures, in place of Gradio's.

Gradio's keeps the files of broken connections and fails at forms that its page never sends.
"""

import shutil
from functools import partial
from pathlib import Path

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from nextscale.app.guard import API
from nextscale.app.store import Store
from nextscale.errors import UsageError
from nextscale.pictures.reading import EXTENSIONS

MOST_FILES = 32  # of a form


def upload_route(page: gr.Blocks, store: Store) -> Route:
    """The route by which a form's files reach the store.

    Args:
        page: deletes the files when they are old.
        store: keeps the files.
    """

    async def upload(request: Request) -> Response:
        """Returns the paths of a form's files, or one line that says why there are none."""
        try:
            async with request.form(max_files=MOST_FILES, max_fields=0) as form:
                files = [each for each in form.getlist("files") if isinstance(each, UploadFile)]
                if not files:
                    return PlainTextResponse("the request is no form with files\n", 400)
                paths = [await run_in_threadpool(keep, store, each) for each in files]
        except ClientDisconnect:
            return Response(status_code=400)  # the client is gone
        except UsageError as error:
            return PlainTextResponse(f"{error}\n", 507)
        page.upload_file_set.update(paths)
        return JSONResponse(paths)

    return Route(f"{API}/upload", upload, methods=["POST"])


def keep(store: Store, file: UploadFile) -> str:
    """Writes an uploaded file into the store and returns its path."""
    suffix = Path(file.filename or "").suffix.lower()
    return store.write(
        suffix if suffix in EXTENSIONS else "", partial(shutil.copyfileobj, file.file)
    )
