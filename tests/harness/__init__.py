"""What the runs in Python share: a running server, times without standstills of the machine, and what is left out."""
