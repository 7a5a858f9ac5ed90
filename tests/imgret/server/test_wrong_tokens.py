"""Wrong tokens are limited, 405 names all methods, and a log that nobody reads stops nobody."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from imgret.server import Limits, ServiceOptions, Tokens
from imgret.server import tokens as module
from imgret.server.log import LineLog
from imgret.server.tokens import WrongTokens
from tests.imgret.server.started import in_thread, is_problem, started

RIGHT = "abcdefgh12345678"


def asked(client: httpx.Client, token: str) -> httpx.Response:
    return client.get("/v1/images", headers={"Authorization": f"Bearer {token}"} if token else {})


def test_who_guesses_tokens_has_to_wait(stored: Path) -> None:
    tokens = Tokens.of([(RIGHT, "read-only")])
    options = ServiceOptions(
        {"one": stored / ".imgret"}, tokens=tokens, limits=Limits(wrong_tokens=3)
    )
    with in_thread(options) as client:
        assert asked(client, RIGHT).status_code == 200
        for n in range(3):
            assert is_problem(asked(client, f"{n}" * 16), 401)
        for token in ("3" * 16, RIGHT):  # nobody is told which of them is right
            answer = asked(client, token)
            assert is_problem(answer, 429)
            assert 0 < int(answer.headers["retry-after"]) <= 60
        assert is_problem(asked(client, ""), 401)
        assert client.get("/healthz").status_code == 200


def test_without_a_token_nothing_is_guessed(stored: Path) -> None:
    tokens = Tokens.of([(RIGHT, "read-only")])
    options = ServiceOptions(
        {"one": stored / ".imgret"}, tokens=tokens, limits=Limits(wrong_tokens=3)
    )
    with in_thread(options) as client:
        for _ in range(10):
            assert is_problem(asked(client, ""), 401)
        assert asked(client, RIGHT).status_code == 200


def test_the_wait_is_over_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    wrong = WrongTokens(2)
    wrong.note("10.0.0.1")
    now[0] += 30
    wrong.note("10.0.0.1")
    assert wrong.wait("10.0.0.1") == 30
    assert wrong.wait("10.0.0.2") == 0
    now[0] += 31
    assert wrong.wait("10.0.0.1") == 0


def test_a_network_of_ipv6_is_one_sender_and_few_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ADDRESSES_KNOWN", 3)
    wrong = WrongTokens(1)
    wrong.note("2001:db8::1")
    assert wrong.wait("2001:db8::2") > 0
    assert wrong.wait("2001:db8:0:1::2") == 0
    for n in range(3):
        wrong.note(f"10.0.0.{n}")
    assert wrong.wait("2001:db8::1") == 0  # forgotten for those that came since


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/images", "GET, POST"),
        ("PUT", "/v1/images/7", "DELETE, GET, PATCH"),
        ("DELETE", "/v1/search", "POST"),
        ("POST", "/", "GET"),
        ("PATCH", "/healthz", "GET"),
    ],
)
def test_a_wrong_method_is_told_all_that_there_are(
    stored: Path, method: str, path: str, allowed: str
) -> None:
    with in_thread(ServiceOptions({"one": stored / ".imgret"}), ready=False) as client:
        answer = client.request(method, path)
        assert is_problem(answer, 405)
        assert answer.headers["allow"] == allowed


@pytest.mark.long
def test_a_log_that_nobody_reads_keeps_no_request_waiting(stored: Path, cache: Path) -> None:
    with started(stored, cache) as service:  # whose standard error is a pipe of 64 kB
        for n in range(400):
            path = f"/v1/images/{n}{'x' * 280}"
            assert service.client.get(path, timeout=10).status_code == 422
        assert service.client.get("/healthz", timeout=10).status_code == 200
        assert service.end() == 0


def test_lines_beyond_the_limit_are_dropped_and_counted() -> None:
    goes_on, written = threading.Event(), []

    def write(line: str) -> None:
        goes_on.wait(60)
        written.append(line)

    dropped = Counter("dropped", "Lines.", registry=CollectorRegistry())
    log = LineLog(dropped, 3, write)
    log.tell("0")
    until = time.monotonic() + 60
    while not log._lines.empty() and time.monotonic() < until:
        time.sleep(0.01)  # until it is being written
    for n in range(1, 10):
        log.tell(str(n))
    assert dropped._value.get() == 6
    goes_on.set()
    log.end()
    assert written[:4] == ["0", "1", "2", "3"]
    assert any("6 lines of this log were dropped" in line for line in written)
