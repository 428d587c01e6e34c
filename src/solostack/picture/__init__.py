"""The topology as a picture: what is drawn, where, and as which bytes of SVG.

Owns the model of the picture, its layout and its look. Must not know hosts, processes or files: all
of it is pure, and flows gathers what is live.
"""
