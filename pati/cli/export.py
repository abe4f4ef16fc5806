"""`pati export`: write a model in a format that other programs read."""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Json, print_json, watching
from pati.errors import PatiError
from pati.locale.formats import printable
from pati.locale.messages import N_


@program.command
def export(
    model: Path,
    /,
    *,
    to: str = "onnx",
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Export a model to a file that answers without torch, and check that its answers are the same.

    Nothing is written if a class, a probability, a p-value or a saliency map differs by more than rounding.

    Parameters
    ----------
    model
        A model file or the folder of a run. The photos of a run, if they are still there, take part in the check.
    to
        A format from `pati list formats`.
    out
        The file to write. Default: beside the model, with the suffix of the format.
    json
        Print one JSON document.
    """
    from pati.inference.load import SUFFIX, model_of

    if (model_of(model) if model.is_dir() else model).suffix.lower() == SUFFIX:
        raise PatiError(
            N_("{path} is an exported model already", path=model),
            N_("give the model that it was exported from, or the folder of the run"),
        )
    from pati.terminal.exports import show
    from pati.workflows.export import export as workflow

    with watching() as listen:
        written = workflow(model, to=to, out=out, listen=listen)
    if json:
        print_json({"path": str(written.path), "bytes": written.size, **written.parity})
        return
    show(written)
    print(printable(str(written.path)))
