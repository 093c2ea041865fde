"""Shell completion: scripts that are made from what every verb says it takes."""
