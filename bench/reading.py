"""`python -m bench.reading FOLDER`: reads the photos there into a pack of 96 px; one JSON line."""

from __future__ import annotations

import json
import resource
import sys
import time

from pati.data import pack
from pati.data.preprocess import Preprocess
from pati.data.sources.find import find_source

source = find_source(sys.argv[1])
started = time.monotonic()
_, _, reused = pack.open_or_build(source, Preprocess(size=96))
seconds = time.monotonic() - started
print(
    json.dumps(
        {
            "photos": len(source.items),
            "reused": reused,
            "photos_per_second": round(len(source.items) / seconds),
            "worker_peak_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6, 2),
        }
    )
)
