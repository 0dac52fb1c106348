"""Everything about results: benchmarks, metrics, cached stages, the study and its report."""
