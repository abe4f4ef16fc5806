"""Every file read once, in processes of its own: kept with its facts, or quarantined with a reason."""
