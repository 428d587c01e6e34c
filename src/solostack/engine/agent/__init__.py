"""The engine's agent: what runs on the machine that is to be changed.

The package is shipped inside every bundle and runs there with nothing but Python's own library
(3.11 or newer), so it imports nothing of solostack, has its own doors to processes and time, and
imports lazily: on an emulated machine every imported module costs tens of milliseconds. Hence no
pathlib, no dataclasses, no typing.
"""
