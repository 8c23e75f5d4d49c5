"""Fleet test: several machines on one kernel, each with its own network, disk and host name."""
