"""Training of `showmood-expression-2`: data, network, training, rule, report."""

import os

# Must be set before torch is imported: waiting threads sleep, as in `flows.cli`. On shared
# cores, spinning takes three times the CPU time and ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
