"""The photos of a run, where they are still there and the page may read them."""

from __future__ import annotations

from pathlib import Path

from pati.data import decode
from pati.data.manifest import Manifest
from pati.data.sources import allowed, storage
from pati.locale.messages import N_

GONE = N_("The photos of this run have been moved or deleted, or are outside the folders that this page may read.")


def photo_of(root: Path | None, path: str) -> bytes | None:
    """A photo's bytes below `root`; None if it can't be read."""
    if root is None:
        return None
    try:
        return storage.at(root).read(path)
    except decode.Unreadable:
        return None


def readable_root(manifest: Manifest) -> Path | None:
    """Where a manifest's photos lie, if they do and the page may look there."""
    root = Path(manifest.root)
    there = any(path.exists() for path in (root, *root.parents[:3]) if path != path.parent)
    return root if there and allowed.may_read(root) else None
