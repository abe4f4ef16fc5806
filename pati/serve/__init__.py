"""`pati serve`: models behind HTTP.

`service` predicts, `routes` are the addresses, `limits` and `access` are around them, and `server` runs all.
"""
