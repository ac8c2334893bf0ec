"""How asyd itself is doing: what is counted, how it is told, and the watchdog."""
