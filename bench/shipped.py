"""The model in the package: candidates trained side by side on one GPU; the validation photos choose.

Each is a whole `pati train` of the same minutes. Which one is packed is decided by its validation accuracy alone; every
candidate's test figures are kept, so that what was not chosen can be seen too. Without a GPU the same commands run in
miniature: that shows that the script works.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from bench.runs import KEPT, trained

SECONDS = 480
# The widest `pati-deep` whose file stays below 10 MB.
SHAPE = ("model=pati-deep", "width=2.2", "batch=256", "crop=0.35", "learning_rate=0.05")
AT_160 = ("size=160", "growth=0.4,0.6,0.8")
COLOURS = ("contrast=0.2", "saturation=0.2")
CANDIDATES: dict[str, tuple[str, ...]] = {
    "plain": AT_160,
    "colours": (*AT_160, *COLOURS),
    "drop-path": (*AT_160, "drop_path=0.1", "averaging=0.03"),
    "mixup": (*AT_160, "mixup=0.2"),
    "trivial": (*AT_160, "policy=trivial"),
    "176 px": ("size=176", "growth=0.36,0.55,0.73,0.82", *COLOURS, "drop_path=0.05"),
}


def shipped() -> dict[str, Any]:
    small = not torch.cuda.is_available()
    device = "CPU, in miniature" if small else torch.cuda.get_device_name()
    seconds = 60 if small else SECONDS
    commands = {
        name: ("cats-vs-dogs", "--budget", f"{seconds}s", "--set", *SHAPE, *settings, *(["width=0.25"] * small))
        for name, settings in CANDIDATES.items()
    }
    cache = (KEPT / "cache").resolve()
    with ThreadPoolExecutor(1 if small else len(commands)) as workers:
        made = {
            name: workers.submit(trained, f"shipped-{name.replace(' ', '-')}", *command, cache=cache, threads=2)
            for name, command in commands.items()
        }
    rows = {
        name: {"command": f"pati train {' '.join(map(str, commands[name]))}"} | run.result()[1]
        for name, run in made.items()
    }
    best = max(rows, key=lambda name: rows[name]["validation_accuracy"])
    return {"device": device, "chosen": best, "rows": rows}
