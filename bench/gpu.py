"""The table for one GPU: training seconds and test accuracy of four runs by epochs, three seeds each.

`python -m bench gpu` on a machine with a GPU trains them all in a few minutes. Without one it runs the same commands in
miniature (a twentieth of the epochs, a quarter of the width): that shows that the script works, not how fast a GPU is.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch

from bench.runs import SEEDS, trained

# What is to be reached, in seconds of training; epochs, px of the test, training sizes as shares, width, crop, batch.
ROWS: dict[str, tuple[float, float, int, int, str, float, float, int]] = {
    "90 % in 5 s": (0.90, 5, 4, 64, "1", 1.0, 0.65, 256),
    "95 % in 15 s": (0.95, 15, 12, 96, "0.67,0.84", 1.5, 0.5, 256),
    "97 % in 60 s": (0.97, 60, 30, 144, "0.45,0.67,0.78", 2.0, 0.4, 256),
    "98 %, however long": (0.98, float("inf"), 90, 160, "0.4,0.6,0.8", 3.0, 0.35, 128),
}


def gpu() -> dict[str, Any]:
    small = not torch.cuda.is_available()
    found: dict[str, Any] = {"device": "CPU, in miniature" if small else torch.cuda.get_device_name()}
    for name, (accuracy, seconds, epochs, size, growth, width, crop, batch) in ROWS.items():
        epochs, width = (max(1, epochs // 20), width / 4) if small else (epochs, width)
        settings = f"growth={growth} width={width} crop={crop} batch={batch}".split()
        rows = [
            trained(
                f"gpu-{epochs}-{size}-{seed}", "cats-vs-dogs", "--epochs", epochs, "--size", size, "--seed", seed,
                "--set", *settings,
            )[1]
            for seed in (SEEDS[:1] if small else SEEDS)
        ]  # fmt: skip
        found[name] = {
            "command": f"pati train cats-vs-dogs --epochs {epochs} --size {size} --set {' '.join(settings)}",
            "to_reach": {"accuracy": accuracy, "training_seconds": seconds if seconds < 1e9 else None},
            "mean_test_accuracy": round(statistics.mean(row["test_accuracy"] for row in rows), 4),
            "mean_training_seconds": round(statistics.mean(row["training_seconds"] for row in rows), 1),
            "rows": rows,
        }
    return found
