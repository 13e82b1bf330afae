"""What a browser is told with every answer: load nothing from elsewhere, run nothing inline, be in no frame."""

import pytest

from tests.service.conftest import RAW
from tests.service.running import RunningServer
from tests.service.security.conftest import connected, read_all


@pytest.mark.parametrize("path", ["/", "/docs", "/web/page.js", "/v1/engine", "/livez", "/nothing", "/openapi.json"])
def test_every_answer_has_the_security_headers_once(server: RunningServer, path: str) -> None:
    headers = server.client.get(path).headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers.get_list("referrer-policy") == ["same-origin"]
    assert headers.get_list("x-frame-options") == ["DENY"]
    assert headers.get_list("cross-origin-resource-policy") == ["same-origin"]
    (policy,) = headers.get_list("content-security-policy")
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert "server" not in headers


def test_no_page_runs_a_script_that_is_written_in_it(server: RunningServer) -> None:
    for path in ("/", "/docs"):
        response = server.client.get(path)
        script = next(
            part for part in response.headers["content-security-policy"].split(";") if part.strip().startswith("script")
        )
        assert script.strip() == "script-src 'self'"
        assert "<script>" not in response.text and "javascript:" not in response.text


def test_what_never_reaches_the_application_has_them_too(server: RunningServer) -> None:
    with connected(server) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        answer = read_all(connection).lower()
    assert b"x-content-type-options: nosniff" in answer and b"content-security-policy: default-src 'none'" in answer


def test_a_picture_cannot_be_taken_for_a_page(server: RunningServer) -> None:
    page = b"<html><script>alert(1)</script></html>"
    response = server.client.post("/v1/inspections", content=page, headers=RAW)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-content-type-options"] == "nosniff"
