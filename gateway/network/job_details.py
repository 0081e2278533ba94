"""What the ledger's database keeps of a job beside its payments: who published, and the job's channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from gateway.orchestrator.job_start import JobUrls
from gateway.stream.seam import Json, PublishRequest


def job_details(request: PublishRequest, urls: JobUrls | None, last_update: Mapping[str, Any] | None) -> Json:
    """`urls` are None until the job has started, `last_update` until its parameters are updated."""
    return {
        "publish": request.json(),
        "last_update": None if last_update is None else dict(last_update),
        "urls": None if urls is None else asdict(urls),
    }


def read_urls(details: Json) -> JobUrls | None:
    """The channels. Raises ValueError."""
    urls = details.get("urls")
    if urls is None:
        return None
    names = {one.name for one in fields(JobUrls)}
    if not isinstance(urls, dict) or set(urls) != names or not all(isinstance(u, str) for u in urls.values()):
        raise ValueError("its channels are not those of a job")
    return JobUrls(**urls)
