"""Plans: the pure difference between what locks ask for and what the store holds."""
