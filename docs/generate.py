"""Writes the parts of the docs that come from code: `make docs`. A test compares them.

docs/cli.md        help of every verb
docs/reference.md  catalogues, recipe fields, reasons and flags of files
docs/models.md     every net: its paper, its cost, and what is published of it
README*.md, docs/robustness.md, docs/study.md, docs/trust.md: the tables between marks, from bench/results
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import re
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pati import models
from pati.cli import catalogue, program
from pati.data.decode import FLAGS, REASONS
from pati.models.blocks import SMALL
from pati.models.counting import cost_of
from pati.terminal.console import plain

HERE = Path(__file__).parent
VERBS = sorted(name for name in program if not name.startswith("-"))


def help_of(*words: str) -> str:
    screen = io.StringIO()
    program.help_print(list(words), console=Console(file=screen, width=100, color_system=None))
    return "\n".join(line.rstrip() for line in screen.getvalue().strip("\n").splitlines())


def cli() -> str:
    parts = ["# Command line\n\nMade by `make docs` from the code.\n", f"```\n{help_of()}\n```\n"]
    parts += [f"## pati {verb}\n\n```\n{help_of(verb)}\n```\n" for verb in VERBS]
    return "\n".join(parts)


def table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows)]
    return "\n".join(lines) + "\n"


def reference() -> str:
    parts = ["# Reference\n\nMade by `make docs` from the code.\n"]
    for name in catalogue.registries():
        parts.append(f"## {name.capitalize()}\n\n{table((name, 'what it is'), catalogue.rows(name))}")
    fields = catalogue.rows("fields")
    parts.append(
        f"## Recipe\n\nWhat `--set` takes; the default stands in brackets.\n\n{table(('field', 'what it is'), fields)}"
    )
    reasons = list(REASONS.items())
    parts.append(f"## Why a file is quarantined\n\n{table(('reason', 'what it means, what to do'), reasons)}")
    parts.append(f"## Odd but kept\n\n{table(('flag', 'what it means'), list(FLAGS.items()))}")
    return "\n".join(parts)


MODELS = """# Models

Made by `make docs` from the code; how they are built stands in each file of `pati/models/`.

Parameters, and the multiply-adds of convolutions and linear layers, are counted here for 1,000 classes at the size that
the published figures are for; a test compares them with those of the named implementation. timm also counts norms, so
ours are up to 1 % lower there. Where timm publishes rounded counts only, the parameters are those of the version named.
*Least* is the side of the smallest photos, in px, that a net can be made for. The last
column is the variant for photos of {small} px and 10 classes: with the stem or head for small photos, where the family
has one.

