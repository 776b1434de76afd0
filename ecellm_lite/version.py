"""The version of this package, which is recorded in manifests, tunings and results. It is also in pyproject.toml."""

__version__ = "0.1.0"
