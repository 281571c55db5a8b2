"""Candidate against baseline: what two sides showed in, a verdict per metric out."""
