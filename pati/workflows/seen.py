"""The photos that the start of a training has seen: no photo that it was trained on is scored, no test photo learnt.

They keep their split, as far as they are known; what is not known is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pati.data.audit.worker import Inspection
from pati.data.manifest import Manifest
from pati.data.sources.source import Source
from pati.errors import PatiError
from pati.evaluation.documents import Ancestor
from pati.events import Listen, Noted, Warned
from pati.inference.lineage import unknown_photos
from pati.locale.messages import N_, NP_
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.runs.start import Start
from pati.workflows.overlap import known_copies


def known_splits(
    start: Start | None,
    run: Run | None,
    source: Source,
    inspections: Sequence[Inspection],
    recipe: Recipe,
    listen: Listen,
) -> Mapping[str, str]:
    """The split of each photo that the start has seen, by SHA-256, with the near copies among these photos.

    They are looked for once, when the earlier run is likely to be there, and kept in the run.
    """
    if start is None:
        return {}
    if start.uncompared is None or recipe.near_duplicates in ("off", "report"):
        return start.photos
    earlier = Run(Path(start.uncompared))
    found = known_copies(earlier, source, inspections, listen) if earlier.manifest.is_file() else {}
    start = start.with_photos(found.items())
    if run is not None:
        start.keep(run)
    return start.photos


def require_unseen(start: Start | None, known: Mapping[str, str], manifest: Manifest) -> None:
    """Raise `PatiError` if a given split scores photos that the start was trained on, or trains on its test photos."""
    if start is None:
        return
    name = start.parent["name"]
    splits = {entry.path: known.get(entry.sha256) for entry in manifest.kept}
    learnt = [entry for entry in manifest.kept if splits[entry.path] == "train" and entry.split != "train"]
    tested = [entry for entry in manifest.kept if splits[entry.path] == "test" and entry.split == "train"]
    hint = N_("remove them from that split, give no splits so that pati draws them, or train without --from")
    if learnt:
        raise PatiError(
            NP_(
                "{n} photo of the given validation or test split is one that {name} was trained on: {examples}",
                "{n} photos of the given validation and test splits are ones that {name} was trained on, such as "
                "{examples}",
                n=len(learnt),
                name=name,
                examples=[entry.path for entry in learnt[:3]],
            ),
            hint,
        )
    if tested:
        raise PatiError(
            NP_(
                "{n} photo of the given training split is a test photo of {name}: {examples}",
                "{n} photos of the given training split are test photos of {name}, such as {examples}",
                n=len(tested),
                name=name,
                examples=[entry.path for entry in tested[:3]],
            ),
            hint,
        )


def tell(start: Start | None, known: Mapping[str, str], manifest: Manifest, listen: Listen) -> None:
    """Say which photos of the start are here, and whether some are not known."""
    if start is None:
        return
    found = Counter(known[entry.sha256] for entry in manifest.kept if entry.sha256 in known)
    if found:
        listen(
            Noted(
                NP_(
                    "{n} photo is known from {name} and keeps its split: train {train}, validation {validation}, test "
                    "{test}",
                    "{n} photos are known from {name} and keep their splits: train {train}, validation {validation}, "
                    "test {test}",
                    n=found.total(),
                    name=start.parent["name"],
                    train=found["train"],
                    validation=found["validation"],
                    test=found["test"],
                )
            )
        )
    unknown = unknown_photos(lineage(start, manifest))
    if unknown is not None:
        listen(Warned(unknown))


def lineage(start: Start | None, manifest: Manifest) -> list[Ancestor]:
    """The models that a training on this manifest started from, the last one first.

    The photos of a model are known if it was trained on this very manifest.
    """
    if start is None:
        return []
    here = manifest.hash()
    return [{**row, "photos_known": row["photos_known"] or row["manifest"] == here} for row in start.lineage]
