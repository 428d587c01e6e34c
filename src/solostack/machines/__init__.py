"""Control nodes as machines: libvirt domains or systemd-nspawn units, started and probed.

Owns domain XML, units, start order and readiness. Must not know what the node's services are.
"""
