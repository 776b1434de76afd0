"""Bundles and feeds, which bring models to machines.

A bundle is one file with everything for a machine without a network. A feed is a folder or web address that machines
pull models from.
"""
