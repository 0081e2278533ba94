from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.errors import MessageTooLarge, NoAnswerInTime
from gateway.cluster.pieces import HEADER, MAX_BYTES, MAX_PIECES, PIECE_BYTES, Pieces, split

SIZES = st.one_of(
    st.integers(0, 10),
    st.integers(-2, 2).flatmap(lambda by: st.integers(1, 5).map(lambda times: times * PIECE_BYTES + by)),
)


@given(SIZES)
def test_a_message_comes_back_whole_with_its_last_piece(size: int) -> None:
    data = bytes(size % 251 for size in range(size % 1000)) * (size // max(1, size % 1000) + 1)
    sent = list(split(data))
    pieces = Pieces()
    answers = [pieces.add(headers, part) for headers, part in sent]
    assert answers == [None] * (len(sent) - 1) + [data]
    assert all(len(part) <= PIECE_BYTES for _, part in sent)


@given(st.integers(2, 5), st.data())
def test_a_message_with_a_piece_lost_or_out_of_order_never_comes_back(
    count: int, data: st.DataObject
) -> None:
    sent = list(split(bytes(PIECE_BYTES * count)))
    order = data.draw(
        st.lists(st.integers(0, count - 1), max_size=count + 1).filter(
            lambda order: order[:count] != list(range(count))
        )
    )
    pieces = Pieces()
    got = []
    for index in order:
        try:
            got.append(pieces.add(*sent[index]))
        except NoAnswerInTime:
            break
    assert got == [None] * len(got)


def test_what_is_too_large_is_refused_before_a_piece_is_sent() -> None:
    with pytest.raises(MessageTooLarge):
        next(split(bytes(MAX_BYTES + 1)))


@pytest.mark.parametrize("text", ["", "1", "1/1", "2/1", "a/b", "0/999", f"0/{MAX_PIECES + 1}", "-1/2"])
def test_what_is_no_number_of_a_piece_is_refused(text: str) -> None:
    with pytest.raises(NoAnswerInTime):
        Pieces().add({HEADER: text}, b"")


def test_a_piece_above_the_limit_is_refused() -> None:
    with pytest.raises(NoAnswerInTime):
        Pieces().add({}, bytes(PIECE_BYTES + 1))
