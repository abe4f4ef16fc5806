"""What a training starts from instead of random weights, as its run keeps it.

A copy of the weights, so that the run can be resumed when the earlier one is gone, and `start.json`: the lineage, and
the photos that it has seen.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypedDict

from pati.errors import PatiError
from pati.evaluation.documents import Ancestor
from pati.locale.messages import N_
from pati.runs.run import Run
from pati.system import files


class StartDocument(TypedDict):
    """start.json; `photos`: SHA-256 by split. See `Start`."""

    lineage: list[Ancestor]
    photos: dict[str, list[str]]
    uncompared: str | None


@dataclass(frozen=True)
class Start:
    """`lineage`: see `RunDocument`. `photos`: the split of each photo that it has seen, by SHA-256.

    `uncompared`: the folder of the run whose photos have not yet been compared with those of this training.
    """

    lineage: tuple[Ancestor, ...]
    photos: dict[str, str]
    uncompared: str | None = None

    @property
    def parent(self) -> Ancestor:
        """The model that the training starts from."""
        return self.lineage[0]

    def training_photos(self) -> frozenset[str]:
        """SHA-256 of the photos that it was trained on."""
        return frozenset(digest for digest, name in self.photos.items() if name == "train")

    def with_photos(self, more: Iterable[tuple[str, str]]) -> Start:
        """The start with more photos, as (SHA-256, split), compared; what was trained on stays so."""
        photos = dict(self.photos)
        for digest, name in more:
            photos[digest] = "train" if photos.get(digest) == "train" else name
        return replace(self, photos=photos, uncompared=None)

    def to_json(self) -> StartDocument:
        """As stored in start.json."""
        photos: dict[str, list[str]] = defaultdict(list)
        for digest, name in sorted(self.photos.items()):
            photos[name].append(digest)
        return {"lineage": [*self.lineage], "photos": photos, "uncompared": self.uncompared}

    def keep(self, run: Run) -> None:
        """Write start.json."""
        files.write_json(run.start, self.to_json())

    @classmethod
    def of(cls, run: Run) -> Start | None:
        """The start of a run; None for one from scratch. Raises `PatiError` if its files are damaged or missing."""
        digest = run.read_state().get("start")
        if digest is None:
            return None
        try:
            document: StartDocument = json.loads(run.start.read_text(encoding="utf-8"))
            photos = {digest: name for name, digests in document["photos"].items() for digest in digests}
            start = cls(tuple(document["lineage"]), photos, document["uncompared"])
            matches = start.parent["sha256"] == digest
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise PatiError(
                N_("can't read {path}: {error}", path=run.start, error=error), N_("train the run again")
            ) from None
        if not matches:
            raise PatiError(N_("{path} belongs to another run", path=run.start), N_("train the run again"))
        return start
