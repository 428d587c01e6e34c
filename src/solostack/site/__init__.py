"""What the operator writes, as types, and its loader with errors that name file and line.

Owns site.yaml: schema, checks that need no machine, rendering. Must not know what is made of it.
"""
