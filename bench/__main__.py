"""`python -m bench [NAME …]`: run measurements one by one; each writes bench/results/NAME.json.

    cost        duration of a training step by resolution and width: the constants of training/plan.py
    cost_float32
                the same in float32
    step_times  single steps, validation passes and predictions of each budget tier
    disturbed   thousands of budget runs on simulated machines that other programs disturb; uses step_times
    budget_1m, budget_2m, budget_5m, budget_10m
                pati train cats-vs-dogs --budget …, nothing cached, three seeds
    budget_30m  the same, one seed
    shortest    the same with 30 seconds, three seeds
    slowed      two minutes with a busy loop on one core from halfway on, three seeds, against undisturbed runs
    interrupted five minutes, one of them beside a busy loop, or two with the process stopped; against undisturbed runs
    sittings    five minutes in three sessions; kill -9 ends the first two
    against     budgets of this commit against another one ($BASE), in turns: multiply-adds done, accuracy
    scratch     the bootcamp's network trained with pati: 3 and 12 epochs
    small_sets  two minutes on clothing, 200 photos and digits, against 12 epochs, three seeds each
    small       25 to 1,000 photos a class, and pictures of 32 px: five minutes of this commit and of another one
                ($BASE), in turns, three seeds each; ResNet-18 as a plain reference. About five hours: each pair is
                stored in bench/results/small/, and a second call goes on
    small_1m    the same for one minute, without the reference
    small_32px_10m
                the same for ten minutes, only the pictures of 32 px
    folds       cross-validation on 100 draws of 200 photos: how often the interval holds the accuracy of the model
    folds_budget
                the same on 20 draws, within a budget
    start       trainings from an earlier model in half the minutes and in all of them, against trainings from scratch:
                a class more on clothing, twice the photos on cats-vs-dogs, three seeds each
    decoding    photos read, decoded and packed per second
    inference   predictions per second from packed pixels, against plain PyTorch and ONNX Runtime
    notebook    the bootcamp notebook's recipe in plain PyTorch, three epochs, on the same split (about half an hour)
    gpu         accuracy against seconds of training on one GPU; in miniature where there is none
    shipped     candidates for the model in the package, side by side on one GPU; in miniature where there is none
    keras       the Keras docs' example "image classification from scratch": one timed epoch, in its own environment
    demo_sets   clothing grouped by sender, and the built-in digits, with the defaults
    families    seven families on cats-vs-dogs, ten minutes each (docs/study.md)
    families_gpu
                the same for 15 and 60 epochs on one GPU; in miniature where there is none
    balancing   balancing methods on clothing, five folds, three seeds each, against none
    focal       focal loss, likewise
    regularisers
                regularisers on clothing, five folds, three seeds each, against the recipe without them
    optimisers  optimisers, their rates, schedules, early stopping and drop-path, likewise
    decays      weight decay and L2 under each optimiser, one seed
    tuned       a search's recipe against the default on clothing, four folds, three seeds each
    originals   the 400 originals against their 180-px copies, and prediction speed
    kills       kill -9 in each phase of a run by epochs on photos, resumed
    many_kills  100 kill -9 of runs on drawn pictures, at random moments and while files are written
    bad_files   every kind of bad or unusual file: outcomes, slowest file, highest memory
    together    two of everything at once, on one cache, some of them killed: every pack is compared with its photos
    bit_flips   1,000 single bits flipped in model files and checkpoints
    fuzz        a million damaged photos, 200,000 model files, guided by coverage (needs the extra [fuzz])
    field       2,000 random datasets as people have them, read by this commit and by another one ($BASE)
    shards      the index of a tar of a million members, and 1,000 photos as folder, zip, CSV, tars and Parquet
    suites      the tests behind the guarantees of docs/robustness.md
    heads       maps of the included model against boxes around pets' heads (docs/trust.md); on a GPU
    checks      the tests of every explainer's maps, on 100 validation photos; on a GPU
    outside     out-of-distribution detection of the 30-minute model: clothing and digits
    included    the same for the included model: its test photos, and clothing
    exported    exported models against their sources: answers, maps, speed
    labels      200 training labels flipped on purpose, found by `pati clean --folds 3 --budget 15m`
    learning_curve
                30 draws of 2,000 photos: their accuracy, predicted by `pati learning-curve` from a quarter of them
    copies      near-duplicates planted in photos: found, and kept in one split
    page        the web app: time to a prediction, memory over 500 uploads, 20 visitors for 5 minutes
    web         the page of `pati export --to web` in Chromium: its answers, and their speed
    serving     `pati serve` with 64 clients: photos per second, latency, memory, requests lost at the end, and what
                schemathesis finds (if it is installed)
    ways        the same photos on the command line, in Python, in the web app, by the server, in ONNX, in the HTML file
    ranks       training in two processes: 30 kills at random moments, accuracy and seconds against one process
    scale       20,000 to 1,000,000 small photos, in folders and in tars: seconds and memory to check and to train
                (hours, and about 20 GB of disk); a number after it is the only number of photos
    startup     duration of `pati --help`

`python -m bench.figure` draws docs/accuracy.png from them.

A number after `together` is the number of rounds, after `start` the minutes of a training from scratch, after `folds`,
`folds_budget` and `learning_curve` the number of draws (of each set). Without a name, all of them, in this order. They
need the photos in $PATI_MIRROR.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
import time
from pathlib import Path

from bench import (
    against,
    bad_files,
    copies,
    cost,
    disturbed,
    explanations,
    exported,
    field,
    folds,
    fuzzing,
    gpu,
    inference,
    keras,
    kills,
    labels,
    learning_curve,
    many_kills,
    page,
    ranks,
    runs,
    scale,
    serving,
    shards,
    shipped,
    small,
    start,
    steps,
    study,
    suites,
    together,
    ways,
    web,
)
from bench.command import commit, machine

RESULTS = Path(__file__).parent / "results"
MEASUREMENTS = {
    "cost": cost.cost,
    "cost_float32": functools.partial(cost.cost, "float32"),
    "step_times": steps.step_times,
    "disturbed": disturbed.disturbed,
    **{f"budget_{minutes}m": functools.partial(runs.budget, minutes) for minutes in (1, 2, 5, 10)},
    "budget_30m": functools.partial(runs.budget, 30, (0,)),
    "shortest": functools.partial(runs.budget, 0.5),
    "slowed": runs.slowed,
    "interrupted": runs.interrupted,
    "sittings": runs.sittings,
    "against": against.against,
    "scratch": runs.scratch,
    "small_sets": runs.small_sets,
    "small": small.small,
    "small_1m": functools.partial(small.small, 60, reference=None),
    "small_32px_10m": functools.partial(small.small, 600, ("cats-vs-dogs-32",), None),
    "folds": folds.folds,
    "folds_budget": folds.folds_budget,
    "start": start.start,
    "decoding": runs.decoding,
    "inference": inference.inference,
    "notebook": runs.notebook,
    "keras": keras.keras,
    "gpu": gpu.gpu,
    "shipped": shipped.shipped,
    "demo_sets": runs.demo_sets,
    "families": study.families,
    "families_gpu": study.families_gpu,
    "balancing": study.balancing,
    "focal": study.focal,
    "regularisers": study.regularisers,
    "optimisers": study.optimisers,
    "decays": study.decays,
    "tuned": study.tuned,
    "originals": runs.originals,
    "kills": kills.kills,
    "many_kills": many_kills.many_kills,
    "bad_files": bad_files.bad_files,
    "together": together.together,
    "bit_flips": fuzzing.bit_flips,
    "fuzz": fuzzing.fuzz,
    "field": field.field,
    "shards": shards.shards,
    "suites": suites.suites,
    "heads": explanations.heads,
    "checks": explanations.checks,
    "outside": explanations.outside,
    "included": explanations.included,
    "exported": exported.exported,
    "labels": labels.labels,
    "learning_curve": learning_curve.learning_curves,
    "copies": copies.copies,
    "page": page.page,
    "web": web.web,
    "ways": ways.ways,
    "serving": serving.serving,
    "ranks": ranks.ranks,
    "scale": scale.scale,
    "startup": runs.startup,
}


def main() -> None:
    words = sys.argv[1:] or list(MEASUREMENTS)
    names = [word for word in words if not word.isdecimal()]
    rounds = {name: [int(number)] for name, number in itertools.pairwise(words) if number.isdecimal()}
    for name in names:
        if name not in MEASUREMENTS:
            sys.exit(f"there is no measurement {name!r}; known: {', '.join(MEASUREMENTS)}")
    if not os.environ.get("PATI_MIRROR"):
        sys.exit("set PATI_MIRROR to the folder that holds cats-vs-dogs.zip and the others")
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        started = time.strftime("%Y-%m-%d")
        document = {
            "name": name,
            "date": started,
            "commit": commit(),
            "machine": machine(),
            "result": MEASUREMENTS[name](*rounds.get(name, [])),
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
        print(json.dumps(document["result"], indent=1))


if __name__ == "__main__":
    main()
