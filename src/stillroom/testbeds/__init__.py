"""The ground on which methods are reproduced: one file a family, each with its teacher, students, data and metrics."""
