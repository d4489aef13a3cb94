"""The provenance of a run in one archive: an RO-Crate from which it can be repeated and compared."""

from bouton.engine.bundle.archive import Archive
from bouton.engine.bundle.export import BundleOptions, Exported, export_run
from bouton.engine.bundle.listing import StepComparison
from bouton.engine.bundle.manifest import Manifest, read_manifest

__all__ = ["Archive", "BundleOptions", "Exported", "Manifest", "StepComparison", "export_run", "read_manifest"]
