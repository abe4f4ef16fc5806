"""What `find_source` makes of datasets: paths on stdin, one JSON line each on stdout. Runs with any version of pati."""

from __future__ import annotations

import json
import sys
import traceback
import unicodedata


def listed(path: str) -> dict[str, object]:
    from pati.data.entries import Entry
    from pati.data.manifest import Manifest, class_order, require_trainable
    from pati.errors import PatiError

    try:
        from pati.data.sources.find import find_source
    except ImportError:  # as it was called before
        from pati.data.sources import find as find_source  # type: ignore[attr-defined, no-redef]
    try:
        source = find_source(path)
        photos = [item for item in source.items if item.path.lower().endswith((".jpg", ".jpeg", ".png"))]
        entries = tuple(Entry(item.path, item.label, "kept", split=item.split or "train") for item in photos)
        present = {entry.split for entry in entries}
        if "test" not in present or "validation" not in present:  # pati draws what is missing
            entries += tuple(
                Entry(f"{entry.path}{part}", entry.label, "kept", split=part)
                for part in {"validation", "test"} - present for entry in entries
            )  # fmt: skip
        require_trainable(Manifest("", "", class_order(entries), entries, {}))
    except PatiError as error:
        return {"refused": str(error)}
    except Exception:  # noqa: BLE001  (every traceback is counted)
        return {"traceback": traceback.format_exc()}
    found = {}
    for item in photos:
        name, label = (unicodedata.normalize("NFC", text) for text in (item.path.rpartition("/")[2], item.label))
        found[name] = [label, item.split if source.presplit else None]
    return {"photos": found, "notes": [str(note) for note in source.notes]}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(listed(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
