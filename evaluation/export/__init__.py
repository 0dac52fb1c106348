"""Out into the world: exports, timing, video, and adapters to other toolkits and to model hubs."""
