"""The process: start-up, signals and exit codes, devices, compilation, several hosts."""
