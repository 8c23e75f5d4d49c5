"""How `showmood-expression-1` was made: data, net, training, report."""
