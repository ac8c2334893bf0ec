"""Who may do what: the file of agents, those that agents have added, scopes, rates, grants."""
