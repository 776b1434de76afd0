"""Bundles and feeds, which bring models to other machines.

A bundle is one file with everything that a machine without a network needs. A feed is a folder or web address from
which machines pull models.
"""