All take `width`, `dropout` and, where there are residual branches, `drop_path` from the recipe.
"""


def models_page() -> str:
    """docs/models.md: a section a file, with its own words, and a table of its nets."""
    references = json.loads((HERE / "references.json").read_text())
    files: dict[str, list[str]] = {}
    for name in models.models:
        files.setdefault(models.models[name].__module__, []).append(name)
    parts = [MODELS.format(small=SMALL // 2)]
    for module, names in files.items():
        words = inspect.getdoc(importlib.import_module(module)) or ""
        rows = "\n".join(_model_row(name, references.get(name)) for name in names)
        head = "| name | parameters | multiply-adds | at | published | least | for small photos |"
        parts.append(f"## {module.rpartition('.')[2]}\n\n{words}\n\n{head}\n|---|---|---|---|---|---|---|\n{rows}\n")
    words = inspect.getdoc(importlib.import_module("pati.models.timm")) or ""
    parts.append(f"## timm\n\n{words}\n")
    return "\n".join(parts)


def _model_row(name: str, reference: dict[str, str] | None) -> str:
    size = int(reference["size"]) if reference else 224
    with torch.device("meta"):
        net = models.models[name](1000, models.Options(size=size))
        small = models.models[name](10, models.Options(size=SMALL // 2))
    parameters, multiply_adds = cost_of(net, size)
    few, quick = cost_of(small, SMALL // 2)
    published = "–"
    if reference:
        counts = f"{reference['parameters']}, {reference['multiply_adds']}"
        published = f"{counts} ([{reference['reference']}]({reference['source']}))"
    return (
        f"| `{name}` | {parameters:,} | {multiply_adds / 1e9:.3f} G | {size} px | {published} "
        f"| {models.smallest_size(name)} | {few / 1e6:.2f} M, {quick / 1e9:.3f} G |"
    )


WORDS = {
    "README.md": {
        "head": "| photos | command | test accuracy | 95 % interval | whole command |",
        "cats": "cats-vs-dogs: 20,002 files, 2 classes",
        "clothing": "clothing: 5,096 photos, 17 classes, one sender in one split only",
        "digits": "digits: 1,797 drawings of 8×8",
        "mean": "mean of {count} seeds",
        "minutes": "{minutes:.1f} min, {memory:.1f} GB",
        "percent": "{:.1f} %",
        "against": "On the same two cores the bootcamp notebook's own recipe reaches {notebook} in three epochs, "
        "{minutes:.1f} minutes; `--budget 30s` reaches {shortest} in {seconds:.0f} seconds.",
        "foot": "{cpu}, {cores} cores, no GPU; torch {torch}, Python {python}; commit {commit}. "
        "Made by `python -m bench`.",
    },
    "README.tr.md": {
        "head": "| fotoğraflar | komut | test doğruluğu | %95 aralık | komutun tümü |",
        "cats": "cats-vs-dogs: 20.002 dosya, 2 sınıf",
        "clothing": "clothing: 5.096 fotoğraf, 17 sınıf, bir gönderen tek bölümde",
        "digits": "digits: 8×8 boyutunda 1.797 çizim",
        "mean": "{count} tohumun ortalaması",
        "minutes": "{minutes:.1f} dk, {memory:.1f} GB",
        "percent": "%{:.1f}",
        "against": "Aynı iki çekirdekte bootcamp defterinin kendi tarifi üç dönemde, {minutes:.1f} dakikada {notebook} "
        "doğruluğa ulaşıyor; `--budget 30s` ise {seconds:.0f} saniyede {shortest}.",
        "foot": "{cpu}, {cores} çekirdek, GPU yok; torch {torch}, Python {python}; commit {commit}. "
        "`python -m bench` ile üretildi.",
    },
}


MEASURED = HERE.parent / "bench" / "results"


def results(readme: str) -> str:
    """The table of results in one README's language: each budget that was measured, then the smaller sets."""
    words = WORDS[readme]
    budgets = [json.loads(path.read_text()) for path in MEASURED.glob("budget_*m.json")]
    sets, notebook, shortest = (
        json.loads((MEASURED / f"{name}.json").read_text()) for name in ("demo_sets", "notebook", "shortest")
    )

    def row(what: str, command: str, accuracy: float, interval: str, runs: list[dict[str, float]]) -> str:
        minutes = sum(run["seconds"] for run in runs) / len(runs) / 60
        cost = words["minutes"].format(minutes=minutes, memory=max(run["peak_gb"] for run in runs))
        share = words["percent"].format(100 * accuracy)
        return f"| {words[what]} | `pati train {command}` | {share} | {interval} | {cost} |"

    def interval(run: dict[str, list[float]]) -> str:
        return "–".join(words["percent"].format(100 * value) for value in run["interval"])

    lines = [words["head"], "|---|---|---|---|---|"]
    for document in sorted(budgets, key=lambda document: float(document["result"]["minutes"])):
        result, seeds = document["result"], list(document["result"]["seeds"].values())
        spread = words["mean"].format(count=len(seeds)) if len(seeds) > 1 else interval(seeds[0])
        command = f"cats-vs-dogs --budget {result['minutes']}m"
        lines.append(row("cats", command, result["mean_test_accuracy"], spread, seeds))
    for name, command in (("clothing", "clothing.zip --group-by sender_id"), ("digits", "digits")):
        run = sets["result"][name]
        lines.append(row(name, command, run["test_accuracy"], interval(run), [run]))
    last, runs = notebook["result"]["epochs"][-1], list(shortest["result"]["seeds"].values())
    against = words["against"].format(
        notebook=words["percent"].format(100 * last["test_accuracy"]),
        minutes=last["seconds"] / 60,
        shortest=words["percent"].format(100 * shortest["result"]["mean_test_accuracy"]),
        seconds=sum(run["seconds"] for run in runs) / len(runs),
    )
    lines += ["", against]
    if readme == "README.tr.md":  # Turkish writes a decimal comma
        lines = [re.sub(r"(?<=\d)\.(?=\d( |–|dk|$|\.$| \|))", ",", line) for line in lines]
    feet: dict[str, list[str]] = {}
    for document in [*budgets, sets, notebook, shortest]:
        foot = words["foot"].format(**document["machine"], commit=document["commit"])
        feet.setdefault(foot, []).append(document["name"])
    for foot, names in feet.items():
        lines += ["", foot if len(feet) == 1 else f"{', '.join(sorted(names))}: {foot}"]
    return "\n".join(lines)


