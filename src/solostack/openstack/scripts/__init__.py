"""Programs that run on the controller, beside the services' own Python packages.

They are shipped as files and never imported here; they use what Debian's packages bring and
nothing of solostack.
"""
