from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.reason import Ended, EndReason
from gateway.stream.swap import WINDOW, Attempts, DripWatch, OutputWatch, SwapBudget

LOST = Ended(EndReason.ORCHESTRATOR_LOST, "a: channels closed")
REFUSED = Ended(EndReason.PAYMENT_REFUSED, "b: HTTP 403")


def test_swaps_beyond_the_limit_end_with_the_first_cause() -> None:
    budget = SwapBudget(3)
    for cause, now in ((LOST, 0), (REFUSED, 10), (REFUSED, 20)):
        budget.spend(cause, now)
    with pytest.raises(Ended) as ended:
        budget.spend(REFUSED, 30)
    assert ended.value.reason is EndReason.SWAPS_EXHAUSTED
    assert "the first was for orchestrator_lost: a: channels closed" in ended.value.detail


def test_a_swap_is_forgotten_after_three_minutes() -> None:
    budget = SwapBudget(1)
    budget.spend(LOST, 0)
    budget.spend(LOST, WINDOW + 1)
    with pytest.raises(Ended):
        budget.spend(LOST, WINDOW + 2)


def test_a_candidate_without_room_is_not_counted() -> None:
    budget = SwapBudget(1)
    budget.spend(LOST, 0)
    budget.refund()
    budget.spend(LOST, 1)


def test_a_limit_of_none_allows_no_swap() -> None:
    with pytest.raises(Ended, match="orchestrator_lost: a: channels closed"):
        SwapBudget(0).spend(LOST, 0)


def test_who_did_not_start_is_tried_again_ever_later() -> None:
    attempts = Attempts()
    attempts.failed("a", "HTTP 500", 0)
    assert attempts.why_not("a", 0.5, again=True) == "HTTP 500"
    assert attempts.why_not("a", 1, again=True) == ""
    assert attempts.why_not("a", 1, again=False) == "HTTP 500", "a first start tries everybody once"
    attempts.failed("a", "HTTP 500", 1)
    assert attempts.why_not("a", 2.5, again=True) == "HTTP 500"
    assert attempts.why_not("a", 3, again=True) == ""
    assert attempts.why_not("b", 0, again=False) == ""
    attempts.succeeded()
    assert attempts.why_not("a", 1, again=False) == ""


def test_who_was_left_is_not_asked_again_for_this_stream() -> None:
    attempts = Attempts()
    attempts.left("a", "its price was raised")
    attempts.succeeded()
    assert attempts.why_not("a", 1e9, again=True) == "its price was raised"


def looks(watch: OutputWatch, since: float, until: float) -> list[float]:
    """What each look says, ten a second."""
    return [
        watch.overdue(since + tenth / 10, input_age=0) for tenth in range(1, round(10 * (until - since)) + 1)
    ]


def test_silence_counts_from_the_last_picture() -> None:
    watch = OutputWatch(3, 0)
    watch.came(0.5)
    assert not any(looks(watch, 0, 3.5))
    assert looks(watch, 3.5, 4)[-1] == 3.5


def test_the_time_in_which_this_process_was_halted_is_nobodys_silence() -> None:
    watch = OutputWatch(3, 0)
    assert not any(looks(watch, 0, 1))
    assert not any(looks(watch, 7, 10))
    assert looks(watch, 10, 10.2)[-1] > 3


def test_a_pause_of_the_publisher_is_not_the_jobs_silence() -> None:
    watch = OutputWatch(3, 0)
    for tenth in range(100):
        assert watch.overdue(tenth / 10, input_age=tenth / 10) == 0
    assert not any(looks(watch, 9.9, 12)), "it has had the pictures for two seconds only"
    assert looks(watch, 12, 13)[-1] > 3


def first_drip(watch: DripWatch, shown: Callable[[int], bool], *, fps: int = 30, seconds: int = 200) -> int:
    """The second at which the job is left; 0 where it is kept. `shown` tells the seconds with a picture."""
    for second in range(1, seconds):
        watch.got += fps
        watch.shown += shown(second)
        if watch.too_few(second):
            return second
    return 0


def test_a_picture_every_29_s_is_too_few_after_the_first_minute() -> None:
    assert 60 < first_drip(DripWatch(30), lambda second: second % 29 == 1) <= 65


def test_who_gave_more_before_has_no_minute_to_give_so_few() -> None:
    assert first_drip(DripWatch(30), lambda second: second < 10 or second % 29 == 1) <= 10 + 30
    assert first_drip(DripWatch(2), lambda second: second < 10 or second % 7 == 1) <= 10 + 20


def test_two_pictures_in_ten_seconds_are_enough() -> None:
    assert first_drip(DripWatch(30), lambda second: second % 5 == 0) == 0


def test_a_silence_within_the_time_limit_is_no_drip() -> None:
    assert first_drip(DripWatch(30), lambda second: not 100 < second < 125) == 0


def test_a_job_owes_no_more_pictures_than_it_gets_and_none_while_it_is_paused() -> None:
    assert first_drip(DripWatch(30), lambda second: second % 29 == 1, fps=9) == 0
    paused = DripWatch(30)

    def pause(second: int) -> bool:
        paused.pause()
        return second == 1

    assert first_drip(paused, pause) == 0
