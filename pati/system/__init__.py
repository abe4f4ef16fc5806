"""The operating system: files, locks, processors, memory and time."""
