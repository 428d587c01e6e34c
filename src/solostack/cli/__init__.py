"""The command line: typer commands, rendering, and the outer edge that ends the process.

Owns every word that is printed and every exit status. Must not know how anything is done: a command
reads its arguments, calls one flow and hands the result to a renderer.
"""
