"""Whatever happens to messages: no picture without those that it needs, none twice, none damaged."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster import wire
from gateway.cluster.reception import MAX_EARLY_MESSAGES, FrameReception
from gateway.cluster.wire import Held, MessageKind
from gateway.media.frames import AccessUnit, Frame, OpusPacket
from tests.cluster.frames import frame, stream

KINDS = st.text("kpppss", max_size=40)
PIECE = 12


def in_pieces(one: Frame, epoch: int, sequence: int) -> list[bytes]:
    """As `messages_of`, with pieces so small that most frames have several."""
    body = wire.encode_frame(one)
    pieces = [body[start : start + PIECE] for start in range(0, len(body), PIECE)]
    kinds = [MessageKind.FIRST, *[MessageKind.NEXT] * (len(pieces) - 2), MessageKind.LAST]
    return [
        wire.encode(kind, epoch, sequence + index, piece)
        for index, (kind, piece) in enumerate(zip(kinds, pieces, strict=True))
    ]


@dataclass
class Owner:
    """Sends frames, and knows what it would answer after each message."""

    epoch: int = 1
    frames: list[Frame] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    answers: list[Held] = field(default_factory=list)
    """By the number of frames sent before."""

    def __post_init__(self) -> None:
        self.answers = [Held(self.epoch, 0, [])]

    def send(self, frames: list[Frame]) -> None:
        for one in frames:
            self.frames.append(one)
            self.messages += in_pieces(one, self.epoch, len(self.messages))
            is_key = isinstance(one, AccessUnit) and one.key
            before = self.answers[-1].frames
            group = [one] if is_key else [*before, one] if before else []
            self.answers.append(Held(self.epoch, len(self.messages), group))


def owner_of(kinds: str, epoch: int = 1) -> Owner:
    owner = Owner(epoch)
    owner.send(stream(kinds))
    return owner


def index_of(one: Frame) -> int:
    return one.pts


def check_decodable(owner: Owner, shown: list[Frame]) -> None:
    """What came out was sent, in order, and no picture came without all that it refers to."""
    indices = [index_of(one) for one in shown]
    assert indices == sorted(set(indices))
    seen = set(indices)
    for one in shown:
        assert one == owner.frames[index_of(one)]
        if isinstance(one, AccessUnit) and not one.key:
            for earlier in reversed(owner.frames[: index_of(one)]):
                if isinstance(earlier, AccessUnit):
                    assert earlier.pts in seen
                    if earlier.key:
                        break


def taken(reception: FrameReception, messages: list[bytes]) -> list[Frame]:
    return [one for one in map(reception.take, messages) if one is not None]


@given(KINDS, st.data())
def test_with_nothing_lost_all_is_shown_from_the_held_key_frame_on(kinds: str, data: st.DataObject) -> None:
    owner = owner_of(kinds)
    joins = data.draw(st.integers(0, len(owner.frames)))
    answer = owner.answers[joins]
    early = data.draw(st.integers(0, answer.sequence))
    heard = data.draw(st.integers(answer.sequence, len(owner.messages)))
    reception = FrameReception()
    assert taken(reception, owner.messages[early:heard]) == []
    shown = reception.join(answer)
    assert shown is not None
    shown += taken(reception, owner.messages[heard:])
    expected = [*answer.frames, *owner.frames[joins:]]
    if not answer.frames:  # pictures begin with a key frame, sound at once
        first = next((i for i, one in enumerate(expected) if isinstance(one, AccessUnit) and one.key), None)
        expected = [
            one
            for i, one in enumerate(expected)
            if isinstance(one, OpusPacket) or (first is not None and i >= first)
        ]
    assert shown == expected
    assert reception.gaps == reception.bad == 0
    check_decodable(owner, shown)


@st.composite
def disturbed(draw: st.DrawFn, count: int) -> list[int]:
    """An order in which so many messages come: some lost, some twice, some late."""
    order: list[tuple[int, int]] = []
    for index in range(count):
        fate = draw(st.sampled_from("....ltw"))
        if fate != "l":
            order.append((index + (draw(st.integers(1, 9)) if fate == "w" else 0), index))
        if fate == "t":
            order.append((index + draw(st.integers(0, 9)), index))
    return [index for _, index in sorted(order)]


@given(KINDS, KINDS, st.data())
def test_lost_late_and_doubled_messages_cost_pictures_until_the_next_key_frame(
    kinds: str, after: str, data: st.DataObject
) -> None:
    owner = owner_of(kinds)
    joins = data.draw(st.integers(0, len(owner.frames)))
    reception = FrameReception()
    order = data.draw(disturbed(len(owner.messages)))
    early = data.draw(st.integers(0, len(order)))
    shown = taken(reception, [owner.messages[index] for index in order[:early]])
    shown += reception.join(owner.answers[joins]) or []
    shown += taken(reception, [owner.messages[index] for index in order[early:]])
    check_decodable(owner, shown)
    undisturbed = len(owner.messages)
    owner.send([frame(len(owner.frames) + index, kind) for index, kind in enumerate("k" + after)])
    rest = taken(reception, owner.messages[undisturbed:])
    assert rest == owner.frames[-len(after) - 1 :]
    assert not reception.waits_for_key
    check_decodable(owner, shown + rest)


@given(KINDS, KINDS, st.data())
def test_of_two_owners_the_one_that_took_the_name_last_is_shown(
    former: str, later: str, data: st.DataObject
) -> None:
    """The former owner hangs, and goes on with what it had to send once it wakes up."""
    one, two = owner_of(former, 3), owner_of(later, 5)
    wakes = data.draw(st.integers(0, len(one.messages)))
    reception = FrameReception()
    reception.join(one.answers[0])
    taken(reception, one.messages[:wakes])
    begins = data.draw(st.integers(0, len(two.messages)))
    assert taken(reception, two.messages[:begins]) == []
    assert reception.joined == (begins == 0)
    assert reception.news == (begins > 0)
    late = one.messages[wakes:]
    shown = reception.join(two.answers[0])
    assert shown is not None
    for index in range(max(len(late), len(two.messages) - begins)):
        stale = taken(reception, late[index : index + 1])
        assert stale == []
        shown += taken(reception, two.messages[begins + index : begins + index + 1])
    assert reception.join(one.answers[0]) is None
    check_decodable(two, shown)
    assert reception.gaps == 0


def test_who_began_or_ended_is_news_and_nothing_is_shown_after_an_end_until_somebody_answers() -> None:
    owner = owner_of("kpp")
    reception = FrameReception()
    assert reception.take(wire.encode(MessageKind.BEGAN, 1, 0)) is None
    assert (reception.news, reception.joined) == (True, False)
    reception.join(owner.answers[0])
    assert (reception.news, reception.joined) == (False, True)
    assert len(taken(reception, owner.messages)) == 3
    reception.take(wire.encode(MessageKind.ENDED, 1, 99))
    assert (reception.news, reception.joined) == (True, False)
    assert taken(reception, owner.messages) == []
    assert reception.join(Held(1, len(owner.messages), [])) == []


def test_a_gap_waits_for_a_key_frame_and_sound_goes_on() -> None:
    owner = owner_of("kppspspk")
    reception = FrameReception()
    reception.join(owner.answers[0])
    lost = owner.answers[1].sequence
    shown = taken(reception, [m for index, m in enumerate(owner.messages) if index != lost])
    assert [index_of(one) for one in shown] == [0, 3, 5, 7]
    assert (reception.gaps, reception.frames_skipped) == (1, 3)


def test_early_messages_are_bounded() -> None:
    owner = owner_of("k" + "s" * MAX_EARLY_MESSAGES)
    reception = FrameReception()
    taken(reception, owner.messages)
    shown = reception.join(owner.answers[1])
    assert shown is not None
    assert shown[0] == owner.frames[0]
    assert 0 < len(shown) <= MAX_EARLY_MESSAGES
    assert reception.gaps == 1


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(owner_of("kpspk").messages)), max_size=30))
def test_no_message_whatever_raises(messages: list[bytes]) -> None:
    owner = owner_of("kpspk")
    reception = FrameReception()
    taken(reception, messages)
    reception.join(owner.answers[0])
    for one in taken(reception, messages):
        assert one == owner.frames[index_of(one)]
