"""`Unreadable`: a photo that can't be used, and why."""

from __future__ import annotations

from pati.locale.messages import N_, Message, as_is


class Unreadable(Exception):
    """A photo that can't be used. `reason`: a key of `decode.REASONS`; `detail`: what was found."""

    def __init__(self, reason: str, detail: Message | None = None) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    @property
    def message(self) -> Message:
        """The reason, then the detail."""
        if self.detail is None:
            return as_is(self.reason)
        return N_("{reason}: {detail}", reason=self.reason, detail=self.detail)

    def __str__(self) -> str:
        return str(self.message)
