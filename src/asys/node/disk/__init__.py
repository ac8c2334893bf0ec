"""What the node keeps on its disk, and how: keys, agents, state that must not be lost."""
