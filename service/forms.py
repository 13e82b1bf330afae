"""The fields of a form that a page posts."""

from urllib.parse import parse_qsl

from fastapi import Request

from service.errors import BodyTooLarge, InvalidForm, WrongContentType

_FORM = "application/x-www-form-urlencoded"
_MOST_BYTES = 64 * 2**10
_MOST_FIELDS = 32


async def read_fields(request: Request) -> dict[str, str]:
    """The texts of a form's fields, of several with one name the last; line breaks are `\\n`.

    Raises:
        WrongContentType: no form of texts.
        BodyTooLarge: above 64 KiB.
        InvalidForm: not UTF-8, or more than 32 fields.
    """
    announced = request.headers.get("content-type", "")
    if announced.partition(";")[0].strip().lower() != _FORM:
        raise WrongContentType(f"The Content-Type {announced[:64]!r} is no form of texts; send it as {_FORM}.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise BodyTooLarge(f"The form is above {_MOST_BYTES} bytes; write less.")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise InvalidForm(f"The form is not UTF-8 or has over {_MOST_FIELDS} fields; send it from its page.") from error
    return {name: value.replace("\r\n", "\n") for name, value in fields}
