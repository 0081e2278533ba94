"""Traces of payments: one for each, from the first call to the signer until it is credited."""

from __future__ import annotations

from gateway import money
from gateway.payments.job_identity import JobIdentity
from gateway.payments.payment import Payment
from gateway.telemetry import tracing
from gateway.telemetry.tracing import NO_SPAN, Span, Value


class PaymentTrace:
    """Spans of the payment that is under way; `url` is the orchestrator's."""

    def __init__(self, job: JobIdentity, url: str) -> None:
        self.job = job
        """What it pays for now."""
        self._url = url
        self._payment: Span | None = None
        self._start = NO_SPAN

    def step(self, name: str, **attributes: Value) -> Span:
        """A step of the payment begins; the first one begins the payment."""
        if self._payment is None:
            job = {"stream": self.job.stream, "request_id": self.job.request_id}
            self._payment = tracing.begin("payment", **job, orchestrator=self._url)
        return self._payment.child(name, **attributes)

    def signed(self, step: Span, number: int, payment: Payment | None) -> None:
        """The signer made a payment, or none."""
        if payment is None:
            step.end("there is no payment: see the log")
            return
        step.end()
        if self._payment is not None:
            wei = money.whole_wei(payment.value)
            self._payment.note(number=number, wei=wei, tickets=payment.tickets)

    def starting(self) -> None:
        """The payment goes with the request that starts the job."""
        self._start = self.step("job start")

    def start_answered(self, error: str = "") -> None:
        self._start.end(error)

    def over(self, error: str = "") -> None:
        """The payment is credited, or known not to be."""
        payment, self._payment = self._payment, None
        if payment is not None:
            payment.end(error)
