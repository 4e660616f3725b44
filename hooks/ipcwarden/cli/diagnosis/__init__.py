"""What doctor looks at: each module gathers facts about one part of the host, and judges them by pure functions."""