def with_results(readme: str) -> str:
    """The README with its table made anew."""
    return _between((HERE.parent / readme).read_text(encoding="utf-8"), "results", results(readme))


def _between(text: str, mark: str, table: str) -> str:
    new = f"<!-- {mark} -->\n{table}\n<!-- /{mark} -->"
    return re.sub(f"<!-- {mark} -->.*<!-- /{mark} -->", lambda _: new, text, flags=re.S)


def promises() -> str:
    """What docs/robustness.md promises, how it is tested, and what came out."""
    names = ("bad_files", "fuzz", "kills", "many_kills", "bit_flips", "suites")
    documents = {name: json.loads((HERE.parent / "bench" / "results" / f"{name}.json").read_text()) for name in names}
    files, fuzz, phases, kills, flips, suites = (documents[name]["result"] for name in names)
    decoded, loaded = fuzz["decode"], fuzz["model"]
    moments = kills["moments"]
    writing = moments["writing a checkpoint"] + moments["writing the pack"]
    found = sum(flips[kind]["found"] for kind in ("model", "checkpoint"))
    of = sum(flips[kind]["flips"] for kind in ("model", "checkpoint"))

    def cases(name: str) -> str:
        counts = suites[name]
        bad = ", ".join(f"{counts[word]} {word}" for word in ("failed", "skipped", "error") if counts.get(word))
        passed = counts.get("passed", 0)
        return ("1 case passes" if passed == 1 else f"{passed} cases pass") + (f", {bad}" if bad else "")

    def suite(name: str) -> str:
        return f"`{suites[name]['command']}`"

    slowest, largest = files["slowest"], files["highest_memory"]
    rows = [
        (
            "every bad or odd file has its one outcome",
            "`python -m bench bad_files`, `pytest tests/test_bad_files.py`",
            f"{files['kinds']} kinds × {files['files'] // files['kinds']} files, {len(files['wrong'])} wrong; slowest "
            f"{slowest['seconds']:.2f} s ({slowest['kind']}); highest memory of the decoding process "
            f"{largest['megabytes']} MB ({largest['kind']}); {cases('kinds')}",
        ),
        (
            "no bytes make the decoder raise anything but a reason",
            f"`{decoded['command']}`",
            f"{decoded['inputs']:,} inputs in {decoded['seconds'] / 60:.0f} min, {_findings(decoded)}; "
            f"peak {decoded['peak_megabytes']} MB",
        ),
        (
            "no model file does more than be refused",
            f"`{loaded['command']}`, {suite('model_headers')}",
            f"{loaded['inputs']:,} inputs in {loaded['seconds'] / 60:.0f} min, {_findings(loaded)}; "
            f"{cases('model_headers')}",
        ),
        (
            "one changed bit in a model file or checkpoint is found before use",
            "`python -m bench bit_flips`",
            f"{found} of {of} found",
        ),
        (
            "an archive changes nothing outside its folder",
            suite("archives"),
            cases("archives"),
        ),
        ("a download arrives whole or not at all", suite("downloads"), cases("downloads")),
        (
            "`kill -9` at any moment costs no bit of the result",
            "`python -m bench many_kills`",
            f"{kills['same_bytes']} of {kills['kills']} with the same bytes, {writing} of them while a checkpoint or "
            f"the pack was written, {moments['during a resume']} during a resume",
        ),
        (
            "the same on photos, in each phase",
            "`python -m bench kills`",
            f"{sum(row['same_bytes'] for row in phases['killed'].values())} of {len(phases['killed'])} phases",
        ),
        (
            "work lost by a kill: at most the interval between checkpoints",
            "`python -m bench many_kills`",
            f"{kills['oldest_checkpoint_seconds_at_a_kill']} s at most, where the interval was "
            f"{kills['checkpoint_seconds_here']} s; a checkpoint of the house net takes {kills['save_seconds']} s, "
            f"{100 * kills['share_of_training']:.1f} % of the usual 30 s",
        ),
        ("Ctrl-C and SIGTERM in any phase end within 10 s", suite("stops"), cases("stops")),
        ("a full disk leaves the last checkpoint good, and the resume exact", suite("disk_full"), cases("disk_full")),
        ("a checkpoint that does not fit is passed over", suite("checkpoints"), cases("checkpoints")),
        ("photos that changed stop a resume", suite("changed_photos"), cases("changed_photos")),
        ("two processes do not share a run", suite("two_processes"), cases("two_processes")),
        (
            "a suspended machine or process, and a clock that is set, do not move the end of a run by budget",
            suite("clock"),
            cases("clock"),
        ),
    ]
    lines = ["| promise | how it is tested | what came out |", "|---|---|---|"]
    lines += [f"| {promise} | {test} | {outcome} |" for promise, test, outcome in rows]
    foot = "{cpu}, {cores} cores; torch {torch}, Python {python}".format(**documents["many_kills"]["machine"])
    commits = ", ".join(sorted({document["commit"] for document in documents.values()}))
    return "\n".join([*lines, "", f"{foot}; commit {commits}."])


