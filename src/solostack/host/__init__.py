"""The physical host: facts about it, and the changes that make it a part of the cloud.

Owns what is written on a host (networks, routes, sysctl, packet filter, units) as operations with
inverses. Must not know how control nodes are built nor whether the host is real.
"""
