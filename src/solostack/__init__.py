"""One physical host with one network card becomes a real multi-node OpenStack cloud.

The packages below are layers; each imports only what is below it (docs/architecture.md has the
picture, tests/unit/test_architecture.py the rule).
"""
