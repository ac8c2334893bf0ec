"""What the machine's logs say: journald or the kernel, read in a process beside asyd."""
