"""CHAP: who knows the secret gets in, and may ask the target for its own (RFC 7143 §12.1.3, §9.2.1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devmodels.options import OptionError
from devmodels.protocols.iscsi import chap
from devmodels.protocols.iscsi.codes import LoginStatus
from devmodels.protocols.iscsi.text import TextError, parse_binary, parse_list, parse_number

from .initiator import LOGIN_KEYS, World

SECRET, OTHER = b"twelve bytes: secret", b"twelve bytes: other"
ONE_WAY = {"user": "me", "password_secret": "secret"}
BOTH_WAYS = ONE_WAY | {"target_user": "you", "target_password_secret": "other"}

Make = Callable[..., World]


@pytest.mark.parametrize(("algorithm", "length"), [("5", 16), ("6", 20), ("7", 32), ("8", 32)])
def test_who_knows_the_secret_gets_in(make: Make, algorithm: str, length: int) -> None:
    initiator = make(**ONE_WAY).connect()
    response = initiator.authenticate("me", SECRET, algorithms=algorithm)
    assert (response["status"], response["flags"]) == (0, 0x81)
    initiator.enter(initiator.login_request({}, following=3))
    assert initiator.tsih
    assert len(chap.response(int(algorithm), 1, SECRET, b"x")) == length


@pytest.mark.parametrize(("user", "secret"), [("me", OTHER), ("you", SECRET), ("", b"")])
def test_who_does_not_know_it_stays_outside(make: Make, user: str, secret: bytes) -> None:
    initiator = make(**ONE_WAY).connect()
    response = initiator.authenticate(user, secret)
    assert response["status"] == LoginStatus.AUTHENTICATION_FAILURE
    assert initiator.gone


def test_nobody_goes_round_it(make: Make) -> None:
    world = make(**ONE_WAY)
    for keys, stage, following in (
        (LOGIN_KEYS, 1, 3),
        (LOGIN_KEYS, 0, 1),
        (LOGIN_KEYS, 0, 3),
        (LOGIN_KEYS | {"AuthMethod": "None"}, 0, 1),
        (LOGIN_KEYS | {"AuthMethod": "KRB5,None"}, 0, 3),
    ):
        response = world.connect().login_request(keys, stage=stage, following=following)
        assert response["status"] == LoginStatus.AUTHENTICATION_FAILURE
    assert not world.export.target.sessions


def test_nobody_goes_on_in_the_middle_of_it(make: Make) -> None:
    initiator = make(**ONE_WAY).connect()
    said = initiator.login_request(LOGIN_KEYS | {"AuthMethod": "CHAP"}, stage=0, following=1)
    assert said["flags"] == 0
    said = initiator.login_request({"CHAP_A": "5"}, stage=0, following=3)
    assert said["flags"] == 0
    assert initiator.login_request({}, stage=1, following=3)["status"] == LoginStatus.INITIATOR_ERROR


@pytest.mark.parametrize("algorithms", ["56", "1,2", "0"])
def test_an_algorithm_has_to_be_known(make: Make, algorithms: str) -> None:
    response = make(**ONE_WAY).connect().authenticate("me", SECRET, algorithms=algorithms)
    assert response["status"] == LoginStatus.AUTHENTICATION_FAILURE


def test_the_first_algorithm_that_is_known_is_taken(make: Make) -> None:
    initiator = make(**ONE_WAY).connect()
    initiator.login_request(LOGIN_KEYS | {"AuthMethod": "CHAP"}, stage=0)
    assert initiator.login_request({"CHAP_A": "99,7,5"}, stage=0).text["CHAP_A"] == "7"


@pytest.mark.parametrize("missing", ["CHAP_N", "CHAP_R"])
def test_a_response_is_whole(make: Make, missing: str) -> None:
    response = make(**ONE_WAY).connect().authenticate("me", SECRET, keys=[missing])
    assert response["status"] == LoginStatus.MISSING_PARAMETER


def test_challenges_are_new_each_time(make: Make) -> None:
    world = make(**ONE_WAY)
    challenges = set()
    for _ in range(8):
        initiator = world.connect()
        initiator.login_request(LOGIN_KEYS | {"AuthMethod": "CHAP"}, stage=0)
        challenges.add(initiator.login_request({"CHAP_A": "5"}, stage=0).text["CHAP_C"])
    assert len(challenges) == 8


# --- both ways


def test_the_target_proves_that_it_knows_its_own_secret(make: Make) -> None:
    initiator = make(**BOTH_WAYS).connect()
    text = initiator.authenticate("me", SECRET, challenge=b"prove it").text
    assert text["CHAP_N"] == "you"
    assert parse_binary(text["CHAP_R"]) == chap.response(5, 77, OTHER, b"prove it")


def test_the_target_proves_nothing_to_strangers(make: Make) -> None:
    response = make(**BOTH_WAYS).connect().authenticate("me", b"wrong", challenge=b"prove it")
    assert response["status"] == LoginStatus.AUTHENTICATION_FAILURE
    assert response.data == b""


def test_a_target_without_a_secret_cannot_prove_itself(make: Make) -> None:
    response = make(**ONE_WAY).connect().authenticate("me", SECRET, challenge=b"prove it")
    assert response["status"] == LoginStatus.AUTHENTICATION_FAILURE


def test_the_targets_own_challenge_is_not_answered(make: Make) -> None:
    initiator = make(**BOTH_WAYS).connect()
    initiator.login_request(LOGIN_KEYS | {"AuthMethod": "CHAP"}, stage=0)
    text = initiator.login_request({"CHAP_A": "5"}, stage=0).text
    answer = chap.response(5, int(text["CHAP_I"]), SECRET, parse_binary(text["CHAP_C"]))
    proof = {"CHAP_N": "me", "CHAP_R": f"0x{answer.hex()}", "CHAP_I": "1", "CHAP_C": text["CHAP_C"]}
    assert initiator.login_request(proof, stage=0)["status"] == LoginStatus.AUTHENTICATION_FAILURE


def test_without_a_secret_nothing_is_asked_for(world: World) -> None:
    initiator = world.connect()
    assert (
        initiator.login_request(LOGIN_KEYS | {"AuthMethod": "CHAP,None"}, stage=0).text["AuthMethod"]
        == "None"
    )
    other = world.connect()
    response = other.login_request(LOGIN_KEYS | {"AuthMethod": "CHAP"}, stage=0)
    assert response["status"] == LoginStatus.AUTHENTICATION_FAILURE


# --- options


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"user": "me"}, "user: expected together with password-secret"),
        (
            {"target_user": "you", "target_password_secret": "other"},
            "target-user: expected together with user",
        ),
        ({"user": "me", "password_secret": "none"}, 'no secret "none"; the secrets are: "other", "secret"'),
        (
            BOTH_WAYS | {"target_password_secret": "secret"},
            "target-password-secret: the secrets are the same; expected another one",
        ),
    ],
)
def test_options_that_do_not_go_together(make: Make, options: dict[str, str], line: str) -> None:
    with pytest.raises(OptionError, match=line):
        make(**options)


# --- values


def test_binary_values_are_hexadecimal_or_base64() -> None:
    assert parse_binary("0x0102ff") == parse_binary("0bAQL/") == parse_binary("0X102FF") == b"\1\2\xff"
    for text in ("", "0x", "0b", "12", "0xgg", "0b=", "0bA"):
        with pytest.raises(TextError):
            parse_binary(text)


def test_numbers_and_lists_have_their_forms() -> None:
    assert (parse_number("0x1F"), parse_number("007")) == (31, 7)
    for text in ("", "-1", "1.0", "0x", "1" * 21, "0x" + "f" * 17):
        with pytest.raises(TextError):
            parse_number(text)
    with pytest.raises(TextError):
        parse_list("a,,b")


@pytest.mark.parametrize(("secret", "said"), [("eleven byte", 1), ("twelve bytes", 0)])
def test_a_secret_that_is_soon_found_is_said_to_be_short(
    world: World, caplog: pytest.LogCaptureFixture, secret: str, said: int
) -> None:
    """RFC 7143 §9.2.1: 96 bits."""
    world.graph.object_add({"qom-type": "secret", "id": "short", "data": secret})
    world.add_disk("d1")
    world.add_export("e1", "d1", target="iqn.2026-11.org.example:other", user="me", password_secret="short")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "password-secret: the secret has 11 bytes; expected at least 12 (RFC 7143 §9.2.1)"
    ] * said
