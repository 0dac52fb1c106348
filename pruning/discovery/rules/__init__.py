"""Rules: how units flow through PyTorch's operators, by operator name."""

from collections.abc import Mapping

from pruning.discovery.flow import Rule
from pruning.discovery.rules.elementwise import ELEMENTWISE
from pruning.discovery.rules.indexing import INDEXING
from pruning.discovery.rules.norms import NORMS
from pruning.discovery.rules.parts import PARTS
from pruning.discovery.rules.products import PRODUCTS
from pruning.discovery.rules.shapes import SHAPES
from pruning.discovery.rules.spatial import SPATIAL

RULES: Mapping[str, Rule] = ELEMENTWISE | INDEXING | NORMS | PARTS | PRODUCTS | SHAPES | SPATIAL
