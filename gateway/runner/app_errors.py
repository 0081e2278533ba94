"""What an app's error answers mean, by the codes in them that its profile names."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.aio.json_text import parse_json
from gateway.runner.json_fields import find_text

NOT_READY, BAD_PARAMS, OTHER_SESSION = 503, 400, 409
"""The HTTP statuses that say the same."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Where an error answer has its code and its words, and what the codes mean; others mean their status."""

    code: str = "error.code"
    message: str = "error.message"
    retry: tuple[str, ...] = ()
    """It is not ready."""
    params: tuple[str, ...] = ()
    """It does not take the parameters: nobody is to blame."""
    full: tuple[str, ...] = ()
    """It has another session: there is no room."""

    def read(self, status: int, body: bytes) -> tuple[int, str]:
        """The HTTP status that an error answer counts as, and its words; empty where they are not found."""
        try:
            answer = parse_json(body)
        except ValueError:
            return status, ""
        code = find_text(answer, self.code)
        for codes, means in ((self.retry, NOT_READY), (self.params, BAD_PARAMS), (self.full, OTHER_SESSION)):
            if code and code in codes:
                status = means
        return status, find_text(answer, self.message)
