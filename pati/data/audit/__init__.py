"""The audit: read every file once, in worker processes, and keep it with its facts or quarantine it with a reason."""
