"""What `pati export` says about the file that it wrote."""

from __future__ import annotations

from pati.inference.export import Export
from pati.locale.messages import N_
from pati.terminal.console import note, say


def show(written: Export) -> None:
    """Say on stderr what was checked, and what the exported model lacks."""
    parity = written.parity
    say(
        N_(
            "checked on {photos} photos ({own} of the run): the same class for all, probabilities within {largest:.7f}",
            photos=parity["photos"],
            own=parity["own_photos"],
            largest=parity["probability"],
        )
    )
    if parity["map_correlation"] is not None:
        say(N_("its saliency maps correlate with Grad-CAM by {least:.4f} or more", least=parity["map_correlation"]))
    else:
        say(note(N_("it has no saliency maps: the head of this network is not one linear layer")))
    if parity["bfloat16_probability"] is not None:
        say(
            note(
                N_(
                    "on this processor, pati itself predicts in bfloat16: its probabilities differ from these by up to "
                    "{largest:.3f}",
                    largest=parity["bfloat16_probability"],
                )
            )
        )
