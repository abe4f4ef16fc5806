"""The bootcamp notebook's recipe in plain PyTorch, as a learner writes it: what `pati` is compared with.

`python -m bench.notebook FOLDER MANIFEST EPOCHS` trains on the manifest's training photos and scores its test photos
after every epoch: Pillow transforms, DataLoader, three conv blocks, Adam, 128 px. Each line of its output is one epoch
as JSON. Takes nothing from pati but the list of photos.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import nn
from torch.utils.data import DataLoader, Dataset

SIZE, BATCH, LEARNING_RATE = 128, 32, 1e-3


class Photos(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, rows: list[tuple[Path, int]], *, training: bool) -> None:
        self.rows = rows
        self.training = training

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.rows[index]
        image = Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        if self.training:
            if random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            image = image.rotate(random.uniform(-15, 15))
            for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = enhance(image).enhance(random.uniform(0.8, 1.2))
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
        return (pixels - 0.5) / 0.5, label


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


def net() -> nn.Module:
    return nn.Sequential(
        *(block(3, 32), block(32, 64), block(64, 128), nn.Flatten()),
        *(nn.Linear(128 * (SIZE // 8) ** 2, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 2)),
    )


def main() -> None:
    folder, manifest, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    started = time.monotonic()
    entries = [json.loads(line) for line in manifest.read_text().splitlines()[1:]]
    labels = {name: number for number, name in enumerate(sorted({entry["label"] for entry in entries}))}
    rows = {
        split: [(folder / entry["path"], labels[entry["label"]]) for entry in entries if entry.get("split") == split]
        for split in ("train", "test")
    }
    torch.manual_seed(0)
    random.seed(0)
    workers = len(os.sched_getaffinity(0))
    training = DataLoader(Photos(rows["train"], training=True), BATCH, shuffle=True, num_workers=workers)
    testing = DataLoader(Photos(rows["test"], training=False), BATCH, num_workers=workers)
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for epoch in range(epochs):
        model.train()
        for images, targets in training:
            loss = nn.functional.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for images, targets in testing:
                right += int((model(images).argmax(1) == targets).sum())
        row = {"epoch": epoch + 1, "seconds": round(time.monotonic() - started, 1), "photos": len(rows["test"])}
        print(json.dumps(row | {"test_accuracy": round(right / len(rows["test"]), 4)}), flush=True)


if __name__ == "__main__":
    main()
