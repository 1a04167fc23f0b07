"""Shared by the runs in Python: a running server, times without standstills of the machine, and what is left out."""
