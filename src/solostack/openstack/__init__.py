"""One module per OpenStack service: a node's plan in, operations out. Pure.

Owns configuration files, database and catalogue set-up of the services. Must not run anything and
must not know whether the node is a seed, a virtual machine or a container.
"""
