"""Process-level code: flags, errors, signals, paths, devices and distributed processes."""
