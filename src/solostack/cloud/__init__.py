"""Objects inside the running cloud: networks, routers, flavors, images, projects.

Owns what is asked of the OpenStack API, made by one process on the controller. Must not know how
the cloud came to be.
"""
