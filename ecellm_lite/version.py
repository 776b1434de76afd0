"""The version of this package, which manifests, tunings and results record; pyproject.toml has the same version."""

__version__ = "0.1.0"
