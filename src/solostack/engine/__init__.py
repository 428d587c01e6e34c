"""Makes a machine what a bundle says, over any Executor.

Owns the operations a desired state is made of, how a bundle is packed, shipped, applied, previewed
and taken back, and the store of secrets that are put in on the way. It must not know what any file,
unit or package is for: that is said by the layers above.
"""
