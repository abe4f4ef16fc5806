"""`tools/messages.py`, which is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "messages.py"
_spec = importlib.util.spec_from_file_location("pati_messages", TOOL)
assert _spec is not None
assert _spec.loader is not None
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)
messages = tool.messages
