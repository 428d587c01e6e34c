"""The first configuration of a node: its tree runs as a container, alone at its own address.

Owns that container's life and the identity (machine-id, host keys, name) given to a tree. Must not
know what is configured: it gets a bundle and has it applied.
"""
