"""A fleet on one kernel: machines with a network, a disk and a host name of their own."""
