"""The version of this package. Manifests, tunings and results record it. pyproject.toml has the same version."""

__version__ = "0.1.0"
