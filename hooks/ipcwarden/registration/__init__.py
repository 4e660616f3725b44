"""Registration: how an engine or a bundle is told to run our hooks, and how it is told to stop."""
