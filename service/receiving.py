"""A bundle's archive as it arrives, in a file beside the engines: it is too large for memory, and for many a /tmp."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import InvalidForm, StoreFull, WrongContentType
from service.uploads import FIELD, FORM

_FIELDS, _FIELD_BYTES = 4, 1024


@asynccontextmanager
async def received_body(request: Request, folder: Path) -> AsyncIterator[Path]:
    """The request's body as a file in `folder`, deleted in the end. Raises StoreFull or BodyTooLarge."""
    with _file_in(folder) as file:
        async for chunk in request.stream():
            await asyncio.to_thread(file.write, chunk)
        file.flush()
        yield Path(file.name)


@asynccontextmanager
async def received_file(request: Request, folder: Path) -> AsyncIterator[Path]:
    """The file in the field `file` of a form as a file in `folder`, deleted in the end.

    Raises:
        WrongContentType: no multipart/form-data.
        InvalidForm: a broken form, or one in which no file was chosen.
        StoreFull, BodyTooLarge: as `received_body`.
    """
    announced = request.headers.get("content-type", "")
    if announced.partition(";")[0].strip().lower() != FORM:
        raise WrongContentType(f"The Content-Type {announced[:64]!r} is no form; send the archive as {FORM}.")
    with _file_in(folder) as file:
        try:
            form = await _FormInFile(request, file).parse()
        except MultiPartException as error:
            raise InvalidForm(f"The form is not valid ({error.message.rstrip('.')}); send one file.") from error
        upload = form.get(FIELD)
        if not isinstance(upload, UploadFile) or not upload.size:
            raise InvalidForm("No file was chosen; choose a bundle's folder as a ZIP file.")
        file.flush()
        yield Path(file.name)


class _FormInFile(MultiPartParser):
    """Writes the form's one file to a file that is there."""

    def __init__(self, request: Request, file: IO[bytes]) -> None:
        super().__init__(request.headers, request.stream(), max_files=1, max_fields=_FIELDS, max_part_size=_FIELD_BYTES)
        self._file = file

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if (upload := self._current_part.file) is not None:
            upload.file.close()
            # What is no spooled file is written to in a thread.
            upload.file = self._file  # type: ignore[assignment]


@contextmanager
def _file_in(folder: Path) -> Iterator[IO[bytes]]:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".archive.") as file:
            yield file
    except OSError as error:
        raise StoreFull(f"{folder} takes no more engines ({error.strerror}); delete some.") from error
