"""How `showmood-expression-2` was made: data, net, training, the rule, report."""

import os

# Before torch is imported anywhere: threads that wait for others sleep, as in `flows.cli`. Where
# cores are shared, spinning takes three times the processor and ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
