"""Plain data that name classes of `trackers` and their arguments: checks, and the building of objects from them.

Such data may come from a file of a stranger. So nothing in them is resolved, imported or called but classes that a
module of `trackers` defines, and their numbers and their nesting are bounded. No module of this package needs PyTorch.
"""
