"""Looking at what is there: the store's inventory, and the quick path's snapshot."""