def _findings(fuzzed: dict[str, int]) -> str:
    return "none raised, hung or crashed" if fuzzed["exit"] == 0 else f"stopped with exit code {fuzzed['exit']}"


def budgets() -> str:
    """How well budgets are kept: simulated runs by disturbance, then real ones."""
    simulated, real, killed = (_document(name) for name in ("disturbed", "interrupted", "sittings"))
    found, sittings = simulated["result"], killed["result"]
    lines = [
        "| simulated: what disturbs the run | runs | median | least | largest |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {row['runs']} | {row['median_miss_percent']:+.1f} % | {row['least']:+.1f} % | "
            f"{row['largest']:+.1f} % |"
            for name, row in found["by_disturbance"].items()
        ),
        "",
        f"By how much the end missed the budget, in {found['runs']:,} runs of 1 to 60 minutes on 200, 5,000 and 20,000 "
        "photos. "
        + "; ".join(f"{count} runs: {why}" for why, count in found["failures"].items())
        + f". {_foot(simulated)}",
        "",
        "| real: what disturbed the run | budget | undisturbed | disturbed | accuracy undisturbed | disturbed |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in real["result"].items():
        ends = {
            kind: ", ".join(f"{_active(pair[kind], pair['disturbance'], kind):.1f}" for pair in row["pairs"])
            for kind in ("free", "disturbed")
        }
        means = {kind: f"{100 * value:.1f} %" for kind, value in row["mean_test_accuracy"].items()}
        lines.append(
            f"| {DISTURBED[name]} | {row['budget']} | {ends['free']} s | {ends['disturbed']} s | {means['free']} | "
            f"{means['disturbed']} |"
        )
    against = _document("against")
    lines += [
        "",
        f"Seconds of the whole command without suspensions, mean test accuracy. {_foot(real)}",
        "",
        f"| against {against['result']['old']}, in turns | runs | multiply-adds | seconds | test accuracy |",
        "|---|---|---|---|---|",
    ]
    for minutes, row in against["result"]["means"].items():
        count = sum(str(one["minutes"]) == minutes for one in against["result"]["rows"])
        (old, new), (before, after) = row["seconds"], (100 * share for share in row["test_accuracy"])
        more = 100 * (row["multiply_adds"][1] / row["multiply_adds"][0] - 1)
        lines.append(
            f"| {minutes} min | {count} | {more:+.0f} % | {old:.1f} → {new:.1f} | {before:.1f} → {after:.1f} % |"
        )
    each = ", ".join(f"{seconds:.1f}" for seconds in sittings["seconds"])
    lines += [
        "",
        f"{_foot(against)} Killed twice by `kill -9` and resumed, five minutes took {each} s in three sittings, "
        f"{sittings['sum']:.1f} s in all (`python -m bench sittings`, commit {killed['commit']}).",
    ]
    return "\n".join(lines)


