"""Everything about results: benchmarks, metrics, cached stages, the study and its report."""

from evaluation import resolvers as resolvers  # configurations are read with it
