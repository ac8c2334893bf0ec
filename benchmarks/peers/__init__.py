"""ASys beside what people use today: the same two jobs, in one run."""
