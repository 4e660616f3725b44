"""The outside world, one part of it a module; none of them knows another."""
