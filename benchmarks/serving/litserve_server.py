"""The engine behind LitServe: python litserve_server.py PORT."""

import sys

import litserve
from judging import Judging
from starlette.datastructures import FormData
from starlette.requests import Request


class Api(litserve.LitAPI):
    """An image as the field `file` of a form: LitServe's way for files."""

    def setup(self, device: str) -> None:
        """In the worker's process."""
        self._judging = Judging()

    def decode_request(self, request: Request) -> bytes:
        """The field's bytes."""
        form: FormData = request  # type: ignore[assignment]
        return form["file"].file.read()

    def predict(self, data: bytes) -> dict[str, object]:
        """The verdict."""
        return self._judging(data)

    def encode_response(self, output: dict[str, object]) -> dict[str, object]:
        """As it is."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="warning")
