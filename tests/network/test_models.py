"""Which models orchestrators are asked for, for how long, and who decides that."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
import pytest_asyncio

from gateway.network.models import FIRST_ANSWERS, KEPT_WARM, MAX_OTHERS, ModelNetworks
from gateway.network.resources import NetworkResources
from gateway.network.source import NetworkSource
from gateway.stream.seam import Job, PublishRequest, TooManyModels, UnknownModel
from harness.waiting import eventually, within


class Pool:
    """Runs until it is cancelled; names what it is told to."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.named: set[str] = set()
        self.runs = False
        self.answers = asyncio.Event()

    async def run(self) -> None:
        self.runs = True
        try:
            await asyncio.Event().wait()
        finally:
            self.runs = False

    async def wait_ready(self) -> None:
        await self.answers.wait()

    def names(self, model: str) -> bool:
        return model in self.named

    def models(self) -> set[str]:
        return self.named

    def candidates(self, model: str, *, only: str | None) -> list[Any]:
        return []

    def state(self) -> dict[str, Any]:
        return {"model": self.model}


class Client:
    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class AJob:
    """It is only held, and let go of."""


class Site:
    def __init__(self, *own: str) -> None:
        self.now = 0.0
        self.pools: dict[str, Pool] = {}
        self.clients: dict[str, Client] = {}
        self.networks = ModelNetworks(own, self.open, clock=lambda: self.now)

    def open(self, model: str) -> NetworkResources:
        if model == "dear":
            raise UnknownModel("the operator allows no price for it")
        self.pools[model], self.clients[model] = Pool(model), Client()
        self.pools[model].answers.set()
        pool, client = cast(Any, self.pools[model]), cast(Any, self.clients[model])
        return NetworkResources(client, pool, cast(Any, None), None)

    async def ask(self, model: str, *, granted: bool = False) -> None:
        await within(self.networks.prepare(request(model, granted=granted)))

    @property
    def asked(self) -> list[str]:
        return [one["model"] for one in [self.networks.state(), *self.networks.state()["other_models"]]]


def request(model: str, *, granted: bool = False) -> PublishRequest:
    return PublishRequest("cam", "cam", "1", model, model_granted=granted)


@pytest_asyncio.fixture
async def site() -> Any:
    made = Site("first", "second")
    yield made
    await made.networks.close()


@pytest.mark.asyncio
async def test_the_operators_models_are_always_asked_for_and_the_first_is_the_default(site: Site) -> None:
    running = asyncio.get_running_loop().create_task(site.networks.run())
    await eventually(lambda: all(pool.runs for pool in site.pools.values()), what="both pools")
    assert site.asked == ["first", "second"]
    assert site.networks.default.pool.model == "first"
    site.now = 2 * KEPT_WARM
    await site.networks.sweep()
    assert site.asked == ["first", "second"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.asyncio
async def test_a_stranger_gets_only_a_model_that_an_orchestrator_names(site: Site) -> None:
    with pytest.raises(UnknownModel, match="names the model 'other'") as refused:
        await site.ask("other")
    assert refused.value.offered == ["first", "second"]
    site.pools["second"].named = {"other", "another"}
    await site.ask("other")
    assert site.asked == ["first", "second", "other"]
    await eventually(lambda: site.pools["other"].runs, what="its pool")
    site.pools["other"].named = {"what it names itself does not count"}
    with pytest.raises(UnknownModel) as refused:
        await site.ask("what it names itself does not count")
    assert refused.value.offered == ["first", "second", "another", "other"]


@pytest.mark.asyncio
async def test_the_webhook_and_tokens_may_name_any_that_the_operator_allows_a_price_for(site: Site) -> None:
    await site.ask("private", granted=True)
    assert site.asked[-1] == "private"
    site.pools["first"].named = {"other"}
    with pytest.raises(UnknownModel, match="no price") as refused:
        await site.ask("dear", granted=True)
    assert refused.value.offered == ["first", "second", "other"]


@pytest.mark.asyncio
async def test_a_model_is_given_up_an_hour_after_its_last_job_and_opened_anew(site: Site) -> None:
    await site.ask("other", granted=True)
    job = AJob()
    site.networks.job_opened("other", cast(Job, job))
    site.now = KEPT_WARM + 1
    await site.networks.sweep()
    assert "other" in site.asked, "it has a job"
    del job
    site.now += KEPT_WARM - 1
    await site.networks.sweep()
    assert "other" in site.asked, "kept warm"
    site.now += 1
    pool, client = site.pools["other"], site.clients["other"]
    await site.networks.sweep()
    assert "other" not in site.asked
    assert not pool.runs
    assert client.closed
    assert site.networks.find("other") is None
    await site.ask("other", granted=True)
    assert site.networks.find("other") is not None


@pytest.mark.asyncio
async def test_only_so_many_others_are_asked_for_and_the_one_idle_for_longest_goes(site: Site) -> None:
    for number in range(MAX_OTHERS):
        site.now = number
        await site.ask(str(number), granted=True)
    await site.ask("0", granted=True)
    await site.ask("one more", granted=True)
    assert len(site.asked) == 2 + MAX_OTHERS
    assert "0" in site.asked
    assert "1" not in site.asked
    jobs = [AJob() for _ in range(MAX_OTHERS)]
    for model, job in zip(site.asked[2:], jobs, strict=True):
        site.networks.job_opened(model, cast(Job, job))
    with pytest.raises(TooManyModels, match="32 other models are in use"):
        await site.ask("yet another", granted=True)


@pytest.mark.asyncio
async def test_first_answers_are_waited_for_a_moment_and_only_once(site: Site) -> None:
    await site.ask("other", granted=True)
    site.pools["other"].answers.clear()
    asking = asyncio.get_running_loop().create_task(site.ask("other"))
    await asyncio.sleep(0.05)
    assert not asking.done()
    site.pools["other"].answers.set()
    await asking
    site.pools["other"].answers.clear()
    site.now = FIRST_ANSWERS
    await site.ask("other")


@pytest.mark.asyncio
async def test_a_request_for_a_model_that_is_not_asked_for_has_the_defaults_candidates(site: Site) -> None:
    source = NetworkSource(site.networks)
    assert source.candidates(request("nowhere")) == []
    with pytest.raises(UnknownModel):
        await source.prepare(request("nowhere"))
