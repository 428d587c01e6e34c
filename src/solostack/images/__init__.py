"""Trees and disks: a role's recipe built by mmdebstrap, cached by content; a tree made a disk.

Owns the cache of trees and the formats of disks. Must not know any site: nothing in a tree says who
will use it.
"""
