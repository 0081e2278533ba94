"""Who is dead: by rules that a late, lost or doubled beat cannot make wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.presence import BEAT, DEAD_AFTER, UNSURE_AFTER, Identity, Life, NodeState, NodeView

OWN, OTHER = Identity("own", "1"), Identity("other", "1")


def state(identity: Identity, **changes: object) -> NodeState:
    plain = NodeState(identity, "0.1", "http://x/", 0, 0, 0.0, open=True, draining=False)
    return replace(plain, **changes)  # type: ignore[arg-type]


class Seen:
    """A view and its clock; `at` goes on to a time, with this node's beats on the way."""

    def __init__(self, *, connected: bool = True) -> None:
        self.view = NodeView(OWN)
        self.now = 0.0
        if connected:
            self.view.connected(0.0)
            self.view.heard(state(OWN), 0.0)

    def at(self, time: float) -> Seen:
        while self.now + BEAT <= time:
            self.now += BEAT
            self.view.heard(state(OWN), self.now)
        return self

    def hear(self, identity: Identity = OTHER, **changes: object) -> Seen:
        self.view.heard(state(identity, **changes), self.now)
        return self

    def unanswered(self, *times: float) -> Seen:
        for time in times:
            self.view.nobody_answered(OTHER, time)
        return self

    @property
    def life(self) -> Life:
        return self.view.judge(OTHER)


def test_who_beats_is_alive() -> None:
    assert Seen().at(10.0).hear().life is Life.ALIVE
    assert Seen().at(10.0).hear().at(10.5).life is Life.ALIVE


def test_who_is_silent_for_three_seconds_is_dead() -> None:
    seen = Seen().at(10.0).hear()
    assert seen.at(12.5).life is Life.UNSURE
    assert seen.at(13.0).life is Life.DEAD


def test_who_is_silent_for_a_second_is_dead_where_nobody_answers_for_it_twice() -> None:
    seen = Seen().at(10.0).hear().at(11.0)
    assert seen.life is Life.UNSURE
    assert seen.unanswered(10.9).life is Life.UNSURE
    assert seen.unanswered(11.1).life is Life.DEAD


def test_two_requests_that_are_far_apart_do_not_count() -> None:
    assert Seen().at(10.0).hear().at(11.0).unanswered(10.1, 11.0).life is Life.UNSURE


def test_a_beat_makes_earlier_requests_void() -> None:
    assert Seen().at(10.0).unanswered(9.8, 10.0).hear().at(11.0).life is Life.UNSURE


def test_who_was_never_heard_gets_the_time_to_beat() -> None:
    seen = Seen()
    assert seen.life is Life.UNSURE
    assert seen.at(2.5).unanswered(2.4, 2.5).life is Life.UNSURE
    assert seen.at(3.0).life is Life.DEAD


def test_nobody_dies_while_nats_is_away_nor_for_one_expiry_afterwards() -> None:
    seen = Seen().at(10.0).hear()
    seen.view.disconnected()
    assert seen.life is Life.UNSURE
    seen.now = 60.0
    seen.view.connected(60.0)
    assert seen.life is Life.UNSURE
    seen.view.heard(state(OWN), 60.0)
    assert seen.at(62.5).unanswered(62.3, 62.5).life is Life.UNSURE
    assert seen.at(63.0).life is Life.DEAD


def test_who_was_heard_since_nats_came_back_has_no_expiry_more() -> None:
    seen = Seen().at(0.5).hear().at(1.5)
    assert seen.life is Life.UNSURE
    assert seen.unanswered(1.4, 1.5).life is Life.DEAD
    seen.view.disconnected()
    seen.view.connected(1.5)
    seen.view.heard(state(OWN), 1.5)
    assert seen.at(3.0).unanswered(2.9, 3.0).life is Life.UNSURE


def test_a_node_that_hears_nothing_of_itself_judges_nobody() -> None:
    seen = Seen().at(10.0).hear()
    assert seen.unanswered(99.0, 99.2).life is Life.ALIVE
    silent = NodeView(OWN)
    silent.connected(0.0)
    assert silent.judge(OTHER) is Life.UNSURE


def test_another_run_of_a_node_means_that_the_former_one_is_over() -> None:
    after = Identity("other", "2")
    seen = Seen().at(10.0).hear().hear(after)
    assert (seen.life, seen.view.judge(after)) == (Life.DEAD, Life.ALIVE)
    assert seen.hear().life is Life.DEAD  # its last beat came late
    assert seen.view.judge(after) is Life.ALIVE
    assert Seen().hear(after).life is Life.DEAD  # the former one was never heard


def test_who_leaves_is_dead_at_once_and_not_shown() -> None:
    seen = Seen().at(10.0).hear()
    assert [one.identity for one in seen.view.alive()] == [OTHER, OWN]
    seen.hear(leaves=True)
    assert seen.life is Life.DEAD
    assert seen.hear().life is Life.DEAD
    assert [one.identity for one in seen.view.alive()] == [OWN]


def test_a_node_is_never_dead_to_itself() -> None:
    assert NodeView(OWN).judge(OWN) is Life.ALIVE


@given(
    st.lists(st.floats(0.0, 0.4), max_size=20),
    st.lists(st.floats(0.0, 20.0), max_size=10),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
)
def test_who_beats_in_time_is_never_dead(lates: list[float], unanswered: list[float], halted: float) -> None:
    """However late single beats are, whatever requests fail, and while this node itself is halted."""
    seen = Seen()
    events = [(BEAT * (n + 1) + late, "hear") for n, late in enumerate(lates)]
    for time, what in sorted(
        [*events, *((time, "nobody") for time in unanswered if time < len(lates) * BEAT)]
    ):
        seen.at(time)
        seen.now = max(seen.now, time)
        if what == "hear":
            seen.hear()
        else:
            seen.unanswered(time)
        assert seen.life is not Life.DEAD
    seen.now += halted  # nothing is heard, of nobody
    assert seen.life is not Life.DEAD


@pytest.mark.parametrize("silence", [DEAD_AFTER, DEAD_AFTER + 10])
def test_a_dead_node_that_comes_back_is_alive(silence: float) -> None:
    seen = Seen().at(10.0).hear().at(10.0 + silence)
    assert seen.life is Life.DEAD
    assert seen.hear().life is Life.ALIVE
    assert UNSURE_AFTER < DEAD_AFTER
