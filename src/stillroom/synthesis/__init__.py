"""Steps of data pipelines: generate, parse, judge, filter with reasons, deduplicate, mix; and their journal."""
