"""The ways out of the program: processes, SSH, libvirt, time, and the person who waits.

Owns one module per way, each a small Protocol with a fake beside it where tests need one. Must not
know what the commands, calls or waits are for.
"""
