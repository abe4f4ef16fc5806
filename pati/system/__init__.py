"""What is the operating system's: files, locks, processors, memory, time; and how numbers are shown."""
