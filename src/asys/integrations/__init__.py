"""ASys in the frameworks that agents are written in; each is an extra, and imported lazily."""
