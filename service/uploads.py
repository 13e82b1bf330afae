"""The image in a request's body: raw, or the field `file` of a form."""

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import InvalidForm, WrongContentType

FIELD = "file"


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
    if media_type == "multipart/form-data":
        return await _read_form(request)
    what = f"The Content-Type {announced[:64]!r} is no image" if announced else "The request has no Content-Type"
    raise WrongContentType(f"{what}; send the image as image/jpeg (or its own type) or as multipart/form-data.")


async def _read_form(request: Request) -> bytes:
    parser = _FormInMemory(request.headers, request.stream(), max_files=1, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidForm(
            f"The form is not valid ({error.message.rstrip('.')}); send one file in '{FIELD}'."
        ) from error
    upload = form.get(FIELD)
    if not isinstance(upload, UploadFile):
        raise InvalidForm(f"The form has no file in the field '{FIELD}'; send the image there, with a file name.")
    return await upload.read()
