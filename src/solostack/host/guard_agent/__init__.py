"""The guard as it runs on a host: standard library only, installed by host.guard, run by systemd.

Owns the timer under which a change of the host's network is made, the picture of the network from
before, and the way back to it. Must not import anything of solostack: it works when the rest of
solostack, and whoever runs it, is gone.
"""
