"""`--object secret`: passwords that exports and nodes name."""

from __future__ import annotations

from pathlib import Path

import pytest

from devmodels.blockbackend import Graph
from devmodels.iocontext import IoContext
from devmodels.options import OptionError
from devmodels.secretobjects import MAX_SIZE, Secrets


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


def add(secrets: Secrets, **options: object) -> bytes:
    secrets.add({"qom-type": "secret", "id": "s0", **options})
    return secrets["s0"]


def test_a_secret_is_given_as_it_is_or_in_base64(secrets: Secrets) -> None:
    assert add(secrets, data="pässword") == "pässword".encode()
    assert add(Secrets(), data="AAEC/w==", format="base64") == b"\0\1\2\xff"


def test_a_file_is_taken_as_it_is(secrets: Secrets, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"\xffsecret\n")
    assert add(secrets, file=str(path)) == b"\xffsecret\n"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "expected one of data and file"),
        ({"data": "a", "file": "b"}, "expected one of data and file"),
        ({"data": "***", "format": "base64"}, "format: base64 is given; the secret is none"),
        ({"data": "a", "format": "rot13"}, 'format: "rot13" is given; expected one of "raw", "base64"'),
        ({"file": "/nowhere/at/all"}, "file: cannot read '/nowhere/at/all': No such file or directory"),
        ({"data": "a", "colour": "blue"}, "colour: no such option"),
    ],
)
def test_what_is_no_secret(secrets: Secrets, options: dict[str, object], line: str) -> None:
    with pytest.raises(OptionError, match=line) as caught:
        add(secrets, **options)
    assert "\n" not in str(caught.value)


def test_a_file_is_not_read_without_end(secrets: Secrets, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(bytes(MAX_SIZE + 1))
    with pytest.raises(OptionError, match="more than 4096 bytes"):
        add(secrets, file=str(path))


def test_objects_have_names_of_their_own() -> None:
    context = IoContext.virtual()
    graph = Graph(context)
    secret = {"qom-type": "secret", "id": "x", "data": "a"}
    graph.object_add(secret)
    for kind in ("secret", "throttle-group", "iothread"):
        with pytest.raises(OptionError, match="an object of that name is there"):
            graph.object_add({"qom-type": kind, "id": "x"} | ({"data": "a"} if kind == "secret" else {}))
    graph.delete_object("x")
    graph.object_add(secret)
    graph.close()
    context.close()
