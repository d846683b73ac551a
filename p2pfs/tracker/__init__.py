"""Who is in which swarm, and what is shared: the logic behind every face of the tracker."""
