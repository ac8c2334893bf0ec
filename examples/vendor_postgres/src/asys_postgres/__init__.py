"""PostgreSQL on ASys nodes: activity, blockers, an end to one statement."""
