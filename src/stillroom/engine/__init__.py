"""The loop that trains every student, and what it stands on: batches, schedule, checkpoints."""
