"""Simulated physical hosts and a simulated provider, for trying out and for tests.

Owns containers, network namespaces and cables that stand for hardware. Must not know what runs on
the hosts it simulates; and nothing outside lab and cli may know that a host is simulated.
"""
