"""When this process began: a budget counts from here, before torch is imported."""

import time

STARTED = time.perf_counter()
