"""How fast a node is, as ratios that were measured side by side (docs/benchmarks.md)."""
