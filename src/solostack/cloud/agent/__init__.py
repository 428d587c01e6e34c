"""The cloud agent: what runs on the controller node and speaks with OpenStack's APIs.

Shipped whole with every call and run there by Debian's Python with nothing but the standard library
and keystoneauth1, which every OpenStack service brings. So it imports nothing of solostack.
"""
