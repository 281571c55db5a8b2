"""An arm64 Debian machine in a system emulator: what a board's software does on real arm64 Linux, never how fast it is."""
