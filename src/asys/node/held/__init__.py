"""What asyd has stopped or cut off for agents, and what of that outlives it."""
