"""A login as a machine of states: whatever is asked in whatever order, nobody gets in who may not."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from devmodels.exports.iscsi.login import MAX_REQUESTS, MAX_TEXT, Answer, Login
from devmodels.exports.iscsi.target import IscsiTarget
from devmodels.iocontext import IoContext
from devmodels.protocols.iscsi import chap, pdu
from devmodels.protocols.iscsi.chap import Credentials
from devmodels.protocols.iscsi.codes import LoginStatus, Stage
from devmodels.protocols.iscsi.pdu import Opcode
from devmodels.protocols.iscsi.text import join, parse_binary, show_binary, split
from devmodels.scsi.target import ScsiTarget

from .initiator import INITIATOR, TARGET, build

SECRET = b"twelve bytes: secret"
ISID = b"\x80\0\0\0\0\1"

WORDS: dict[str, list[str]] = {
    "InitiatorName": [INITIATOR, "", "a b", "x" * 224],
    "TargetName": [TARGET, "iqn.2026-11.org.example:other"],
    "SessionType": ["Normal", "Discovery", "Other"],
    "AuthMethod": ["CHAP", "None", "CHAP,None", "KRB5", ","],
    "CHAP_A": ["5", "9", "7,5", "x"],
    "CHAP_N": ["me", "you"],
    "CHAP_R": ["right", "0x00", "0b", "junk"],
    "CHAP_I": ["1", "256"],
    "CHAP_C": ["0x0102", "theirs"],
    "HeaderDigest": ["CRC32C,None", "Other"],
    "MaxConnections": ["4", "0", "65536"],
    "ErrorRecoveryLevel": ["2", "3"],
    "X-unknown": ["1"],
}

Question = tuple[list[tuple[str, str]], int, int | None, bool, bool]
"""Keys, the stage, the one that is wished for, whether more text follows, and whether another connection is named."""

STORY: list[Question] = [
    ([("InitiatorName", INITIATOR), ("TargetName", TARGET), ("AuthMethod", "CHAP")], 0, None, False, False),
    ([("CHAP_A", "5")], 0, None, False, False),
    ([("CHAP_N", "me"), ("CHAP_R", "right")], 0, 1, False, False),
    ([("HeaderDigest", "CRC32C,None")], 1, 3, False, False),
]
"""How it goes where all goes well; what is tried is this, with things left out, put in, or exchanged."""


@dataclass
class Client:
    """Asks, and knows what it has been asked in turn."""

    login: Login
    challenge: bytes = b""
    identifier: int = 0
    proved: bool = False
    """It has given the right answer to a challenge, with the right name."""
    said: list[Answer] = field(default_factory=list)

    def ask(
        self, keys: list[tuple[str, str]], stage: int, following: int | None, more: bool, other: bool
    ) -> Answer:
        right = chap.response(5, self.identifier, SECRET, self.challenge)
        words = {"right": show_binary(right), "theirs": show_binary(self.challenge)}
        pairs = [(name, words.get(value, value)) for name, value in keys]
        flags = stage << pdu.CURRENT_SHIFT | (pdu.CONTINUE if more else 0)
        if following is not None:
            flags |= pdu.TRANSIT | following
        header = build(
            Opcode.LOGIN_REQUEST, immediate=True, flags=flags, isid=ISID, tsih=0, cid=2 if other else 1
        )
        answer = self.login.request(header, join(pairs))
        given = dict(pairs)
        if self.challenge and given.get("CHAP_R") == words["right"] and given.get("CHAP_N") == "me":
            self.proved = True
        told = dict(split(answer.text))
        if "CHAP_C" in told:
            self.challenge, self.identifier = parse_binary(told["CHAP_C"]), int(told["CHAP_I"])
        self.said.append(answer)
        return answer


pairs_of_keys = st.sampled_from([*WORDS]).flatmap(
    lambda key: st.tuples(st.just(key), st.sampled_from(WORDS[key]))
)


@st.composite
def changed(draw: st.DrawFn, question: Question) -> Question:
    """One thing about it is otherwise."""
    keys, stage, following, more, other = question
    match draw(st.sampled_from(["value", "value", "less", "more", "stage", "wish", "flags"])):
        case "value" if keys:
            at = draw(st.integers(0, len(keys) - 1))
            name = keys[at][0]
            keys = [*keys[:at], (name, draw(st.sampled_from(WORDS[name]))), *keys[at + 1 :]]
        case "less" if keys:
            at = draw(st.integers(0, len(keys) - 1))
            keys = keys[:at] + keys[at + 1 :]
        case "more":
            keys = [*keys, draw(pairs_of_keys)]
        case "stage":
            stage = draw(st.integers(0, 3))
        case "wish":
            following = draw(st.sampled_from([None, 0, 1, 2, 3]))
        case _:
            more, other = draw(st.sampled_from([(True, False), (False, True)]))
    return keys, stage, following, more, other


@st.composite
def attempts(draw: st.DrawFn) -> list[Question]:
    """The story that goes well, with changes."""
    asked = list(STORY)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(asked) - 1))
        question = draw(changed(asked[at]))
        match draw(st.sampled_from(["exchange", "exchange", "put in", "leave out"])):
            case "exchange":
                asked[at] = question
            case "put in":
                asked.insert(at, question)
            case _ if len(asked) > 1:
                del asked[at]
    return asked


@given(st.booleans(), attempts())
def test_nobody_gets_in_without_the_secret(secret: bool, asked: list[Question]) -> None:
    context = IoContext.stepped()
    credentials = Credentials("me", SECRET) if secret else None
    target = IscsiTarget(TARGET, ScsiTarget(context), credentials=credentials)
    client = Client(Login({TARGET: target}.get))
    at: int | None = None
    for keys, stage, following, more, other in asked:
        answer = client.ask(keys, stage, following, more, other)
        if answer.status is not LoginStatus.SUCCESS:
            assert answer.reason
            assert not answer.flags & pdu.TRANSIT
            break
        # It is the stage at hand that is answered for, and left only where that was wished.
        assert answer.flags >> pdu.CURRENT_SHIFT & pdu.STAGE_MASK == stage
        assert at is None or stage == at
        left = bool(answer.flags & pdu.TRANSIT)
        assert not left or (answer.flags & pdu.STAGE_MASK == following and not more)
        at = following if left else stage
        assert client.login.complete is (at == Stage.FULL_FEATURE)
        if client.login.complete:
            break
    login = client.login
    if login.complete and login.target is not None:
        assert login.negotiation.parameters.target_name == TARGET
        assert client.proved or not secret
        assert login.identity == (ISID, 0, 1)
    context.close()


def test_the_story_goes_well() -> None:
    context = IoContext.stepped()
    target = IscsiTarget(TARGET, ScsiTarget(context), credentials=Credentials("me", SECRET))
    client = Client(Login({TARGET: target}.get))
    for question in STORY:
        assert client.ask(*question).status is LoginStatus.SUCCESS
    assert client.login.complete
    assert client.proved
    context.close()


@given(st.lists(st.binary(max_size=2000), max_size=80), st.sampled_from([0x00, 0x40, 0x44]))
def test_no_login_grows_without_end(pieces: list[bytes], flags: int) -> None:
    login = Login(lambda _name: None)
    header = build(Opcode.LOGIN_REQUEST, immediate=True, flags=flags, isid=ISID, cid=1)
    answers = 0
    for piece in pieces:
        if login.request(header, piece).status is not LoginStatus.SUCCESS:
            break
        answers += 1
    assert answers <= MAX_REQUESTS
    assert sum(map(len, pieces[:answers])) <= MAX_TEXT * MAX_REQUESTS
    assert not login.complete
