"""The program on the directory node: makes 389 Directory Server what the site wants.

Owns the server instance, its certificate, settings and entries. Must not know anything of
solostack: it runs alone on the node, with Debian's python3-ldap beside the standard library.
"""