DISTURBED = {
    "busy for 60 s": "cats-vs-dogs; a busy loop for 60 s from minute 1, 2.5 and 4 on",
    "stopped": "clothing; stopped for 8, 30 and 90 s at 60 %",
}


def _active(run: dict[str, Any], disturbance: dict[str, Any], kind: str) -> float:
    """Seconds of a run without those for which it was stopped."""
    stopped = disturbance["stopped"][1] if kind == "disturbed" and "stopped" in disturbance else 0.0
    return float(run["seconds"]) - stopped


def robustness() -> str:
    """docs/robustness.md with its tables made anew."""
    text = _between((HERE / "robustness.md").read_text(encoding="utf-8"), "promises", promises())
    return _between(text, "budgets", budgets())


def _foot(document: dict[str, Any]) -> str:
    text = WORDS["README.md"]["foot"].format(**document["machine"], commit=document["commit"])
    return text.replace("`python -m bench`", f"`python -m bench {document['name']}`")


def families(name: str) -> str:
    """The families on cats-vs-dogs, best first."""
    document = json.loads((MEASURED / f"{name}.json").read_text())
    names = ("family", "model, px of the test", "test accuracy", "95 % interval", "epochs", "photos/s", "whole command")
    lines = [f"| {' | '.join(names)} |", "|---|---|---|---|---|---|---|"]
    for family, row in sorted(document["result"]["rows"].items(), key=lambda item: -item[1]["test_accuracy"]):
        low, high = row["interval"]
        lines.append(
            f"| {family} | `{row['model']}`, {row['size']} | {100 * row['test_accuracy']:.1f} % "
            f"| {100 * low:.1f}–{100 * high:.1f} % | {row['epochs']} | {row['photos_per_second']:,.0f} "
            f"| {row['seconds'] / 60:.1f} min, {row['peak_gb']:.1f} GB |"
        )
    return "\n".join([*lines, "", f"`{document['result']['command']}`. {_foot(document)}"])


def on_gpu(name: str) -> str:
    """The families by epochs on one GPU, best first."""
    document = json.loads((MEASURED / f"{name}.json").read_text())
    result, machine = document["result"], document["machine"]
    counts = list(result["epochs"])
    lines = [f"| family | {' | '.join(f'{count} epochs' for count in counts)} |", "|---|" + "---|" * len(counts)]
    last = result["epochs"][counts[-1]]
    for family in sorted(last, key=lambda name: -last[name]["test_accuracy"]):
        cells = []
        for count in counts:
            row = result["epochs"][count][family]
            low, high = row["interval"]
            cells.append(f"{100 * row['test_accuracy']:.1f} % ({100 * low:.1f}–{100 * high:.1f})")
        lines.append(f"| {family} | {' | '.join(cells)} |")
    foot = (
        f"One {result['device']}, {machine['cores']} processor cores; torch {machine['torch']}, Python "
        f"{machine['python']}; commit {document['commit']}. Made by `python -m bench {name}`."
    )
    return "\n".join([*lines, "", f"`{result['command']}`. {foot}"])


