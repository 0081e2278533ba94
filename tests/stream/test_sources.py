"""Any number of kinds of jobs: what a publisher asks for comes before the operator's preference."""

from __future__ import annotations

import pytest

from gateway.payments.errors import LedgerUnavailable
from gateway.payments.spending import SpendLimitReached
from gateway.reason import EndReason
from gateway.stream.seam import PublishRequest, UnknownModel
from gateway.stream.sources import JobSources, Preference
from gateway.stream.status import stream_status
from harness.waiting import eventually
from tests.stream.jobs import LOST, FakeSource
from tests.stream.live import live_stream, registry_on

KINDS = ("network", "comfystream", "runner", "fourth")


def kinds(*names: str) -> list[FakeSource]:
    """Sources of these names with two candidates each."""
    return [FakeSource({}, urls=(f"{name}-1", f"{name}-2"), name=name) for name in names]


def request(orchestrator: str | None = None) -> PublishRequest:
    return PublishRequest("cam", "cam", "1", "m", orchestrator=orchestrator)


def found(sources: JobSources, orchestrator: str | None = None) -> list[str]:
    return [candidate.url for candidate in sources.candidates(request(orchestrator))]


@pytest.mark.asyncio
async def test_a_model_is_unknown_where_no_kind_that_would_be_tried_has_it() -> None:
    network, comfy = kinds("network", "comfystream")
    network.unknown = UnknownModel("nobody names it")
    both = JobSources([network, comfy], Preference("network", fallback=True))
    await both.prepare(request())
    with pytest.raises(UnknownModel):
        await both.prepare(request("network"))
    await both.prepare(request("comfystream"))
    with pytest.raises(UnknownModel):
        await JobSources([network, comfy], Preference("network", fallback=False)).prepare(request())


@pytest.mark.parametrize(
    ("preference", "asked", "first_of"),
    [
        (Preference("network", fallback=False), None, ["network"]),
        (Preference("comfystream", fallback=False), None, ["comfystream"]),
        (Preference("comfystream", fallback=True), None, ["comfystream", "network", "runner", "fourth"]),
        (Preference("network", fallback=True), None, ["network", "comfystream", "runner", "fourth"]),
        (Preference("network", fallback=True), "comfystream", ["comfystream"]),
        (Preference("comfystream", fallback=True), "network", ["network"]),
        (Preference("comfystream", fallback=False), "fourth", ["fourth"]),
    ],
)
def test_the_kinds_are_tried_in_the_order_that_was_asked_for(
    preference: Preference, asked: str | None, first_of: list[str]
) -> None:
    sources = JobSources(kinds(*KINDS), preference)
    assert found(sources, asked) == [f"{name}-{number}" for name in first_of for number in (1, 2)]


def test_one_that_is_full_comes_behind_the_usable_ones_of_the_others() -> None:
    network, runner = kinds("network", "runner")
    network.full = {"network-1"}
    sources = JobSources([network, runner], Preference("network", fallback=True))
    assert found(sources) == ["network-2", "runner-1", "runner-2", "network-1"]


def test_a_candidate_is_asked_for_by_its_name_whatever_is_preferred() -> None:
    sources = JobSources(kinds(*KINDS), Preference("network", fallback=False))
    assert found(sources, "runner-2") == ["runner-2"]
    assert found(sources, "nobody") == []


def test_a_stream_is_admitted_where_one_kind_admits_it() -> None:
    network, runner = kinds("network", "runner")
    sources = JobSources([network, runner], Preference("network", fallback=True))
    network.refusal = SpendLimitReached("the last hour")
    sources.admit(request(), sources.candidates(request()))
    runner.refusal = LedgerUnavailable("the disk is full")
    with pytest.raises(SpendLimitReached):
        sources.admit(request(), sources.candidates(request()))
    with pytest.raises(LedgerUnavailable):
        sources.admit(request("runner"), sources.candidates(request("runner")))
    network.refusal = None
    network.suspended = {"network-1": LOST, "network-2": LOST}
    with pytest.raises(LedgerUnavailable):
        sources.admit(request(), sources.candidates(request()))


def test_it_is_ready_where_one_of_the_preferred_kinds_is() -> None:
    network, runner = kinds("network", "runner")
    network.urls = runner.urls = ()
    both = JobSources([network, runner], Preference("network", fallback=True))
    assert both.reasons_not_ready() == ["network has nobody", "runner has nobody"]
    runner.urls = ("runner-1",)
    assert both.reasons_not_ready() == []
    one = JobSources([network, runner], Preference("network", fallback=False))
    assert one.reasons_not_ready() == ["network has nobody"]


@pytest.mark.asyncio
async def test_a_stream_runs_on_a_kind_that_it_knows_nothing_of_and_goes_on_on_another() -> None:
    third, fourth = kinds("third", "fourth")
    third.script = [{"ends": LOST}] * 2
    registry = registry_on(JobSources([third, fourth], Preference("third", fallback=True)))
    async with live_stream(registry) as stream:
        await eventually(lambda: stream.supervisor.swaps == 2, what="the last of four candidates")
        await stream.update({"effect": "grey"})
        status = stream_status(stream, viewers=0, whep_url="/whep")["gateway_status"]
        await registry.close(EndReason.DRAINED, "the test is over")
    assert (third.asked, fourth.asked) == ("third-1third-2", "fourth-1")
    assert fourth.jobs[0].updates == [{"effect": "grey"}]
    assert status["orchestrator"] == {
        "url": "fourth-1",
        "address": "",
        "price_wei_per_second": "1/3",
        "manifest_id": "",
        "kind": "job",
    }
    assert {one["url"]: one["verdict"] for one in status["candidates"]} == {
        "third-1": "set_aside",
        "third-2": "set_aside",
        "fourth-1": "chosen",
        "fourth-2": "available",
    }
    assert (status["payments"]["accepted"], status["payments"]["credited_wei"]) == (3, "1")
