"""What a model was trained from, in words. Takes documents only."""

from __future__ import annotations

from collections.abc import Sequence

from pati.evaluation.documents import Ancestor
from pati.locale.messages import N_, NP_, Message


def origin(lineage: Sequence[Ancestor]) -> Message:
    """How the training of a model began: what its weights were before."""
    if not lineage:
        return N_("trained from scratch")
    return N_("started from {ancestors}", ancestors=ancestors(lineage))


def ancestors(lineage: Sequence[Ancestor]) -> Message:
    """The models that a training started from, each with what it was trained on; the last one first."""
    first = _described(lineage[0])
    if len(lineage) == 1:
        return first
    return N_("{ancestor}, itself started from {others}", ancestor=first, others=ancestors(lineage[1:]))


def _described(ancestor: Ancestor) -> Message:
    name = ancestor["name"]
    if ancestor["pretrained"]:
        return N_("pretrained weights ({name}, SHA-256 {sha256})", name=name, sha256=ancestor["sha256"])
    photos, manifest = ancestor["training_photos"], ancestor["manifest"]
    if photos is None or ancestor["source"] is None or manifest is None:
        return N_("{name} (weights {sha256})", name=name, sha256=ancestor["sha256"][:SHOWN])
    return NP_(
        "{name} (trained on {n} photo of {source}, manifest {manifest})",
        "{name} (trained on {n} photos of {source}, manifest {manifest})",
        n=photos,
        name=name,
        source=ancestor["source"],
        manifest=manifest[:SHOWN],
    )


SHOWN = 12  # digits of a hash


def unknown_photos(lineage: Sequence[Ancestor]) -> Message | None:
    """That some ancestors' photos are not known, if so."""
    names = [ancestor["name"] for ancestor in lineage if not ancestor["photos_known"]]
    if not names:
        return None
    return N_(
        "it is not known which photos {names} saw in training: if some of the test photos are among them, the test "
        "score is optimistic",
        names=names,
    )
