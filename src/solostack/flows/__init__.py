"""The verbs: up, down, status, verify and their stages, in order, resumable.

Owns the order of work and what is done at the same time. Must not know how a stage does its work
(the packages below do) nor who is watching (progress goes through a door).
"""
