"""Recommendation: prompt (user first, candidate last), scoring, ranking and reasons, and the stage over all users."""
