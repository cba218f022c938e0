"""The process: flags, errors, signals, paths, devices and peers."""
