"""Everything decided, nothing done: Site and facts in, Plan out. Pure and deterministic.

Owns names, addresses, sizes and identifiers, and the comparison of two plans. Must not read a
clock, a file, the environment or a random number; secrets appear by name only.
"""
