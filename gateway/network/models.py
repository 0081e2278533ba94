"""The network's orchestrators by model: each model in use has clients and a pool of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NoReturn
from weakref import WeakSet

import structlog

from gateway.aio.tasks import cancel, spawn
from gateway.network.resources import NetworkResources
from gateway.stream.seam import Job, Json, PublishRequest, TooManyModels, UnknownModel

KEPT_WARM = 3600.0
"""Seconds after a model's last use for which orchestrators are still asked for it."""
MAX_OTHERS = 32
"""Models at once beside the operator's own."""
FIRST_ANSWERS = 2.0
"""Seconds to wait for the first answers about a model that nobody has used lately."""
MAX_NAMED = 32
"""Models that a refusal names."""
SWEEP_INTERVAL = 60.0

log = structlog.get_logger("orchestrators")


class ModelNetwork:
    """One model's part of the network, and who uses it."""

    def __init__(self, model: str, resources: NetworkResources, now: float) -> None:
        self.model = model
        self.resources = resources
        self.opened_at = self.last_used = now
        self.jobs: WeakSet[Job] = WeakSet()
        """Jobs that are held somewhere: a job that is over and freed leaves by itself."""
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Have the orchestrators asked, until `close`."""
        self._keeper = spawn(self.resources.pool.run(), name=f"pool {self.model}")

    async def wait_answers(self, now: float) -> None:
        """Wait for a usable answer where it was opened only a moment ago."""
        try:
            async with asyncio.timeout(max(0.0, self.opened_at + FIRST_ANSWERS - now)):
                await self.resources.pool.wait_ready()
        except TimeoutError:
            pass  # the candidates' verdicts say why nobody can be used

    async def close(self) -> None:
        await cancel(self._keeper)
        await self.resources.first_payments.close()
        await self.resources.orchestrators.close()


class ModelNetworks:
    """The operator's models, which are always asked for, and others for as long as they are in use.

    `own` are the operator's, the first the default; `open_network` makes what a model needs, and raises
    UnknownModel where the operator allows no price for it. Others are opened only where an orchestrator's
    answer names them, or the operator (by the webhook or a token): strangers do not choose what all
    orchestrators are asked. `clock` is monotonic seconds.
    """

    def __init__(
        self,
        own: Sequence[str],
        open_network: Callable[[str], NetworkResources],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_network = open_network
        self._clock = clock
        self._own = tuple(own)
        self._networks = {model: ModelNetwork(model, open_network(model), clock()) for model in own}

    @property
    def default(self) -> NetworkResources:
        return self._networks[self._own[0]].resources

    def find(self, model: str) -> NetworkResources | None:
        """What jobs with this model need; None where orchestrators are not asked for it."""
        network = self._networks.get(model)
        if network is None:
            return None
        network.last_used = self._clock()
        return network.resources

    def job_opened(self, model: str, job: Job) -> None:
        """A job with this model uses its network until it is freed."""
        if model in self._networks:
            self._networks[model].jobs.add(job)

    async def prepare(self, request: PublishRequest) -> None:
        """Have orchestrators asked for the request's model. Raises UnknownModel or TooManyModels."""
        network = self._networks.get(request.model)
        if network is None:
            if not request.model_granted and not self._is_named(request.model):
                raise UnknownModel(
                    f"no orchestrator names the model {request.model[:140]!r}", self._offered()
                )
            try:
                network = await self._add(request.model)
            except UnknownModel as error:
                raise UnknownModel(str(error), self._offered()) from error
        network.last_used = self._clock()
        if request.model not in self._own:
            await network.wait_answers(self._clock())

    async def reopen(self, model: str) -> NetworkResources:
        """What a job of a former run needs. Raises UnknownModel or TooManyModels."""
        network = self._networks.get(model) or await self._add(model)
        network.last_used = self._clock()
        return network.resources

    async def run(self) -> NoReturn:
        """Ask for all models, and give those up that are no longer used, until cancelled."""
        for network in self._networks.values():
            network.start()
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            await self.sweep()

    async def close(self) -> None:
        """Ask nobody any more."""
        await asyncio.gather(*(network.close() for network in self._networks.values()))

    async def sweep(self) -> None:
        """Give up the models that nobody has used for long."""
        now = self._clock()
        for network in self._idle():
            if now - network.last_used >= KEPT_WARM:
                await self._remove(network)

    def state(self) -> Json:
        """Body of `GET /orchestrators`: the default model's, and the others' in `other_models`."""
        default, *others = (network.resources.pool.state() for network in self._networks.values())
        return {**default, "other_models": others}

    async def _add(self, model: str) -> ModelNetwork:
        if len(self._networks) - len(self._own) >= MAX_OTHERS:
            idle = self._idle()
            if not idle:
                raise TooManyModels(f"{MAX_OTHERS} other models are in use: try again later")
            await self._remove(idle[0])
        network = self._networks.get(model)
        if network is None:
            resources = self._open_network(model)
            network = self._networks[model] = ModelNetwork(model, resources, self._clock())
            network.start()
            log.info("orchestrators are asked for another model", model=model)
        return network

    async def _remove(self, network: ModelNetwork) -> None:
        del self._networks[network.model]
        await network.close()
        log.info("orchestrators are no longer asked for a model", model=network.model)

    def _idle(self) -> list[ModelNetwork]:
        """Other models without a job, the one unused for longest first."""
        now = self._clock()
        for network in self._networks.values():
            if network.jobs:
                network.last_used = now
        others = [one for one in self._networks.values() if one.model not in self._own and not one.jobs]
        return sorted(others, key=lambda one: one.last_used)

    def _is_named(self, model: str) -> bool:
        """Whether any orchestrator's answer to a question for one of the operator's models names it."""
        return any(self._networks[own].resources.pool.names(model) for own in self._own)

    def _offered(self) -> list[str]:
        """Some of the models that a publisher may ask for, the operator's first."""
        named = {model for own in self._own for model in self._networks[own].resources.pool.models()}
        return [*self._own, *sorted(named - set(self._own))][:MAX_NAMED]
