"""Copies planted in two classes of photos: found, listed, and never on both sides of a split."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

PHOTOS, PLANTED = 2000, 300


def changed(image: Image.Image, kind: str, rng: random.Random) -> Image.Image:
    if kind == "resized":
        return image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.LANCZOS)
    if kind == "mirrored":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind == "cropped":
        edges = [round(side * rng.uniform(0.01, 0.05)) for side in (image.width, image.height) * 2]
        return image.crop((edges[0], edges[1], image.width - edges[2], image.height - edges[3]))
    return image


def copies() -> dict[str, Any]:
    rng = random.Random(0)
    kinds = ("re-saved", "resized", "cropped", "mirrored")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        planted: dict[str, tuple[str, str]] = {}
        with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "cats-vs-dogs.zip") as archive:
            names = [
                entry.filename for entry in archive.infolist() if entry.filename.endswith(".jpg") and entry.file_size
            ]
            for number, name in enumerate(names[:: len(names) // PHOTOS]):
                archive.extract(name, base)
                if number < PLANTED:
                    kind, across = kinds[number % 4], number % 8 >= 4
                    label = Path(name).parent.name
                    home = {"Cat": "Dog", "Dog": "Cat"}[label] if across else label
                    image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
                    copy = f"{home}/copy-{number}.jpg"
                    (base / "PetImages" / home).mkdir(exist_ok=True)
                    changed(image, kind, rng).save(base / "PetImages" / copy, quality=60)
                    planted[copy] = (f"{label}/{Path(name).name}", kind)
        command = [
            sys.executable,
            "-m",
            "pati",
            "check",
            str(base / "PetImages"),
            "--json",
            "--out",
            str(base / "m.jsonl"),
        ]
        document = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        rows = [json.loads(line) for line in (base / "m.jsonl").read_text().splitlines()[1:]]
    split = {row["path"]: row["split"] for row in rows if "split" in row}
    together = {path: number for number, group in enumerate(document["duplicates"]) for path in group}
    listed = {path for group in document["across_classes"] for path in group}
    result = {}
    for kind in kinds:
        pairs = [(copy, original) for copy, (original, how) in planted.items() if how == kind]
        crossing = [(copy, original) for copy, original in pairs if copy.split("/")[0] != original.split("/")[0]]
        result[kind] = {
            "planted": len(pairs),
            "grouped": sum(together.get(copy, -1) == together.get(original, -2) for copy, original in pairs),
            "straddling": sum(split[copy] != split[original] for copy, original in pairs),
            "across_classes": len(crossing),
            "listed": sum(copy in listed and original in listed for copy, original in crossing),
        }
    return {"photos": PHOTOS, "kinds": result}