def compared(name: str) -> str:
    """Macro F1 of each choice on clothing, and its difference to the recipe without it."""
    document = json.loads((MEASURED / f"{name}.json").read_text())
    result = document["result"]
    lines = ["| choice | `--set` | macro F1 | balanced accuracy | accuracy | difference in macro F1 | 95 % interval |"]
    lines.append("|---|---|---|---|---|---|---|")
    for label, row in result["rows"].items():
        difference, interval = "", ""
        if "difference" in row:
            low, high = row["difference"]["interval"]
            told = low > 0 or high < 0
            difference = f"{row['difference']['macro_f1']:+.3f} to {row['against']}"
            difference, interval = (
                f"**{part}**" if told else part for part in (difference, f"{low:+.3f} to {high:+.3f}")
            )
        settings = f"`{row['settings']}`" if row["settings"] else ""
        scores = " | ".join(f"{row[score]:.3f}" for score in ("macro_f1", "balanced_accuracy", "accuracy"))
        lines.append(f"| {label} | {settings} | {scores} | {difference} | {interval} |")
    seeds = "a seed a fold" if result["seeds"] == 1 else f"{result['seeds']} seeds a fold"
    pooled = f"{result['folds']} folds, {result['photos']:,} photos of {result['senders']} senders, {seeds}"
    return "\n".join(
        [*lines, "", f"{pooled}; bold where the interval excludes zero. `{result['command']}`. {_foot(document)}"]
    )


def searched(name: str) -> str:
    """The recipe that a search found, against the one it began with."""
    document = json.loads((MEASURED / f"{name}.json").read_text())
    result = document["result"]
    names = ("recipe", "epochs", "training", "macro F1", "balanced accuracy", "accuracy", "macro F1 to default")
    lines = [f"| {' | '.join(names)} |", "|---|---|---|---|---|---|---|"]
    for recipe, row in result["rows"].items():
        scores = " | ".join(f"{row[score]:.3f}" for score in ("macro_f1", "balanced_accuracy", "accuracy"))
        told = _told(row["difference"]) if "difference" in row else ""
        lines.append(f"| {recipe} | {row['epochs']} | {row['training_seconds']:.0f} s | {scores} | {told} |")
    changed = ", ".join(f"`{field}={plain(value)}`" for field, value in result["changed"].items())
    photos = f"{result['photos']:,} photos (folds: {result['folds']}), {result['seeds']} seeds a fold"
    took = f"the search took {result['search']['seconds'] / 60:.0f} min"
    return "\n".join(
        [
            *lines,
            "",
            f"Tuned: {changed}. To the default for as long: {_told(result['tuned_against_as_long'])}.",
            "",
            f"{photos}; {took}. `{result['command']}`. {_foot(document)}",
        ]
    )


def _told(difference: dict[str, Any]) -> str:
    low, high = difference["interval"]
    return f"{difference['macro_f1']:+.3f} ({low:+.3f} to {high:+.3f})"


def study() -> str:
    """docs/study.md with the tables of what it has a place for made anew."""
    text = (HERE / "study.md").read_text(encoding="utf-8")
    tables = {
        "families": families,
        "families_gpu": on_gpu,
        "balancing": compared,
        "focal": compared,
        "regularisers": compared,
        "optimisers": compared,
        "decays": compared,
        "tuned": searched,
    }
    for name in re.findall(r"^<!-- (\w+) -->$", text, re.M):
        text = _between(text, name, tables[name](name))
    return text


PLAIN_MAPS = {
    "even": "*a map even all over*",
    "random": "*noise*",
    "centre": "*a blob in the middle*",
    "edges": "*edges*",
}


def _document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MEASURED / f"{name}.json").read_text())
    return found


def _per_cent(row: dict[str, Any]) -> str:
    low, high = (100 * end for end in row["interval"])
    return f"{100 * row['mean']:.1f} ({low:.1f}–{high:.1f})"


def heads(name: str) -> str:
    """All pets, then cats and dogs apart; ▲ more, ▼ less than a blob in the middle."""
    document = _document(name)
    result = document["result"]
    every, by_subject = result["all"], [result[subject] for subject in ("cat", "dog")]
    lines = ["| maps | peak in the box, % | energy in the box, % | overlap (IoU), % |", "|---|---|---|---|"]
    for method, row in every["methods"].items():
        cells = [_against_blob(row[measure]) for measure in ("pointing", "energy", "overlap")]
        lines.append(f"| {PLAIN_MAPS.get(method, f'`{method}`')} | {' | '.join(cells)} |")
    lines += ["", f"{every['photos']} photos; the boxes hold {_per_cent(every['area'])} % of the area.", ""]
    counts = [f"{found['photos']} {subject}" for found, subject in zip(by_subject, ("cats", "dogs"), strict=True)]
    lines += [
        f"| maps | peak: {counts[0]} | {counts[1]} | energy: {counts[0]} | {counts[1]} |",
        "|---|---|---|---|---|",
    ]
    for method in every["methods"]:
        cells = [
            _against_blob(found["methods"][method][measure])
            for measure in ("pointing", "energy")
            for found in by_subject
        ]
        lines.append(f"| {PLAIN_MAPS.get(method, f'`{method}`')} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{_best(result['model'])} {_device_foot(document)}"])


