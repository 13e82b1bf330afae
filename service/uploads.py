"""The images in a request's body: one raw, or those in the fields `file` of a form."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import InvalidForm, WrongContentType

FIELD = "file"
FORM = "multipart/form-data"
_SMALL_FIELDS = 16
_FIELD_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Upload:
    """One image of several, and what its form says of it."""

    data: bytes
    part_id: str | None
    part_class: str | None


class _FormInMemory(MultiPartParser):
    # 0 is never: the body limit bounds it, and a line's camera would wear out the device's flash.
    spool_max_size = 0


async def read_image(request: Request) -> bytes:
    """The bytes of the uploaded file, whatever they hold.

    Raises:
        WrongContentType: neither image/*, application/octet-stream nor multipart/form-data.
        InvalidForm: a broken form, or one without a file in the field `file`.
        BodyTooLarge: more bytes than the limit.
    """
    announced = request.headers.get("content-type", "")
    media_type = announced.partition(";")[0].strip().lower()
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        return await request.body()
    if media_type == FORM:
        return await _read_form(request)
    what = f"The Content-Type {announced[:64]!r} is no image" if announced else "The request has no Content-Type"
    raise WrongContentType(f"{what}; send the image as image/jpeg (or its own type) or as multipart/form-data.")


async def read_images(request: Request, most: int) -> list[Upload]:
    """The uploaded files of a form, in its order.

    Args:
        most: files that it may have.

    Raises:
        WrongContentType: no multipart/form-data.
        InvalidForm: a broken form, one with no file or too many, or with fields `part_id` or `part_class` that are not
            as many as the files.
        BodyTooLarge: more bytes than the limit.
    """
    announced = request.headers.get("content-type", "")
    if announced.partition(";")[0].strip().lower() != FORM:
        raise WrongContentType(f"The Content-Type {announced[:64]!r} is no form; send the images as {FORM}.")
    async with _parsed(request, f"1 to {most} files", max_files=most, max_fields=2 * most + _SMALL_FIELDS) as form:
        files = [upload for upload in form.getlist(FIELD) if isinstance(upload, UploadFile)]
        if not files:
            raise InvalidForm(f"The form has no file in a field '{FIELD}'; send the images there, with file names.")
        part_ids, part_classes = (_texts(form, name, len(files)) for name in ("part_id", "part_class"))
        return [
            Upload(await file.read(), part_id, part_class)
            for file, part_id, part_class in zip(files, part_ids, part_classes, strict=True)
        ]


def _texts(form: FormData, name: str, count: int) -> list[str | None]:
    texts = [value or None for value in form.getlist(name) if isinstance(value, str)]
    if texts and len(texts) != count:
        raise InvalidForm(f"The form has {len(texts)} fields '{name}' and {count} files; send one for each, or none.")
    return texts or [None] * count


@asynccontextmanager
async def _parsed(request: Request, what: str, *, max_files: int, max_fields: int) -> AsyncIterator[FormData]:
    parser = _FormInMemory(
        request.headers, request.stream(), max_files=max_files, max_fields=max_fields, max_part_size=_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidForm(f"The form is not valid ({error.message.rstrip('.')}); send {what} in '{FIELD}'.") from error
    try:
        yield form
    finally:
        # The parser and its callbacks hold each other, and what they read until Python looks for such rings.
        await form.close()


async def _read_form(request: Request) -> bytes:
    async with _parsed(request, "one file", max_files=1, max_fields=_SMALL_FIELDS) as form:
        upload = form.get(FIELD)
        if not isinstance(upload, UploadFile):
            raise InvalidForm(f"The form has no file in the field '{FIELD}'; send the image there, with a file name.")
        return await upload.read()