def _against_blob(row: dict[str, Any]) -> str:
    """A share, and whether it is more or less than that of a blob in the middle."""
    low, high = row.get("against", {}).get("centre", {"interval": (-1, 1)})["interval"]
    return f"{_per_cent(row)}{' ▲' if low > 0 else ' ▼' if high < 0 else ''}"


def _best(model: dict[str, Any]) -> str:
    low, high = (100 * end for end in model["interval"])
    accuracy = f"{100 * model['test_accuracy']:.1f} % ({low:.1f}–{high:.1f} %)"
    return f"The model: the one that comes with pati, {accuracy} on its test split."


def _device_foot(document: dict[str, Any]) -> str:
    facts, device = document["machine"], document["result"]["model"]["device"]
    return (
        f"{device if device != 'cpu' else facts['cpu']}; torch {facts['torch']}, Python {facts['python']}; commit "
        f"{document['commit']}. Made by `python -m bench {document['name']}`."
    )


def checks(name: str) -> str:
    """What the checks say of every method."""
    document = _document(name)
    methods = document["result"]["methods"]
    coarse, fine = methods["grad-cam"], methods["integrated-gradients"]
    names = [f"{name} ({'high' if row['high_is_good'] else 'low'} is good)" for name, row in coarse["measures"].items()]
    lines = [
        f"| maps | likeness: all forgotten | head forgotten | moved | {' | '.join(names)} |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, row in methods.items():
        cells = [_likeness(some) for some in (row["forgotten"]["all"], row["forgotten"]["head"], row["steadiness"])]
        for measure in row["measures"].values():
            text = f"{measure['method']['mean']:.3f}"
            beaten = all(gain["better"] for gain in measure["against"].values())
            cells.append(f"**{text}**" if beaten else text)
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    plain = {
        "*a blob in the middle*": (coarse, "centre"),
        "*edges*": (coarse, "edges"),
        "*noise as coarse as the net's last stage*": (coarse, "random"),
        "*noise of pixels*": (fine, "random"),
    }
    for label, (found, baseline) in plain.items():
        values = (f"{row[baseline]['mean']:.3f}" for row in found["measures"].values())
        lines.append(f"| {label} | | | | {' | '.join(values)} |")
    return "\n".join(
        [*lines, "", f"{coarse['photos']} validation photos; bold where better than a blob, edges and noise as fine as "
         f"the maps. {_best(document['result']['model'])} {_device_foot(document)}"]
    )  # fmt: skip


def _likeness(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['mean']:.2f} ({low:.2f} to {high:.2f})"


def packaged(name: str) -> str:
    """What the confidence of the model in the package is worth."""
    document = _document(name)
    row = document["result"]
    answered, told = row["answered_interval"], row["roc_interval"]
    return (
        f"The model that comes with pati, on its {row['photos']:,} test photos ({100 * row['accuracy']:.1f} % right): "
        f"{100 * row['coverage']:.1f} % are answered, {100 * row['answered_accuracy']:.1f} % "
        f"({100 * answered[0]:.1f}–{100 * answered[1]:.1f} %) of these rightly; expected calibration error "
        f"{row['calibration_error']:.3f}. {row['clothing']:,} photos of clothing: AUROC {row['roc_area']:.3f} "
        f"({told[0]:.3f}–{told[1]:.3f}), {100 * row['odd']:.1f} % called odd, {100 * row['unsure']:.1f} % unsure. "
        f"{_foot(document)}"
    )


def outside(name: str) -> str:
    """Photos of something else, and what confidence is worth."""
    document = _document(name)
    kept, lines = (
        document["result"]["calibration"],
        ["| shown | photos | AUROC | called odd | unsure |", "|---|---|---|---|---|"],
    )
    for what, row in document["result"]["outside"].items():
        cells = []
        for key, interval in (("roc_area", "roc_interval"), ("odd", "odd_interval"), ("unsure", "unsure_interval")):
            low, high = row[interval]
            digits = (f"{row[key]:.3f}", f"{low:.3f}–{high:.3f}") if key == "roc_area" else (
                f"{100 * row[key]:.1f} %", f"{100 * low:.1f}–{100 * high:.1f}"
            )  # fmt: skip
            cells.append(f"{digits[0]} ({digits[1]})")
        lines.append(f"| {what} | {row['photos']:,} | {' | '.join(cells)} |")
    low, high = (100 * end for end in kept["answered_interval"])
    own = (
        f"Its own test photos: {100 * kept['coverage']:.1f} % are answered, {100 * kept['answered_accuracy']:.1f} % "
        f"({low:.1f}–{high:.1f} %) of these rightly; {100 * kept['odd']:.1f} % are called odd. Expected calibration "
        f"error (15 bins of equal count) {kept['error_before']:.3f} before and {kept['error_after']:.3f} after "
        "temperature scaling."
    )
    return "\n".join([*lines, "", own, "", _foot(document)])


def flipped(name: str) -> str:
    """Labels flipped on purpose, and found."""
    document = _document(name)
    result = document["result"]
    found = result["found_in_first"]
    listed, run, took = result["listed"], result["run"], result["clean"]
    firsts = [f"{count} among the first {first}" for first, count in found.items() if int(first) < listed]
    return (
        f"{result['flipped']} of the {result['training_photos']:,} training labels of cats-vs-dogs flipped on purpose, "
        f"a run on them (`--budget {result['budget']}`: {100 * run['test_accuracy']:.1f} %), then `pati clean "
        f"--folds {result['folds']} --budget {result['cleaning_budget']}`: of the flipped, {', '.join(firsts)}, "
        f"{result['found_at_all']} among all {listed} training photos listed; {took['seconds'] / 60:.1f} min, "
        f"{took['peak_gb']:.1f} GB. {_foot(document)}"
    )


def trust() -> str:
    """docs/trust.md with its tables made anew."""
    text = (HERE / "trust.md").read_text(encoding="utf-8")
    for name, make in {
        "heads": heads,
        "checks": checks,
        "outside": outside,
        "included": packaged,
        "labels": flipped,
    }.items():
        if f"<!-- {name} -->" in text:
            text = _between(text, name, make(name))
    return text


def page() -> str:
    """docs/page.md with its figures."""
    document = _document("page")
    found = document["result"]
    memory, minutes = found["memory_mb"], list(found["together_memory_mb"].values())
    first, last = (list(memory)[index] for index in (1, -1))
    slow, fast = (f"{found[key]:.2f} s" for key in ("together_median_seconds", "median_seconds"))
    text = (
        f"From the upload of a photo of 500 px to the answer and its map on the screen: {fast} (median of "
        f"{found['uploads']}; of twenty, nineteen within {found['slowest_of_20']:.2f} s). The server's memory: "
        f"{memory[first]:.0f} MB after {first} uploads, {memory[last]:.0f} MB after {last}.\n\n"
        f"{found['visitors']} visitors at once for {found['minutes']} minutes, each looking at an answer for "
        f"{found['thinking'][0]:.0f} to {found['thinking'][1]:.0f} s: {found['together_answers']:,} answers, median "
        f"{slow}, nineteen of twenty within {found['together_slowest_of_20']:.2f} s; memory "
        f"{minutes[0]:.0f} MB before, then after each minute {', '.join(f'{one:.0f}' for one in minutes[1:])} MB. "
        f"The browser ran on the same two cores.\n\n{_foot(document)}"
    )
    return _between((HERE / "page.md").read_text(encoding="utf-8"), "page", text)


PAGES = {
    "page.md": page,
    "trust.md": trust,
    "cli.md": cli,
    "reference.md": reference,
    "models.md": models_page,
    "robustness.md": robustness,
    "study.md": study,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")
    for name in WORDS:
        (HERE.parent / name).write_text(with_results(name), encoding="utf-8")
